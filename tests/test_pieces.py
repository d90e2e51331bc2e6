"""Coloured pieces: their frames, their colours, and what their still draws."""

import html
import json

import pytest

from lib.figures import pieces as module
from lib.figures.pieces import COLOURS, pieces

FRAMES = [
    [("one", ["a", "b", "ab"]), ("two", ["<"])],
    [("one", ["ab", "ab"]), ("two", ["<", "long"])],
]
LABELS = ["first", "second"]


def test_a_piece_keeps_its_colour():
    data = pieces(FRAMES, LABELS, alt="Boxes.", grey=["a", "b"]).data
    assert data["pieces"] == [["a", 0], ["b", 0], ["ab", 1], ["<", 2], ["long", 3]]
    assert data["frames"][0] == [["one", [0, 1, 2]], ["two", [3]]]
    assert data["frames"][1] == [["one", [2, 2]], ["two", [3, 4]]]
    assert data["labels"] == LABELS and data["colours"] == COLOURS
    assert data["name"] == "Pieces" and 0.5 < data["fps"] < 1


def test_colours_come_again_after_the_last():
    row = [str(n) for n in range(len(COLOURS) + 1)]
    data = pieces([[("", row)]], ["all"], alt="Boxes.", name="Digits").data
    assert [colour for _, colour in data["pieces"]] == [1, 2, 3, 4, 5, 1]
    assert data["name"] == "Digits"


@pytest.mark.parametrize(
    ("frames", "labels", "alt", "message"),
    [
        ([], [], "Boxes.", "labels: got 0, wants one for each of 0 frames"),
        (FRAMES, ["first"], "Boxes.", "labels: got 1, wants one for each of 2 frames"),
        (FRAMES, LABELS, " ", "alt must say"),
    ],
)
def test_faults_are_named(frames, labels, alt, message):
    with pytest.raises(ValueError, match=message):
        pieces(frames, labels, alt=alt)


def test_the_still_is_the_last_frame(monkeypatch):
    figures, png = [], module.png
    monkeypatch.setattr(module, "png", lambda f: figures.append(f) or png(f))
    wide = [*FRAMES[:1], [("one", ["ab"] * 40), ("two", ["long"])]]
    pieces(wide, LABELS, alt="Boxes.", grey=["long"])
    [ax] = figures[0].axes
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["ab"] * 40 + ["long", "one", "two"]
    assert ax.get_title() == "second" and len(ax.patches) == 41
    right = [box.get_x() + box.get_width() for box in ax.patches]
    assert max(right) <= module.WIDE  # a long row goes on in the next line
    lines = sorted({round(box.get_y(), 3) for box in ax.patches})
    assert len(lines) >= 3
    assert ax.patches[0].get_facecolor()[3] > 0 == ax.patches[-1].get_facecolor()[3]


def test_a_page_gets_the_data_and_the_alt_text():
    element = pieces(FRAMES, LABELS, alt='Boxes of "a".')
    bundle = element._repr_mimebundle_()
    assert bundle["text/plain"] == 'Pieces: Boxes of "a".'
    text = bundle["text/html"]
    assert 'data-element="pieces"' in text and html.escape('"a"') in text
    data = json.dumps(element.data, ensure_ascii=False, separators=(",", ":"))
    assert data.replace("<", "\\u003c") in text and element.still[1:4] == b"PNG"
