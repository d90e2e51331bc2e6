"""Wiring diagrams: what is drawn and where, its alt text, what is refused."""

import html
import io
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from PIL import Image

from lib.figures import diagram as module
from lib.figures.diagram import diagram
from lib.figures.theme import apply

ROWS = [["x"], ["W_Q", "W_K", "W_V"], ["scores", None], ["average"], ["add"], ["norm"]]
ARROWS = {
    ("x", "W_Q"): "",
    ("x", "W_K"): "",
    ("x", "W_V"): "",
    ("W_Q", "scores"): "(Tq, d)",
    ("W_K", "scores"): "(Tk, d)",
    ("scores", "average"): "(Tq, Tk)",
    ("W_V", "average"): "(Tk, dv)",
    ("average", "add"): "(Tq, dv)",
    ("add", "norm"): "(T, D)",
}
REST = {
    "roads": {("x", "add"): "residual"},
    "groups": {"head": ["scores", "average"]},
    "labels": {"add": "+", "average": "weighted\naverage"},
    "learned": ["W_Q", "W_K", "W_V"],
    "alt": "Two arrows meet in the scores.",
}


@pytest.fixture
def draw(monkeypatch):
    """`diagram`, but what comes back are the axes on which it was drawn, in inches."""
    kept = []
    picture = module._picture
    monkeypatch.setattr(
        module, "_picture", lambda ax, alt: kept.append(ax) or picture(ax, alt)
    )
    apply()
    return lambda *args, **rest: diagram(*args, **rest) and kept[-1]


def frames(ax):
    """The box of each text in it, by that text: left, bottom, right, top."""
    shapes = [p.get_bbox().extents for p in ax.patches if hasattr(p, "get_boxstyle")]
    found = {}
    for text in ax.texts:
        for left, low, right, high in shapes:
            middle = (left + right) / 2, (low + high) / 2
            if np.allclose(middle, text.get_position()):
                found[text.get_text()] = left, low, right, high
    return found


def lines(ax):
    paths = [p.get_path() for p in ax.patches if isinstance(p, FancyArrowPatch)]
    return [path.vertices[path.codes != Path.CLOSEPOLY] for path in paths]


def test_all_words_stand_in_the_picture_and_apart(draw):
    ax = draw(ROWS, ARROWS, **REST)
    texts = [text for text in ax.texts if text.get_text()]
    names = ["x", "W_Q", "W_K", "W_V", "scores", "weighted\naverage", "+", "norm"]
    shapes = [shape for shape in ARROWS.values() if shape]
    said = [text.get_text() for text in texts]
    assert sorted(said) == sorted([*names, *shapes, "residual", "head"])
    page = ax.figure.bbox
    extents = [text.get_window_extent() for text in texts]
    for extent in extents:
        assert page.x0 < extent.x0 < extent.x1 < page.x1
        assert page.y0 < extent.y0 < extent.y1 < page.y1
    for a, b in combinations(range(len(texts)), 2):
        assert not extents[a].overlaps(extents[b]), (said[a], said[b])
    for name, (left, low, right, high) in frames(ax).items():
        extent = texts[said.index(name)].get_window_extent()
        (x0, y0), (x1, y1) = ax.transData.inverted().transform(extent)
        assert left < x0 and x1 < right and low < y0 and y1 < high, name


def test_rows_go_down_and_are_centred(draw):
    at = frames(draw(ROWS, ARROWS, **REST))
    column = [at[name] for name in ("x", "W_K", "scores", "weighted\naverage", "+")]
    for above, below in pairwise(column):
        assert above[1] > below[3]
    middle = {name: (left + right) / 2 for name, (left, _, right, _) in at.items()}
    assert middle["W_Q"] < middle["W_K"] < middle["W_V"]
    assert middle["x"] == pytest.approx(middle["W_K"])
    assert middle["scores"] == pytest.approx((middle["W_Q"] + middle["W_K"]) / 2)


def test_an_arrow_leads_from_box_to_box(draw):
    ax = draw([["a", None, "b"], ["c"]], {("a", "b"): "z", ("b", "c"): ""}, alt="a b c")
    (across, down), box = lines(ax), frames(ax)
    assert across[:, 0].min() == pytest.approx(box["a"][2])
    assert across[:, 0].max() == pytest.approx(box["b"][0], abs=0.03)  # its head's edge
    assert down[:, 1].max() == pytest.approx(box["b"][1])
    assert down[:, 1].min() == pytest.approx(box["c"][3], abs=0.03)
    assert down[:, 0].min() == pytest.approx((box["c"][0] + box["c"][2]) / 2, abs=0.05)


def test_roads_run_right_of_the_boxes_and_beside_each_other(draw):
    rows, wires = (
        [["a"], ["b"], ["c"], ["d"]],
        {("a", "b"): "", ("b", "c"): "wide word"},
    )
    roads = {("a", "c"): "", ("b", "d"): "", ("c", "d"): ""}
    ax = draw(rows, wires, roads=roads, alt="Three roads.")
    lanes = [line[:, 0].max() for line in lines(ax)[2:]]
    edge = max(right for _, _, right, _ in frames(ax).values())
    [word] = [text for text in ax.texts if text.get_text() == "wide word"]
    edge = max(edge, word.get_window_extent().x1 / module.DPI + ax.get_xlim()[0])
    assert lanes[0] > edge and lanes[1] > lanes[0] + 0.1 and lanes[2] > lanes[1] + 0.1
    ax = draw(
        rows, {}, roads={("a", "b"): "", ("b", "d"): ""}, alt="One after the other."
    )
    first, second = (line[:, 0].max() for line in lines(ax))
    assert first == pytest.approx(second)


def test_what_has_weights_is_tinted_and_thick(draw):
    ax = draw(
        [["a"], ["b"], ["c"]], {("a", "b"): "", ("b", "c"): ""}, learned="b", alt="b"
    )
    looks = [(p.get_facecolor(), p.get_linewidth()) for p in ax.patches[:3]]
    assert looks[0] == looks[2] != looks[1] and looks[1][1] > looks[0][1]


def test_the_ends_are_grey_and_what_is_between_is_white(draw):
    ax = draw([["a"], ["b"], ["c"]], {("a", "b"): "", ("b", "c"): ""}, alt="a b c")
    boxes = [p for p in ax.patches if hasattr(p, "get_boxstyle")]
    assert boxes[1].get_facecolor() == (1, 1, 1, 1)
    grey = boxes[0].get_facecolor()
    assert grey == boxes[2].get_facecolor() and 0.8 < grey[0] < 1


def test_a_road_leaves_from_a_dot_of_its_colour(draw):
    ax = draw([["a"], ["b"]], {("a", "b"): ""}, roads={("a", "b"): "way"}, alt="a b")
    [dot], box = ax.lines, frames(ax)
    [road] = [p for p in ax.patches if isinstance(p, FancyArrowPatch)][1:]
    assert to_rgba(dot.get_color()) == road.get_edgecolor()
    [(x, y)] = dot.get_xydata()
    assert x == pytest.approx((box["a"][0] + box["a"][2]) / 2)
    assert box["b"][3] < y < box["a"][1]
    [arrow] = [p for p in ax.patches if isinstance(p, FancyArrowPatch)][:1]
    assert arrow.get_linewidth() < road.get_linewidth()
    assert road.get_linewidth() < dot.get_markersize() < 6  # seen, and no box
    [word] = [text for text in ax.texts if text.get_text() == "way"]
    lane = lines(ax)[1][:, 0].max()
    assert word.get_position()[0] > lane > box["a"][2]
    middle = (y + (box["b"][1] + box["b"][3]) / 2) / 2
    assert word.get_position()[1] == pytest.approx(middle)


def test_where_words_stand(draw):
    ax = draw(
        [["a", None, "b"], ["c", "d", "e"]],
        {("a", "b"): "across", ("a", "c"): "down"},
        groups={"pair": ["c", "d"]},
        alt="Words.",
    )
    at = {text.get_text(): text.get_position() for text in ax.texts}
    box = frames(ax)
    assert {(t.get_ha(), t.get_va()) for t in ax.texts if len(t.get_text()) == 1} == {
        ("center", "center")
    }
    assert at["across"][1] > at["a"][1] and box["a"][2] < at["across"][0] < box["b"][0]
    assert box["c"][3] < at["down"][1] < box["a"][1]
    x = lines(ax)[1][:, 0]  # the arrow down
    assert x.min() < at["down"][0] < x.max() + 0.1
    [group] = [p for p in ax.patches if p.get_linestyle() == "--"]
    left, low, _, high = group.get_bbox().extents
    assert at["pair"] == pytest.approx((left, (low + high) / 2))
    [title] = [text for text in ax.texts if text.get_text() == "pair"]
    assert title.get_rotation() == 90


def test_a_group_frames_its_boxes_and_no_other(draw):
    ax = draw(ROWS, ARROWS, **REST)
    [dashed] = [p for p in ax.patches if p.get_linestyle() == "--"]
    left, low, right, high = dashed.get_bbox().extents
    for name, (x0, y0, x1, y1) in frames(ax).items():
        inside = left < x0 and x1 < right and low < y0 and y1 < high
        assert inside == (name in ("scores", "weighted\naverage")), name


def test_three_boxes_abreast_are_legible_on_a_phone():
    shown = diagram(ROWS, ARROWS, **REST)
    narrow = 320  # pixels that a phone of 360 leaves
    points = module.SMALL * module.SHOWN / 72 * min(1, narrow / shown.width)
    assert points > 9  # pixels of its smallest letters


def test_it_is_shown_with_its_alt_text():
    alt = 'A "tinted" box < another.'
    shown = diagram([["a"], ["b"]], {("a", "b"): "(T, D)"}, alt=alt)
    data = shown._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain"} and alt in data["text/plain"]
    [attribute] = re.findall(r'alt="([^"]*)"', data["text/html"])
    assert html.unescape(attribute) == alt
    with Image.open(io.BytesIO(shown.png)) as image:
        assert image.width == pytest.approx(2 * shown.width, abs=2)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert f'width="{shown.width}"' in data["text/html"]
    assert len(shown.png) < 20_000


def test_it_is_drawn_the_same_each_time():
    apply()
    assert diagram(ROWS, ARROWS, **REST) == diagram(ROWS, ARROWS, **REST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt": " "}, "alt must say"),
        ({"arrows": {("a", "z"): ""}}, "arrows: got 'z', wants one of ['a', 'b']"),
        ({"roads": {("z", "a"): ""}}, "roads: got 'z'"),
        ({"groups": {"both": ["a", "z"]}}, "groups: got 'z'"),
        ({"labels": {"z": "+"}}, "labels: got 'z'"),
        ({"learned": ["z"]}, "learned: got 'z'"),
        ({"rows": [["a"], ["b", "a"]]}, "rows: 'a' stands twice"),
        ({"arrows": {("b", "a"): ""}}, "arrows: ('b', 'a') leads up"),
    ],
)
def test_faults_are_named(change, message):
    given = {"rows": [["a"], ["b"]], "arrows": {("a", "b"): ""}, "alt": "a to b"}
    with pytest.raises(ValueError, match=re.escape(message)):
        diagram(**given | change)


def test_alt_text_is_demanded():
    with pytest.raises(TypeError, match="alt"):
        diagram([["a"]], {})
