"""A beam search as a tree: its frames, its nodes and lanes, and its still."""

import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from lib.figures import tree as module
from lib.figures.tree import COLOURS, still, tree

RECORD = [
    [(("the",), -0.9, "kept"), (("a",), -1.1, "kept"), (("rain",), -1.3, "dropped")],
    [(("a", "cat"), -1.7, "kept"), (("the", "."), -1.845, "ended")],
    [(("a", "cat", "."), 2.0, "ended")],
]
BEST = ("a", "cat", ".")


def test_two_frames_a_step():
    data = tree(RECORD, BEST, alt="A tree.").data
    assert data["labels"] == [
        "the start",
        "step 1: 3 candidates",
        "step 1: 2 kept",
        "step 2: 2 candidates",
        "step 2: 1 kept, 1 ended",
        "step 3: 1 candidates",
        "step 3: 0 kept, 1 ended",
        "the result: a cat .",
    ]
    assert data["name"] == "Beam search" and data["alt"] == "A tree."
    assert (data["wide"], data["colours"]) == (128, COLOURS) and 0.5 < data["fps"] < 1


def test_each_node_has_its_place_and_its_fate_in_each_frame():
    """c: weighed, k: kept, d: dropped, e: ended, b: of the best, a dot: not yet there."""
    nodes = tree(RECORD, BEST, alt="A tree.", start="<s>").data["nodes"]
    rows = [
        ("<s>", "", 0, -1, 1.0, "kkkkkkkb"),  # amid its children, of which a is one
        ("the", "−0.90", 1, 0, 0, ".ckkkkkk"),
        ("a", "−1.10", 1, 0, 1, ".ckkkkkb"),
        ("rain", "−1.30", 1, 0, 2, ".cdddddd"),
        ("cat", "−1.70", 2, 2, 1, "...ckkkb"),
        (".", "−1.84", 2, 1, 0, "...ceeee"),
        (".", "2.00", 3, 4, 1, ".....ceb"),
    ]
    keys = ("text", "value", "depth", "parent", "lane", "states")
    assert [tuple(node[key] for key in keys) for node in nodes] == rows
    assert tree(RECORD, BEST, alt="A tree.").data["nodes"][0]["text"] == "start"


def test_a_parent_stands_amid_its_children():
    steps = [
        [(("a",), 0.0, "kept"), (("b",), 0.0, "kept")],
        [((x, y), 0.0, "ended") for x, y in ("ac", "ad", "ae", "bf")],
    ]
    nodes = tree(steps, ("a", "d"), alt="Four leaves.").data["nodes"]
    assert [node["lane"] for node in nodes] == [2.0, 1.0, 3.0, 0, 1, 2, 3]


@pytest.fixture
def axes(monkeypatch):
    figures, png = [], module.png
    monkeypatch.setattr(module, "png", lambda f: figures.append(f) or png(f))
    tree(RECORD, BEST, alt="A tree.", wide=90)
    return figures[0].axes[0]


def test_the_still_is_the_last_frame(axes):
    said = [(t.get_position(), t.get_text(), t.get_ha()) for t in axes.texts]
    words = [((0, 1.0), "start"), ((1, 0), "the"), ((1, 1), "a"), ((1, 2), "rain")]
    words += [((2, 1), "cat"), ((2, 0), "."), ((3, 1), ".")]
    assert [(at, text) for at, text, _ in said[::2]] == words
    assert [text for _, text, _ in said[1::2]][1:4] == ["−0.90", "−1.10", "−1.30"]
    assert {side for _, _, side in said[1::2]} == {"right"}
    assert [at for at, _, _ in said[1::2]][:2] == [(0.75, 1.0), (1.75, 0)]
    assert axes.get_title() == "the result: a cat ." and not axes.axison
    width, height = axes.figure.get_size_inches()
    assert width == 4 and 1 < height < 2  # four words of 90 pixels, three lanes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 0 and right == 4 and top < 0 and 2 < bottom < 3


def test_the_still_marks_what_was_kept_and_what_was_best(axes):
    looks = [
        (to_hex(line.get_color()), line.get_linewidth(), line.get_linestyle())
        for line in axes.lines
    ]
    kept, best = (COLOURS[0], 1.5, "-"), (COLOURS[1], 3, "-")
    dropped = ("#000000", 1, ":")
    assert looks == [kept, best, dropped, best, kept, best]
    ends = [[(x, y) for x, y in line.get_xydata()] for line in axes.lines]
    assert ends[0] == [(0.78, 1.0), (0.96, 0)]  # from the start to "the"
    assert ends[5] == [(2.78, 1), (2.96, 1)]
    assert [line.get_alpha() for line in axes.lines] == [1, 1, 0.6, 1, 1, 1]
    weights = [(t.get_weight(), t.get_alpha()) for t in axes.texts[::2]]
    assert weights[3] == ("normal", 0.6)
    assert set(weights[:3] + weights[4:]) == {("bold", 1)}


def test_a_still_beside_others_is_the_last_frame(axes):
    _, (ax, _) = plt.subplots(1, 2)
    still(ax, RECORD, BEST, "two beams", start="start")

    def told(axes):
        lines = [(line.get_xydata().tolist(), line.get_color()) for line in axes.lines]
        return lines, [(t.get_position(), t.get_text()) for t in axes.texts]

    assert told(ax) == told(axes) and len(ax.lines) == 6
    assert ax.get_title() == "two beams" and not ax.axison
