"""A picture's patches: pick one, and see how alike the others are, layer by layer.

What is shown is computed by the page; patches.js draws it.
"""

import base64
import io
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from lib.checks import array
from lib.figures.element import Element
from lib.figures.heads import LEVELS
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES, DIVERGING

STEPS = 63  # cosines from −1 to 1, with one level for 0


def alike(tokens) -> np.ndarray:
    """Cosines between all patches of one picture: (rows, columns, D) -> (P, P).

    Raises ValueError for another number of axes, or a patch that is not finite or zero.
    """
    tokens = array(tokens).astype(np.float64)
    if tokens.ndim != 3:
        raise ValueError(f"tokens: got shape {tokens.shape}, wants (rows, columns, D)")
    flat = tokens.reshape(-1, tokens.shape[-1])
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ValueError("tokens: wants patches that are finite and not zero")
    return (flat / norms) @ (flat / norms).T


def patch_browser(
    pictures: Mapping[str, tuple],
    start: tuple[int, int, int],
    *,
    alt: str,
) -> Element:
    """How alike the patches of some pictures are to the one that a reader picks.

    Args:
        pictures: name -> (picture, layers): uint8 (h, w, 3), and a layer's name -> what
            it holds of each patch, (rows, columns, D).
        start: the layer, the row and the column at which the view begins, from 0; the
            still has this patch of the first picture, in all its layers.

    Raises:
        ValueError: layers that differ between the pictures, tokens as `alike`, a place
            that does not exist.
    """
    found, names = [], [*next(iter(pictures.values()))[1]]
    for title, (picture, layers) in pictures.items():
        if [*layers] != names:
            raise ValueError(f"{title}: got the layers {[*layers]}, wants {names}")
        [*grid] = {np.shape(tokens)[:2] for tokens in layers.values()}
        if len(grid) != 1:
            raise ValueError(f"{title}: got the grids {sorted(grid)}, wants one")
        maps = ["".join(_letters(alike(tokens))) for tokens in layers.values()]
        found.append({"title": title, "source": _uri(picture), "grid": [*grid[0]]})
        found[-1]["maps"] = maps
    limits = len(names), *found[0]["grid"]
    for what, at, end in zip(("layer", "row", "column"), start, limits, strict=True):
        if not 0 <= at < end:
            raise ValueError(f"{what}: got {at}, wants 0 to {end - 1}")
    ramp = [to_hex(c) for c in colormaps[DIVERGING](np.linspace(0, 1, STEPS))]
    data = {"name": "Patches that are alike", "alt": alt, "start": [*start]}
    data |= {"layers": names, "pictures": found, "ramp": ramp}
    figure, axes = plt.subplots(
        1, 1 + len(names), figsize=(7.6, 1.9), layout="constrained"
    )
    picture, layers = next(iter(pictures.values()))
    rows, columns = found[0]["grid"]
    axes[0].imshow(array(picture), extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
    _bare(axes[0], "the picture", start[1:])
    for ax, (name, tokens) in zip(axes[1:], layers.items(), strict=True):
        cosines = alike(tokens)[start[1] * columns + start[2]].reshape(rows, columns)
        image = ax.imshow(cosines, cmap=DIVERGING, vmin=-1, vmax=1)
        _bare(ax, name, start[1:])
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01, label="cosine")
    return Element("patches", data, png(figure))


def _letters(cosines: np.ndarray) -> np.ndarray:
    """The lower triangle, row by row, in levels."""
    levels = np.rint((cosines[np.tri(len(cosines), dtype=bool)] + 1) / 2 * (STEPS - 1))
    return np.array([*LEVELS])[levels.astype(int).clip(0, STEPS - 1)]


def _uri(picture) -> str:
    picture = array(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"picture: got {picture.dtype} {picture.shape}, wants uint8 (h, w, 3)"
        )
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _bare(ax: Axes, title: str, place: tuple[int, int]) -> None:
    frame = {"fill": False, "ec": CATEGORIES[1], "lw": 2}
    ax.add_patch(plt.Rectangle((place[1] - 0.5, place[0] - 0.5), 1, 1, **frame))
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, size=8.5)
    ax.grid(False)
