"""lib.sparse: equal to dense attention under the same pattern, without its matrix."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.length import step
from lib import runtime
from lib.attention import attention
from lib.sparse import pattern, random_blocks, sparse_attention

DTYPES = {torch.float32: 1e-5, torch.float64: 1e-10}


@st.composite
def cases(draw):
    T, block = draw(st.integers(0, 90)), draw(st.integers(1, 9))
    anywhere = st.integers(0, max(0, T - 1))
    some = st.lists(anywhere, max_size=min(T, 5), unique=True)
    first = st.integers(0, T).flatmap(lambda n: st.permutations(range(n)))
    case = {
        "block": block,
        "window": draw(st.sampled_from((1, 3, 5, 41))),
        "causal": draw(st.booleans()),
        "global_tokens": draw(some | first),
    }
    blocks = -(-T // block)
    if blocks and draw(st.booleans()):
        n = draw(st.integers(0, min(3, blocks)))
        case["random"] = random_blocks(T, n, block=block, seed=draw(st.integers(0, 99)))
    elif draw(st.booleans()):
        case |= {"global_tokens": [], "distance": draw(st.integers(0, 30))}
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), T)
    shape += (draw(st.sampled_from((1, 3, 8))),)
    return shape, case, draw(st.booleans()), draw(st.sampled_from(tuple(DTYPES)))


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(0, 2**31))
def test_equal_to_dense_attention_under_the_same_pattern_gradients_too(drawn, seed):
    (B, H, T, d), case, padded, dtype = drawn
    torch.manual_seed(seed)
    three = [torch.randn(B, H, T, d, dtype=dtype, requires_grad=True) for _ in range(3)]
    key_mask = torch.rand(B, T) < 0.8 if padded else None
    ours = sparse_attention(*three, **case, key_mask=key_mask)
    mask = pattern(T, **case).expand(B, 1, T, T)
    mask = mask & key_mask[:, None, None] if padded else mask
    dense, weights = attention(*three, mask)
    assert ours.dtype == dtype and ours.shape == dense.shape
    met = mask.any(-1).expand(B, H, T)
    assert torch.allclose(weights.sum(-1), met.to(dtype))
    weight = torch.randn_like(ours)
    tolerance = DTYPES[dtype]
    torch.testing.assert_close(ours, dense, atol=tolerance, rtol=0)
    if T:
        grads = torch.autograd.grad((ours * weight).sum(), three)
        wanted = torch.autograd.grad((dense * weight).sum(), three)
        for got, want in zip(grads, wanted, strict=True):
            torch.testing.assert_close(got, want, atol=10 * tolerance, rtol=0)


def test_half_precision_and_a_length_of_one():
    three = [torch.randn(1, 2, 300, 16).bfloat16() for _ in range(3)]
    ours = sparse_attention(*three, block=16, global_tokens=[7])
    dense, _ = attention(
        *(x.double() for x in three), pattern(300, block=16, global_tokens=[7])
    )
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), dense, atol=2e-2, rtol=2e-2)
    one = [x[:, :, :1] for x in three]
    assert torch.equal(sparse_attention(*one), one[2])


NAMES = ["window", "causal", "global", "both", "random"]
CASES = [
    {},
    {"causal": True},
    {"global_tokens": [0, 9]},
    {"causal": True, "global_tokens": [17], "window": 1},
    {"random": random_blocks(64, 2, block=8)},
]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_a_masked_key_holds_does_not_leak(case, bad):
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 64, 8, generator=generator)
    key_mask = torch.ones(2, 64, dtype=torch.bool)
    key_mask[0, 40:] = key_mask[1, 3] = False
    padded = ~key_mask[:, None].expand(2, 2, 64)
    case = {"block": 8} | case
    clean = [x.clone().requires_grad_() for x in (query, key, value)]
    want = sparse_attention(*clean, **case, key_mask=key_mask)
    wanted = torch.autograd.grad(want.square().sum(), clean)
    key[padded] = bad
    dirty = [x.clone().requires_grad_() for x in (query, key, value)]
    ours = sparse_attention(*dirty, **case, key_mask=key_mask)
    found = torch.autograd.grad(ours.square().sum(), dirty)
    for a, b in zip((ours, *found), (want, *wanted), strict=True):
        torch.testing.assert_close(a, b)
    # Keys that only some queries may meet: as in the dense form, and no further.
    key[:, :, 30] = bad
    mask = pattern(64, **case) & key_mask[:, None, None]
    dense, _ = attention(query, key, value, mask)
    ours = sparse_attention(query, key, value, **case, key_mask=key_mask)
    torch.testing.assert_close(ours, dense, equal_nan=True)


def test_a_masked_value_that_is_no_number_reaches_its_neighbours_alone():
    query, key, value = torch.randn(3, 1, 1, 40, 8)
    key_mask = torch.arange(40)[None] < 35
    value[:, :, 35:] = float("nan")  # in the last block of 8, which two blocks meet
    ours = sparse_attention(query, key, value, block=8, key_mask=key_mask)
    assert ours.isnan().all(-1)[0, 0].tolist() == 24 * [False] + 16 * [True]
    dense, _ = attention(query, key, value, key_mask[:, None, None])
    assert dense.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_torch(dtype):
    generator = torch.Generator().manual_seed(0)
    three = [x.to(dtype) for x in torch.randn(3, 1, 2, 300, 64, generator=generator)]
    case = {"block": 16, "global_tokens": [0, 7], "causal": True}
    ours = sparse_attention(*three, **case)
    mask, unit = pattern(300, **case), torch.finfo(dtype).eps
    theirs = F.scaled_dot_product_attention(*three, attn_mask=mask)
    dense, _ = attention(*three, mask)
    largest = three[2].abs().max().item()
    for reference in (theirs, dense):
        torch.testing.assert_close(ours, reference, rtol=unit, atol=unit * largest)


def test_a_text_of_padding_alone_gives_zeros_and_no_nan():
    three = [torch.randn(2, 1, 40, 8, requires_grad=True) for _ in range(3)]
    key_mask = torch.tensor([[True], [False]]).expand(2, 40)
    output = sparse_attention(*three, block=8, global_tokens=[0], key_mask=key_mask)
    assert output[0].abs().min() > 0 and not output[1].any()
    for gradient in torch.autograd.grad(output.sum(), three):
        assert gradient.isfinite().all() and not gradient[1].any()


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The most elements that any tensor has while this mode is on."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for x in found if isinstance(found, tuple | list) else (found,):
            if isinstance(x, torch.Tensor):
                size = x.untyped_storage().size() // x.element_size()
                self.elements = max(self.elements, size)
        return found


@pytest.mark.parametrize("T", [4096, 8192])
def test_no_tensor_grows_with_the_square_of_the_length(T):
    three = [torch.randn(1, 1, T, 8, requires_grad=True) for _ in range(3)]
    with Largest() as largest:
        output = sparse_attention(*three, global_tokens=range(64))
        output.sum().backward()
    assert largest.elements <= 128 * T  # the scores would be T * T


def test_the_memory_grows_with_the_length_and_not_with_its_square():
    found = {"forward": {}, "backward": {}}
    for T in (4096, 8192, 16_384):
        three = [torch.randn(1, 4, T, 64) for _ in range(3)]
        attend = partial(sparse_attention, global_tokens=range(64))
        found["forward"][T] = runtime.peak(step(attend, three, False))
        found["backward"][T] = runtime.peak(step(attend, three, True))
    assert found["forward"][16_384] <= 25  # MB; dense with a mask: more than 1,000
    for sizes in found.values():
        assert sizes[16_384] <= 2.2 * sizes[8192] <= 2.2**2 * sizes[4096]


def test_random_blocks_follow_from_the_seed_alone():
    first = random_blocks(640, 3, block=32, seed=5)
    torch.manual_seed(1)
    assert torch.equal(random_blocks(640, 3, block=32, seed=5), first)
    others = [random_blocks(640, 3, block=32, seed=seed) for seed in (0, 1, 6)]
    assert not any(torch.equal(other, first) for other in others)
    assert torch.equal(random_blocks(640, 3, block=32), others[0])
    assert first.shape == (20, 3) and random_blocks(640, 2).shape == (10, 2)
    assert random_blocks(65, 2).shape == (2, 2)  # the second has one token
    assert random_blocks(640, 0).shape == (10, 0)
    for row in first.tolist():
        assert len(set(row)) == 3 and set(row) <= set(range(20))
    many = random_blocks(64_000, 4, block=64)  # each block as often as any other
    assert many.double().mean().item() == pytest.approx(499.5, abs=20)
    assert len(many.unique(dim=0)) > 990


def test_the_pattern_has_rows_columns_and_a_band():
    mask = pattern(12, block=2, window=3, global_tokens=[4])
    assert mask[4].all() and mask[:, 4].all()
    assert mask[0].tolist() == [True] * 5 + [False] * 7
    assert not pattern(12, block=2, causal=True).triu(1).any()
    band = pattern(12, block=2, window=3, distance=2)
    assert [row.sum().item() for row in band] == [3, 4, *[5] * 8, 4, 3]
    assert torch.equal(pattern(12, block=3, distance=9), pattern(12, block=3))


@pytest.mark.parametrize(
    ("case", "error", "told"),
    [
        ({"window": 0}, ValueError, "window: got 0"),
        ({"window": 2}, ValueError, "window: got 2 blocks, wants an odd number"),
        ({"block": -1}, ValueError, "block: got -1"),
        (
            {"global_tokens": [10]},
            ValueError,
            "global_tokens: got 10 to 10, wants 0 to",
        ),
        ({"global_tokens": [-1]}, ValueError, "global_tokens: got -1"),
        (
            {"global_tokens": [3, 1, 3]},
            ValueError,
            "global_tokens: 3 stands there twice",
        ),
        ({"global_tokens": [0.5]}, TypeError, "global_tokens"),
        ({"random": torch.zeros(3, 1).long()}, ValueError, r"random: got \(3, 1\)"),
        ({"distance": -1}, ValueError, "distance: got -1"),
        ({"distance": 2, "global_tokens": [1]}, ValueError, "distance: goes with a"),
        (
            {"random": torch.full((1, 1), 9)},
            ValueError,
            "random: wants numbers of blocks",
        ),
        ({"key_mask": torch.ones(1, 10)}, TypeError, "key_mask: got torch.float32"),
        (
            {"key_mask": torch.ones(1, 9).bool()},
            ValueError,
            r"key_mask: got shape \(1, 9\)",
        ),
    ],
)
def test_bad_arguments_are_named(case, error, told):
    x = torch.randn(1, 1, 10, 4)
    with pytest.raises(error, match=told):
        sparse_attention(x, x, x, **case)


def test_bad_tensors_are_named():
    x = torch.randn(1, 1, 10, 4)
    with pytest.raises(ValueError, match="key: got shape"):
        sparse_attention(x, x[:, :, :9], x)
    with pytest.raises(TypeError, match=r"value: got torch.float64"):
        sparse_attention(x, x, x.double())
    with pytest.raises(TypeError, match="query: got "):
        sparse_attention(x.long(), x, x)
    with pytest.raises(ValueError, match="n: got 9"):
        random_blocks(100, 9)
