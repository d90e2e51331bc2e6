"""Maps in a browser: their colours and paths step by step, keys, narrow screens, stills."""

import re

import numpy as np
import pytest

from lib.figures import theme
from lib.figures.plane import plane, planes

LOOK = {"xlabel": "slope", "ylabel": "height", "label": "loss", "v": (0, 1)}
PIXEL = """([column, row]) => {
    const host = document.querySelector('[data-element]').shadowRoot;
    const copy = document.createElement('canvas').getContext('2d', {
        willReadFrequently: true });
    copy.drawImage(host.querySelector('canvas'), 0, 0);
    return [...copy.getImageData(column, row, 1, 1).data];
}"""


@pytest.fixture(scope="module", autouse=True)
def look():
    theme.apply()


@pytest.fixture(scope="module")
def body():
    values = np.zeros((3, 4))
    values[1, 0] = values[2, 3] = 1  # first the lower left corner, then the upper right
    dots = {"arm 0": [[0.5, 0.5], [9, 9]]}  # the second stands outside
    first = plane("Map", values, (0, 1), (0, 1), points=dots, notes="abc", **LOOK)
    paths = {"SGD": [[0, 0], [0.5, 0.5], [1, 1]]}
    second = plane("Surface", values[0], (0, 1), (0, 1), paths=paths, **LOOK)
    found = planes([first, second], ["step 0", "step 1", "step 2"], alt="Two maps.")
    return found._repr_mimebundle_()["text/html"]


@pytest.fixture(scope="module")
def address(written, body):
    return written(body)


def test_frames_have_their_colours_paths_and_notes(open_page, address):
    page = open_page(address)
    slider = page.get_by_role("slider", name="Frame")
    slider.focus()
    low, high = [68, 1, 84, 255], [253, 231, 37, 255]  # the ends of viridis
    wanted = {"Home": (low, low, "a", 1), "ArrowRight": (high, low, "b", 2)}
    wanted["End"] = (low, high, "c", 3)
    for key, (lower_left, upper_right, note, places) in wanted.items():
        page.keyboard.press(key)
        found = [page.evaluate(PIXEL, at) for at in ([0, 1], [1, 0])]
        assert found == [lower_left, upper_right], key
        assert page.locator(".note").first.inner_text() == note
        way = page.locator("path[stroke='#fff'][stroke-width='4.5']").get_attribute("d")
        assert len(re.findall("[ML]", way)) == places
    assert slider.evaluate("x => x.ariaValueText") == "step 2, frame 3 of 3"
    assert page.get_by_role("img", name="Two maps.").count() == 1
    assert page.requests == []


def test_it_plays_to_the_end(open_page, address):
    page = open_page(address)
    page.clock.install()
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(9000)
    assert page.get_by_role("slider").input_value() == "2"
    assert page.get_by_role("button", name="Play").count() == 1


@pytest.mark.parametrize(("width", "columns"), [(360, 1), (760, 2)])
def test_maps_stand_side_by_side_where_there_is_room(
    open_page, address, width, columns
):
    page = open_page(address, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = [box.bounding_box() for box in page.locator(".plot").all()]
    assert len({box["x"] for box in boxes}) == columns


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_still_stands_where_scripts_do_not_run(open_page, tmp_path, body, how):
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    file = tmp_path / "index.html"
    file.write_text(body, encoding="utf-8")
    page = open_page(file.as_uri(), java_script_enabled=how != "scripts off")
    assert page.get_by_role("img", name="Two maps.").is_visible()
    assert page.get_by_role("slider").count() == 0
