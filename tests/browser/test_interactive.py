"""The figures that a reader works: the browser's filters against lib.decoding, the tree."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from lib import filters, weights
from lib.figures import sliders, theme, tree

NAMED = 300


@pytest.fixture(scope="module", autouse=True)
def look():
    theme.apply()


@pytest.fixture(scope="module")
def logits():
    """Those on the page, where they are recorded; else some with a long tail."""
    if "decoding" in weights.names():
        return weights.tensors("decoding")["logits"]
    return 3 * torch.randn(49_152, generator=torch.Generator().manual_seed(0))


def distribution(logits):
    names = [f"</script> {i}" if i == 0 else f"token {i}" for i in range(len(logits))]
    return sliders.distribution(logits, names, alt="Bars of tokens.")._repr_html_()


RECORD = [
    [(("the",), -0.9, "kept"), (("a",), -1.1, "kept"), (("rain",), -1.3, "dropped")],
    [(("a", "cat"), -1.7, "kept"), (("the", "."), -1.8, "ended")],
    [(("a", "cat", "."), -2.0, "ended")],
]


def grown():
    found = tree.tree(RECORD, ("a", "cat", "."), alt="A tree of three words.")
    return found._repr_html_()


@pytest.fixture(scope="module")
def address(written, logits):
    return written(distribution(logits) + grown())


def move(page, **positions):
    for label, value in positions.items():
        page.get_by_role("slider", name=label.replace("_", "-")).fill(str(value))
    return page.evaluate("document.querySelector('[data-element]').distribution")


SETTINGS = [  # positions of the sliders
    {},
    {"temperature": 200},
    {"temperature": 5},
    {"top_k": 35},
    {"top_k": 80, "temperature": 150},
    {"top_p": 90},
    {"top_p": 90, "temperature": 200},
    {"top_p": 1},
    {"min_p": 5},
    {"min_p": 100},
    {"temperature": 130, "top_k": 70, "top_p": 80, "min_p": 1},
]


def test_the_browser_filters_as_lib_does(open_page, address, logits):
    page = open_page(address)
    rounded = sliders.rounded(logits, NAMED)  # (V,)
    order = logits.double().argsort(descending=True, stable=True)[:NAMED]
    neutral = {"temperature": 100, "top_k": 100, "top_p": 100, "min_p": 0}
    for positions in SETTINGS:
        found = move(page, **(neutral | positions))
        chosen = found["temperature"], found["k"], found["p"], found["m"]
        kept = filters.filtered(rounded[None], *chosen)[0]
        shares = kept.softmax(-1)
        ours = shares[order].numpy()
        assert np.abs(np.array(found["shares"]) - ours).max() < 1e-6, positions
        assert abs(found["rest"] - (1 - ours.sum())) < 1e-6, positions
        assert found["kept"] == int(kept.isfinite().sum()), positions
    assert page.requests == []


def test_the_rounding_moves_next_to_nothing(logits):
    exact = logits.double().softmax(-1)
    assert (sliders.rounded(logits).softmax(-1) - exact).abs().max() < 5e-5


def test_sliders_take_keys_and_say_their_value(open_page, address):
    page = open_page(address)
    slider = page.get_by_role("slider", name="temperature")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.evaluate("x => x.ariaValueText") == "1.05"
    page.keyboard.press("Home")
    assert slider.evaluate("x => x.ariaValueText") == "0.05"
    assert page.get_by_role("img", name="Bars of tokens").count() == 1
    page.get_by_role("slider", name="top-k").focus()
    page.keyboard.press("Home")
    assert page.get_by_text(re.compile(r"^1 of .* tokens are left")).count() == 1


def visible(page):
    return page.evaluate(
        """() => [...document.querySelectorAll('[data-element]')[1].shadowRoot
            .querySelectorAll('.scroll g')].filter(g => g.style.display !== 'none').length"""
    )


def test_the_tree_grows(open_page, address):
    page = open_page(address)
    slider = page.get_by_role("slider", name="Frame")
    assert slider.input_value() == "7" and visible(page) == 7
    slider.focus()
    for key, frame, nodes in (("Home", 0, 1), ("ArrowRight", 1, 4), ("ArrowUp", 2, 4)):
        page.keyboard.press(key)
        assert (slider.input_value(), visible(page)) == (str(frame), nodes)
    assert slider.evaluate("x => x.ariaValueText") == "step 1: 2 kept, frame 3 of 8"
    page.clock.install()
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(3000)
    assert slider.input_value() == "4"
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(3000)
    assert slider.input_value() == "4"
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(9000)
    assert slider.input_value() == "7"
    assert page.get_by_role("button", name="Pause").count() == 0


def test_dark_page_turns_the_ink(open_page, written, logits):
    def pixels(style):
        address = written(distribution(logits) + grown(), style)
        page = open_page(address, viewport={"width": 760, "height": 900})
        return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), float)

    light, dark = pixels(""), pixels("body{background:#14181e;color:#ced6dd}")
    assert light.mean() > 180 and dark.mean() < 80
    assert light.min() < 30 and np.percentile(dark, 99.5) > 150


def test_fits_a_narrow_screen(open_page, address):
    page = open_page(address, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.get_by_role("slider", name="top-p").bounding_box()
    assert box["width"] > 60 and box["x"] + box["width"] <= 360


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_still_stands_where_scripts_do_not_run(open_page, written, how):
    body = grown()
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    address = written(body)
    page = open_page(address, java_script_enabled=how != "scripts off")
    assert page.get_by_role("img", name="A tree of three words").is_visible()
    assert page.get_by_role("slider").count() == 0
