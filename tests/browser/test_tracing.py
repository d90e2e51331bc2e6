"""Tracing entries in a browser: each computation that is shown is right, and reachable."""

import math
import re
from pathlib import Path

import nbformat
import pytest

PAGE = Path("notebooks/block/transformer-by-hand.ipynb")
HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Trace</title>'
    '<meta name="viewport" content="width=device-width">'
    "<style>body{font-family:sans-serif;margin:16px}</style><main>"
)
AXE = Path("tests/site/vendor/axe-core/axe.min.js")
# Walk over every entry of every table of one host: its table's text and what is said.
WALK = """(host) => [...host.shadowRoot.querySelectorAll("td[tabindex]")].map((cell) => {
    cell.focus();
    const root = host.shadowRoot, uses = (k) => root.querySelectorAll("." + k).length;
    return [cell.textContent, root.querySelector("output").textContent,
        uses("me"), uses("a"), uses("b"), cell.closest("table").dataset.name];
})"""


@pytest.fixture(scope="module")
def views():
    """The HTML of each view on the page, folded ones included."""
    page = nbformat.read(PAGE, as_version=4)
    return [
        "".join(o["data"]["text/html"])
        for cell in page.cells
        for o in cell.get("outputs", [])
        if 'data-element="matrices"' in "".join(o.get("data", {}).get("text/html", ""))
    ]


@pytest.fixture
def shown(open_page, tmp_path):
    def show(body, **options):
        file = tmp_path / "index.html"
        file.write_text(HEAD + body.replace("<details>", "<details open>"), "utf-8")
        return open_page(file.as_uri(), **options)

    return show


def value(text):
    """What a shown computation comes to: its notes after ; left out."""
    text = text.partition(";")[0].replace("−", "-").replace("×", "*").replace("÷", "/")
    text = re.sub(r"√(\([^()]*\))", r"math.sqrt\1", text.replace("²", "**2"))
    text = re.sub(r"e\^(\([^()]*\)|[\d.]+)", r"math.exp(\1)", text)
    return eval(text, {"math": math, "max": max, "__builtins__": {}})


def test_every_computation_on_the_page_is_right(shown, views):
    checked = made = 0
    for body in views:
        page = shown(body)
        for entry, said, me, a, _, name in page.locator(
            "[data-element=matrices]"
        ).evaluate(WALK):
            checked += 1
            assert me == 1 and name + "[" in said
            if said.endswith(", given"):
                assert a == 0
                continue
            made += 1
            sums, _, end = said.partition("]: ")[2].partition(". ")[2].rpartition(" = ")
            if ";" in said:  # the notes come last
                sums, _, end = (
                    said.partition("]: ")[2].partition(". ")[2].partition(";")[0]
                ).rpartition(" = ")
            want = float(entry.replace("−", "-"))
            assert end == entry
            assert a >= 1
            # Operands are shown to three decimals; a large factor carries that on.
            assert value(sums) == pytest.approx(want, abs=0.011, rel=0.01), said
    assert checked > 3000 and made > 1500


def test_a_product_marks_its_row_and_its_column(shown, views):
    page = shown(views[2])  # the encoder's attention
    page.locator("table[data-name=Q] td[tabindex]").nth(5).click()
    marks = page.evaluate("""() => {
        const root = document.querySelector("[data-element=matrices]").shadowRoot;
        const at = (c) => [c.closest("table").dataset.name, c.parentNode.rowIndex, c.cellIndex];
        return ["a", "b"].map((k) => [...root.querySelectorAll("." + k)].map(at));
    }""")
    assert marks[0] == [["x", 2, j] for j in range(1, 5)]
    assert marks[1] == [["W_Q", i, 2] for i in range(1, 5)]
    assert "row cat of x times column q2 of W_Q" in page.locator("output").inner_text()


def test_entries_are_tinted_by_their_sign(shown, views):
    page = shown(views[2])
    found = page.evaluate("""() => {
        const root = document.querySelector("[data-element=matrices]").shadowRoot;
        return [...root.querySelectorAll("table[data-name=W_Q] td[tabindex]")].map(
            (c) => [c.textContent, getComputedStyle(c).backgroundColor]);
    }""")
    for entry, ground in found:
        red, _, blue, alpha = map(float, re.findall(r"[\d.]+", ground))
        value = float(entry.replace("−", "-"))
        assert alpha == pytest.approx(0.45 * abs(value), abs=0.01)  # the largest is 1
        assert value == 0 or (red > blue) == (value > 0)
    assert len(found) == 16


def test_keyboard(shown, views):
    page = shown(views[2])
    assert page.locator("[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    place = page.locator("output b")
    assert place.inner_text() == "Q[the, q1]"
    for key, name in [
        ("ArrowRight", "Q[the, q2]"),
        ("ArrowDown", "Q[cat, q2]"),
        ("ArrowLeft", "Q[cat, q1]"),
        ("ArrowUp", "Q[the, q1]"),
        ("ArrowUp", "W_O[v4, 4]"),  # past the edge: the table before
        ("ArrowRight", "Q[the, q1]"),
    ]:
        page.keyboard.press(key)
        assert place.inner_text() == name
    assert page.locator("output").get_attribute("aria-live") == "polite"
    assert page.locator("[tabindex='0']").count() == 1


def test_tapping_on_a_narrow_screen(shown, views):
    for body in views:
        size = {"width": 360, "height": 740}
        page = shown(body, viewport=size, has_touch=True, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    cell = page.locator("td[tabindex]").last
    cell.tap()
    box, bar = cell.bounding_box(), page.locator("output").bounding_box()
    assert box["height"] >= 24 and box["width"] >= 24
    assert page.locator("output b").inner_text() != ""
    assert bar["y"] + bar["height"] <= 741  # what is said stands in the window


@pytest.mark.parametrize(
    "ground", ["", "<style>body{background:#14181e;color:#ced6dd}</style>"]
)
def test_quiet_and_accessible(shown, views, ground):
    page = shown(ground + "<h1>Trace</h1>" + views[2])
    page.locator("td[tabindex]").last.hover()
    assert page.requests == []
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then((result) => result.violations)")
    assert not [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_tables_stand_where_scripts_do_not_run(shown, views, how):
    body = views[2]
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    page = shown(body, java_script_enabled=how != "scripts off")
    assert page.get_by_text("Q = x @ W_Q").is_visible()
    assert page.locator("td").last.is_visible()
    assert "sleeps" in page.locator("body").inner_text()
