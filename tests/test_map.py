"""Points with names: what a page gets, where the points stand, the stills, bad input."""

import base64
import json

import numpy as np
import pytest

from lib.figures import map as module
from lib.figures.map import HIGH, SMALL, WIDE, clouds, word_map

PLACES = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0], [0.0, 1.0]])
NAMES = ["the", "cat", "</script><b>", "猫"]
NEAR = [[1, 2], [0, 3], [3, 0], [2, 1]]


def places(frame):
    """The numbers (N, 2) that a frame's bytes hold."""
    [[kind, text]] = frame.items()
    dtype = {"u8": "u1", "u16": "<u2"}[kind]
    return np.frombuffer(base64.b64decode(text), dtype).reshape(-1, 2).tolist()


@pytest.fixture
def figures(monkeypatch):
    drawn, png = [], module.png
    monkeypatch.setattr(module, "png", lambda f: drawn.append(f) or png(f))
    return drawn


def test_places_fill_the_frame_with_both_axes_to_one_scale(figures):
    data = word_map(PLACES, NAMES, NEAR, alt="Four words.").data
    [one] = data["sets"]
    low = HIGH / 2 + WIDE / 6  # a third as high as it is wide, and upwards is up
    high = HIGH / 2 - WIDE / 6
    [frame] = one["frames"]
    assert places(frame) == [[0, low], [WIDE, low], [WIDE, high], [0, high]]
    assert data["size"] == [WIDE, HIGH]
    assert one["names"] == NAMES and one["near"] == NEAR
    assert data["labels"] == ["words"] and data["alt"] == "Four words."
    [ax] = figures[0].axes
    assert [text.get_text() for text in ax.texts] == [
        "the",
        "cat",
        "猫",
    ]  # one has no room
    assert ax.yaxis_inverted()


def test_the_map_stays_small():
    rng = np.random.default_rng(0)
    names = [f"word{i}" for i in range(2000)]
    near = rng.integers(2000, size=(2000, 5))
    element = word_map(rng.standard_normal((2000, 2)), names, near, alt="Many words.")
    assert len(json.dumps(element.data, separators=(",", ":"))) < 85_000
    assert len(element.still) < 60_000


def test_a_name_is_text():
    text = word_map(PLACES, NAMES, NEAR, alt="Four <words>.")._repr_html_()
    assert "</script><b>" not in text and "\\u003c/script>\\u003cb>" in text
    assert text.count("</script>") == 1 and 'alt="Four &lt;words&gt;."' in text


def test_clouds_have_frames_and_groups(figures):
    frames = [np.zeros((4, 2)), PLACES, PLACES[::-1]]
    words = {
        "bank": (frames, [0, 0, 1, 1], NAMES),
        "left": (frames, [0, 1, 0, 1], NAMES),
    }
    groups = {"bank": ["money", "river"], "left": ["gone", "side"]}
    element = clouds(words, groups, ["row", "layer 0", "layer 1"], alt="Two clouds.")
    first, second = element.data["sets"]
    at = [places(frame) for frame in first["frames"]]
    assert {*map(tuple, at[0])} == {(128, SMALL[1] // 2)}  # one point
    assert at[1] == at[2][::-1] and np.max(at, (0, 1)).tolist() == [255, 128]
    assert element.data["size"] == [*SMALL]
    assert (second["title"], second["groups"]) == ("left", ["gone", "side"])
    assert second["kinds"] == [0, 1, 0, 1] and "near" not in first
    assert element.data["labels"] == ["row", "layer 0", "layer 1"]
    left, right = figures[0].axes
    assert left.get_title() == "bank: row" and right.get_title() == "bank: layer 1"
    assert [len(dots.get_offsets()) for dots in right.collections] == [2, 2]
    shapes = {dots.get_paths()[0].vertices.tobytes() for dots in right.collections}
    assert len(shapes) == 2  # not told by colour alone
    assert element._repr_mimebundle_()["text/plain"] == "Clouds of a word: Two clouds."


@pytest.mark.parametrize(
    ("places", "names", "near", "said"),
    [
        (PLACES[:3], NAMES, NEAR, r"places: got shape \(3, 2\), wants \(4, 2\)"),
        (PLACES * np.nan, NAMES, NEAR, "places: a place is not finite"),
        (PLACES, NAMES, NEAR[:3], r"near: got shape \(3, 2\), wants \(4, K\)"),
        (PLACES, NAMES, [[4, 0]] * 4, "near: wants rows from 0 to 3"),
        (PLACES, NAMES, [[-1, 0]] * 4, "near: wants rows from 0 to 3"),
        (PLACES[:0], [], np.zeros((0, 2)), "got 0 words, wants 1 to 2,000"),
        (PLACES, ["a"] * 2001, NEAR, "got 2001 words, wants 1 to 2,000"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(places, names, near, said):
    with pytest.raises(ValueError, match=said):
        word_map(places, names, near, alt="Words.")


@pytest.mark.parametrize(
    ("frames", "kinds", "groups", "said"),
    [
        ([PLACES], [0] * 4, ["a"], "bank: got 1 frames, 4 kinds, wants 2 frames, 4"),
        ([PLACES] * 2, [0] * 3, ["a"], "bank: got 2 frames, 3 kinds"),
        (
            [PLACES] * 2,
            [0, 1, 0, 0],
            ["a"],
            "kinds go from 0 to the last of its groups",
        ),
        ([PLACES] * 2, [0, 4, 0, 0], [*"abcde"], "kinds go from 0"),
        ([PLACES[:2]] * 2, [0] * 4, ["a"], r"bank: got shape \(2, 2\)"),
    ],
)
def test_clouds_that_do_not_fit_are_refused(frames, kinds, groups, said):
    with pytest.raises(ValueError, match=said):
        clouds(
            {"bank": (frames, kinds, NAMES)}, {"bank": groups}, ["a", "b"], alt="No."
        )
