"""Coloured pieces in a browser: they are text, they play, and the page stands still."""

import pytest

from lib.figures import theme
from lib.figures.pieces import pieces

FRAMES = [
    [("one", list("slowest")), ("two", ["a"] * 80)],
    [("one", ["slow", "est"]), ("two", ["aa"] * 40)],
]
HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Pieces</title>'
    '<meta name="viewport" content="width=device-width">'
    "<style>body{font-family:sans-serif;margin:16px}</style><main><h1>Pieces</h1>"
)
DARK = "<style>body{background:#14181e;color:#ced6dd}</style>"
AXE = "tests/site/vendor/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def body():
    theme.apply()
    labels = ["letters", "merge 1: slow"]
    return pieces(FRAMES, labels, alt="Letters become pieces.")._repr_html_()


@pytest.fixture
def shown(open_page, tmp_path, body):
    def show(ground="", **options):
        file = tmp_path / "index.html"
        file.write_text(HEAD + ground + body, "utf-8")
        return open_page(file.as_uri(), **options)

    return show


def test_the_last_frame_stands_first_and_keys_step(shown):
    page = shown()
    row = page.locator(".row").first
    assert row.locator("span").all_inner_texts() == ["slow", "est"]
    assert page.locator("output").inner_text() == "merge 1: slow"
    page.locator("input").focus()
    page.keyboard.press("Home")
    assert row.locator("span").all_inner_texts() == list("slowest")
    page.keyboard.press("ArrowRight")
    assert row.locator("span").count() == 2


def test_the_page_stands_still_while_it_steps(shown):
    page = shown(viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    tall = page.locator(".element").bounding_box()["height"]
    page.locator("input").focus()
    page.keyboard.press("Home")
    assert page.locator(".element").bounding_box()["height"] == tall


@pytest.mark.parametrize("ground", ["", DARK])
def test_quiet_and_accessible(shown, ground):
    page = shown(ground)
    assert page.requests == []
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then((result) => result.violations)")
    assert not [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]


def test_a_still_stands_where_scripts_do_not_run(shown):
    page = shown(java_script_enabled=False)
    assert page.get_by_alt_text("Letters become pieces.").is_visible()
