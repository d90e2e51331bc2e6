"""lib.models.masked against itself, dense, and against `transformers`."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from transformers import ModernBertConfig, ModernBertModel

from lib.attention import attention
from lib.models.masked import ATTENTIONS, NORMS, MaskedLanguageModel
from lib.positions import to_half
from lib.sparse import pattern

V = 50


def small(**arguments):
    torch.manual_seed(0)
    settled = {"length": 64, "block": 4, "global_tokens": 3} | arguments
    return MaskedLanguageModel(V, 16, 2, 3, **settled).double().eval()


def text(B=2, T=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (B, T), generator=generator)


def gradients(model, ids, **arguments):
    model.zero_grad()
    output = model(ids, **arguments)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype)
    (output.flatten() * weight).sum().backward()
    return output, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["local", "hybrid", "alternating"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_a_window_that_covers_everything_is_full_attention(kind, norm, positions):
    ids = text()
    full = small(attention="full", norm=norm, positions=positions)
    other = small(attention=kind, norm=norm, positions=positions, window=11)
    ours, dense = gradients(other, ids), gradients(full, ids)
    assert_close(ours[0], dense[0], atol=1e-10, rtol=0)
    for name, gradient in dense[1].items():
        assert_close(ours[1][name], gradient, atol=1e-9, rtol=1e-7, msg=name)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(ATTENTIONS)),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 6),
)
def test_every_pattern_is_dense_attention_under_its_mask(kind, T, block, window, G):
    ids = text(T=T)
    model = small(attention=kind, block=block, window=window, global_tokens=G)
    found = model(ids)
    setting = {"block": block, "window": window}
    masks = {
        "full": torch.ones(T, T, dtype=torch.bool),
        "local": pattern(T, **setting),
        "hybrid": pattern(T, global_tokens=range(min(G, T)), **setting),
    }
    model.mixes = lambda T, key_mask: {
        k: (lambda q, k_, v, mask=m: attention(q, k_, v, mask)[0])
        for k, m in masks.items()
    }
    assert_close(found, model(ids), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_padding_changes_nothing(kind):
    ids = text(B=3, T=21)
    key_mask = torch.ones(3, 21, dtype=torch.bool)
    key_mask[1, 13:] = key_mask[2] = False  # the last is padding alone
    model = small(attention=kind)
    found = model(ids, key_mask)
    assert found.isfinite().all()
    assert_close(found[0], model(ids[:1])[0], atol=1e-10, rtol=0)
    assert_close(found[1, :13], model(ids[1:2, :13])[0], atol=1e-10, rtol=0)


def test_what_a_masked_model_starts_with():
    torch.manual_seed(0)
    model = MaskedLanguageModel(999, 64, 2, 1, positions="learned", length=500)
    for table in (model.embed, model.table):
        assert abs(table.weight.std().item() / 0.02 - 1) < 0.02
    for weight in model.layers[0].attention.parameters():
        assert abs(weight.std().item() * 8 - 1) < 0.05  # 1/√D: scale is kept
    assert not model.bias.any() and model.bias.shape == (999,)
    assert model.layers[0].mlp.up.out_features == 128
    assert model.window == {"block": 64, "window": 3} and model.globals == 1
    for norm in NORMS:
        other = MaskedLanguageModel(9, 8, 2, 2, norm=norm)
        norms = [m for m in other.modules() if isinstance(m, tuple(NORMS.values()))]
        assert {m.eps for m in norms} == {1e-5}
        assert len(norms) == (5 if norm == "post" else 6)  # the last is "pre"'s alone
    narrow = MaskedLanguageModel(9, 8, 2, 3, hidden=5, base=100.0)
    assert narrow.layers[0].mlp.up.out_features == 5 and narrow.table is None
    assert narrow.kinds == ["hybrid"] * 3
    expected = [100.0 ** (-2 * i / 4) for i in range(2)]
    assert narrow.frequencies.tolist() == pytest.approx(expected)
    plain = [10_000.0 ** (-2 * i / 4) for i in range(2)]
    found = MaskedLanguageModel(9, 8, 2, 4, attention="alternating")
    assert found.frequencies.tolist() == pytest.approx(plain)
    assert found.kinds == ["full", "local", "full", "local"]


def test_logits_at_some_tokens_are_those_of_all():
    ids = text()
    at = torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    model = small()
    assert_close(model(ids, None, at), model(ids)[at])
    assert model(ids, None, torch.zeros_like(at)).shape == (0, V)


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_the_loss_starts_near_ln_V(kind, norm, positions):
    torch.manual_seed(3)
    size, mask = 8001, 8000
    model = MaskedLanguageModel(
        size, 128, 4, 4, attention=kind, norm=norm, positions=positions, length=128
    )
    ids = torch.randint(mask, (4, 128))
    at = torch.rand(ids.shape) < 0.3
    with torch.no_grad():
        logits = model(ids.masked_fill(at, mask), None, at)
    loss = F.cross_entropy(logits, ids[at]).item()
    assert abs(loss / math.log(size) - 1) < 0.05


@pytest.mark.parametrize("T", [0, 1])
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_lengths_nought_and_one(kind, T):
    assert small(attention=kind)(text(T=T)).shape == (2, T, V)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": "flash"}, "attention: got 'flash'"),
        ({"positions": "alibi"}, "positions: got 'alibi'"),
        ({"norm": "none"}, "norm: got 'none'"),
        ({"block": 0}, "block: got 0"),
        ({"window": 2}, "window: got 2 blocks, wants an odd number"),
        ({"window": 0}, "window: got 0"),
        ({"global_tokens": 0}, "global_tokens: got 0"),
        ({"positions": "learned", "length": None}, "length"),
    ],
)
def test_a_wrong_setting_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_wrong_sizes_and_ids_are_named():
    with pytest.raises(ValueError, match="num_heads: got 3, wants a divisor"):
        MaskedLanguageModel(V, 16, 3, 1)
    with pytest.raises(ValueError, match="layers: got 0"):
        MaskedLanguageModel(V, 16, 2, 0)
    with pytest.raises(TypeError, match="ids"):
        small()(torch.rand(2, 5))
    with pytest.raises(ValueError, match=f"wants 0 to {V - 1}"):
        small()(torch.tensor([[V]]))
    with pytest.raises(ValueError, match="the table ends at 63"):
        small(positions="learned")(text(T=65))


# --- ModernBERT ------------------------------------------------------------------


def modern_bert(model, window, full_base=10_000.0, local_base=10_000.0, **changes):
    """A `ModernBertModel` with the weights of ours: full and local, RoPE, pre-norm."""
    D, layers = model.embed.embedding_dim, len(model.layers)
    config = ModernBertConfig(
        vocab_size=model.embed.num_embeddings,
        hidden_size=D,
        intermediate_size=model.layers[0].mlp.up.out_features,
        num_hidden_layers=layers,
        num_attention_heads=2,
        layer_types=[
            "full_attention" if kind == "full" else "sliding_attention"
            for kind in model.kinds
        ],
        local_attention=2 * window,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": full_base},
            "sliding_attention": {"rope_type": "default", "rope_theta": local_base},
        },
        pad_token_id=None,
        attn_implementation="sdpa",
        **changes,
    )
    theirs = ModernBertModel(config).double().eval()
    state = {
        "embeddings.tok_embeddings.weight": model.embed.weight,
        "embeddings.norm.weight": model.embed_norm.weight,
        "final_norm.weight": model.norm.weight,
    }
    for i, layer in enumerate(model.layers):
        a, m = layer.attention, layer.mlp
        turned = [
            to_half(w.weight.unflatten(0, (2, -1)).mT).mT.flatten(0, 1)
            for w in (a.to_query, a.to_key)
        ]  # rows of each head: from pairs side by side to two halves
        state |= {
            f"layers.{i}.attn.Wqkv.weight": torch.cat((*turned, a.to_value.weight)),
            f"layers.{i}.attn.Wo.weight": a.to_output.weight,
            f"layers.{i}.mlp.Wi.weight": torch.cat((m.gate.weight, m.up.weight)),
            f"layers.{i}.mlp.Wo.weight": m.down.weight,
            f"layers.{i}.mlp_norm.weight": layer.mlp_norm.weight,
        }
        if i:  # the first layer of ModernBERT has no norm before its attention
            state[f"layers.{i}.attn_norm.weight"] = layer.attention_norm.weight
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("window", [1, 2, 5])
def test_alternating_without_its_first_norm_is_modern_bert(window):
    model = small(attention="alternating", block=1, window=2 * window + 1)
    model.layers[0].attention_norm = nn.Identity()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm.weight" in name:
                p.uniform_(0.5, 1.5)
    theirs = modern_bert(model, window)
    ids = text(B=2, T=23)
    ours = model.encode(ids)
    assert_close(ours, theirs(ids).last_hidden_state, atol=1e-6, rtol=0)
    # With another window they differ: the test can fail.
    other = small(attention="alternating", block=1, window=2 * window + 3)
    other.layers[0].attention_norm = nn.Identity()
    other.load_state_dict(model.state_dict())
    assert (other.encode(ids) - ours).abs().max() > 1e-4


def test_heads_of_both_are_the_table():
    """Tied readout: the logits are products with the embeddings, and a bias."""
    model = small()
    ids = text()
    logits = model.encode(ids) @ model.embed.weight.T + model.bias
    assert_close(model(ids), logits)
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "readout" in name]
