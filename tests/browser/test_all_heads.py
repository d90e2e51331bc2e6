"""All heads and the lines between tokens in a browser: chosen, read, by keyboard."""

import re

import numpy as np
import pytest

from lib.figures import theme
from lib.figures.heads import head_grid, head_lines

TOKENS = ["the", "old", "<b>dog</b>", "slept"]
RANDOM = np.random.default_rng(0)


def maps(L, H, causal):
    scores = 2 * RANDOM.normal(size=(L, H, 4, 4))
    if causal:
        scores = np.where(np.tri(4, dtype=bool), scores, -np.inf)
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


CAUSAL, WHOLE = maps(3, 2, True), maps(2, 4, False)
SCORE = RANDOM.random((3, 2))


@pytest.fixture(scope="module")
def body():
    theme.apply()
    models = {
        "writer": (
            {"score": SCORE, "cost": SCORE - 0.5},
            {"a text": (TOKENS, CAUSAL), "another": (TOKENS[:3], CAUSAL[..., :3, :3])},
        ),
        "reader": ({"score": RANDOM.random((2, 4))}, {"a text": (TOKENS, WHOLE)}),
    }
    scales = {"score": (1, "a share"), "cost": (1, "nats")}
    grid = head_grid(models, scales, alt="Two grids of heads.")
    lines = head_lines("reader", {"a text": (TOKENS, WHOLE)}, (1, 2, 3), alt="Lines.")
    return grid._repr_html_() + lines._repr_html_()


@pytest.fixture(scope="module")
def address(written, body):
    return written(body)


def state(page, number=0):
    return page.evaluate(f"document.querySelectorAll('[data-element]')[{number}].heads")


def said(page, number=0):
    return page.locator("output.said").nth(number).inner_text()


def two(x):
    return re.sub(r"^(-?)0", r"\1", f"{x:.2f}").replace("-", "−")


def test_arrow_keys_walk_through_the_heads_of_both_models(open_page, address):
    page = open_page(address)
    page.get_by_role("group", name="Heads").focus()
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert (state(page)["layer"], state(page)["head"]) == (1, 1)
    assert f"writer, layer 1, head 1: score {two(SCORE[1, 1])}" in said(page)
    page.keyboard.press("ArrowRight")  # past the side: the other model
    assert state(page)["model"] == "reader" and state(page)["head"] == 0
    page.keyboard.press("ArrowDown")
    assert state(page)["layer"] == 1, "there is no layer 2"
    page.keyboard.press("ArrowLeft")
    assert state(page)["model"] == "writer" and state(page)["head"] == 1
    assert page.requests == []


def test_the_pointer_chooses_a_head(open_page, address):
    page = open_page(address)
    page.get_by_role("img", name="Two grids").hover(position={"x": 24 + 20, "y": 62})
    assert (state(page)["layer"], state(page)["head"]) == (2, 1)


def test_the_map_reads_out_its_cells(open_page, address):
    page = open_page(address)
    page.get_by_role("group", name="Its map").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    weight = two(round(CAUSAL[0, 0, 2, 1] * 63) / 63)
    assert said(page).endswith(f"query “<b>dog</b>” gives key “old” {weight}")
    for _ in range(3):  # no key after the query
        page.keyboard.press("ArrowRight")
    assert "key “<b>dog</b>”" in said(page)
    assert page.locator("output.said b").count() == 0


def test_colour_and_text_are_chosen(open_page, address):
    page = open_page(address)
    page.get_by_role("combobox", name="colour").select_option("cost")
    assert state(page)["measure"] == "cost" and page.get_by_text("nats").is_visible()
    page.get_by_role("combobox", name="text").select_option("another")
    assert state(page)["text"] == "another"
    page.get_by_role("group", name="Heads").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert state(page)["text"] == "a text", "the reader has no other"


def test_lines_of_one_query(open_page, address):
    page = open_page(address)
    assert state(page, 1) | {"text": "", "measure": ""} == {
        "model": "reader",
        "layer": 1,
        "head": 2,
        "query": 3,
        "text": "",
        "measure": "",
    }
    chosen = page.get_by_role("button", name="query slept")
    assert chosen.get_attribute("aria-pressed") == "true"
    chosen.press("ArrowUp")
    page.keyboard.press("Enter")
    assert state(page, 1)["query"] == 2
    texts = page.locator("svg[role=group] text").all_text_contents()
    for key in range(4):
        assert two(round(WHOLE[1, 2, 2, key] * 63) / 63) in texts
    page.keyboard.press(" ")
    assert state(page, 1)["query"] is None
    page.get_by_role("combobox", name="head", exact=True).select_option("0")
    assert state(page, 1)["head"] == 0 and state(page, 1)["layer"] == 1


def test_fits_a_narrow_screen_in_the_dark(narrow_and_dark, body):
    _, pixels = narrow_and_dark(body)
    assert pixels.mean() < 90


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_stills_stand_where_scripts_do_not_run(open_page, written, body, how):
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    address = written(body)
    page = open_page(address, java_script_enabled=how != "scripts off")
    for name in ("Two grids of heads", "Lines"):
        assert page.get_by_role("img", name=name).is_visible()
    assert page.get_by_role("combobox").count() == 0
