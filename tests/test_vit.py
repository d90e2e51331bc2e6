"""lib.models.ViT against `transformers`, attention rollout, and the shipped checkpoint."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from transformers import ViTConfig, ViTModel

from lib.attention import rollout
from lib.models import ViT, conv_stem

NAMES = {
    "attention.to_query": "attention.q_proj",
    "attention.to_key": "attention.k_proj",
    "attention.to_value": "attention.v_proj",
    "attention.to_output": "attention.o_proj",
    "attention_norm": "layernorm_before",
    "mlp_norm": "layernorm_after",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}


def small(pool="cls", **arguments):
    torch.manual_seed(0)
    patches = nn.Conv2d(3, 16, 4, stride=4)
    return ViT(patches, (4, 4), 16, 2, 2, 10, pool=pool, **arguments).double().eval()


def images(count=3, side=16):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=generator)


def transformers_names(model):
    """The state of our model under the names of `ViTModel`."""
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in NAMES.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
        key = key.replace("patches.", "embeddings.patch_embeddings.projection.")
        if key.startswith("norm."):
            key = f"layernorm.{key[5:]}"
        state[key] = value
    state["embeddings.cls_token"] = state.pop("cls")[None, None]
    state["embeddings.position_embeddings"] = state.pop("places.weight")[None]
    return {key: state[key] for key in state if not key.startswith("head.")}


def test_equal_to_transformers():
    ours = small()
    nn.init.normal_(ours.cls)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    theirs = ViTModel(config, add_pooling_layer=False).double().eval()
    theirs.load_state_dict(transformers_names(ours))
    reference = theirs(images(), output_attentions=True)
    hidden, weights = ours.encode(images())
    # They take the softmax in float32.
    assert_close(hidden, reference.last_hidden_state, atol=1e-6, rtol=0)
    for layer, expected in zip(weights, reference.attentions, strict=True):
        assert_close(layer, expected.double(), atol=1e-6, rtol=0)
    assert_close(ours(images()), ours.head(hidden[:, 0]))


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_images_of_a_batch_do_not_meet(pool):
    model, x = small(pool), images(5)
    alone = torch.cat([model(one[None]) for one in x])
    assert_close(model(x), alone)
    assert model(x[:0]).shape == (0, 10)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_every_weight_is_trained(pool):
    model = small(pool)
    model(images()).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_mean_without_places_ignores_the_order_of_patches():
    model, x = small("mean"), images(2)
    nn.init.zeros_(model.places.weight)
    moved = x.unfold(2, 4, 4).unfold(3, 4, 4)  # (B, 3, 4, 4, 4, 4)
    moved = moved.flip(2).permute(0, 1, 2, 4, 3, 5).reshape(x.shape)
    assert_close(model(moved), model(x))


def test_a_stem_makes_the_same_grid():
    stem = conv_stem([8, 8], [2, 2], 16)
    model = ViT(stem, (4, 4), 16, 2, 1, 10, pool="mean").double().eval()
    assert model.embed(images()).shape == (3, 16, 16)
    with pytest.raises(ValueError, match=r"images: got \(5, 5\) patches"):
        model(images(side=20))


def test_refused():
    with pytest.raises(ValueError, match="pool: got 'max'"):
        small("max")
    with pytest.raises(ValueError, match="layers: got 0"):
        ViT(nn.Conv2d(3, 16, 4, 4), (4, 4), 16, 2, 0, 10)
    with pytest.raises(ValueError, match="weights: got no layer"):
        rollout([])


@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 6))
def test_rollout_rows_sum_to_one(layers, heads, tokens):
    torch.manual_seed(layers + heads + tokens)
    weights = [torch.rand(2, heads, tokens, tokens).softmax(-1) for _ in range(layers)]
    reached = rollout(weights)
    assert_close(reached.sum(-1), torch.ones(2, tokens))
    eye = torch.eye(tokens)
    assert_close(rollout([eye.expand(2, heads, -1, -1)] * layers)[0], eye)
    if layers == 1:
        assert_close(reached, (weights[0].mean(1) + eye) / 2)
