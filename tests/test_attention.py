"""lib.attention against torch's own functions, and its invariants."""

import nbformat
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from lib.attention import (
    MultiHeadAttention,
    attention,
    causal_mask,
    join_heads,
    rollout,
    split_heads,
)
from train import multi_head as recorded

KINDS = ["none", "causal", "padding", "random", "per-head", "with an empty row"]
quick = settings(max_examples=40)


@st.composite
def problems(draw, kinds=tuple(KINDS), dtype=torch.float64):
    """query, key, value (B, H, T, width) and a mask of one of the kinds."""
    B, H = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    Tq, Tk = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    d, dv = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kind = draw(st.sampled_from(kinds))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    Tq = Tk if kind == "causal" else Tq

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    def coin(*shape):
        mask = torch.rand(*shape, generator=generator) < 0.5
        mask[..., 0] |= ~mask.any(-1)  # every query keeps a key
        return mask

    lengths = torch.randint(1, Tk + 1, (B, 1, 1, 1), generator=generator)
    mask = {
        "none": lambda: None,
        "causal": lambda: causal_mask(Tk),
        "padding": lambda: torch.arange(Tk) < lengths,  # (B, 1, 1, Tk)
        "random": lambda: coin(Tq, Tk),
        "per-head": lambda: coin(H, Tq, Tk),
        "with an empty row": lambda: (
            coin(B, H, Tq, Tk) & (torch.arange(Tq) > 0)[:, None]
        ),
    }[kind]()
    return normal(B, H, Tq, d), normal(B, H, Tk, d), normal(B, H, Tk, dv), mask


def reference(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data())
def test_values_and_gradients_are_those_of_torch(kind, data):
    query, key, value, mask = data.draw(problems(kinds=(kind,)))
    results = []
    for function in (lambda *x: attention(*x)[0], reference):
        inputs = [x.clone().requires_grad_() for x in (query, key, value)]
        output = function(*inputs, mask)
        output.square().sum().backward()
        results.append([output.detach(), *(x.grad for x in inputs)])
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-6)


@quick
@given(problems(dtype=torch.float32))
def test_values_are_those_of_torch_in_single_precision(problem):
    assert_close(attention(*problem)[0], reference(*problem), rtol=0, atol=2e-6)


@quick
@given(problems())
def test_rows_sum_to_one_and_masked_cells_are_zero(problem):
    mask = problem[-1]
    output, weights = attention(*problem)
    allowed = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    allowed = allowed.expand(weights.shape)
    assert (weights[~allowed] == 0).all()
    assert_close(weights.sum(-1), allowed.any(-1).to(weights.dtype))
    assert output.isfinite().all()
    assert (weights >= 0).all()


@quick
@given(problems(), st.integers(0, 2**20))
def test_permuting_the_keys_permutes_the_weights_and_keeps_the_output(problem, seed):
    query, key, value, mask = problem
    output, weights = attention(*problem)
    order = torch.randperm(key.shape[-2], generator=torch.Generator().manual_seed(seed))
    moved = None if mask is None else mask[..., order]
    output2, weights2 = attention(
        query, key[..., order, :], value[..., order, :], moved
    )
    assert_close(output2, output)
    assert_close(weights2, weights[..., order])


@quick
@given(problems(kinds=("none", "random")), st.integers(0, 2**20))
def test_permuting_the_queries_permutes_the_rows(problem, seed):
    query, key, value, mask = problem
    output, weights = attention(*problem)
    order = torch.randperm(
        query.shape[-2], generator=torch.Generator().manual_seed(seed)
    )
    moved = None if mask is None else mask[..., order, :]
    output2, weights2 = attention(query[..., order, :], key, value, moved)
    assert_close(output2, output[..., order, :])
    assert_close(weights2, weights[..., order, :])


@quick
@given(problems(kinds=("none",)))
def test_the_output_lies_between_the_values(problem):
    output, _ = attention(*problem)
    value = problem[2]
    assert (output <= value.amax(-2, keepdim=True) + 1e-9).all()
    assert (output >= value.amin(-2, keepdim=True) - 1e-9).all()


@quick
@given(problems(kinds=("causal",)))
def test_under_the_causal_mask_a_later_token_changes_nothing_before_it(problem):
    query, key, value, mask = problem
    before, _ = attention(query, key, value, mask)
    key[..., -1, :] += 1
    value[..., -1, :] += 1
    after, _ = attention(query, key, value, mask)
    assert torch.equal(before[..., :-1, :], after[..., :-1, :])


def test_a_query_without_any_key_gets_zeros_as_in_torch():
    query, key, value = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 2)
    inputs = [x.requires_grad_() for x in (query, key, value)]
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    output, weights = attention(*inputs, mask)
    output.sum().backward()
    assert torch.equal(weights[1], torch.zeros(5))
    assert torch.equal(output[1], torch.zeros(2))
    assert torch.equal(query.grad[1], torch.zeros(4))
    assert all(x.grad.isfinite().all() for x in inputs)
    assert torch.equal(reference(*inputs, mask)[1], torch.zeros(2))


class NoNaN(TorchDispatchMode):
    """No operation, forward or backward, may give NaN."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for x in found if isinstance(found, tuple | list) else (found,):
            if isinstance(x, torch.Tensor) and x.is_floating_point():
                assert not x.isnan().any(), function
        return found


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_query_without_any_key_leaves_no_nan_inside():
    mask = torch.tensor([[False] * 4, [True] * 4, [True, False, True, False]])
    query, key, value = (
        torch.randn(T, 8, requires_grad=True, dtype=torch.float64) for T in (3, 4, 4)
    )
    with NoNaN(), torch.autograd.detect_anomaly(check_nan=True):
        output, weights = attention(query, key, value, mask)
        (output.sum() + weights.square().sum()).backward()
    assert not query.grad[0].any() and query.grad[1:].all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_a_masked_key_holds_does_not_leak_and_a_masked_value_does(bad):
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([True, True, True, False, False])
    want, _ = attention(query, key[:, :3], value[:, :3])
    key[:, 3:] = bad
    assert_close(attention(query, key, value, mask)[0], want)
    value[:, 3:] = bad  # 0 · NaN, as torch has it
    key[:, 3:] = 0
    ours, _ = attention(query, key, value, mask)
    assert ours.isnan().all() == (bad != 1e30)
    theirs = F.scaled_dot_product_attention(query, key, value, mask.expand(2, 3, 5))
    assert_close(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1, 40])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype, scale):
    generator = torch.Generator().manual_seed(scale)
    three = [torch.randn(2, 3, 50, 64, generator=generator) for _ in range(3)]
    query, key, value = (x.to(dtype) for x in (scale * three[0], *three[1:]))
    mask, unit = causal_mask(50), torch.finfo(dtype).eps
    ours = attention(query, key, value, mask)
    exact = attention(query.double(), key.double(), value.double(), mask)
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == dtype
        assert_close(a.double(), b, rtol=0.51 * unit, atol=3e-6 * scale)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    largest = value.abs().max().item()
    assert_close(ours[0], theirs, rtol=unit, atol=unit * largest)


def test_scores_beyond_half_precision():
    query = torch.full((1, 2, 64), 60.0).half()  # q · k is 230,400: no float16
    output, weights = attention(query, query, torch.ones(1, 2, 3).half())
    assert weights.unique().tolist() == [0.5] and output.unique().tolist() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rollout_of_half_precision_is_rounded_once(dtype):
    weights = [torch.randn(2, 4, 9, 9).softmax(-1).to(dtype) for _ in range(12)]
    exact = rollout([layer.double() for layer in weights])
    assert_close(
        rollout(weights).double(), exact, rtol=0.51 * torch.finfo(dtype).eps, atol=1e-6
    )


def test_no_keys_at_all_is_a_row_without_any_key():
    output, weights = attention(torch.randn(3, 4), torch.randn(0, 4), torch.randn(0, 2))
    assert weights.shape == (3, 0)
    assert torch.equal(output, torch.zeros(3, 2))


def test_leading_axes_broadcast():
    query, key, value = torch.randn(2, 1, 3, 4), torch.randn(5, 6, 4), torch.randn(6, 7)
    output, weights = attention(query, key, value)
    assert weights.shape == (2, 5, 3, 6)
    assert output.shape == (2, 5, 3, 7)


def test_large_scores_do_not_overflow():
    query = torch.full((1, 2, 4), 300.0)
    output, weights = attention(query, query, torch.ones(1, 2, 3))
    assert_close(weights, torch.full((1, 2, 2), 0.5))
    assert_close(output, torch.ones(1, 2, 3))


def test_the_causal_mask():
    assert causal_mask(3).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert causal_mask(0).shape == (0, 0)
    assert causal_mask(2).dtype == torch.bool
    assert causal_mask(2, device="meta").device.type == "meta"


@pytest.mark.parametrize("T", [-1, 2.0, True, None, "3"])
def test_the_causal_mask_names_a_bad_length(T):
    with pytest.raises(ValueError, match=r"^T: got .*, wants a whole number"):
        causal_mask(T)


X = torch.randn(2, 3, 4)  # (B, T, d)
BAD = {
    "query: got list, wants a torch.Tensor": ([[1.0]], X, X, None),
    "key: got torch.int64, wants a floating": (X, X.long(), X, None),
    "value: got torch.float64, wants torch.float32": (X, X, X.double(), None),
    r"query: got shape \(4,\), wants \(..., tokens, width\)": (X[0, 0], X, X, None),
    "key: got .* wants the width of query, 4": (X, X[..., :3], X, None),
    "query: got .* a width of at least 1": (X[..., :0], X[..., :0], X, None),
    "value: got .* one row for each of the 3 keys": (X, X, X[:, :2], None),
    "leading axes do not broadcast": (X, torch.randn(5, 3, 4), X, None),
    "mask: got list, wants a torch.Tensor": (X, X, X, [[True]]),
    "mask: got torch.float32, wants bool": (X, X, X, torch.zeros(3, 3)),
    r"mask: got shape \(3, 4\), wants .*\(2, 3, 3\)": (
        X,
        X,
        X,
        torch.ones(3, 4).bool(),
    ),
    r"mask: got shape \(7, 2, 3, 3\)": (X, X, X, torch.ones(7, 2, 3, 3).bool()),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_raises_early_and_names_the_argument(message):
    with pytest.raises((TypeError, ValueError), match=message) as error:
        attention(*BAD[message])
    assert error.type is (ValueError if "shape" in str(error.value) else TypeError)


# --- Several heads --------------------------------------------------------------------


def copied(ours: MultiHeadAttention) -> torch.nn.MultiheadAttention:
    """torch's layer with the weights of ours."""
    theirs = torch.nn.MultiheadAttention(
        ours.to_query.in_features,
        ours.num_heads,
        bias=ours.to_query.bias is not None,
        batch_first=True,
        dtype=ours.to_query.weight.dtype,
    )
    three = ours.to_query, ours.to_key, ours.to_value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in three]))
        theirs.out_proj.weight.copy_(ours.to_output.weight)
        if theirs.in_proj_bias is not None:
            theirs.in_proj_bias.copy_(torch.cat([m.bias for m in three]))
            theirs.out_proj.bias.copy_(ours.to_output.bias)
    return theirs


@quick
@given(
    st.sampled_from([(1, 1), (4, 1), (6, 2), (12, 3), (8, 8)]),
    st.booleans(),
    st.sampled_from(["self", "causal", "cross", "masked cross"]),
    st.integers(0, 2**20),
)
def test_multi_head_attention_is_that_of_torch(size, bias, kind, seed):
    torch.manual_seed(seed)
    (D, H), B, Tq, Tk = size, 2, 3, 5
    ours = MultiHeadAttention(D, H, bias).double()
    theirs = copied(ours)
    x = torch.randn(B, Tq, D, dtype=torch.float64, requires_grad=True)
    context = torch.randn(B, Tk, D, dtype=torch.float64, requires_grad=True)
    context = context if "cross" in kind else x
    mask = None
    if kind == "causal":
        mask = causal_mask(Tq)
    elif kind == "masked cross":
        mask = torch.rand(Tq, Tk) < 0.5
        mask[:, 0] = True
    output, maps = ours(x, None if context is x else context, mask)
    theirs_output, theirs_maps = theirs(
        x,
        context,
        context,
        attn_mask=None if mask is None else ~mask,
        average_attn_weights=False,
    )
    assert_close(output, theirs_output, rtol=0, atol=1e-9)
    assert_close(maps, theirs_maps, rtol=0, atol=1e-9)
    inputs = [x] if context is x else [x, context]
    back = torch.randn_like(output)
    four = (ours.to_query, ours.to_key, ours.to_value, ours.to_output)
    mine = torch.autograd.grad(output, [*inputs, *(m.weight for m in four)], back)
    wanted = torch.autograd.grad(
        theirs_output, [*inputs, theirs.in_proj_weight, theirs.out_proj.weight], back
    )
    n = len(inputs)
    mine = [*mine[:n], torch.cat(mine[n : n + 3]), mine[-1]]
    for a, b in zip(mine, wanted, strict=True):
        assert_close(a, b, rtol=0, atol=1e-9)


@quick
@given(st.integers(0, 3), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4))
def test_joining_undoes_splitting(B, T, H, d):
    x = torch.randn(B, T, H * d)
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, d)
    assert torch.equal(join_heads(heads), x)
    for h in range(H):
        assert torch.equal(heads[:, h], x[..., h * d : (h + 1) * d])


def test_the_number_of_heads_changes_no_parameter():
    sizes = {
        H: [tuple(p.shape) for p in MultiHeadAttention(8, H).parameters()]
        for H in (1, 2, 4, 8)
    }
    assert all(found == sizes[1] for found in sizes.values())


def test_reordering_the_heads_in_all_four_maps_changes_nothing():
    layer = MultiHeadAttention(6, 3, bias=False)
    x = torch.randn(2, 4, 6)
    before, _ = layer(x)
    order = torch.arange(6).view(3, 2)[[2, 0, 1]].flatten()
    with torch.no_grad():
        for part in (layer.to_query, layer.to_key, layer.to_value):
            part.weight.copy_(part.weight[order])
        layer.to_output.weight.copy_(layer.to_output.weight[:, order])
    assert_close(layer(x)[0], before)


def test_a_mask_for_each_sequence_and_for_each_head():
    layer, x = MultiHeadAttention(6, 3), torch.randn(2, 4, 6)
    lengths = torch.tensor([4, 2]).view(2, 1, 1, 1)
    _, maps = layer(x, mask=torch.arange(4) < lengths)  # (B, 1, 1, Tk)
    assert (maps[1, ..., 2:] == 0).all() and (maps[0] > 0).all()
    per_head = torch.ones(1, 3, 4, 4, dtype=torch.bool)
    per_head[:, 1] = causal_mask(4)
    _, maps = layer(x, mask=per_head)
    assert (maps[:, 1].triu(1) == 0).all() and (maps[:, 0] > 0).all()


def test_a_token_without_any_key_gets_the_bias_of_the_output():
    layer, x = MultiHeadAttention(6, 3), torch.randn(2, 4, 6)
    output, maps = layer(x, mask=torch.zeros(4, 4, dtype=torch.bool))
    assert (maps == 0).all()
    assert_close(output, layer.to_output.bias.expand_as(output))
    output, maps = layer(x, torch.randn(2, 0, 6))  # no context at all
    assert maps.shape == (2, 3, 4, 0)
    assert_close(output, layer.to_output.bias.expand_as(output))


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((6, 4), r"num_heads: got 4, wants a divisor of d_model = 6"),
        ((6, 0), r"num_heads: got 0, wants a whole number"),
        ((6, 2.0), r"num_heads: got 2.0, wants a whole number"),
        ((0, 1), r"d_model: got 0, wants a whole number"),
        (("6", 1), r"d_model: got '6', wants a whole number"),
        ((6, True), r"num_heads: got True"),
    ],
)
def test_bad_sizes_are_named(size, told):
    with pytest.raises(ValueError, match=told):
        MultiHeadAttention(*size)


Y = torch.randn(2, 4, 6)  # (B, T, D)
BAD_HEADS = {
    "x: got list, wants a torch.Tensor": ([1.0], None, None),
    "x: got torch.float64, wants torch.float32": (Y.double(), None, None),
    r"x: got shape \(4, 6\), wants \(B, T, 6\)": (Y[0], None, None),
    r"x: got shape \(2, 4, 5\), wants \(B, T, 6\)": (Y[..., :5], None, None),
    r"context: got shape \(2, 4, 3\), wants \(B, T, 6\)": (Y, Y[..., :3], None),
    "context: got 1 sequences, wants 2": (Y, Y[:1], None),
    r"mask: got shape \(2, 4, 4\), wants \(Tq, Tk\) or \(B, H, Tq, Tk\)": (
        Y,
        None,
        torch.ones(2, 4, 4, dtype=torch.bool),
    ),
    r"mask: got shape \(3, 4\)": (Y, None, torch.ones(3, 4, dtype=torch.bool)),
    "mask: got torch.float32, wants bool": (Y, None, torch.ones(4, 4)),
    "mask: got list, wants a torch.Tensor": (Y, None, [[True]]),
}


@pytest.mark.parametrize("told", BAD_HEADS)
def test_bad_input_of_several_heads_is_named(told):
    with pytest.raises((TypeError, ValueError), match=told):
        MultiHeadAttention(6, 3)(*BAD_HEADS[told])


def test_splitting_and_joining_name_a_bad_shape():
    with pytest.raises(ValueError, match=r"x: got shape \(4, 6\), wants \(B, T, D\)"):
        split_heads(Y[0], 2)
    for H in (4, 0, -1):
        with pytest.raises(ValueError, match=f"num_heads: got {H}, wants a divisor"):
            split_heads(Y, H)
    with pytest.raises(ValueError, match=r"wants \(B, H, T, d\)"):
        join_heads(Y)


def test_the_page_and_the_recorded_runs_have_one_network():
    page = nbformat.read("notebooks/block/multi-head.ipynb", as_version=4)
    [source] = [c.source for c in page.cells if c.source.startswith("class Echo")]
    names = dict(vars(recorded))
    exec(source, names)
    tokens, _ = recorded.sequences(2, torch.Generator().manual_seed(0))
    for size in ((8, 2), (8, 1, 5)):
        outputs = []
        for network in (recorded.Echo, names["Echo"]):
            torch.manual_seed(0)
            outputs.append(network(*size)(tokens))
        assert outputs[0][0].shape == (2, 10, 4, 32)
        assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
