import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib import decoding, positions
from lib.attention import MultiHeadAttention, attention, causal_mask
from lib.models.encoder_decoder import EncoderDecoder, padding_mask
from lib.models.language import LanguageModel

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


# --- Encoder and decoder ---------------------------------------------------------


def pair(norm="post", **arguments):
    torch.manual_seed(0)
    model = EncoderDecoder(13, 11, 16, 4, 2, 24, norm=norm, **arguments)
    for vector in (p for p in model.parameters() if p.ndim == 1):
        nn.init.normal_(vector)  # zeros and ones would hide a bias or a gain
    return model.double().eval()


def theirs(model, norm):
    """torch.nn.Transformer with the weights of `model`."""
    other = nn.Transformer(
        16, 4, 2, 2, 24, 0.0, batch_first=True, norm_first=norm == "pre"
    ).double()
    for ours, layers in (
        (model.encoder, other.encoder.layers),
        (model.decoder, other.decoder.layers),
    ):
        for mine, layer in zip(ours, layers, strict=True):
            twins = [(mine.attention, layer.self_attn)]
            twins += [(mine.cross, layer.multihead_attn)] if mine.cross else []
            for a, b in twins:
                three = a.to_query, a.to_key, a.to_value
                b.in_proj_weight.data = torch.cat([m.weight.data for m in three])
                b.in_proj_bias.data = torch.cat([m.bias.data for m in three])
                b.out_proj.load_state_dict(a.to_output.state_dict())
            layer.linear1.load_state_dict(mine.mlp.up.state_dict())
            layer.linear2.load_state_dict(mine.mlp.down.state_dict())
            for i, gain in enumerate(mine.norms, start=1):
                getattr(layer, f"norm{i}").load_state_dict(gain.state_dict())
    if norm == "pre":
        other.encoder.norm.load_state_dict(model.encoder_norm.state_dict())
        other.decoder.norm.load_state_dict(model.decoder_norm.state_dict())
    else:  # the paper has no norm after the last layer
        other.encoder.norm = other.decoder.norm = None
    return other.eval()


SOURCE = torch.tensor([[5, 3, 12, 4, 1], [7, 7, 2, 0, 0], [1, 0, 0, 0, 0]])
TARGET = torch.tensor([[2, 9, 4, 3], [2, 10, 0, 0], [2, 4, 4, 0]])


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_it_is_torchs_transformer_padding_included(norm, dtype):
    model = pair(norm)
    other = theirs(model, norm).to(dtype)
    model = model.to(dtype)
    later = ~causal_mask(TARGET.shape[1])
    reference = other(
        model.embed(SOURCE, model.source_embed, "source"),
        model.embed(TARGET, model.target_embed, "target"),
        tgt_mask=later,
        src_key_padding_mask=SOURCE == 0,
        tgt_key_padding_mask=TARGET == 0,
        memory_key_padding_mask=SOURCE == 0,
    )
    ours, reference = model(SOURCE, TARGET), model.readout(reference)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(ours, reference, atol=tolerance, rtol=0)
    for one, mine in ((ours, model), (reference, other)):
        (one * (TARGET != 0)[..., None]).square().sum().backward(retain_graph=True)
        assert all(p.grad is not None for p in mine.parameters() if p.ndim > 1)
    mine, its = model.encoder[0].mlp.up, other.encoder.layers[0].linear1
    torch.testing.assert_close(mine.weight.grad, its.weight.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_padding_and_later_tokens_change_nothing(norm):
    model = pair(norm)
    logits = model(SOURCE, TARGET)
    assert logits.shape == (3, 4, 11)
    alone = model(SOURCE[1:2, :3], TARGET[1:2, :2])
    torch.testing.assert_close(logits[1:2, :2], alone)
    changed = TARGET.clone()
    changed[:, 2:] = 8
    torch.testing.assert_close(model(SOURCE, changed)[:, :2], logits[:, :2])
    assert not torch.allclose(model(SOURCE.roll(1, 0), TARGET), logits)


def test_the_cross_attention_is_over_the_source():
    model = pair()
    mask = padding_mask(SOURCE)
    memory = model.encode(SOURCE, mask)
    torch.testing.assert_close(model.encode(SOURCE), memory)
    logits, weights = model.decode(TARGET, memory, mask)
    torch.testing.assert_close(logits, model(SOURCE, TARGET))
    assert [tuple(w.shape) for w in weights] == [(3, 4, 4, 5)] * 2  # (B, H, Tt, Ts)
    for layer in weights:
        torch.testing.assert_close(layer.sum(-1), torch.ones(3, 4, 4).double())
        assert (layer[2, :, :, 0] == 1).all()  # one token to look at
        assert (layer * ~mask).sum() == 0


def test_a_source_without_tokens_gives_nothing_to_attend_to():
    model = pair()
    for source in (torch.zeros(3, 2).long(), torch.zeros(3, 0).long()):
        mask = padding_mask(source)
        logits, weights = model.decode(TARGET, model.encode(source, mask), mask)
        assert logits.isfinite().all() and all((w == 0).all() for w in weights)
    assert model(SOURCE, TARGET[:, :0]).shape == (3, 0, 11)


def test_tied_tables_are_one():
    torch.manual_seed(0)
    model = EncoderDecoder(13, 13, 16, 4, 1, 24, tied=True)
    one = model.source_embed.weight
    assert model.target_embed.weight is one and model.readout.weight is one
    assert sum(p is one for p in model.parameters()) == 1
    with pytest.raises(ValueError, match="target_vocabulary: got 11, wants 13"):
        EncoderDecoder(13, 11, 16, 4, 1, 24, tied=True)


def test_dropout_is_of_training_only():
    model = pair(dropout=0.5)
    torch.testing.assert_close(model(SOURCE, TARGET), model(SOURCE, TARGET))
    model.train()
    assert not torch.allclose(model(SOURCE, TARGET), model(SOURCE, TARGET))


@pytest.mark.parametrize("beams", [1, 3])
def test_its_step_drives_the_searches(beams):
    """Every row alone, its padding cut off and scored from scratch, gives the same."""
    model = pair("pre")
    begin = torch.full((3, 1), 2)
    together, _ = decoding.beam(model.step(SOURCE), begin, 6, beams, eos=3)
    for row, source in enumerate(SOURCE):
        source = source[source != 0][None]

        def step(ids, parents, source=source):
            return model(source.expand(len(ids), -1), ids)[:, -1]

        alone, _ = decoding.beam(step, begin[:1], 6, beams, eos=3)
        T = alone.shape[1]
        assert together[row, :T].tolist() == alone[0].tolist()
        assert (together[row, T:] == 0).all()
    if beams == 1:
        greedy = decoding.greedy(model.step(SOURCE), begin, 6, eos=3)
        assert torch.equal(greedy, together)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"norm": "none"}, ValueError, "norm: got 'none', wants 'post' or 'pre'"),
        ({"d_model": 15, "num_heads": 3}, ValueError, "d_model: got 15, wants an even"),
        ({"num_heads": 5}, ValueError, "num_heads: got 5, wants a divisor"),
        ({"layers": 0}, ValueError, "layers: got 0"),
        ({"hidden": 0}, ValueError, "hidden: got 0"),
        ({"source_vocabulary": 0}, ValueError, "source_vocabulary: got 0"),
        ({"target_vocabulary": True}, ValueError, "target_vocabulary: got True"),
    ],
)
def test_numbers_that_do_not_fit_are_named(change, error, told):
    arguments = {"source_vocabulary": 13, "target_vocabulary": 11, "d_model": 16}
    arguments |= {"num_heads": 4, "layers": 1, "hidden": 24}
    with pytest.raises(error, match=told):
        EncoderDecoder(**arguments | change)


def test_ids_that_do_not_fit_are_named():
    model = pair()
    for source, target, error, told in (
        ([[13]], [[2]], ValueError, "source: got 13 to 13, wants 0 to 12"),
        ([[1]], [[-1, 2]], ValueError, "target: got -1 to 2, wants 0 to 10"),
        ([1], [[2]], ValueError, r"source: got shape \(1,\), wants \(B, T\)"),
        ([[1.0]], [[2]], TypeError, "source: got torch.float32, wants whole numbers"),
        ([[1], [1]], [[2]], ValueError, "context: got 2 sequences, wants 1"),
    ):
        with pytest.raises(error, match=told):
            model(torch.tensor(source), torch.tensor(target))
    with pytest.raises(TypeError, match="source: got list"):
        model([[1]], TARGET)
