"""lib.models.modernbert: equal to `transformers`, in values and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel

from lib import layers
from lib.models import modernbert
from lib.models.modernbert import GEGLU, Encoder, ModernBert
from lib.positions import rope_half, rope_turns

V, D, H, L, HIDDEN = 50, 32, 2, 7, 24
BASES = {"global_base": 5_000.0, "local_base": 100.0}


def ours(window=3, kind=ModernBert):
    torch.manual_seed(0)
    model = kind(V, D, H, L, HIDDEN, window=window, **BASES).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5)
            elif "bias" in name:
                p.normal_()
    return model


def theirs(model, window=3, kind=ModernBertForMaskedLM):
    config = ModernBertConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_hidden_layers=L,
        num_attention_heads=H,
        local_attention=2 * window,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 5_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
        pad_token_id=None,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        attn_implementation="sdpa",
    )
    other = kind(config).double().eval()
    other.load_state_dict(model.state_dict())  # every name, and no other
    return other


def text(B=2, T=23):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(V, (B, T), generator=generator)
    real = torch.ones(B, T, dtype=torch.bool)
    real[1:, T // 2 :] = False
    return ids, real


@pytest.mark.parametrize("window", [1, 3, 40])
@pytest.mark.parametrize("short", [0, 10**6])  # in blocks, and by a mask
@pytest.mark.parametrize("padded", [False, True])
def test_equal_to_transformers_with_its_weights(window, short, padded, monkeypatch):
    monkeypatch.setattr(modernbert, "SHORT", short)
    model = ours(window)
    other = theirs(model, window)
    ids, real = text()
    given, wanted = (real, real.long()) if padded else (None, None)
    got = model(ids, given)
    want = other(ids, attention_mask=wanted).logits
    assert got.isfinite().all()
    assert_close(got[real], want[real], atol=1e-6, rtol=0)
    # transformers computes its angles in float32: gradients agree as well as they.
    weight = torch.linspace(-1, 1, got[real].numel(), dtype=got.dtype)
    for logits, net in ((got, model), (want, other)):
        (logits[real].flatten() * weight).sum().backward()
        assert net.decoder.weight is net.get_parameter(
            "model.embeddings.tok_embeddings.weight"
        )
    for (name, p), (same, q) in zip(
        model.named_parameters(), other.named_parameters(), strict=True
    ):
        assert name == same
        assert_close(p.grad, q.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_the_encoder_alone_and_layer_by_layer():
    model = ours(kind=Encoder)
    other = theirs(model, kind=ModernBertModel)
    assert model.kinds == [
        {"full_attention": "global", "sliding_attention": "local"}[kind]
        for kind in other.config.layer_types
    ]
    assert model.kinds == ["global", "local", "local"] * 2 + ["global"]
    ids, _ = text()
    found = []
    hooks = [
        x.register_forward_hook(lambda *a: found.append(a[2])) for x in model.layers
    ]
    last = model(ids)
    for hook in hooks:
        hook.remove()
    wanted = other(ids, output_hidden_states=True)
    assert_close(last, wanted.last_hidden_state, atol=1e-6, rtol=0)
    for got, want in zip(found[:-1], wanted.hidden_states[1:-1], strict=True):
        assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", ["window", "global_base", "local_base"])
def test_every_setting_counts(change):
    """Otherwise the comparison above could not fail."""
    model, (ids, _) = ours(), text()
    values = {"window": 3, **BASES}
    other = ModernBert(V, D, H, L, HIDDEN, **values | {change: 2 * values[change]})
    other.double().load_state_dict(model.state_dict())
    assert (other(ids) - model(ids)).abs().max() > 1e-3


def test_the_parts_are_those_of_lib():
    torch.manual_seed(0)
    mine, gated = GEGLU(8, 12), layers.GatedMLP(8, 12, F.gelu)
    gated.load_state_dict(
        {
            "gate.weight": mine.Wi.weight[:12],
            "up.weight": mine.Wi.weight[12:],
            "down.weight": mine.Wo.weight,
        }
    )
    x = torch.randn(2, 5, 8)
    assert_close(mine(x), gated(x))
    frequencies = 100.0 ** -(torch.arange(0, 8, 2) / 8)
    turns = rope_turns(torch.arange(5), frequencies)
    x = torch.randn(2, 3, 5, 8, requires_grad=True)
    weight = torch.randn_like(x)
    slopes = []
    for turned in (
        rope_half(x, turns),
        modernbert._Turned.apply(x, turns.real, turns.imag),
    ):
        slopes.append(torch.autograd.grad((turned * weight).sum(), x)[0])
    assert_close(turned, rope_half(x, turns))
    assert_close(*slopes)


def test_padding_changes_nothing_and_some_logits_are_those_of_all():
    model, (ids, real) = ours(), text()
    logits = model(ids, real)
    assert_close(logits[1, :11], model(ids[1:, :11])[0], atol=1e-10, rtol=0)
    at = torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    assert_close(model(ids, None, at), model(ids)[at])
    assert model(ids, None, torch.zeros_like(at)).shape == (0, V)
    assert model(ids[:, :0]).shape == (2, 0, V)


def test_the_loss_starts_near_ln_V():
    torch.manual_seed(3)
    model = ModernBert(8001, 96, 3, 6, 144, window=16)
    ids = torch.randint(8000, (4, 64))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).item()
    assert abs(loss / math.log(8001) - 1) < 0.05


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        ((V, 32, 3, 2, 8), {}, "num_heads: got 3, wants a divisor of d_model = 32"),
        ((V, 32, 2, 0, 8), {}, "layers: got 0"),
        ((V, 32, 2, 2, 0), {}, "hidden: got 0"),
        ((V, 32, 2, 2, 8), {"window": -1}, "window: got -1"),
    ],
)
def test_wrong_settings_are_named(arguments, settings, told):
    with pytest.raises(ValueError, match=told):
        Encoder(*arguments, **settings)


def test_wrong_ids_are_named():
    with pytest.raises(ValueError, match=f"wants 0 to {V - 1}"):
        ours()(torch.tensor([[V]]))
    with pytest.raises(TypeError, match="ids"):
        ours()(torch.rand(1, 3))
