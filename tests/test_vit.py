"""lib.models.vision against `transformers`, attention rollout, and the shipped checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub import Hub
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import ViTConfig, ViTModel

from lib import weights
from lib.attention import rollout
from lib.models.vision import ViT, conv_stem
from train import vit as recipe

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
        size = weight.grad.abs()  # each number of it, not their sum
        if name.endswith("to_key.bias"):  # the same for all keys: no score's share
            assert size.max() < 1e-12, name
        else:
            assert size.min() > 1e-9 * size.max() > 0, name


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


def test_a_stem_is_convolutions_norms_and_relus():
    torch.manual_seed(0)
    stem = conv_stem([6, 5], [2, 1], 16).double().eval()
    convs = [m for m in stem if isinstance(m, nn.Conv2d)]
    norms = [m for m in stem if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        for vector in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(vector)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    x = images(2)
    for conv, norm, stride in zip(convs, norms, (2, 1), strict=False):
        x = F.conv2d(x, conv.weight, None, stride, padding=1)
        mean, var, gain, bias = (
            v[:, None, None]
            for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        x = (x - mean) / (var + 1e-5).sqrt() * gain + bias
        assert 0.1 < (x < 0).double().mean() < 0.9
        x = x.clamp(min=0)
    last = convs[2]
    x = torch.einsum("dc,bchw->bdhw", last.weight[:, :, 0, 0], x)
    x = x + last.bias[:, None, None]
    assert (x < 0).any()  # no ReLU at the end
    assert_close(stem(images(2)), x)
    assert stem(images(2)).shape == (2, 16, 8, 8)


def test_a_vit_starts_as_the_paper_says():
    torch.manual_seed(0)
    model = ViT(nn.Conv2d(3, 64, 2, 2), (16, 16), 64, 2, 1, 10)
    assert not model.cls.any() and model.places.weight.shape == (257, 64)
    assert abs(model.places.weight.std().item() / 0.02 - 1) < 0.03
    assert model.layers[0].mlp.up.out_features == 256
    narrow = ViT(nn.Conv2d(3, 64, 2, 2), (16, 16), 64, 2, 1, 10, hidden=7)
    assert narrow.layers[0].mlp.up.out_features == 7


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


def test_rollout_by_hand():
    """Both tokens look at the first, then both at the second; the order decides."""
    first, second = [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]
    # Halves of the identity: [[1, 0], [½, ½]], then [[½, ½], [0, 1]].
    for layers, expected in (
        ([first, second], [[0.75, 0.25], [0.5, 0.5]]),
        ([second, first], [[0.5, 0.5], [0.25, 0.75]]),
        ([first, first], [[1.0, 0.0], [0.75, 0.25]]),
    ):
        weights = [torch.tensor(layer)[None, None] for layer in layers]
        assert rollout(weights).tolist() == [expected]
    heads = torch.tensor([[first, second]])  # (1, 2, 2, 2), their mean is ½ everywhere
    assert rollout([heads]).tolist() == [[[0.75, 0.25], [0.25, 0.75]]]
    batch = torch.tensor([[first], [second]])
    alone = [rollout([layer[None]])[0] for layer in batch]
    assert_close(rollout([batch]), torch.stack(alone))


# --- Training and the shipped checkpoint ---------------------------------------------


class Small:
    """In the place of `train.vit.Data`: 256 random images, the label in their colour."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.randint(10, (256,), generator=generator)
        x = torch.randn(256, 36, 36, 3, generator=generator)
        self.padded = x + self.labels[:, None, None, None] / 3
        self.held = self.padded[:64, 2:-2, 2:-2].permute(0, 3, 1, 2).contiguous()
        self.held_labels = self.labels[:64]

    batches = recipe.Data.batches


def test_training_records_what_the_page_replays(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "BATCH", 16)
    shape = {"stem": [[8, 8], [2, 2]], "d_model": 16, "num_heads": 2, "layers": 1}
    config = recipe.SHIPPED | {"model": shape | {"hidden": 16, "pool": "mean"}}
    run = ("run", config, Small(), 40, tmp_path, 0, recipe.photographs())
    model, trace = recipe.train(*run, bfloat16=False, looks=2)
    first, *_, last = trace["evaluations"]
    assert np.shape(last["places"]) == (64, 64) and last["accuracy"] > first["accuracy"]
    assert_close(np.sum(last["rollout"], 1), np.ones(2), atol=0.01, rtol=0)
    again, same = recipe.train(
        *run, bfloat16=False, looks=2
    )  # from its folder, at once
    assert same == trace
    assert_close(again.state_dict(), model.state_dict())


def test_a_crop_is_part_of_the_image():
    padded = torch.arange(36 * 36.0).view(1, 36, 36, 1).expand(4, -1, -1, 3)
    middle = recipe.augment(padded, None)
    assert_close(middle[0, 0], padded[0, 2:-2, 2:-2, 0])
    crops = recipe.augment(padded, torch.Generator().manual_seed(0))
    assert crops.shape == (4, 3, 32, 32)
    steps = crops.diff(dim=-1)
    assert ((steps == 1).all((1, 2, 3)) | (steps == -1).all((1, 2, 3))).all()
    assert (crops.diff(dim=-2) == 36).all()


def test_wilson():
    assert recipe.wilson(8600, 10_000) == [0.8531, 0.8667]


def test_the_card_is_about_these_predictions():
    card = weights.card("vit")
    found = load_file(weights.path("vit", "predictions.safetensors"))
    right = found["probabilities"].argmax(-1) == found["labels"]
    assert right.double().mean().item() == card["metrics"]["test_accuracy"]
    interval = recipe.wilson(int(right.sum()), len(right))
    assert interval == card["metrics"]["test_interval_95"]
    assert found["labels"].long().bincount().tolist() == [1000] * 10
    tensors = weights.tensors("vit").values()
    assert {t.dtype for t in tensors} == {torch.float16, torch.int64}


def test_the_validation_images_chose_the_shipped_seed():
    metrics, seeds = weights.card("vit")["metrics"], weights.trace("vit")["seeds"]
    assert [run["seed"] for run in seeds] == list(recipe.SEEDS)
    best = max(seeds, key=lambda run: run["validation_accuracy"])
    assert best == {key: metrics[key] for key in best}


SHIPPED = """
import torch
from lib import weights
from lib.data import cifar10
from train import vit
model = vit.build(weights.card("vit")["config"]["model"])
model.load_state_dict(weights.tensors("vit"))
images, labels = cifar10.pixels(cifar10.cifar10().test)
found = vit.predict(model, vit.normalised(images)).argmax(-1).numpy()
print((found == labels).mean())
"""


@pytest.mark.skipif(
    not Path(os.environ.get("HUB") or "", "datasets", "uoft-cs", "cifar10").is_dir(),
    reason="HUB names no folder that holds CIFAR-10",
)
def test_the_shipped_accuracy_is_reproduced(tmp_path):
    with Hub(os.environ["HUB"], cache=tmp_path) as hub:
        found = subprocess.run(
            [sys.executable, "-c", SHIPPED],
            env=os.environ | hub.environment,
            capture_output=True,
            text=True,
            check=True,
        )
    expected = weights.card("vit")["metrics"]["test_accuracy"]
    assert abs(float(found.stdout) - expected) <= 5e-4  # of 10,000, on any processor
