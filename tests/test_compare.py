"""The comparison of pictures and replays: what it lets pass, and what turns it red."""

import base64
import json
from copy import deepcopy
from functools import cache
from pathlib import Path

import compare
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["vision/vit", "block/layer-norm", "block/attention", "block/rope"]
MEASURED = ("frames", "marks", "fixed", "target")
each = pytest.mark.parametrize("page", PAGES)


@cache
def stored(page):
    """The HTML of a page's replay, and what it draws."""
    notebook = nbformat.read(ROOT / f"notebooks/{page}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("data", {}).get("text/html", "") for output in outputs]
    text = next(text for text in texts if '"panels":' in text)
    pieces = compare.PIECES.finditer(compare.DIGEST.sub("…", text))
    drawn = next(piece["json"] for piece in pieces if piece["json"])
    assert drawn in text
    return text, drawn


def changed(page, *changes):
    """What the comparison says of the page's replay, changed, beside the stored one."""
    text, drawn = stored(page)
    data = json.loads(drawn)
    for holder, key, change in changes:
        place = data
        for step in holder:
            place = place[step]
        place[key] = change(place[key])
    new = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return compare.html_differs(text.replace(drawn, new), text)


def fields(page):
    """Where a replay has measured numbers: (path of the holder, key, the numbers)."""
    for number, panel in enumerate(json.loads(stored(page)[1])["panels"]):
        holders = [(("panels", number), panel, MEASURED)]
        for i, series in enumerate(panel.get("series", [])):
            holders.append((("panels", number, "series", i), series, ("y",)))
        for path, holder, keys in holders:
            for key in keys:
                if key in holder:
                    yield path, key, np.array(holder[key], float)


@each
def test_the_same_and_the_last_digit_pass(page):
    assert changed(page) is None
    noise = np.random.default_rng(0)
    for path, key, values in fields(page):
        near = values + noise.uniform(-1e-3, 1e-3, values.shape) * np.abs(values)
        assert changed(page, (path, key, lambda _, near=near: near.tolist())) is None


@each
def test_a_changed_sign_turns_it_red(page):
    """Of a whole field, and of its largest number alone."""
    for path, key, values in fields(page):
        where = ".".join(map(str, (*path, key)))
        whole = (path, key, lambda _, values=values: (-values).tolist())
        assert changed(page, whole).startswith(where)
        one = values.copy()
        one.flat[np.abs(values).argmax()] *= -1
        said = changed(page, (path, key, lambda _, one=one: one.tolist()))
        assert said.startswith(where)


@each
def test_a_changed_digit_turns_it_red(page):
    """One more in the second digit of a field's largest number."""
    for path, key, values in fields(page):
        index = np.abs(values).argmax()
        largest = abs(values.flat[index])
        one = values.copy()
        one.flat[index] += 10.0 ** (np.floor(np.log10(largest)) - 1)
        assert changed(page, (path, key, lambda _, one=one: one.tolist()))


@each
def test_a_swapped_series_turns_it_red(page):
    """Two curves, and two frames, each in the other's place."""
    swaps = 0
    for number, panel in enumerate(json.loads(stored(page)[1])["panels"]):
        path = ("panels", number)
        curves = [series["y"] for series in panel.get("series", [])]
        if len(curves) > 1:
            swaps += 1
            assert changed(
                page,
                ((*path, "series", 0), "y", lambda _, new=curves[1]: new),
                ((*path, "series", 1), "y", lambda _, new=curves[0]: new),
            )
        frames = panel.get("frames") or panel["marks"]
        swaps += 1
        first_and_last = [frames[-1], *frames[1:-1], frames[0]]
        key = "frames" if "frames" in panel else "marks"
        assert changed(page, (path, key, lambda _, new=first_and_last: new))
    assert swaps >= 2


def test_two_fields_do_not_share_a_tolerance():
    """A small field beside a large one, with a sign changed, as steps beside losses."""
    for field in ("frames", "y", "marks", "fixed"):
        stored = {"x": [0, 12000], field: [[0.1, -0.2]]}
        new = {"x": [0, 12000], field: [[0.1, 0.2]]}
        said = compare.json_differs(new, stored)
        assert said == f"{field}.0.1: 0.2, stored -0.2"
    curves = {"marks": [[1000.0, 0.1], [9000.0, 0.2]]}
    swapped = deepcopy(curves)
    swapped["marks"][0][1], swapped["marks"][1][1] = 0.2, 0.1
    assert compare.json_differs(swapped, curves) == "marks.0.1: 0.2, stored 0.1"


def test_the_sliders_numbers_are_fine():
    """Logits, and the values and counts of the tokens without a name."""
    stored = {"logits": [0.0, -8.754], "rest": [[-36.375, 1], [-9.0, 2950]]}
    near = {"logits": [0.0, -8.755], "rest": [[-36.375, 1], [-9.0, 2949]]}
    assert compare.json_differs(near, stored) is None
    for other in (
        {"logits": [0.0, -8.774]},
        {"rest": [[-36.375, 41], [-9.0, 2950]]},
        {"rest": [[-36.375, 1], [-8.9375, 2950]]},
    ):
        assert compare.json_differs(stored | other, stored)


def test_whole_numbers_in_bytes_are_numbers():
    """Places of a map or of clouds: a unit of 255 is nothing, a point elsewhere is."""

    def packed(kind, dtype, numbers):
        text = base64.b64encode(np.array(numbers, dtype).tobytes()).decode()
        return {"frames": [{kind: text}]}

    for kind, dtype, unit, most in (("u8", "u1", 1, 255), ("u16", "<u2", 7, 1500)):
        stored = packed(kind, dtype, [0, most, 20, 30])
        near = packed(kind, dtype, [0, most, 20 + unit, 30])
        assert compare.json_differs(near, stored) is None
        other = packed(kind, dtype, [0, most, 20, 30 + 2 * unit])
        assert compare.json_differs(other, stored).startswith("frames.0.3: ")
        shorter = packed(kind, dtype, [0, most])
        assert "shape (2,)" in compare.json_differs(shorter, stored)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("fps",), 9),
        (("labels", 1), "the end"),
        (("labels",), ["the start"]),
        (("panels", 0, "title"), "Another"),
        (("panels", 0, "yticks", 1, 0), 0.51),
        (("panels", 0, "yticks", 1, 1), "0.51"),
        (("panels", 0, "x", 1), 10.1),
        (("panels", 0, "ylim", 1), 1.1),
        (("panels", 0, "y"), [[0, 0.5]]),
        (("panels", 0, "y"), [0, 0.5, 0.6]),
        (("panels", 0, "y"), [0, "0.5"]),
        (("panels", 0, "trail"), True),
    ],
)
def test_all_that_is_not_measured_is_exact(path, value):
    def replay():
        panel = {"title": "Loss", "x": [0, 10], "y": [0, 0.5], "ylim": [0, 1]}
        panel |= {"yticks": [[0, "0"], [0.5, "0.5"]], "trail": False}
        return {"fps": 8, "labels": ["the start", "the last"], "panels": [panel]}

    new = replay()
    place = new
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert compare.json_differs(replay(), replay()) is None
    assert ".".join(map(str, path)) in compare.json_differs(new, replay())
