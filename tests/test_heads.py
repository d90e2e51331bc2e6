"""The heads of models as elements: what a page gets, the stills, bad input."""

import gzip

import numpy as np
import pytest

from lib.figures import heads as module
from lib.figures.heads import LEVELS, head_grid, head_lines, head_text

TOKENS = ["the", "</script><b>", "猫"]
CAUSAL = np.tile(np.tri(3) / np.tri(3).sum(1, keepdims=True), (2, 2, 1, 1))
WHOLE = np.full((1, 3, 3, 3), 1 / 3)
VALUES = np.arange(4.0).reshape(2, 2) / 3
MODELS = {
    "writer": ({"score": VALUES, "cost": VALUES - 1}, {"a text": (TOKENS, CAUSAL)}),
    "reader": ({"score": VALUES[:1, [0, 1, 1]]}, {"a text": (TOKENS, WHOLE)}),
}
SCALES = {"score": (1, "a share"), "cost": (2, "nats")}


@pytest.fixture
def figures(monkeypatch):
    drawn, png = [], module.png
    monkeypatch.setattr(module, "png", lambda f: drawn.append(f) or png(f))
    return drawn


def levels(letters):
    return [LEVELS.index(letter) for letter in letters]


def test_a_causal_text_travels_as_its_triangles():
    found = head_text(TOKENS, CAUSAL)
    assert found["causal"] and found["tokens"] == TOKENS
    assert levels(found["maps"]) == [63, 32, 32, 21, 21, 21] * 4  # of 63, row by row


def test_another_text_travels_whole():
    found = head_text(TOKENS, WHOLE)
    assert not found["causal"] and levels(found["maps"]) == [21] * 27


def test_the_grid_holds_every_head(figures):
    element = head_grid(MODELS, SCALES, alt="Two grids.", still=["score", "cost"])
    writer, reader = element.data["models"]
    assert (writer["layers"], writer["heads"]) == (2, 2)
    assert (reader["layers"], reader["heads"]) == (1, 3)
    assert writer["values"]["score"] == [0, 0.333, 0.667, 1]
    assert "cost" not in reader["values"]
    assert [scale["name"] for scale in element.data["scales"]] == ["score", "cost"]
    (figure,) = figures
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["writer:\nscore", "writer:\ncost", "reader:\nscore"]


def test_the_lines_start_where_they_are_told(figures):
    element = head_lines("m", {"t": (TOKENS, CAUSAL)}, (1, 0, 2), alt="Lines.")
    assert element.data["start"] == [1, 0, 2] and element.data["view"] == "lines"
    all_queries, one = figures[0].axes
    assert len(all_queries.lines) == 6 and len(one.lines) == 3
    assert "the query 猫 alone" in one.get_title()


def test_no_label_ends_the_script():
    page = head_grid(MODELS, SCALES, alt="Two grids.")._repr_html_()
    assert page.count("</script>") == 1 and 'alt="Two grids."' in page


def test_all_heads_of_a_real_size_are_light():
    rng = np.random.default_rng(0)
    scores = np.where(np.tri(16, dtype=bool), rng.normal(size=(30, 9, 16, 16)), -np.inf)
    maps = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    values = {f"measure {i}": rng.random((30, 9)) for i in range(7)}
    texts = {title: ([*"abcdefghijklmnop"], maps) for title in "xy"}
    scales = {name: (1, "a share") for name in values}
    page = head_grid({"m": (values, texts)}, scales, alt="Grids.")._repr_html_()
    script = page.split("<script>")[1]
    assert len(gzip.compress(script.encode())) < 100_000


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: head_text(TOKENS[:2], CAUSAL), r"wants \(L, H, 2, 2\)"),
        (lambda: head_text(TOKENS, CAUSAL * 2), "from 0 to 1"),
        (lambda: head_text(TOKENS, CAUSAL * np.nan), "from 0 to 1"),
        (lambda: head_grid(MODELS, {"score": (1, "")}, alt="x"), "names among"),
        (
            lambda: head_grid({"m": ({"score": VALUES * np.nan}, {})}, SCALES, alt="x"),
            "m, score: .*finite",
        ),
        (
            lambda: head_grid(
                {"m": ({"score": VALUES}, {"t": (TOKENS, WHOLE)})}, SCALES, alt="x"
            ),
            r"m, t: .*wants \(2, 2, T, T\)",
        ),
        (
            lambda: head_lines("m", {"t": (TOKENS, CAUSAL)}, (2, 0, 0), alt="x"),
            "layer: got 2, 't' has 0 to 1",
        ),
        (
            lambda: head_lines("m", {"t": (TOKENS, CAUSAL)}, (0, 0, 3), alt="x"),
            "query: got 3",
        ),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
