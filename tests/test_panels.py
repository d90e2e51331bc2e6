"""Panels: what they refuse, how they round, where their ticks are."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.figures import panels

WORDS = {"xlabel": "x", "ylabel": "y"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: panels.bars("t", [0, 1, 2], [[1, 2, 3]], **WORDS),
            r"heights must have shape \(any, 2\), got \(1, 3\)",
        ),
        (
            lambda: panels.bars("t", [0, 1, 2], [1, 2], **WORDS),
            r"heights must have shape \(any, 2\), got \(2,\)",
        ),
        (
            lambda: panels.bars("t", [0, 1], np.zeros((0, 1)), **WORDS),
            r"heights must have shape \(any, 1\), got \(0, 1\)",
        ),
        (lambda: panels.bars("t", [0, 0], [[1]], **WORDS), "edges must increase"),
        (
            lambda: panels.bars("t", [0, 1], [[1]], target=[1, 2], **WORDS),
            r"target must have shape \(1\), got \(2,\)",
        ),
        (
            lambda: panels.bars("t", [0, 1], [[1]], ylim=(2, 1), **WORDS),
            "ylim must increase, got 2 and 1",
        ),
        (
            lambda: panels.bars("t", [0, 1], [[np.nan]], **WORDS),
            "heights must be finite, got NaN",
        ),
        (lambda: panels.lines("t", [0, 1], {}, **WORDS), "ys must hold"),
        (
            lambda: panels.lines("t", [0, 1], {"loss": [1, 2, 3]}, **WORDS),
            r"ys\['loss'\] must have shape \(2\), got \(3,\)",
        ),
        (
            lambda: panels.lines("t", [0, 1], {"loss": [1, np.inf]}, **WORDS),
            r"ys\['loss'\] must be finite",
        ),
        (lambda: panels.lines("t", [1, 0], {"a": [1, 2]}, **WORDS), "x must increase"),
        (
            lambda: panels.lines(
                "t", [0, 1], {"a": np.ones((2, 2)), "b": np.ones((3, 2))}, **WORDS
            ),
            r"ys must have one number of frames, got \[2, 3\]",
        ),
        (
            lambda: panels.lines("t", [0, 1], {"a": [1, 2]}, marker=[0, 3], **WORDS),
            "marker must lie within x, 0 to 1",
        ),
        (
            lambda: panels.lines("t", [0, 1], {"a": [0, 2]}, yscale="log", **WORDS),
            r"ys\['a'\] must be above zero on a log scale, got 0",
        ),
        (
            lambda: panels.lines("t", [0, 1], {"a": [1, 2]}, yscale="root", **WORDS),
            "yscale must be 'linear' or 'log', got 'root'",
        ),
        (
            lambda: panels.lines(
                "t", [0, 1], {"a": np.ones((2, 2))}, trail=True, **WORDS
            ),
            "trail needs fixed curves and their marker",
        ),
        (
            lambda: panels.dials("t", [[1, 0]], [[[0, 1]]], "ab", arrows=("q", "k")),
            r"moving must have shape \(any, 2, 2\), got \(1, 1, 2\)",
        ),
        (
            lambda: panels.dials("t", [[0, 0]], [[[0, 1]]], "a", arrows=("q", "k")),
            "fixed must hold arrows, got one of length 0",
        ),
        (
            lambda: panels.matrix("t", np.ones((1, 2, 2)), "ab", "abc", **WORDS),
            r"values must have shape \(any, 2, 3\), got \(1, 2, 2\)",
        ),
        (
            lambda: panels.matrix("t", np.ones((1, 1, 1)), "a", "b", **WORDS),
            "vmin must be below vmax, got 1.0 and 1.0",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bars_by_hand():
    panel = panels.bars(
        "heights", [0, 1, 3], [[2, 1], [0.5, 4]], target=[5, 3], xlabel="h", ylabel="n"
    )
    ticks = [[0, "0"], [1, "1"], [2, "2"], [3, "3"]]
    assert panel.data == {
        "kind": "bars",
        "title": "heights",
        "edges": [0, 1, 3],
        "target": [5, 3],
        "frames": [[2, 1], [0.5, 4]],
        "xlim": [0, 3],
        "ylim": [0, 5.25],  # the target is the highest, and has room
        "xticks": ticks,
        "yticks": [[0, "0"], [2, "2"], [4, "4"]],
        "xlabel": "h",
        "ylabel": "n",
    }

    def ylim(heights, **more):
        return panels.bars("t", [0, 1, 2], heights, **more, **WORDS).data["ylim"]

    assert ylim([[2, 1], [0, 4]], target=[1, 1]) == ylim([[2, 4]]) == [0, 4.2]
    assert ylim([[2, -1]]) == [-1, 2.1] and ylim([[0, 0]]) == [0, 1]
    assert ylim([[2, 1]], ylim=(0.5, 9)) == [0.5, 9]
    assert "target" not in panels.bars("t", [0, 1], [[1]], **WORDS).data


def test_lines_by_hand():
    ys = {"a": [0, 4, 2], "b": [1, 1, -6]}
    panel = panels.lines("losses", [0, 5, 10], ys, xlabel="s", ylabel="l", trail=True)
    assert panel.data == {
        "kind": "lines",
        "title": "losses",
        "x": [0, 5, 10],
        "series": [{"name": "a", "y": [0, 4, 2]}, {"name": "b", "y": [1, 1, -6]}],
        "at": [[0], [5], [10]],
        "marks": [[0, 1], [4, 1], [2, -6]],
        "trail": True,
        "xlim": [0, 10],
        "ylim": [-6.5, 4.5],  # 5 % of room on both sides
        "xticks": [[0, "0"], [2.5, "2.5"], [5, "5"], [7.5, "7.5"], [10, "10"]],
        "yticks": [[-5, "−5"], [0, "0"]],
        "xlabel": "s",
        "ylabel": "l",
    }

    def data(x, y, **more):
        return panels.lines("t", x, {"a": y}, **more, **WORDS).data

    assert data([0, 1], [3, 3])["ylim"] == [2.5, 3.5]
    assert data([0, 1], [3, 3], ylim=(0, 9))["ylim"] == [0, 9]
    assert data([4], [1])["xlim"] == [3.5, 4.5]
    assert data([0, 1], [1, 2])["trail"] is False
    assert data([0, 1], [[1, 2], [3, 4], [5, 6]])["ylim"] == [0.75, 6.25]
    assert "at" not in data([0, 1], [1, 2], marker=False)


def test_a_matrix_by_hand():
    values = [[[1, -2], [0, 0.5]], [[3, 1], [1, 1]]]
    words = {"xlabel": "key", "ylabel": "query", "label": "weight"}
    panel = panels.matrix("weights", values, ["r", 2], "ab", **words)
    assert panel.data == {
        "kind": "matrix",
        "title": "weights",
        "rows": ["r", "2"],
        "columns": ["a", "b"],
        "frames": [[1, -2, 0, 0.5], [3, 1, 1, 1]],
        "ramp": "sequential",
        "v": [-2, 3],
        "vticks": [[-2, "−2"], [0, "0"], [2, "2"]],
        **words,
    }
    assert panel.frames == 2

    def scale(**more):
        return panels.matrix("t", values, "rs", "ab", **more, **WORDS).data["v"]

    assert scale(vmin=0) == [0, 3] and scale(vmax=9) == [-2, 9]
    assert scale(signed=True) == [-3, 3] and scale(signed=True, vmax=2) == [-2, 2]
    assert panels.matrix("t", values, "rs", "ab", **WORDS).data["label"] == "value"


def test_frames_are_those_of_the_data():
    assert panels.bars("t", [0, 1, 2], np.ones((7, 2)), **WORDS).frames == 7
    moving = {"now": np.ones((5, 3)), "start": np.ones(3)}
    assert panels.lines("t", [0, 1, 2], moving, **WORDS).frames == 5
    still = {"loss": np.ones(3)}
    assert panels.lines("t", [0, 1, 2], still, **WORDS).frames == 3
    assert panels.lines("t", [0, 1, 2], still, marker=[0, 2], **WORDS).frames == 2
    assert panels.lines("t", [0, 1, 2], still, marker=False, **WORDS).frames is None


def test_marker_lies_on_its_curve():
    data = panels.lines(
        "t", [0, 10, 20], {"a": [0, 1, 0]}, marker=[0, 5, 20], **WORDS
    ).data
    assert data["at"] == [[0], [5], [20]]
    assert data["marks"] == [[0], [0.5], [0]]


def test_dials_have_the_longest_arrow_as_radius():
    moving = [[[0, 4], [1, 0]], [[4, 0], [0, 1]]]
    panel = panels.dials("t", [[1, 0], [0, 2]], moving, "ab", arrows=("q", "k"))
    assert panel.frames == 2
    assert panel.data["fixed"] == [[0.25, 0], [0, 0.5]]
    assert panel.data["frames"] == [[0, 1, 0.25, 0], [1, 0, 0, 0.25]]


def test_tensors_are_taken():
    heights = torch.ones(2, 3, requires_grad=True)
    assert panels.bars("t", torch.arange(4), heights, **WORDS).frames == 2


def test_signed_scale_is_centred_on_zero():
    data = panels.matrix(
        "t", [[[-1.0, 3.0]]], ["r"], ["a", "b"], signed=True, **WORDS
    ).data
    assert data["v"] == [-3, 3]
    assert data["ramp"] == "diverging"


def test_log_scale_has_powers_of_ten():
    data = panels.lines(
        "t", [0, 1], {"a": [1e-6, 1e6]}, yscale="log", marker=False, **WORDS
    ).data
    assert data["series"][0]["y"] == [-6, 6]
    assert [data["yticks"][0][1], data["yticks"][-1][1]] == ["10⁻⁶", "10⁶"]
    assert data["ylim"] == [-6.6, 6.6]  # 5 % of room on both sides
    near = panels.lines("t", [0, 1], {"a": [1, 9]}, yscale="log", **WORDS).data
    assert [text for _, text in near["yticks"]] == ["1", "2", "5", "10"]


def test_limits_on_a_log_scale_are_given_as_values():
    def drawn(ylim):
        log = {"yscale": "log", "ylim": ylim}
        return panels.lines("t", [0, 1], {"a": [1, 10]}, **log, **WORDS).data

    data = drawn((1e-3, 1e2))
    assert data["ylim"] == [-3, 2] and data["series"][0]["y"] == [0, 1]
    ticks = [[-3, "0.001"], [-2, "0.01"], [-1, "0.1"], [0, "1"], [1, "10"], [2, "100"]]
    assert data["yticks"] == ticks
    with pytest.raises(ValueError, match="ylim must be above zero on a log scale"):
        drawn((0, 10))
    with pytest.raises(ValueError, match="ylim must increase, got 1 and 0"):
        drawn((10, 1))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (-2.5, "−2.5"), (20000, "20,000"), (1e-5, "10⁻⁵")],
)
def test_tick_texts(value, text):
    assert panels._text(value) == text


numbers = st.floats(-1e9, 1e9).filter(lambda v: v == 0 or abs(v) > 1e-9)


@given(st.lists(numbers, min_size=1, max_size=20))
def test_rounding_keeps_four_digits_of_the_largest(values):
    rounded = panels._rounded(np.array(values))
    largest = max(map(abs, values))
    assert np.allclose(rounded, values, rtol=0, atol=6e-4 * largest)
    for text in json.loads(json.dumps(rounded), parse_float=str, parse_int=str):
        digits = text.lstrip("-").split("e")[0].replace(".", "").strip("0")
        assert len(digits) <= 4, text


@given(numbers, st.floats(1e-6, 1e6))
def test_ticks_lie_within_the_limits(low, span):
    high = low + span * max(
        1, abs(low) / 1e3
    )  # a range that four digits can tell apart
    ticks = panels._ticks(low, high)
    room = 1e-3 * max(abs(low), abs(high))
    assert len(ticks) <= 6
    assert all(low - room <= value <= high + room for value, _ in ticks)


def test_texts_are_one_a_frame():
    panel = panels.texts("t", ["a\nb", ""])
    assert panel.frames == 2 and panel.data["frames"] == ["a\nb", ""]
    for wrong in ([], ["a", 1]):
        with pytest.raises(ValueError, match=r"^frames must hold one text for each"):
            panels.texts("t", wrong)
