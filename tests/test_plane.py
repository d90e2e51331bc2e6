"""Maps over a plane: the places of their numbers, what travels, the still, bad input."""

import json

import numpy as np
import pytest

from lib.figures import plane as module
from lib.figures.plane import FINE, grid, plane, planes

LOOK = {"xlabel": "x", "ylabel": "y", "label": "share", "v": (0, 1)}
LIMITS = (-1.0, 1.0)


def made(frames=3, title="one map", **more):
    values = np.linspace(0, 1, frames * 16).reshape(frames, 16)
    return plane(title, values, LIMITS, (0, 4), **LOOK | more)


def test_the_places_are_the_middles_of_the_cells():
    found = grid((0, 2), (10, 14), 2)
    assert found.tolist() == [[0.5, 11], [1.5, 11], [0.5, 13], [1.5, 13]]


def test_numbers_travel_as_shares_of_the_scale():
    data = plane("", [[-1.0, 0, 1, 9]], LIMITS, LIMITS, **LOOK | {"v": (-1, 1)})
    assert data["frames"] == [[0, FINE // 2, FINE, FINE]] and data["n"] == 2
    assert data["ramp"] == "sequential" and made(signed=True)["ramp"] == "diverging"
    still = plane("", np.zeros(9), LIMITS, LIMITS, **LOOK)
    assert still["frames"] == [[0] * 9] and still["n"] == 3


def test_points_and_paths_keep_their_names():
    points, paths = {"a": [[0.12345, 1]]}, {"way": [[0, 0], [1, 1], [2, 2]]}
    data = made(points=points, paths=paths)
    assert data["points"] == [{"name": "a", "xy": [[0.123, 1.0]]}]
    assert data["paths"][0]["name"] == "way" and len(data["paths"][0]["xy"]) == 3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plane("", np.zeros((2, 5)), LIMITS, LIMITS, **LOOK), "n · n"),
        (lambda: plane("", [[np.nan] * 4], LIMITS, LIMITS, **LOOK), "values must be"),
        (lambda: plane("", np.zeros(4), (1, 1), LIMITS, **LOOK), "xlim"),
        (lambda: made(v=(1, 0)), "v: got"),
        (lambda: made(points={"a": [[1, 2, 3]]}), "points"),
        (lambda: planes([], ["a"], alt="A map."), "must not be empty"),
        (lambda: planes([made()], ["a"] * 3, alt=" "), "must not be empty"),
        (lambda: planes([made()], ["a"] * 4, alt="A map."), "labels has 4"),
        (
            lambda: planes([made(notes=["n"])], ["a"] * 3, alt="A map."),
            "labels has 3",
        ),
        (
            lambda: planes([made(paths={"p": [[0, 0]]})], ["a"] * 3, alt="A map."),
            "labels has 3",
        ),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.fixture
def two():
    paths = {"p": [[0, 1], [0.5, 2], [1, 3]], "q": [[0, 1], [0, 2], [0, 3]]}
    maps = [made(points={"a": [[0, 1], [0.5, 2]]}, notes=["n0", "n1", "n2"])]
    maps.append(made(title="other", paths=paths))
    return planes(maps, ["s0", "s1", "s2"], alt="Two maps.")


def test_a_frame_has_its_numbers_paths_and_notes(two):
    left, right = two.draw(1).axes[:2]
    shown = np.asarray(left.images[0].get_array())
    assert np.abs(shown.ravel() - np.linspace(0, 1, 48)[16:32]).max() < 1 / FINE
    assert left.images[0].origin == "lower" and left.images[0].get_clim() == (0, 1)
    assert left.get_title() == "one map\nn1" and right.get_title() == "other"
    assert left.get_xlim() == LIMITS and left.get_ylim() == (0, 4)
    assert [line.get_xydata().tolist() for line in left.lines] == [[[0, 1], [0.5, 2]]]
    assert [len(line.get_xydata()) for line in right.lines] == [2, 1, 2, 1]
    assert two.draw(2).get_suptitle() == "s2"


def test_the_gif_has_all_frames(two):
    found = two.animation()
    assert found.frames == 3 and found.alt == "Two maps."


def test_the_page_gets_the_numbers_and_a_still(two, monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "png", lambda f: drawn.append(f) or b"png")
    shown = two._repr_mimebundle_()
    assert shown["text/plain"] == "maps: 3 frames; Two maps."
    text = shown["text/html"]
    assert 'alt="Two maps."' in text and 'data-element="plane"' in text
    data = json.loads(text[text.rindex('", {') + 3 : text.rindex(");")])
    assert data["labels"] == ["s0", "s1", "s2"] and data["fine"] == FINE
    assert [len(ramp) for ramp in data["ramps"].values()] == [module.LEVELS]
    assert drawn[0].get_suptitle() == "s2"  # the last frame


def test_one_map_has_the_width_of_one(two):
    alone = planes([made(1)], ["now"], alt="One map.").draw(0)
    assert [ax.get_title() for ax in alone.axes][:1] == ["one map"]
