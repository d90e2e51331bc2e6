"""The browser of patches in a browser: picked by keyboard and pointer, read, narrow, dark."""

import re

import numpy as np
import pytest

from lib.figures import theme
from lib.figures.patches import alike, patch_browser

RANDOM = np.random.default_rng(0)
PICTURE = np.full((16, 16, 3), 128, np.uint8)
LAYERS = {name: RANDOM.normal(size=(4, 4, 6)) for name in ("stem", "layer 0")}
OTHER = {name: x + 1 for name, x in LAYERS.items()}


@pytest.fixture(scope="module")
def body():
    theme.apply()
    pictures = {"<b>one</b>": (PICTURE, LAYERS), "two": (PICTURE, OTHER)}
    return patch_browser(pictures, (1, 2, 3), alt="A picture and maps.")._repr_html_()


@pytest.fixture(scope="module")
def address(written, body):
    return written(body)


def state(page):
    return page.evaluate("document.querySelector('[data-element]').patches")


def said(page):
    return page.locator("output.said").inner_text()


def two(x):
    return re.sub(r"^(-?)0", r"\1", f"{x:.2f}").replace("-", "−")


def test_arrow_keys_pick_a_patch(open_page, address):
    page = open_page(address)
    assert state(page) == {"picture": "<b>one</b>", "layer": "layer 0", "place": [2, 3]}
    page.get_by_role("group", name="Patches: arrow").focus()
    for key in ("ArrowUp", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert state(page)["place"] == [1, 1]
    cosines = alike(LAYERS["layer 0"])[5]
    best = np.delete(cosines, 5).max()
    assert "layer 0, patch in row 2, column 2: most alike" in said(page)
    assert f"({two(round((best + 1) * 31) / 31 - 1)})" in said(page)
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    assert state(page)["place"] == [3, 1], "there is no fifth row"
    assert page.requests == []


def test_the_pointer_reads_and_picks(open_page, address):
    page = open_page(address)
    image = page.get_by_role("img", name="A picture")
    image.hover(position={"x": 5, "y": 5})
    assert "cosine with row 1, column 1 is" in said(page)
    image.click(position={"x": 5, "y": 5})
    assert state(page)["place"] == [0, 0] and "most alike" in said(page)


def test_picture_and_layer_are_chosen(open_page, address):
    page = open_page(address)
    page.get_by_role("combobox", name="layer").select_option("stem")
    assert state(page)["layer"] == "stem"
    page.get_by_role("combobox", name="picture").select_option("two")
    assert state(page)["picture"] == "two" and state(page)["layer"] == "stem"
    assert page.locator("option b").count() == 0


def test_fits_a_narrow_screen_in_the_dark(narrow_and_dark, body):
    _, pixels = narrow_and_dark(body)
    assert pixels.mean() < 100


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_still_stands_where_scripts_do_not_run(open_page, written, body, how):
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    address = written(body)
    page = open_page(address, java_script_enabled=how != "scripts off")
    assert page.get_by_role("img", name="A picture and maps").is_visible()
    assert page.get_by_role("combobox").count() == 0
