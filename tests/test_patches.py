"""The browser of patches: what a page gets, the still, bad input."""

import numpy as np
import pytest

from lib.figures import patches as module
from lib.figures.heads import LEVELS
from lib.figures.patches import alike, patch_browser

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 255, (8, 12, 3)).astype(np.uint8)
LAYERS = {name: RANDOM.normal(size=(2, 3, 5)) for name in ("stem", "layer 0")}


@pytest.fixture
def figures(monkeypatch):
    drawn, png = [], module.png
    monkeypatch.setattr(module, "png", lambda f: drawn.append(f) or png(f))
    return drawn


def test_cosines_of_patches():
    tokens = np.array([[[1.0, 0], [2, 0]], [[0, 3], [-1, 0]]])
    wanted = [[1, 1, 0, -1], [1, 1, 0, -1], [0, 0, 1, 0], [-1, -1, 0, 1]]
    assert np.allclose(alike(tokens), wanted)


def test_what_travels_is_the_lower_triangle_in_levels():
    element = patch_browser({"a": (PICTURE, LAYERS)}, (1, 0, 2), alt="Patches.")
    (one,) = element.data["pictures"]
    assert one["grid"] == [2, 3] and element.data["layers"] == ["stem", "layer 0"]
    assert one["source"].startswith("data:image/png;base64,")
    for letters, tokens in zip(one["maps"], LAYERS.values(), strict=True):
        found = [LEVELS.index(letter) / 31 - 1 for letter in letters]
        assert np.allclose(found, alike(tokens)[np.tri(6, dtype=bool)], atol=0.017)
    assert len(element.data["ramp"]) == 63 and element.data["start"] == [1, 0, 2]


def test_the_still_has_every_layer(figures):
    patch_browser({"a": (PICTURE, LAYERS)}, (0, 1, 1), alt="Patches.")
    titles = [ax.get_title() for ax in figures[0].axes]
    assert titles == ["the picture", "stem", "layer 0", ""]  # and the colour bar
    (mark,) = figures[0].axes[1].patches
    assert mark.get_xy() == (0.5, 0.5)


def test_no_name_ends_the_script():
    pictures = {"</script><b>": (PICTURE, LAYERS)}
    page = patch_browser(pictures, (0, 0, 0), alt="Patches.")._repr_html_()
    assert page.count("</script>") == 1 and 'alt="Patches."' in page


@pytest.mark.parametrize(
    ("pictures", "start", "message"),
    [
        ({"a": (PICTURE, LAYERS)}, (2, 0, 0), "layer: got 2, wants 0 to 1"),
        ({"a": (PICTURE, LAYERS)}, (0, 2, 0), "row: got 2, wants 0 to 1"),
        ({"a": (PICTURE, LAYERS)}, (0, 0, -1), "column: got -1, wants 0 to 2"),
        (
            {"a": (PICTURE, LAYERS), "b": (PICTURE, {"stem": LAYERS["stem"]})},
            (0, 0, 0),
            r"b: got the layers \['stem'\], wants",
        ),
        (
            {"a": (PICTURE, LAYERS | {"layer 0": LAYERS["stem"][:1]})},
            (0, 0, 0),
            "a: got the grids .*, wants one",
        ),
        ({"a": (PICTURE / 255, LAYERS)}, (0, 0, 0), "picture: got float64"),
        (
            {"a": (PICTURE, {"stem": LAYERS["stem"] * 0})},
            (0, 0, 0),
            "finite and not zero",
        ),
        (
            {"a": (PICTURE, {"stem": LAYERS["stem"][0]})},
            (0, 0, 0),
            r"tokens: got shape \(3, 5\)",
        ),
    ],
)
def test_bad_input_is_named(pictures, start, message):
    with pytest.raises(ValueError, match=message):
        patch_browser(pictures, start, alt="Patches.")
