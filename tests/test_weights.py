"""lib.weights: a checkpoint is what its card says, or the reader is told what is not."""

import json
import os

import pytest
import torch

from lib import weights

CARD = {
    "config": {"d_model": 4},
    "data": "none",
    "command": "python -m train.none",
    "metrics": {"loss": 0.5},
    "licence": "MIT",
}
TENSORS = {
    "w": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([1], dtype=torch.int8),
}
TRACE = {"loss": [1.0, None, 0.5], "語": "ok"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture
def saved(folder):
    return weights.save("tiny-1.0", CARD, TENSORS, TRACE, {"unigram.model": b"pieces"})


def test_what_is_saved_comes_back(saved):
    card = weights.card("tiny-1.0")
    assert {key: card[key] for key in CARD} == CARD
    assert card["name"] == "tiny-1.0"
    assert list(card["files"]) == ["model.safetensors", "trace.json", "unigram.model"]
    loaded = weights.tensors("tiny-1.0")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[key], TENSORS[key]) for key in TENSORS)
    assert all(loaded[key].dtype == TENSORS[key].dtype for key in TENSORS)
    assert weights.trace("tiny-1.0") == TRACE
    assert weights.path("tiny-1.0", "unigram.model").read_bytes() == b"pieces"
    assert weights.names() == ["tiny-1.0"]


def test_saving_twice_gives_the_same_bytes(saved):
    before = {found.name: found.read_bytes() for found in saved.iterdir()}
    weights.save("tiny-1.0", CARD, TENSORS, TRACE, {"unigram.model": b"pieces"})
    assert {found.name: found.read_bytes() for found in saved.iterdir()} == before


def test_views_and_parameters_are_saved_as_they_are():
    layer = torch.nn.Linear(2, 3)
    weights.save("views", CARD, {"w": layer.weight.T, "half": layer.weight.bfloat16()})
    loaded = weights.tensors("views")
    assert torch.equal(loaded["w"], layer.weight.T.detach())
    assert loaded["half"].dtype == torch.bfloat16


@pytest.mark.parametrize("file", ["model.safetensors", "trace.json", "unigram.model"])
def test_a_changed_file_is_named_and_refused(file, saved):
    content = bytearray((saved / file).read_bytes())
    content[-1] ^= 1
    (saved / file).write_bytes(content)
    told = rf"{file}: expected sha256 [0-9a-f]{{64}}, got [0-9a-f]{{64}}$"
    with pytest.raises(weights.WeightsError, match=told):
        weights.path("tiny-1.0", file)
    read = {"model.safetensors": weights.tensors, "trace.json": weights.trace}
    with pytest.raises(weights.WeightsError, match=told):
        read.get(file, lambda name: weights.path(name, file))("tiny-1.0")


def test_what_is_missing_is_named(saved):
    with pytest.raises(weights.WeightsError, match=r"other.card\.json.*found no file"):
        weights.card("other")
    with pytest.raises(weights.WeightsError, match=r"x\.bin.*does not list"):
        weights.path("tiny-1.0", "x.bin")
    (saved / "trace.json").unlink()
    with pytest.raises(weights.WeightsError, match=r"trace\.json: cannot be read"):
        weights.trace("tiny-1.0")
    weights.save("bare", CARD)
    with pytest.raises(weights.WeightsError, match=r"model\.safetensors.*not list"):
        weights.tensors("bare")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "expected JSON"),
        ("[]", "expected the keys"),
        ('{"name": "tiny-1.0"}', "'files'.*missing"),
        (json.dumps(CARD | {"name": "b", "files": {}}), "expected the name 'tiny-1.0'"),
    ],
)
def test_a_broken_card_is_named(content, told, saved):
    (saved / "card.json").write_text(content)
    with pytest.raises(weights.WeightsError, match=rf"card\.json: .*{told}"):
        weights.card("tiny-1.0")


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "a\n", "a\0"]
)
def test_a_name_that_is_a_path_is_refused(name, saved):
    for use in (
        lambda: weights.card(name),
        lambda: weights.tensors(name),
        lambda: weights.path("tiny-1.0", name),
        lambda: weights.path(name, "trace.json"),
        lambda: weights.save(name, CARD),
        lambda: weights.save("new", CARD, files={name: b""}),
    ):
        with pytest.raises(ValueError, match=r"(name|files?): expected letters"):
            use()


def test_what_cannot_be_shipped_is_refused_and_leaves_nothing(folder):
    with pytest.raises(ValueError, match="at most 10,000,000 bytes"):
        weights.save("large", CARD, {"w": torch.zeros(2_500_000)})
    for file in ("card.json", "model.safetensors", "trace.json", "w.pt", "w.pkl"):
        with pytest.raises(ValueError, match="reserved name or a pickled format"):
            weights.save("taken", CARD, files={file: b""})
    with pytest.raises(ValueError, match=r"\['metrics'\] missing"):
        weights.save("short", {k: v for k, v in CARD.items() if k != "metrics"})
    with pytest.raises(ValueError, match="JSON"):
        weights.save("nan", CARD, trace=[float("nan")])
    assert not folder.exists()


def test_a_save_that_fails_leaves_the_old_checkpoint(saved, folder, monkeypatch):
    before = {found.name: found.read_bytes() for found in saved.iterdir()}
    rename = os.rename

    def fail(source, target):
        if os.path.basename(source) == "new":
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no space left"):
        weights.save("tiny-1.0", CARD, {"w": torch.zeros(1)})
    assert {found.name: found.read_bytes() for found in saved.iterdir()} == before
    assert [found.name for found in folder.iterdir()] == ["tiny-1.0"]


def test_every_shipped_checkpoint_is_what_its_card_says(monkeypatch):
    monkeypatch.undo()
    total = 0
    for name in weights.names():
        card = weights.card(name)
        on_disk = {found.name for found in (weights.FOLDER / name).iterdir()}
        assert on_disk == {"card.json", *card["files"]}
        sizes = [weights.path(name, file).stat().st_size for file in card["files"]]
        assert sum(sizes) <= weights.LARGEST
        total += sum(sizes)
    assert total <= 80_000_000
