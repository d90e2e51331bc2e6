import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.t5.modeling_t5 import T5Attention

from lib import decoding, positions
from lib.attention import MultiHeadAttention, causal_mask
from lib.models.encoder_decoder import CoderLayer, EncoderDecoder, padding_mask
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


def buckets(distance, far):
    """T5's own buckets of a decoder, in which no later key has one of its own."""
    return T5Attention._relative_position_bucket(distance, False, 32, far)


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_every_weight_is_trained(scheme):
    """Each number of each weight has a gradient, but the rows that nothing can reach."""
    T = 40
    model = small(scheme, length=T)
    ids = torch.randint(11, (8, T))
    ids[0, :11] = torch.arange(11)  # each row of the embeddings
    model(ids).square().sum().backward()
    reached = {}
    back = torch.zeros(65, dtype=torch.bool)
    back[: 32 + 1] = True  # Shaw: 32 or more before the query, …, itself
    reached |= {f"blocks.{i}.attention.shaw.weight": back for i in range(2)}
    met = torch.zeros(32, dtype=torch.bool)
    met[buckets(-torch.arange(T), T)] = True
    reached["t5.weight"] = met.expand(4, -1)
    for name, weight in model.named_parameters():
        size = weight.grad.abs()
        size = size.amax(1) if "shaw" in name else size  # (rows,)
        rows = reached.get(name, torch.ones_like(size, dtype=torch.bool))
        assert size[rows].min() > 1e-9 * size.max() > 0, name
        assert not size[~rows].any(), name


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_empty(scheme):
    model = small(scheme)
    for shape in ((2, 0), (0, 3), (0, 0)):
        assert model(torch.zeros(shape, dtype=torch.long)).shape == (*shape, 11)


def first_input(model, ids):
    """What the first block gets: the stream (B, T, D) and the places."""
    found = []
    hook = model.blocks[0].register_forward_pre_hook(
        lambda _, given: found.extend(given)
    )
    model(ids)
    hook.remove()
    return found[:2]


@pytest.mark.parametrize("shift", [1, 7, 40])
@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_only_distance_counts(scheme, shift):
    """Moved as a whole, relative schemes read and score the same; the absolute do not."""
    model = small(scheme, length=64)
    if scheme == "t5":
        nn.init.normal_(model.t5.weight)
    text = torch.randint(11, (2, 6))
    moved = torch.cat((torch.randint(11, (2, shift)), text), 1)
    stream, later = first_input(model, text)[0], first_input(model, moved)[0]
    same = (stream - later[:, shift:]).abs().amax(-1) < 1e-6  # (B, T)
    assert same.all() if scheme in SHIFTS | {"none"} else not same.any()
    at = torch.arange(6)
    layer = model.blocks[0].attention
    near, far = model.places(at, at), model.places(at + shift, at + shift)
    torch.testing.assert_close(
        layer(stream, near), layer(stream, far), rtol=1e-5, atol=1e-5
    )
    wider = layer(stream, model.places(3 * at, 3 * at))
    other = (wider - layer(stream, near)).abs().amax((0, 2)) > 1e-3  # (T,)
    assert not other[0]  # the first token sees itself alone
    assert other[1:].all() if scheme in SHIFTS else not other.any()


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_a_text_of_one_token_shows_absolute_positions_alone(scheme):
    """All values are equal, and so is their average, whatever the weights are."""
    model = small(scheme, length=64)
    if scheme == "t5":
        nn.init.normal_(model.t5.weight)
    logits = model(torch.full((1, 30), 4))[0]  # (T, V)
    gaps = (logits[1:] - logits[0]).abs().amax(-1)  # (T - 1,)
    assert gaps.max() < 1e-6 if scheme in SHIFTS | {"none"} else gaps.min() > 1e-3


@pytest.mark.parametrize("scale", [None, 2.5])
def test_what_is_added_to_the_tokens(scale):
    ids, T, D = torch.randint(11, (2, 16)), 16, 16
    for scheme in positions.SCHEMES:
        model = small(scheme, scale=scale)
        added = first_input(model, ids)[0] - model.embed.weight[ids]  # (B, T, D)
        expected = torch.zeros(T, D, dtype=torch.double)
        if scheme == "learned":
            expected = model.table.weight
        if scheme == "sinusoidal":
            for p in range(T):
                for i in range(D // 2):
                    angle = p / 10_000 ** (2 * i / D)
                    expected[p, 2 * i] = math.sin(angle) * (scale or 1)
                    expected[p, 2 * i + 1] = math.cos(angle) * (scale or 1)
        torch.testing.assert_close(added, expected.expand_as(added), rtol=0, atol=1e-6)


def test_what_a_scheme_starts_with():
    """The sizes of `SCALES`, of a table large enough to tell."""
    for scale in (None, 0.1):
        model = LanguageModel(
            11, 64, 1, 1, positions="learned", length=999, scale=scale
        )
        assert abs(model.table.weight.std() / (scale or 1.0) - 1) < 0.02
        model = LanguageModel(11, 64, 1, 1, positions="shaw", scale=scale)
        shaw = model.blocks[0].attention.shaw.weight  # (65, 64)
        assert shaw.shape == (65, 64) and abs(shaw.std() / (scale or 0.3) - 1) < 0.05
    model = LanguageModel(99, 64, 1, 1, positions="t5")
    assert not model.t5.weight.any() and model.t5.weight.shape == (1, 32)
    assert abs(model.embed.weight.std() - 1) < 0.05
    assert abs(model.readout.weight.std() - 0.02) < 0.001
    assert model.blocks[0].mlp.up.out_features == 4 * 64
    assert LanguageModel(99, 64, 1, 1, hidden=5).blocks[0].mlp.up.out_features == 5
    assert LanguageModel(99, 64, 1, 1).positions == "rope"


def test_attention_is_that_of_the_book():
    model = small("none")
    ours, x = model.blocks[0].attention, torch.randn(2, 9, 16, dtype=torch.float64)
    heads = MultiHeadAttention(16, 4, bias=False).double()
    heads.load_state_dict(ours.state_dict())
    at = torch.arange(9)
    expected, _ = heads(x, mask=causal_mask(9))
    torch.testing.assert_close(ours(x, model.places(at, at)), expected)


def by_hand(query, key, i, j, head, scheme, model, base, far):
    """The score of one query (d,) and one key (d,), before the softmax."""
    d, dot = len(query), 0.0
    layer = model.blocks[0].attention
    if scheme == "rope":
        for k in range(0, d, 2):  # the query turned back by the distance
            angle = (j - i) * base ** (-k / d)
            cos, sin = math.cos(angle), math.sin(angle)
            dot += query[k] * (key[k] * cos - key[k + 1] * sin)
            dot += query[k + 1] * (key[k] * sin + key[k + 1] * cos)
        return dot / d**0.5
    if scheme == "shaw":
        key = key + layer.shaw.weight[max(j - i, -32) + 32]
    dot = query @ key / d**0.5
    if scheme == "t5":
        dot = dot + model.t5.weight[head, buckets(torch.tensor(j - i), far)]
    if scheme == "alibi":
        dot = dot - 2.0 ** (-2 * (head + 1)) * (i - j)  # four heads: 1/4, 1/16 …
    return dot


@pytest.mark.parametrize(
    ("scheme", "arguments"),
    [
        ("none", {}),
        ("sinusoidal", {}),
        ("learned", {}),
        ("shaw", {}),
        ("alibi", {}),
        ("rope", {}),
        ("rope", {"scale": 50.0}),
        ("t5", {"length": 64}),
        ("t5", {"length": 16}),
        ("t5", {"length": None}),
    ],
)
def test_scores_by_hand(scheme, arguments):
    """One row of each head, from the papers' formulas and the weights alone."""
    model = small(scheme, **arguments)
    if scheme == "t5":
        nn.init.normal_(model.t5.weight)
    base = arguments.get("scale", 10_000.0)
    far = {64: 64, 16: 32, None: 128}[arguments.get("length", 64)]
    T, layer = 150, model.blocks[0].attention
    x = torch.randn(T, 16, dtype=torch.float64)
    at = torch.arange(T)
    ours = layer(x[None], model.places(at, at))[0]  # (T, D)
    for i in (0, 5, 149):
        mixed = []
        for head in range(4):
            rows = slice(4 * head, 4 * head + 4)
            query = layer.to_query.weight[rows] @ x[i]  # (d,)
            keys = x @ layer.to_key.weight[rows].mT  # (T, d)
            values = x @ layer.to_value.weight[rows].mT
            scores = [
                by_hand(query, keys[j], i, j, head, scheme, model, base, far)
                for j in range(i + 1)
            ]
            mixed.append(torch.stack(scores).softmax(-1) @ values[: i + 1])
        expected = layer.to_output.weight @ torch.cat(mixed)
        torch.testing.assert_close(ours[i], expected, rtol=1e-5, atol=1e-6)


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


def test_an_encoder_decoder_starts_at_scale_one():
    """Tables of 1/√D: times √D each token has scale 1, and so have the logits."""
    torch.manual_seed(0)
    for tied in (False, True):
        model = EncoderDecoder(500, 500, 64, 4, 1, 24, tied=tied)
        for table in (model.source_embed, model.target_embed, model.readout):
            assert abs(table.weight.std().item() * 8 - 1) < 0.02
    assert model.readout.bias is None


def test_tied_tables_are_one():
    torch.manual_seed(0)
    model = EncoderDecoder(13, 13, 16, 4, 1, 24, tied=True)
    one = model.source_embed.weight
    assert model.target_embed.weight is one and model.readout.weight is one
    assert sum(p is one for p in model.parameters()) == 1
    with pytest.raises(ValueError, match="target_vocabulary: got 11, wants 13"):
        EncoderDecoder(13, 11, 16, 4, 1, 24, tied=True)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_dropout_acts_on_what_each_branch_adds(norm, cross):
    """Where it drops all, only the stream is left, and the norms after it."""
    torch.manual_seed(0)
    layer = CoderLayer(16, 4, 24, norm, 1.0, cross).double()
    x, memory = torch.randn(2, 2, 5, 16, dtype=torch.double)
    found, _ = layer(x, causal_mask(5), memory)
    expected = x
    if norm == "post":
        for _ in range(2 + cross):
            expected = F.layer_norm(expected, (16,))
    torch.testing.assert_close(found, expected)
    layer.eval()
    for i in range(2 + cross):  # each branch alone adds something
        branches = [layer.attention.to_output, layer.mlp.down]
        branches.insert(1, layer.cross.to_output if cross else None)
        branches = [branch for branch in branches if branch is not None]
        branch = branches[i]
        kept = branch.weight.data.clone(), branch.bias.data.clone()
        whole, _ = layer(x, causal_mask(5), memory)
        branch.weight.data.zero_(), branch.bias.data.zero_()
        without, _ = layer(x, causal_mask(5), memory)
        branch.weight.data, branch.bias.data = kept
        assert (whole - without).abs().amax(-1).min() > 1e-3


def test_dropout_acts_on_the_embeddings():
    model = pair(dropout=1.0).train()
    assert not model.embed(SOURCE, model.source_embed, "source").any()
    model.eval()
    embedded = model.embed(SOURCE, model.source_embed, "source")
    first = math.sqrt(16) * model.source_embed.weight[5]
    first[1::2] += 1  # position 0: sin 0, cos 0, …
    torch.testing.assert_close(embedded[0, 0], first)


def test_dropout_is_none_unless_asked_for():
    layers = [m for m in EncoderDecoder(5, 5, 8, 2, 1, 8).modules()]
    assert {m.p for m in layers if isinstance(m, nn.Dropout)} == {0.0}
    model = EncoderDecoder(5, 5, 8, 2, 1, 8, dropout=0.25)
    shares = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert shares == [0.25] * 3  # one for each layer, one for the embeddings


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
