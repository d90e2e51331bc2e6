"""lib.data.easy_vqa: the package's questions, what its pictures show, what is refused."""

import importlib.machinery
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data import easy_vqa
from lib.data.origin import DataError, Unreachable

there = pytest.mark.skipif(
    find_spec(easy_vqa.PACKAGE) is None, reason="easy-vqa is not installed"
)
ASKED = [
    ("what is the blue shape?", "rectangle", 0),
    ("is there not a red shape?", "yes", 0),
    ("does the image contain a circle?", "yes", 1),
    ("is no teal shape present?", "no", 1),
    ("is there a red shape?", "no", 2),
    ("what color is the triangle?", "gray", 2),
    ("what color is the shape?", "gray", 3),
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same form, with its hashes."""
    folder = tmp_path / "data" / "test"
    (folder / "images").mkdir(parents=True)
    (folder / "questions.json").write_text(json.dumps(ASKED))
    for i in range(12):
        image = Image.new("RGB", (64, 64), (20 * i, 0, 0))
        image.save(folder / "images" / f"{i}.png")
    spec = importlib.machinery.ModuleSpec("easy_vqa", None)
    spec.origin = str(tmp_path / "__init__.py")
    monkeypatch.setattr(easy_vqa, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="expected sha256") as error:
        easy_vqa.easy_vqa("test")
    got = str(error.value).split()[-1]
    monkeypatch.setattr(easy_vqa, "SHA256", {"train": "", "test": got})
    return folder


def test_rows_and_pictures(package):
    found = easy_vqa.easy_vqa("test")
    assert [row["kind"] for row in found][:3] == ["shape", "yes/no", "yes/no"]
    assert found.is_full and "7 questions" in repr(found)
    files = sorted({row["file"] for row in found}, key=lambda f: int(Path(f).stem))
    assert [Path(f).stem for f in files] == ["0", "1", "2", "3"]
    drawn = easy_vqa.pictures(files, 112)
    assert drawn.shape == (4, 112, 112, 3) and drawn.dtype == np.uint8
    assert drawn[:, 0, 0, 0].tolist() == [0, 20, 40, 60]
    shown = easy_vqa.shown(found.rows)
    assert [*shown.values()] == ["blue rectangle", "teal circle", "gray triangle"]


def test_what_is_refused(package, monkeypatch):
    (package / "images" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="expected sha256"):
        easy_vqa.easy_vqa("test")
    with pytest.raises(DataError, match=r"3\.png: no picture"):
        easy_vqa.pictures([package / "images" / "3.png"])
    shutil.rmtree(package)
    with pytest.raises(DataError, match="cannot be read"):
        easy_vqa.easy_vqa("test")
    with pytest.raises(ValueError, match="split: got 'dev'"):
        easy_vqa.easy_vqa("dev")
    monkeypatch.setattr(easy_vqa, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match="pip install --no-deps easy-vqa"):
        easy_vqa.easy_vqa()


@there
def test_the_package():
    found = easy_vqa.easy_vqa("test")
    assert len(found) == 9_673 and len({row["file"] for row in found}) == 1_000
    shown = easy_vqa.shown(found.rows)
    assert len(shown) == 880
    for row in found:  # what was put together fits each direct answer
        if row["kind"] != "yes/no" and row["file"] in shown:
            assert row["answer"] in shown[row["file"]].split()
