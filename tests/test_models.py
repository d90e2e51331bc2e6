import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import positions
from lib.attention import MultiHeadAttention, attention, causal_mask
from lib.models import LanguageModel

SHIFTS = {"shaw", "t5", "alibi", "rope"}


def small(scheme, **arguments):
    torch.manual_seed(0)
    arguments = {"length": 16} | arguments
    return LanguageModel(11, 16, 4, 2, positions=scheme, **arguments).double().eval()


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_causal_and_shapes(scheme):
    model, ids = small(scheme), torch.randint(11, (3, 12))
    logits = model(ids)
    assert logits.shape == (3, 12, 11) and logits.dtype == torch.float64
    changed = ids.clone()
    changed[:, 7:] = 0
    torch.testing.assert_close(model(changed)[:, :7], logits[:, :7])
    assert not torch.allclose(model(changed)[:, 7:], logits[:, 7:])


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_every_weight_is_trained(scheme):
    model = small(scheme)
    model(torch.randint(11, (8, 16))).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_empty(scheme):
    model = small(scheme)
    for shape in ((2, 0), (0, 3), (0, 0)):
        assert model(torch.zeros(shape, dtype=torch.long)).shape == (*shape, 11)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(positions.SCHEMES), st.integers(1, 40))
def test_only_distance_counts(scheme, shift):
    """Moved as a whole, relative schemes score the same; the absolute do not."""
    model = small(scheme)
    at = torch.arange(6)
    near, far = model.places(at, at), model.places(at + shift, at + shift)
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    layer = model.blocks[0].attention
    torch.testing.assert_close(layer(x, near), layer(x, far), rtol=1e-5, atol=1e-5)


def test_attention_is_that_of_the_book():
    model = small("none")
    ours, x = model.blocks[0].attention, torch.randn(2, 9, 16, dtype=torch.float64)
    heads = MultiHeadAttention(16, 4, bias=False).double()
    heads.load_state_dict(ours.state_dict())
    at = torch.arange(9)
    expected, _ = heads(x, mask=causal_mask(9))
    torch.testing.assert_close(ours(x, model.places(at, at)), expected)


@pytest.mark.parametrize("scheme", sorted(SHIFTS))
def test_scores_by_hand(scheme):
    """Each relative scheme, from `lib.positions` and `attention` alone, one head."""
    model = small(scheme)
    if scheme == "t5":
        torch.nn.init.normal_(model.t5.weight)
    layer, at = model.blocks[0].attention, torch.arange(9)
    x = torch.randn(1, 9, 16, dtype=torch.float64)
    query, key, value = (
        map(x).unflatten(-1, (4, 4)).transpose(1, 2)
        for map in (layer.to_query, layer.to_key, layer.to_value)
    )
    distance = positions.distances(9, 9)
    if scheme == "rope":
        turns = positions.rope_turns(9, positions.rope_frequencies(4))
        mixed, _ = attention(
            positions.rope(query, turns), positions.rope(key, turns), value,
            causal_mask(9),
        )  # fmt: skip
    else:
        bias = {
            "shaw": lambda: layer.shaw(query, distance),
            "t5": lambda: model.t5(distance),
            "alibi": lambda: positions.alibi(distance, positions.alibi_slopes(4)),
        }[scheme]()
        scores = query @ key.mT / 2 + bias
        weights = scores.masked_fill(distance > 0, float("-inf")).softmax(-1)
        mixed = weights @ value
    expected = layer.to_output(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(
        layer(x, model.places(at, at)), expected, rtol=1e-6, atol=1e-7
    )


def test_rope_frequencies_may_be_changed():
    model, ids = small("rope"), torch.randint(11, (1, 12))
    plain = model(ids)
    model.frequencies = positions.interpolated(model.frequencies, 4)
    assert not torch.allclose(model(ids), plain)


def test_starts_near_the_uniform_guess():
    model = LanguageModel(65, 64, 4, 2)
    ids = torch.randint(65, (4, 32))
    loss = torch.nn.functional.cross_entropy(model(ids).mT, ids)
    assert abs(loss.item() - torch.tensor(65.0).log().item()) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": "absolute"}, "positions: got 'absolute', wants one of none"),
        ({"num_heads": 3}, "num_heads: got 3, wants a divisor of d_model = 16"),
        ({"d_model": 12, "num_heads": 4}, "head_dim: got 3, wants an even number"),
        ({"positions": "learned"}, "length: got None"),
        ({"positions": "t5", "length": 0}, "length: got 0"),
        ({"layers": 0}, "layers: got 0"),
        ({"vocabulary": 2.0}, "vocabulary: got 2.0"),
        ({"hidden": -1}, "hidden: got -1"),
        ({"scale": 0.0}, "base: got 0.0"),
    ],
)
def test_bad_settings(arguments, message):
    wanted = {"vocabulary": 11, "d_model": 16, "num_heads": 4, "layers": 1}
    with pytest.raises(ValueError, match=re.escape(message)):
        LanguageModel(**wanted | arguments)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[1, 2]], TypeError, "ids: got list"),
        (torch.ones(1, 3), TypeError, "ids: got torch.float32"),
        (torch.ones(3, dtype=torch.long), ValueError, "ids: got shape (3,)"),
        (torch.tensor([[0, 11]]), ValueError, "ids: got 0 to 11, wants 0 to 10"),
        (torch.tensor([[-1, 1]]), ValueError, "ids: got -1 to 1, wants 0 to 10"),
        (
            torch.zeros(1, 17, dtype=torch.long),
            ValueError,
            "ids: got 17 tokens, the learned table holds 16",
        ),
    ],
)
def test_bad_ids(ids, error, message):
    with pytest.raises(error, match=re.escape(message)):
        small("learned")(ids)
