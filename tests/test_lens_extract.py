"""lib.lens.extract and lib.lens.towers: a folder of images goes into a store."""

import os
import runpy
import sys

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel
from transformers import logging as notices
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from lib.data.scene_pictures import picture
from lib.data.scenes import scenes
from lib.lens import __main__ as command
from lib.lens import extract as module
from lib.lens import towers
from lib.lens.extract import ConfigError, Input, extract, inputs, opened, read_config
from lib.lens.store import StoreError, store
from lib.live import picture as live
from lib.pretrained.origin import Pretrained, PretrainedError

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "image_size": 8, "patch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small ViT and a small CLIP tower as one finds them in a folder or on the hub."""
    found = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, model, processor in (
        ("vit", ViTModel(ViTConfig(**SIZES)), ViTImageProcessorPil),
        ("clip", CLIPVisionModel(CLIPVisionConfig(**SIZES)), CLIPImageProcessorPil),
    ):
        model.save_pretrained(found / name)
        size = {"height": 8, "width": 8}
        processor(size=size, crop_size=size).save_pretrained(found / name)
    return found


@pytest.fixture
def images(tmp_path):
    """Five pictures of scenes in several forms and modes, in folders of folders."""
    there = tmp_path / "images"
    (there / "more").mkdir(parents=True)
    rows = scenes("test").rows
    for i, (name, mode) in enumerate(
        (
            ("b.png", "RGB"),
            ("a.PNG", "RGBA"),
            ("c.gif", "P"),
            ("more/d.bmp", "L"),
            ("more/e.jpg", "CMYK"),
        )
    ):
        image = Image.fromarray(picture(rows[i]["objects"], 40 + 10 * i))
        image.convert(mode).resize((50 + i, 30)).save(there / name)
    (there / "notes.txt").write_text("no image")
    return there


@pytest.fixture
def config(folder, images, tmp_path):
    def made(**keys):
        keys = {
            "architecture": "vit",
            "model_path": str(folder / "vit"),
            "model": [{"torch_dtype": "float32"}],
            "output_db": str(tmp_path / "a.db"),
            "input_dir": str(images),
            "prompt": "Which colour?",
            "modules": [r"layers.\d", "embeddings"],
        } | keys
        path = tmp_path / "x.yaml"
        kept = {key: value for key, value in keys.items() if value is not None}
        path.write_text(yaml.safe_dump(kept))
        return path

    return made


def ran(path, one=None, **instead):
    found = read_config(path, **instead)
    one = one or towers.tower(found.architecture, found.model_path, found.model)
    return extract(found, one), store(found.output_db)


# --- The run ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_features_are_those_of_a_plain_pass(config, folder, images, name):
    layer = {"vit": r"layers.\d", "clip": r"encoder.layers.\d"}[name]
    path = config(model_path=str(folder / name), architecture=name, modules=[layer])
    report, found = ran(path)
    assert (report.written, report.there, report.skipped) == (5, 0, {})
    prefix = {"vit": "layers", "clip": "encoder.layers"}[name]
    assert found.layers() == {f"{prefix}.0": 5, f"{prefix}.1": 5}
    kind = {"vit": ViTModel, "clip": CLIPVisionModel}[name]
    model = kind.from_pretrained(folder / name).eval()
    processors = {"vit": ViTImageProcessorPil, "clip": CLIPImageProcessorPil}
    processor = processors[name].from_pretrained(folder / name)
    for row in found.rows():
        assert (row.name, row.architecture) == (str(folder / name), name)
        assert row.prompt == "Which colour?" and row.pooling_method is None
        assert os.path.isabs(row.image_path) and row.label is row.image_id is None
        image = Image.open(row.image_path).convert("RGB")
        with torch.no_grad():
            states = model(
                **processor(image, return_tensors="pt"), output_hidden_states=True
            ).hidden_states
        torch.testing.assert_close(row.tensor, states[int(row.layer[-1]) + 1])
    order = [os.path.relpath(r.image_path, images) for r in found.rows()][::2]
    assert order == ["a.PNG", "b.png", "c.gif", "more/d.bmp", "more/e.jpg"]


@pytest.mark.parametrize("method", ["mean", "max"])
def test_pooling_is_over_the_tokens(config, tmp_path, method):
    _, whole = ran(config())
    path = config(pooling_method=method, output_db=str(tmp_path / "pooled.db"))
    _, found = ran(path)
    for row, other in zip(found.rows(), whole.rows(), strict=True):
        assert row.pooling_method == method and row.tensor_dim == 16
        wanted = other.tensor.mean(1) if method == "mean" else other.tensor.amax(1)
        assert torch.equal(row.tensor, wanted) and row.tensor.shape == (1, 16)
    path = config(pooling_method="mean", modules=[r".*projection"])
    with pytest.raises(
        ValueError, match=r"embeddings\.\S+projection puts out \(1, 16, 2"
    ):
        ran(path)


def test_it_continues_where_it_was_stopped(config, folder):
    path = config()
    whole = towers.tower("vit", str(folder / "vit"))
    calls = []

    def run(image, prompt):
        calls.append(image)
        if len(calls) == 3:
            whole.run(image, prompt)  # its features are there, and not yet written
            raise KeyboardInterrupt
        whole.run(image, prompt)

    stopping = towers.Tower(whole.model, run)
    with pytest.raises(KeyboardInterrupt):
        ran(path, stopping)
    found = store(read_config(path).output_db)
    assert found.layers() == {"embeddings": 2, "layers.0": 2, "layers.1": 2}
    report, _ = ran(path, stopping)
    assert (report.written, report.there) == (3, 2) and len(calls) == 6
    assert str(report) == "3 inputs written, 2 were there before"
    report, _ = ran(path, stopping)
    assert (report.written, report.there) == (0, 5) and len(calls) == 6
    # One more layer: that one alone is added. Another prompt, or pooled: all of it.
    report, found = ran(config(modules=[r"layers.\d", "layernorm"]), stopping)
    assert report.written == 5 and found.layers()["layernorm"] == 5
    assert found.layers()["layers.0"] == 5
    ran(config(prompt="Which shape?"), stopping)
    ran(config(pooling_method="mean"), stopping)
    assert found.layers()["layers.0"] == 15


def test_a_pattern_that_matches_nothing_names_the_near(config):
    path = config(modules=["embeddings", r"layer\.\d"])
    with pytest.raises(ValueError, match=r"matches no module in full; near.*layers\.0"):
        ran(path)
    assert not os.path.exists(read_config(path).output_db)
    with pytest.raises(ConfigError, match="modules: got none"):
        ran(config(modules=[]))


def test_files_that_are_no_images_are_named_and_the_rest_is_done(config, images):
    whole = (images / "b.png").read_bytes()
    (images / "b.png").write_bytes(whole[: len(whole) // 2])
    (images / "text.png").write_text("no image")
    (images / "empty.jpeg").touch()
    report, found = ran(config())
    bad = [str(images / name) for name in ("b.png", "empty.jpeg", "text.png")]
    assert sorted(report.skipped) == bad and report.written == 4
    assert "skipped " + bad[2] + ": UnidentifiedImageError" in str(report)
    assert found.layers() == dict.fromkeys(found.layers(), 4)
    (images / "b.png").write_bytes(whole)  # mended: it alone is run
    report, _ = ran(config())
    assert (report.written, report.there, len(report.skipped)) == (1, 4, 2)


def test_pictures_of_every_mode(monkeypatch, tmp_path):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
        found = opened(Image.new(mode, (3, 500)))
        assert (found.mode, found.size) == ("RGB", (3, 500))
    assert opened(None) is None
    Image.new("L", (300, 300)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    with pytest.raises(Image.DecompressionBombError, match="90000 pixels"):
        opened(tmp_path / "large.png")


def test_a_data_set_with_prompts_labels_and_numbers(config, images, tmp_path):
    rows = {
        "id": [7, 9],
        "prompt": ["Is it red?", "Is it blue?"],
        "label": ["yes", "no"],
        "image": ["b.png", "more/d.bmp"],
    }
    split = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"test": split}).save_to_disk(str(tmp_path / "set"))
    said = [
        {"local_dataset_path": str(tmp_path / "set")},
        {"dataset_split": "test"},
        {"image_dataset_path": str(images)},
    ]
    path = config(input_dir=None, prompt=None, dataset=said, modules=["layernorm"])
    report, found = ran(path)
    assert report.written == 2
    read = [(r.image_id, r.prompt, r.label, r.image_path) for r in found.rows()]
    assert read == [
        (7, "Is it red?", "yes", str(images / "b.png")),
        (9, "Is it blue?", "no", str(images / "more/d.bmp")),
    ]
    assert ran(path)[0].there == 2
    inside = Image.fromarray(np.zeros((9, 9, 3), np.uint8))  # the picture itself
    todo = [Input(inside, "p", image_id=1)]
    config_ = read_config(path)
    one = towers.tower("vit", config_.model_path)
    assert extract(config_, one, todo).written == 1
    assert extract(config_, one, todo).there == 1
    for said, message in (
        (
            [{"dataset_split": "test"}],
            "wants one of dataset_path and local_dataset_path",
        ),
        ([{"local_dataset_path": str(tmp_path)}], "cannot be read"),
        (
            [{"local_dataset_path": str(tmp_path / "set")}],
            "wants a split with a column",
        ),
    ):
        with pytest.raises(
            ConfigError, match=f"dataset: {message}|dataset: .*{message}"
        ):
            inputs(read_config(config(input_dir=None, dataset=said)))


# --- The file of keys ------------------------------------------------------------


def test_a_file_of_the_tool_is_read(tmp_path):
    """Its example for Qwen2-VL, word for word."""
    path = tmp_path / "qwen.yaml"
    path.write_text(
        """architecture: qwen
model_path: Qwen/Qwen2-VL-2B-Instruct
model:
  - torch_dtype: auto
output_db: output/Qwen2-VL-2B-Instruct.db
input_dir: ./data/test-images/
prompt: "Describe the color in this image in one word."
pooling_method: None
modules:
  - lm_head
  - visual.blocks.31
"""
    )
    found = read_config(path)
    assert found.pooling_method is None and found.model == {"torch_dtype": "auto"}
    assert found.modules == ["lm_head", "visual.blocks.31"] and found.dataset == {}
    assert read_config(path, input_dir="x", output_db=None).input_dir == "x"


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"module": ["a"]}, "the key 'module' is unknown; near: modules"),
        ({"zzz": 1}, "the key 'zzz' is unknown; near: architecture, model_path"),
        ({"model_path": None}, "model_path: is missing"),
        ({"modules": "layers"}, "modules: got 'layers', wants a list of patterns"),
        ({"modules": [1]}, r"modules: got \[1\], wants a list of patterns"),
        ({"pooling_method": "sum"}, "pooling_method: got 'sum', wants None, mean or"),
        ({"model": ["x"]}, r"model: got \['x'\], wants a list of `- key: value`"),
        ({"dataset": {"a": 1}}, "input_dir and dataset are there, wants one of them"),
        ({"input_dir": None, "prompt": None}, "wants input_dir, dataset or prompt"),
    ],
)
def test_bad_keys_are_named(config, keys, message):
    with pytest.raises(ConfigError, match=message):
        read_config(config(**keys))


def test_bad_files_and_folders(config, tmp_path):
    for content, message in (
        ("a: [", "no YAML can be read"),
        ("- a", "got list, wants keys and values"),
        ("!!python/object/apply:os.mkdir [trapped]", "no YAML can be read"),
    ):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(ConfigError, match=message):
            read_config(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match=r"no YAML can be read: .*No such file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "hollow").mkdir()
    for there, message in (("none", "is no folder"), ("hollow", "has no image")):
        with pytest.raises(ConfigError, match=f"input_dir: .*{there} {message}"):
            inputs(read_config(config(input_dir=str(tmp_path / there))))


# --- Models ----------------------------------------------------------------------


def test_the_vision_transformer_of_the_book(config, images):
    path = config(
        architecture="glass-box", model_path="vit", model=None, modules=[r"layers\.\d"]
    )
    report, found = ran(path)
    assert report.written == 5 and len(found.layers()) == 4
    row = next(found.rows(layer="layers.3"))
    assert row.tensor.shape == (1, 64, 96)
    model = live.model()
    with torch.no_grad():
        logits = model.head(model.norm(row.tensor).mean(1))
        wanted = live.shares(model, Image.open(row.image_path).convert("RGB"))
    torch.testing.assert_close(logits.softmax(-1)[0], wanted)
    with pytest.raises(ValueError, match="input_dir: vit reads images, there is none"):
        ran(
            config(
                architecture="glass-box",
                model_path="vit",
                model=None,
                modules=["norm"],
                input_dir=None,
            )
        )


def test_a_picture_becomes_224_pixels(monkeypatch):
    """The ViT-S in little: what goes in, and where a patch is."""
    seen = []

    class Small(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    small = Pretrained(Small(), None, "", "", "")
    monkeypatch.setattr(towers.dinov2, "vit_s", lambda: small)
    one = towers.tower("glass-box", "vit-s")
    image = Image.new("RGB", (300, 100))
    image.paste((255, 255, 255), (150, 0, 300, 100))
    one.run(image, None)
    assert seen[0].shape == (1, 3, 224, 224)
    dark, light = seen[0][0, :, :, 20], seen[0][0, :, :, 200]  # not turned or mirrored
    assert (dark < -1.5).all() and (light > 2).all()
    with pytest.raises(ValueError, match="vit-s reads images, there is none"):
        one.run(None, "a prompt")


def test_models_that_cannot_be_loaded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(towers, "reachable", lambda url: False)
    for given, error, message in (
        (
            ("glass-box", "bert"),
            ValueError,
            "model_path: got 'bert', glass-box has vit",
        ),
        (("glass-box", "vit", {"dtype": "auto"}), ValueError, "takes no options"),
        (("vit", "x", {"trust_remote_code": True}), ValueError, "no remote code runs"),
        (("vit", "x", {"devise": 1}), ValueError, "model: 'devise' is none of attn_"),
        (("vit", "no/such-model"), PretrainedError, "no/such-model cannot be loaded"),
        (("vit", str(tmp_path)), PretrainedError, "cannot be loaded"),
    ):
        with pytest.raises(error, match=message):
            towers.tower(*given)
    one = towers.tower("vit", str(folder / "vit"))
    with pytest.raises(ValueError, match="vit reads images"):
        one.run(None, "a prompt alone")


def test_weights_that_are_pickled_are_refused(folder, tmp_path):
    model = ViTModel.from_pretrained(folder / "vit")
    there = tmp_path / "pickled"
    ViTImageProcessorPil().save_pretrained(there)
    model.config.save_pretrained(there)
    torch.save(model.state_dict(), there / "pytorch_model.bin")
    with pytest.raises(PretrainedError, match="safetensors"):
        towers.tower("vit", str(there))


# --- The command -----------------------------------------------------------------


def test_the_command(config, capsys, monkeypatch, images):
    assert command.main is module.main
    path = config()
    (images / "text.png").write_text("no image")
    monkeypatch.setattr(sys, "argv", ["lens", "--config", str(path)])
    monkeypatch.delitem(sys.modules, "lib.lens.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lib.lens.__main__", run_name="__main__")
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    assert "5 inputs written, 0 were there before\nskipped " in said
    assert said.endswith("a.db\n")
    assert module.main(["-c", str(path), "-l"]) == 0
    assert "layers.0.attention.q_proj" in capsys.readouterr().out.split("\n")
    for keys, message in (
        ({"modules": ["layer"]}, "near misses"),
        ({"output_db": str(images / "no" / "a.db")}, "there is no folder"),
        ({"model_path": str(images)}, "cannot be loaded"),
        ({"modules": ["pooler"], "pooling_method": "mean"}, "pooler puts out (1, 16)"),
    ):
        assert module.main(["-c", str(config(**keys))]) == 1
        said = capsys.readouterr().out
        assert message in said and said.startswith(str(path)), said


def test_a_store_that_cannot_be_used_is_said_before_the_first_pass(config, tmp_path):
    (tmp_path / "a.db").write_text("no store " * 100)
    with pytest.raises(StoreError, match="this is no SQLite file"):
        ran(config())


notices.set_verbosity_error()
