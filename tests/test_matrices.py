"""Matrices that can be traced: what a line may be, the labels, and the HTML."""

import html
import json
import re

import nbformat
import pytest
import torch

from lib.figures.matrices import matrix, number, traceable

ROWS, COLUMNS = ["the", "<s>"], ["1", "2", "3"]


def relu(U):
    return U.clamp(min=0)


def join(first, second):
    return torch.cat([first, second], -1)


def steps(x, W):
    Q = x @ W
    S = Q[:, :2] @ x[:, 1:].T / 2**0.5
    R = x - x
    A = relu(Q)
    J = join(A, S)
    return J, R


def given():
    x = matrix([[0.5, -1, 2], [1, 1 / 3, 0]], ROWS, COLUMNS)
    return {"x": x, "W": matrix(torch.ones(3, 4), COLUMNS, "abcd")}


def test_each_line_is_run_and_labelled():
    view = traceable("one", steps, **given())
    assert list(view.matrices) == ["x", "W", "Q", "S", "R", "A", "J"]
    x, W = given()["x"].values, given()["W"].values
    assert torch.equal(view["S"].values, (x @ W)[:, :2] @ x[:, 1:].T / 2**0.5)
    assert (view["Q"].rows, view["Q"].columns) == (tuple(ROWS), tuple("abcd"))
    assert (view["S"].rows, view["S"].columns) == (tuple(ROWS), tuple(ROWS))
    assert view["J"].columns == (*"abcd", *ROWS)
    assert torch.equal(view["J"].values, steps(x, W)[0])  # it is ordinary Python, too
    assert view.recipes["S"]["args"] == [["Q", 0, 0, 2], ["x", 1, 1, None]]


def test_html_holds_each_number_once_and_is_the_same_again():
    text = traceable("a & b", steps, **given())._repr_html_()
    assert text == traceable("a & b", steps, **given())._repr_html_()
    assert text.count("<table") == 7 and 'aria-label="a &amp; b"' in text
    assert text.count("<td>0.333") == 1  # x, and its number nowhere else
    assert "&lt;s&gt;" in text and "<s>" not in text
    recipes = json.loads(re.search(r'\("[0-9a-f]{12}", (\{.*\})\);', text)[1])
    assert set(recipes) == {"Q", "S", "R", "A", "J"}
    assert html.escape("S = Q[:, :2] @ x[:, 1:].T / 2**0.5") in text


def test_numbers():
    assert [number(v) for v in (0.0, -0.0001, -1, 1 / 3, 10)] == [
        "0",
        "0",
        "−1",
        "0.333",
        "10",
    ]


def scale(Q, W):
    P = Q @ W.T
    return P


def product(x, W):
    Q = x @ W
    return Q


def test_several_functions_run_one_after_another():
    view = traceable("two", [product, scale], **given())
    x, W = given()["x"].values, given()["W"].values
    assert list(view.matrices) == ["x", "W", "Q", "P"]
    assert torch.equal(view["P"].values, x @ W @ W.T)
    with pytest.raises(TypeError, match="missing a required argument: 'Q'"):
        traceable("two", [scale, product], **given())


def test_a_view_goes_on_with_the_matrices_that_are_asked_for():
    view = traceable("one", product, **given())
    back = view.back("two", scale, changed, V=given()["x"])
    assert list(back.matrices) == ["Q", "W", "V", "P", "C"]
    assert torch.equal(back["C"].values, back["P"].values + given()["x"].values)
    shown = view._repr_html_()
    assert shown in view.folded()._repr_html_() and "<details>" not in shown
    assert view.folded()._repr_html_().startswith("<details><summary>one</summary>")


def changed(P, V):
    C = P + V
    return C


def itself(x, context, W_Q):
    S = x @ context.T
    Q = x @ W_Q
    return S, Q


def test_what_is_given_twice_stands_once_and_what_is_learned_is_named():
    x, W = given().values()
    text = traceable("one", itself, x=x, context=x, W_Q=W)._repr_html_()
    assert text.count("<table") == 4
    assert '<table data-name="x" data-also="context" class="given">' in text
    assert "x, context · given" in text and "W_Q · learned" in text
    assert '<table data-name="W_Q" class="learned">' in text
    assert '<table data-name="S"><caption>S = ' in text
    other = matrix(x.values.clone(), ROWS, COLUMNS)  # equal, and not the same
    text = traceable("one", itself, x=x, context=other, W_Q=W)._repr_html_()
    assert text.count("<table") == 5


def twice(x):
    y = x @ x.T @ x
    return y


def loops(x):
    for _ in range(2):
        pass


def unknown(x):
    y = torch.exp(x)
    return y


def infinite(x):
    y = x / 0.0 + x
    return y


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (twice, "not an operand that can be traced: x @ x.T"),
        (loops, "wants lines of the form name = "),
        (unknown, "not a step that can be traced"),
        (infinite, "not an operand"),
    ],
)
def test_other_lines_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        traceable("wrong", wrong, x=given()["x"])


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match="missing a required argument: 'W'"):
        traceable("wrong", steps, x=given()["x"])
    with pytest.raises(TypeError, match="'V' is no argument of the steps"):
        traceable("wrong", steps, V=given()["x"], **given())
    with pytest.raises(ValueError, match=r"values: got shape \(2, 3\), wants \(1, 3\)"):
        matrix(torch.ones(2, 3), ["a"], "abc")
    bad = given() | {"W": matrix(torch.full((3, 4), torch.nan), COLUMNS, "abcd")}
    with pytest.raises(ValueError, match="Q must be finite"):
        traceable("wrong", steps, **bad)


def test_the_page_traces_what_autograd_agrees_with():
    page = nbformat.read("notebooks/block/transformer-by-hand.ipynb", as_version=4)
    texts = [
        "".join(o["data"]["text/html"])
        for cell in page.cells
        for o in cell.get("outputs", [])
        if "text/html" in o.get("data", {})
    ]
    assert sum('data-element="matrices"' in text for text in texts) == 16
    printed = "".join(
        o.get("text", "") for c in page.cells for o in c.get("outputs", [])
    )
    assert "19 gradients, 324 entries: largest difference" in printed
