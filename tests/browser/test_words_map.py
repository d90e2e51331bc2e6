"""The map of words and the clouds in a browser: searched, chosen, walked by keyboard."""

import re

import numpy as np
import pytest

from lib.figures import theme
from lib.figures.map import clouds, word_map

NAMES = ["the", "guide", "guitar", "violin", "</script><b>", "猫", "cat", "cats"]
ANGLES = np.linspace(0, 2 * np.pi, len(NAMES), endpoint=False)
CIRCLE = np.stack([3 * np.cos(ANGLES), 2 * np.sin(ANGLES)], 1)
NEAR = [[(i + 1) % 8, (i + 7) % 8] for i in range(8)]


@pytest.fixture(scope="module", autouse=True)
def look():
    theme.apply()


def words():
    return word_map(CIRCLE, NAMES, NEAR, alt="Eight words on a ring.")._repr_html_()


def senses():
    frames = [np.zeros((4, 2)), CIRCLE[:4], CIRCLE[4:]]
    told = [f"sentence {i} <i>" for i in range(4)]
    sets = {
        w: (frames, [0, 0, 1, 1], [f"{w}: {t}" for t in told]) for w in ("bank", "left")
    }
    groups = {"bank": ["money", "river"], "left": ["gone", "side"]}
    labels = ["row", "layer 0", "layer 1"]
    return clouds(sets, groups, labels, alt="Two clouds of four points.")._repr_html_()


@pytest.fixture(scope="module")
def address(written):
    return written(words() + senses())


def state(page, number=0):
    return page.evaluate(f"document.querySelectorAll('[data-element]')[{number}].map")


def said(page, number=0):
    return page.locator("output.said").nth(number).inner_text()


def test_a_word_is_found_by_typing(open_page, address):
    page = open_page(address)
    box = page.get_by_role("searchbox", name="Search a word")
    box.focus()
    page.keyboard.type("Gui")
    assert state(page)["chosen"] == 1  # the shortest that starts so
    page.keyboard.press("Enter")
    assert state(page)["chosen"] == 2
    assert said(page).split("\n")[0] == "guitar, nearest by cosine:"
    near = page.get_by_role("button", name="violin")
    near.click()
    assert state(page)["chosen"] == 3
    box.fill("猫")
    assert state(page)["chosen"] == 5
    box.fill("zebra")
    assert state(page)["chosen"] == -1
    assert said(page) == "None of the 8 words starts with “zebra”."
    box.fill("")
    assert said(page).startswith("Search a word, or choose a point")
    assert page.requests == []


def test_what_is_typed_is_text(open_page, address):
    page = open_page(address)
    box = page.get_by_role("searchbox", name="Search a word")
    for text in ("<img src=x onerror=alert(1)>", "<b>x</b>", "</script><b>"):
        box.fill(text)
        assert page.locator("output.said img, output.said b").count() == 0
    assert state(page)["chosen"] == 4 and "</script><b>, nearest" in said(page)
    box.fill("<b>x")
    assert said(page) == "None of the 8 words starts with “<b>x”."


def test_a_point_is_chosen_and_the_map_zooms(open_page, address):
    page = open_page(address)
    x, y = state(page)["places"][6]
    drawing = page.get_by_role("img", name="Eight words on a ring")
    drawing.click(position={"x": x, "y": y})
    assert state(page)["chosen"] == 6
    page.get_by_role("button", name="Zoom in").click()
    box = drawing.bounding_box()
    middle = box["width"] / 2, box["height"] / 2
    assert state(page)["zoom"] > 1.5
    assert state(page)["places"][6] == pytest.approx(middle)
    page.get_by_role("button", name="Zoom out").click()
    assert state(page)["zoom"] == 1 and state(page)["places"][6] == pytest.approx(
        [x, y]
    )


def test_names_of_near_words_do_not_cover_each_other(open_page, written):
    close = CIRCLE.copy()
    close[1:4] = close[2] + [[0, 0.02], [0, 0], [0.03, 0]]  # one heap of three
    address = written(word_map(close, NAMES, NEAR, alt="A heap.")._repr_html_())
    page = open_page(address)
    page.get_by_role("searchbox", name="Search a word").fill("guitar")
    boxes = page.locator("svg[role=img] text").evaluate_all(
        "all => all.map((x) => [x.textContent, x.getBoundingClientRect().toJSON()])"
    )
    assert "guitar" in [name for name, _ in boxes]
    for i, (_, a) in enumerate(boxes):
        for _, b in boxes[:i]:
            apart = a["right"] < b["left"] or b["right"] < a["left"]
            assert apart or a["bottom"] < b["top"] + 4 or b["bottom"] < a["top"] + 4


def test_arrow_keys_name_one_point_after_the_other(open_page, address):
    page = open_page(address)
    stages = page.get_by_role("group", name="Points")
    stages.first.focus()
    for key, chosen in (("ArrowRight", 0), ("ArrowDown", 1), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert state(page)["chosen"] == chosen
    stages.nth(1).focus()
    page.keyboard.press("ArrowLeft")  # round to the last
    assert said(page, 1) == "river: bank: sentence 3 <i>"
    assert state(page, 1)["position"] == 2, "the arrow moved the frames, too"


def test_clouds_move_with_the_slider_and_the_word(open_page, address):
    page = open_page(address)
    slider = page.get_by_role("slider", name="Frame")
    assert slider.input_value() == "2"  # the last
    slider.focus()
    page.keyboard.press("Home")
    places = np.array(state(page, 1)["places"])
    assert np.ptp(places, axis=0).max() == 0 and state(page, 1)["position"] == 0
    page.keyboard.press("ArrowRight")
    assert slider.evaluate("x => x.ariaValueText") == "layer 0, frame 2 of 3"
    assert np.ptp(np.array(state(page, 1)["places"]), axis=0).min() > 100
    page.get_by_role("combobox", name="Word").select_option("left")
    assert state(page, 1)["set"] == 1 and state(page, 1)["position"] == 1
    assert page.get_by_text("gone").count() == 1
    assert page.get_by_role("searchbox").count() == 1  # of the map alone


def test_fits_a_narrow_screen_in_the_dark(narrow_and_dark):
    page, pixels = narrow_and_dark(words() + senses())
    assert pixels.mean() < 80 and np.percentile(pixels, 99.5) > 120
    places = np.array(state(page)["places"])
    assert places.min() > 0 and places[:, 0].max() < 328


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_stills_stand_where_scripts_do_not_run(open_page, written, how):
    body = words() + senses()
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    address = written(body)
    page = open_page(address, java_script_enabled=how != "scripts off")
    for name in ("Eight words on a ring", "Two clouds of four points"):
        assert page.get_by_role("img", name=name).is_visible()
    assert page.get_by_role("slider").count() == 0
