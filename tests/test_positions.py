"""lib.positions: against transformers and the papers' numbers; invariants; bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.t5.modeling_t5 import T5Attention

from lib import decoding
from lib import positions as pos
from lib.attention import attention

EVEN = st.integers(1, 16).map(lambda pairs: 2 * pairs)
SEEDS = st.integers(0, 2**31)
quick = settings(deadline=None, derandomize=True, max_examples=50)


def normal(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def turns(positions, d, factor=1.0):
    return pos.rope_turns(positions, pos.interpolated(pos.rope_frequencies(d), factor))


# --- Sinusoidal, learned ---------------------------------------------------------


def test_sinusoidal_is_the_formula_in_float64():
    ours = pos.sinusoidal(512, 64, dtype=torch.float64)
    for p in (0, 1, 7, 511):
        for i in range(32):
            angle = p / 10000 ** (2 * i / 64)
            assert abs(ours[p, 2 * i] - math.sin(angle)) < 1e-12
            assert abs(ours[p, 2 * i + 1] - math.cos(angle)) < 1e-12


def test_sinusoidal_is_that_of_gptj_with_sines_and_cosines_apart():
    theirs = modeling_gptj.create_sinusoidal_positions(256, 32)
    torch.testing.assert_close(
        pos.to_half(pos.sinusoidal(256, 32)), theirs, atol=1e-4, rtol=0
    )


@quick
@given(EVEN, st.integers(0, 5000), st.integers(0, 5000))
def test_the_dot_product_of_two_codes_depends_on_their_distance(width, p, k):
    a, b, c, d = pos.sinusoidal(torch.tensor([p, p + k, 0, k]), width)
    assert abs(a @ b - c @ d) < 1e-4
    assert abs(a @ a - width / 2) < 1e-4


def test_sinusoidal_takes_any_positions():
    some = torch.tensor([[5, 0], [9, 5]])
    torch.testing.assert_close(pos.sinusoidal(some, 8), pos.sinusoidal(10, 8)[some])
    assert pos.sinusoidal(0, 8).shape == (0, 8)


def test_learned_is_a_table_and_undefined_beyond_it():
    table = pos.Learned(16, 4)
    assert torch.equal(table(16), table.weight)
    assert torch.equal(table(torch.tensor([3, 3])), table.weight[[3, 3]])
    assert table(0).shape == (0, 4)
    with pytest.raises(ValueError, match="positions: got 16, the table ends at 15"):
        table(17)


@pytest.mark.parametrize("given", [{}, {"std": 0.5}])
def test_tables_start_small_unless_told(given):
    torch.manual_seed(0)
    std = given.get("std", 0.02)
    for table in (pos.Learned(2000, 32, **given), pos.Shaw(999, 32, **given)):
        assert abs(table.weight.std().item() / std - 1) < 0.02
        assert abs(table.weight.mean().item() / std) < 0.02
    assert pos.Shaw(999, 32).weight.shape == (1999, 32)


# --- Shaw, T5, ALiBi -------------------------------------------------------------


def test_shaw_is_the_papers_equation():
    shaw = pos.Shaw(2, 4, std=1.0).double()
    query = normal(0, 3, 5, 4)
    ours = shaw(query, pos.distances(5, 6))
    for i in range(5):
        for j in range(6):
            a = shaw.weight[max(-2, min(2, j - i)) + 2]
            torch.testing.assert_close(ours[:, i, j], query[:, i] @ a / 2)


def test_shaw_is_cut_off():
    shaw = pos.Shaw(2, 4, std=1.0)
    bias = shaw(torch.ones(9, 4), pos.distances(9, 9))
    assert torch.equal(bias[0, 2:], bias[0, 2].expand(7))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets, far", [(32, 128), (32, 64), (16, 20), (8, 1000)])
def test_t5_buckets_are_those_of_transformers(bidirectional, buckets, far):
    distance = torch.arange(-3000, 3001)
    theirs = T5Attention._relative_position_bucket(
        distance, bidirectional, buckets, far
    )
    assert torch.equal(pos.t5_bucket(distance, bidirectional, buckets, far), theirs)


def test_t5_buckets_by_hand():
    back = torch.tensor([0, -1, -15, -16, -17, -18, -127, -128, -9999, 1])
    assert pos.t5_bucket(back, False).tolist() == [0, 1, 15, 16, 16, 16, 31, 31, 31, 0]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("given", [{}, {"buckets": 8, "far": 40}, {"far": 64}])
def test_t5_bias_has_the_buckets_that_it_is_given(bidirectional, given):
    bias = pos.T5Bias(2, bidirectional, **given)
    sizes = {"buckets": 32, "far": 128} | given
    assert bias.weight.shape == (2, sizes["buckets"]) and not bias.weight.any()
    torch.nn.init.normal_(bias.weight)
    distance = pos.distances(300, 300)
    bucket = T5Attention._relative_position_bucket(
        distance, bidirectional, sizes["buckets"], sizes["far"]
    )
    for head in range(2):
        assert torch.equal(bias(distance)[head], bias.weight[head][bucket])


def test_t5_bias_is_a_number_for_each_head_and_bucket():
    bias = pos.T5Bias(2, bidirectional=True)
    torch.nn.init.normal_(bias.weight)
    distance = pos.distances(4, 6)
    assert bias(distance).shape == (2, 4, 6)
    bucket = pos.t5_bucket(distance, True)
    assert torch.equal(bias(distance)[1], bias.weight[1][bucket])


def test_alibi_slopes_are_the_papers():
    assert pos.alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    sixteen = [2 ** (-i / 2) for i in range(1, 17)]
    torch.testing.assert_close(pos.alibi_slopes(16), torch.tensor(sixteen))


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 8, 12, 16, 20])
def test_alibi_is_blooms(heads):
    theirs = build_alibi_tensor(torch.ones(1, 7), heads, torch.float32)  # (H, 1, 7)
    torch.testing.assert_close(theirs[:, 0, 1], pos.alibi_slopes(heads))
    # Bloom's bias differs by a constant in each row, which the softmax removes.
    scores, mask = normal(0, heads, 7, 7).float(), torch.ones(7, 7).triu(1).bool()
    ours = scores + pos.alibi(pos.distances(7, 7), pos.alibi_slopes(heads))
    a, b = (
        s.masked_fill(mask, -torch.inf).softmax(-1) for s in (ours, scores + theirs)
    )
    torch.testing.assert_close(a, b)


@quick
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000))
def test_alibi_and_t5_depend_on_the_distance_alone(i, j, shift):
    here, there = (
        pos.distances(torch.tensor([i + s]), torch.tensor([j + s])) for s in (0, shift)
    )
    slopes = pos.alibi_slopes(6)
    assert torch.equal(pos.alibi(here, slopes), pos.alibi(there, slopes))
    bias = pos.T5Bias(3, bidirectional=True)
    torch.nn.init.normal_(bias.weight)
    assert torch.equal(bias(here), bias(there))


# --- RoPE ------------------------------------------------------------------------


def angles(d, T):
    full = torch.arange(T)[:, None] * pos.rope_frequencies(d)  # (T, d/2)
    return full.cos().float(), full.sin().float()


def test_half_split_is_llamas():
    query, key = (normal(s, 2, 3, 50, 16, dtype=torch.float32) for s in (0, 1))
    cos, sin = (torch.cat((x, x), -1)[None] for x in angles(16, 50))
    theirs = modeling_llama.apply_rotary_pos_emb(query, key, cos, sin)
    for x, wanted in zip((query, key), theirs, strict=True):
        torch.testing.assert_close(pos.rope_half(x, turns(50, 16)), wanted)


def test_interleaved_is_gptjs():
    x = normal(0, 2, 50, 3, 16, dtype=torch.float32)  # (B, T, H, d)
    cos, sin = (x[None] for x in angles(16, 50))
    theirs = modeling_gptj.apply_rotary_pos_emb(x, sin, cos)
    ours = pos.rope(x.transpose(1, 2), turns(50, 16)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)


@quick
@given(SEEDS, EVEN, st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_rope_scores_depend_on_the_distance_alone(seed, d, m, n, shift):
    query, key = normal(seed, 1, d), normal(seed + 1, 1, d)

    def score(rotate, m, n):
        at = [turns(torch.tensor([p]), d).to(torch.complex128) for p in (m, n)]
        return rotate(query, at[0]) @ rotate(key, at[1]).mT

    for rotate in (pos.rope, pos.rope_half):
        here, there = score(rotate, m, n), score(rotate, m + shift, n + shift)
        torch.testing.assert_close(here, there, atol=1e-3, rtol=0)


@quick
@given(SEEDS, EVEN, st.integers(0, 40))
def test_rope_keeps_norms_and_its_layouts_agree(seed, d, T):
    x, at = normal(seed, 2, T, d), turns(T, d)
    turned = pos.rope(x, at)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(pos.rope_half(pos.to_half(x), at), pos.to_half(turned))
    assert torch.equal(pos.to_interleaved(pos.to_half(x)), x)


def test_position_zero_is_not_turned_and_gradients_pass():
    x = normal(0, 1, 8).requires_grad_()
    assert torch.equal(pos.rope(x, turns(1, 8)), x)
    at = turns(3, 8)
    y = normal(1, 3, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: pos.rope(y, at.to(torch.complex128)), y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rope_keeps_the_dtype(dtype):
    x = normal(0, 5, 8).to(dtype)
    assert (
        pos.rope(x, turns(5, 8)).dtype == pos.rope_half(x, turns(5, 8)).dtype == dtype
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["rope", "rope_half"])
def test_half_precision_is_turned_in_float32_and_rounded_once(layout, dtype):
    turn, T, d = getattr(pos, layout), 4096, 64
    x = normal(0, 2, T, d, dtype=torch.float32).to(dtype)
    to_exact = pos.rope_turns(T, pos.rope_frequencies(d))
    exact = turn(x.double(), to_exact)
    ours = turn(x, to_exact)
    assert ours.dtype == dtype
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(ours.double(), exact, rtol=0.51 * unit, atol=1e-6)
    # transformers turns in half precision and rounds several times.
    if layout == "rope_half":
        cos, sin = (torch.cat((f, f), -1) for f in (to_exact.real, to_exact.imag))
        theirs, _ = modeling_llama.apply_rotary_pos_emb(
            x[:, None], x[:, None], cos[None].to(dtype), sin[None].to(dtype)
        )
        largest = x.abs().max().item()
        torch.testing.assert_close(ours, theirs[:, 0], rtol=0, atol=4 * unit * largest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shaws_scores_of_half_precision_are_rounded_once(dtype):
    shaw = pos.Shaw(4, 48, std=30.0).to(dtype)
    query = (40 * normal(1, 2, 3, 9, 48, dtype=torch.float32)).to(dtype)
    distance = pos.distances(9, 9)
    exact = pos.Shaw(4, 48).double()
    exact.load_state_dict(shaw.state_dict())
    want = exact(query.double(), distance)
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(
        shaw(query, distance).double(), want, rtol=0.51 * unit, atol=1e-2
    )


class Elsewhere(torch.Tensor):
    """A tensor of a stand-in device, which `Apple` says it is on."""


class Apple(TorchFunctionMode):
    """A device, "meta" by name, that computes, and refuses float64 as Apple's does."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        inputs = [*args, *kwargs.values()]
        here = any(isinstance(x, Elsewhere) for x in inputs)
        if function == torch.Tensor.device.__get__ and here:
            return torch.device("meta")
        device = kwargs.get("device")
        if function in (torch.Tensor.to, torch.Tensor.cpu):
            given = [x for x in inputs if isinstance(x, str | torch.device)]
            device = torch.device(given[0]) if given else None
            device = torch.device("cpu") if function is torch.Tensor.cpu else device
        if device is not None:
            here = torch.device(device).type == "meta"
            args = [x for x in args if not isinstance(x, str | torch.device)]
            kwargs.pop("device", None)
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*args, **kwargs)
        if not isinstance(found, torch.Tensor):
            return found
        plain = torch.Tensor.as_subclass(found, torch.Tensor)
        assert not (here and found.dtype in (torch.float64, torch.complex128)), function
        return plain.as_subclass(Elsewhere) if here else plain


def test_a_device_without_float64_needs_none():
    with Apple():
        positions = torch.arange(5000, device="meta")
        assert positions.device.type == "meta"
        with pytest.raises(AssertionError):
            positions.double()
        frequencies = pos.interpolated(pos.rope_frequencies(16), 2.0)
        found = [pos.sinusoidal(positions, 16), pos.rope_turns(positions, frequencies)]
        shares = torch.rand(4, 9).to("meta")
        found.append(decoding.draw(shares, torch.Generator().manual_seed(0)))
        assert all(x.device.type == "meta" for x in found)
        found = [x.cpu() for x in found]
    assert torch.equal(found[0], pos.sinusoidal(5000, 16))
    assert torch.equal(found[1], pos.rope_turns(5000, frequencies))
    again = decoding.draw(
        shares.as_subclass(torch.Tensor), torch.Generator().manual_seed(0)
    )
    assert torch.equal(found[2], again)


def test_interpolation_puts_later_positions_among_the_trained():
    torch.testing.assert_close(
        turns(torch.tensor([40, 400]), 16, 4.0), turns(torch.tensor([10, 100]), 16)
    )


@pytest.mark.parametrize("base", [None, 10_000.0, 500_000.0, 2.0])
def test_frequencies_fall_by_the_base(base):
    given = {} if base is None else {"base": base}
    expected = [(base or 10_000.0) ** (-2 * i / 8) for i in range(4)]
    assert pos.rope_frequencies(8, **given).tolist() == pytest.approx(expected, 1e-12)
    waves = pos.sinusoidal(torch.tensor([3]), 8, dtype=torch.float64, **given)[0]
    both = [f(3 * x) for x in expected for f in (math.sin, math.cos)]
    assert waves.tolist() == pytest.approx(both, abs=1e-12)
    ntk = (base or 10_000.0) * 3 ** (8 / 6)
    assert pos.ntk_base(8, 3.0, **given) == pytest.approx(ntk, 1e-12)


def test_rotations_by_hand():
    x = torch.tensor([[1.0, 0.0, 0.0, 2.0], [1.0, 0.0, 0.0, 2.0]])
    frequencies = torch.tensor([math.pi / 2, math.pi / 6])  # quarter, twelfth of a turn
    at = pos.rope_turns(torch.tensor([0, 1]), frequencies)
    turned = [[1, 0, 0, 2], [0, 1, -1, 3**0.5]]
    torch.testing.assert_close(pos.rope(x, at), torch.tensor(turned))
    turned = [[1, 0, 0, 2], [0, -1, 1, 3**0.5]]
    torch.testing.assert_close(pos.rope_half(x, at), torch.tensor(turned))


def test_ntk_slows_the_slowest_pair_by_the_factor_and_the_fastest_not():
    plain = pos.rope_frequencies(32)
    scaled = pos.rope_frequencies(32, pos.ntk_base(32, 8.0))
    assert scaled[0] == plain[0] == 1
    torch.testing.assert_close(plain[-1] / scaled[-1], torch.tensor(8.0).double())


# --- Without positions -----------------------------------------------------------


@quick
@given(SEEDS, st.permutations(range(7)))
def test_attention_without_positions_is_permutation_equivariant(seed, order):
    query, key, value = (normal(seed + i, 7, 4) for i in range(3))
    output, weights = attention(query, key, value)
    moved, moved_weights = attention(query[order], key[order], value[order])
    torch.testing.assert_close(moved, output[order])
    torch.testing.assert_close(moved_weights, weights[order][:, order])
    assert torch.allclose(F.softmax(weights, -1).sum(-1), torch.ones(7).double())


# --- Bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pos.sinusoidal(4, 7), "d_model: got 7, wants an even number"),
        (lambda: pos.sinusoidal(4, 0), "d_model: got 0"),
        (lambda: pos.sinusoidal(-1, 8), "positions: got -1"),
        (lambda: pos.sinusoidal(torch.tensor([2, -3]), 8), "positions: got -3"),
        (lambda: pos.Learned(4, 2)(torch.tensor([-1])), "positions: got -1"),
        (lambda: pos.Learned(0, 2), "length: got 0"),
        (lambda: pos.rope_frequencies(5), "head_dim: got 5, wants an even number"),
        (lambda: pos.rope_frequencies(4, 0), "base: got 0"),
        (lambda: pos.rope(torch.zeros(3, 5), turns(3, 4)), "width: got 5"),
        (
            lambda: pos.rope(torch.zeros(3, 4), turns(4, 4)),
            r"turns: got shape \(4, 2\)",
        ),
        (lambda: pos.to_half(torch.zeros(3, 5)), "head_dim: got 5"),
        (lambda: pos.interpolated(pos.rope_frequencies(4), 0.5), "factor: got 0.5"),
        (lambda: pos.ntk_base(2, 2.0), "head_dim: got 2"),
        (lambda: pos.ntk_base(4, 0.0), "factor: got 0.0"),
        (lambda: pos.alibi_slopes(0), "num_heads: got 0"),
        (lambda: pos.t5_bucket(torch.arange(3), True, 2), "buckets: got 2"),
        (lambda: pos.t5_bucket(torch.arange(3), True, 32, 8), "far: got 8"),
        (
            lambda: pos.Shaw(2, 4)(torch.zeros(3, 5), pos.distances(3, 3)),
            "query: got width 5",
        ),
        (
            lambda: pos.Shaw(2, 4)(torch.zeros(3, 4), pos.distances(2, 3)),
            "distance: got 2 rows, wants 3",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_positions_are_whole_numbers():
    with pytest.raises(TypeError, match="positions: got torch"):
        pos.sinusoidal(torch.tensor([0.5]), 8)
    with pytest.raises(TypeError, match="distance: got torch"):
        pos.t5_bucket(torch.tensor([0.5]), True)


def test_empty_sequences_give_empty_results():
    assert pos.rope(torch.zeros(2, 0, 4), turns(0, 4)).shape == (2, 0, 4)
    assert pos.rope_half(torch.zeros(2, 0, 4), turns(0, 4)).shape == (2, 0, 4)
    empty = pos.distances(0, 5)
    assert empty.shape == (0, 5)
    assert pos.alibi(empty, pos.alibi_slopes(2)).shape == (2, 0, 5)
    assert pos.T5Bias(2, False)(empty).shape == (2, 0, 5)
    assert pos.Shaw(2, 4)(torch.zeros(3, 0, 4), empty).shape == (3, 0, 5)
