"""The position bench's figure: every run is in it, and a scheme looks the same."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from lib.figures.bench import SCHEMES, position_bench, spread

LENGTHS = [128, 256]


@pytest.fixture
def bench():
    losses = {name: [[2.0 + i / 10, 2.1], [2.2, 2.3]] for i, name in enumerate(SCHEMES)}
    losses["learned"] = [[2.2, None], [2.3, None]]
    losses["rope"] = [[1.9, 3.5], [2.0, 3.9]]
    return {
        "lengths": LENGTHS,
        "schemes": {
            name: {"runs": [{"loss": run, "cut": [2.0, 2.0]} for run in runs]}
            for name, runs in losses.items()
        },
    }


def test_mean_and_band():
    figure, ax = plt.subplots()
    spread(ax, LENGTHS, [(1.0, 2.0, 6.0), (2.0, 2.0, 2.0)], "x", "#123456", "o")
    [line], [band] = ax.lines, ax.collections
    assert line.get_xydata().tolist() == [[128, 3], [256, 2]]
    corners = band.get_paths()[0].vertices
    assert {tuple(c) for c in corners} == {(128, 1), (128, 6), (256, 2)}
    plt.close(figure)


def test_what_is_undefined_has_no_point():
    figure, ax = plt.subplots()
    spread(ax, LENGTHS, [(1.0, 2.0), (None, None)], "x", "#123456", "o")
    assert ax.lines[0].get_xydata().tolist() == [[128, 1.5]]
    with pytest.raises(ValueError, match="columns: got 1, wants one of 2"):
        spread(ax, LENGTHS, [(1.0, 2.0)], "x", "#123456", "o")
    plt.close(figure)


@pytest.mark.parametrize("key", ["loss", "cut"])
def test_both_parts_of_the_axis_hold_every_scheme(bench, key):
    figure = position_bench(bench, key)
    for ax in figure.axes:
        drawn = {
            x.get_label(): x for x in ax.lines if not x.get_label().startswith("_")
        }
        assert list(drawn) == list(SCHEMES)
        for name, (colour, marker) in SCHEMES.items():
            assert to_hex(drawn[name].get_color()) == colour
            assert drawn[name].get_marker() == marker
        runs = [run[key] for run in bench["schemes"]["rope"]["runs"]]
        assert np.allclose(drawn["rope"].get_ydata(), np.mean(runs, 0))
    (upper, lower), names = figure.axes, figure.legends[0].get_texts()
    assert lower.get_ylim()[1] <= upper.get_ylim()[0]  # no number is in both
    assert [text.get_text() for text in names] == list(SCHEMES)
    plt.close(figure)


def test_a_scheme_has_its_own_look():
    assert len(set(SCHEMES.values())) == len(SCHEMES) == 7
