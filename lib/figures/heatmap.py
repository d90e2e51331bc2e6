"""A heat map whose tick labels are tokens."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from lib.figures.panels import finite
from lib.figures.theme import DIVERGING, SEQUENTIAL, em, letters, luminance


def token_heatmap(
    ax: Axes,
    values,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    label: str = "weight",
    vmin: float = 0,
    vmax: float = 1,
    signed: bool = False,
    annotate: bool = True,
    xlabel: str = "key",
    ylabel: str = "query",
) -> AxesImage:
    """Draw `values` (rows, columns) as a heat map whose tick labels are tokens.

    `signed` takes a diverging map centred on zero, from -vmax to vmax. `annotate` writes
    the numbers where a cell has room for one.
    Returns the image, for `fig.colorbar(image, label=image.get_label())`; compared panels
    share vmin, vmax and one colourbar. ValueError if the shapes do not fit.
    """
    values = finite("values", values, (len(rows), len(columns)))
    cmap, vmin = (DIVERGING, -vmax) if signed else (SEQUENTIAL, vmin)
    image = ax.imshow(values, cmap=cmap, vmin=vmin, vmax=vmax, aspect="auto")
    image.set_label(label)
    token_axes(ax, rows, columns)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    cell = ax.get_window_extent().width / len(columns)
    if annotate and cell > (3.0 if np.min(values) < 0 else 2.4) * em(ax):
        for (i, j), value in np.ndenumerate(values):
            ink = "black" if luminance(image.to_rgba(value)) > 0.18 else "white"
            text = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
            ax.text(j, i, text, ha="center", va="center", color=ink, size="x-small")
    return image


def token_axes(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Token tick labels; long or many columns are turned, many labels thinned."""
    rows, columns = [str(row) for row in rows], [str(column) for column in columns]
    box, size = ax.get_window_extent(), em(ax)
    room, longest = box.width / len(columns), max(map(letters, columns))
    turned = 0.6 * size * longest > room
    step_x = int(np.ceil(1.1 * size / room)) if turned else 1
    step_y = int(np.ceil(0.9 * size * len(rows) / box.height))  # a letter's own height
    ax.set_xticks(range(0, len(columns), step_x), columns[::step_x])
    ax.set_yticks(range(0, len(rows), step_y), rows[::step_y])
    if turned:
        plt.setp(ax.get_xticklabels(), rotation=90)
    ax.grid(False)
    ax.spines[:].set_visible(False)
