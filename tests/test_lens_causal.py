"""lib.lens.causal: patched everywhere is the other run, nowhere is this one."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lib.lens import causal, hooks

V, T, D, L = 40, 6, 16, 3
LAYERS, PARTS = r"model\.layers\.\d", r"model\.layers\.\d\.(self_attn|mlp)"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=32,
        num_hidden_layers=L,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def ids():
    """Two texts that differ at place 2."""
    pair = torch.randint(V, (1, T)).repeat(2, 1)
    pair[1, 2] = (pair[0, 2] + 1) % V
    return pair


@torch.no_grad()
def last(model, ids):
    return model(ids, use_cache=False).logits[:, -1]  # (B, V)


def read(model, ids, pattern):
    with hooks.reading(model, pattern) as found:
        last(model, ids)
    return found


def test_a_map_is_one_patch_at_a_time(model, ids):
    saved = read(model, ids[:1], LAYERS)
    found = causal.patch_map(
        model, lambda x: last(model, x), ids[1:], saved, lambda x: x[:, 0]
    )
    assert found.shape == (L, T)
    for i, (name, value) in enumerate(saved.items()):
        for t in range(T):
            with hooks.patching(model, {name: value}, torch.arange(T) == t):
                alone = last(model, ids[1:])[0, 0]
            torch.testing.assert_close(found[i, t], alone)
    # Before place 2 the two texts are alike; the last layer's last place says all.
    whole, other = last(model, ids)[:, 0]
    torch.testing.assert_close(found[:, :2], other.expand(L, 2))
    torch.testing.assert_close(found[-1, -1], whole)
    torch.testing.assert_close(found[-1, :-1], other.expand(T - 1))


def test_a_map_of_the_same_run_changes_nothing(model, ids):
    saved = read(model, ids[:1], LAYERS)
    run = lambda x: last(model, x)  # noqa: E731
    found = causal.patch_map(model, run, ids[:1], saved, lambda x: x[:, 0])
    torch.testing.assert_close(found, run(ids[:1])[0, 0].expand(L, T))


def test_a_map_wants_one_token_for_one_token(model, ids):
    saved, run = read(model, ids[:1, :-1], LAYERS), lambda x: last(model, x)
    with pytest.raises(ValueError, match="as many tokens as the run"):
        causal.patch_map(model, run, ids[1:], saved, lambda x: x[:, 0])
    with pytest.raises(ValueError, match=r"ids: got shape \(2, 6\)"):
        causal.patch_map(model, run, ids, saved, lambda x: x[:, 0])


def test_all_paths_together_are_the_other_run(model, ids):
    """The stream is a sum: what all parts wrote, and the embedding."""
    names = rf"{PARTS}|model\.embed_tokens"
    saved, others = read(model, ids[1:], names), read(model, ids[:1], names)
    for name, wanted in ((list(saved), ids[:1]), ([], ids[1:])):
        edit = (
            causal.direct(saved, others, name)
            if name
            else causal.along(torch.ones(D), 0.0)
        )
        with hooks.replacing(model, {rf"model\.layers\.{L - 1}": edit}):
            found = last(model, ids[1:])
        torch.testing.assert_close(found, last(model, wanted), atol=1e-5, rtol=1e-4)


def test_a_path_leaves_what_is_between_alone(model, ids):
    """Patched on its path alone, the first attention changes no later part."""
    saved, others = read(model, ids[1:], PARTS), read(model, ids[:1], PARTS)
    name = "model.layers.0.self_attn"
    edit = causal.direct(saved, others, [name])
    with (
        hooks.reading(model, PARTS) as found,
        hooks.replacing(model, {rf"model\.layers\.{L - 1}": edit}),
    ):
        last(model, ids[1:])
    for part in saved:
        assert torch.equal(found[part], saved[part])
    with pytest.raises(ValueError, match="not read in both runs"):
        causal.direct(saved, {}, [name])


def test_steering_adds_at_the_places_that_are_asked():
    x, v = torch.randn(2, T, D), torch.randn(D)
    torch.testing.assert_close(causal.along(v, 2.0)(x), x + 2 * v)
    at = torch.arange(T) == 4
    found = causal.along(v, 2.0, at)(x)
    assert torch.equal(found[:, ~at], x[:, ~at])
    torch.testing.assert_close(found[:, 4], x[:, 4] + 2 * v)
    rows = torch.zeros(2, T, dtype=torch.bool)
    rows[1, 0] = True
    assert torch.equal(causal.along(v, 1.0, rows)(x)[0], x[0])
    with pytest.raises(ValueError, match=r"vector: got shape \(2, 16\)"):
        causal.along(torch.randn(2, D))


def test_without_is_a_projection():
    x, rows, centre = torch.randn(3, T, D), torch.randn(2, D), torch.randn(D)
    edit = causal.without(rows, centre)
    found = edit(x)
    torch.testing.assert_close(
        (found - centre) @ rows.mT, torch.zeros(3, T, 2), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(edit(found), found)
    kept = nn.functional.normalize(torch.linalg.svd(rows).Vh[2:], dim=1)
    torch.testing.assert_close(found @ kept.mT, x @ kept.mT, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        causal.without(3 * rows[0])(x), causal.without(rows[:1])(x)
    )
    for wrong in (torch.zeros(D), rows[[0, 0]]):
        with pytest.raises(ValueError, match="zero, or a mixture"):
            causal.without(wrong)
