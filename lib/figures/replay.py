"""A replay: panels that a reader plays, pauses and steps through.

The numbers of its panels are made in `panels`, and drawn here for the still and the GIF,
in replay.js for the player.
"""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure

from lib.figures.animation import Animation, animation
from lib.figures.element import Element
from lib.figures.heatmap import token_axes
from lib.figures.panels import Panel
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES, DIVERGING, SEQUENTIAL, STYLES, em, letters

LEVELS = 64  # steps of a colour map in the player and in its still


@dataclass(frozen=True)
class Replay:
    """Panels that a reader plays, pauses and steps through; see `replay`."""

    panels: tuple[Panel, ...]
    labels: tuple[str, ...]
    alt: str
    columns: int

    @property
    def fps(self) -> float:
        """Frames per second: about six seconds in all, never above eight a second."""
        return min(8, max(1.5, len(self.labels) / 6))

    def draw(self, frame: int) -> Figure:
        """The panels at `frame`, drawn by matplotlib."""
        figure, axes = self._canvas
        self._fill(figure, axes, frame)
        return figure

    def animation(self) -> Animation:
        """The same frames as a GIF."""
        frames, hold = len(self.labels), round(2 * self.fps)
        return animation(self.draw, frames, fps=self.fps, hold=hold, alt=self.alt)

    @cached_property  # laying a figure out takes longer than drawing it
    def _canvas(self) -> tuple[Figure, list[Axes]]:
        count, columns = len(self.panels), min(self.columns, len(self.panels))
        rows = -(-count // columns)
        figure = plt.figure(figsize=(7.0, 0.4 + 2.5 * rows), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.08)  # inches
        plt.close(figure)  # or a notebook shows it too
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
        for ax, panel in zip(axes, self.panels, strict=True):
            if panel.data["kind"] == "matrix":
                _colourbar(figure, ax, panel.data)
        # Laid out twice, since token labels turn by the room they get; then all is fixed.
        for _ in range(2):
            self._fill(figure, axes, len(self.labels) - 1)
            figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure, axes

    def _fill(self, figure: Figure, axes: list[Axes], frame: int) -> None:
        for ax, panel in zip(axes, self.panels, strict=True):
            data = panel.data
            ax.clear()
            _DRAW[data["kind"]](ax, data, frame)
            ax.set(xlabel=data["xlabel"], ylabel=data["ylabel"])
            rows = _legend(ax)
            ax.set_title(data["title"], loc="left", pad=6 + 13 * rows)
        figure.suptitle(self.labels[frame], size="medium")

    def _repr_mimebundle_(self, include=None, exclude=None):
        text = f"replay: {len(self.labels)} frames; {self.alt}"
        return {"text/html": self._repr_html_(), "text/plain": text}

    def _repr_html_(self) -> str:
        data = {
            "name": "Replay",
            "alt": self.alt,
            "labels": self.labels,
            "columns": self.columns,
            "fps": round(self.fps, 2),
            "colours": CATEGORIES,
            "ramps": {
                kind: [to_hex(colour) for colour in _ramp(kind).colors]
                for kind in sorted({p.data.get("ramp") for p in self.panels} - {None})
            },
            "panels": [panel.data for panel in self.panels],
        }
        still = png(self.draw(len(self.labels) - 1))
        return Element("replay", data, still)._repr_html_()


def replay(
    panels: Sequence[Panel], labels: Sequence[str], *, alt: str, columns: int = 2
) -> Replay:
    """A player for `panels`, one label a frame; `columns` of them side by side.

    It starts on its last frame, which therefore makes the point alone. `alt` says what is
    shown and what to see in it. Where scripts are stripped a still of that frame stands.
    """
    panels, labels = tuple(panels), tuple(str(label) for label in labels)
    if not panels:
        raise ValueError("panels must hold at least one panel")
    if not labels:
        raise ValueError("labels must hold one label for each frame, got none")
    if not alt.strip():
        raise ValueError("alt must say what the replay shows and what to see in it")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    for panel in panels:
        if panel.frames not in (None, len(labels)):
            raise ValueError(
                f"labels has {len(labels)} entries, panel {panel.data['title']!r} "
                f"has {panel.frames} frames"
            )
    return Replay(panels, labels, alt, columns)


def _draw_bars(ax: Axes, data: dict, frame: int) -> None:
    ax.stairs(data["frames"][frame], data["edges"], fill=True, color=CATEGORIES[0])
    if "target" in data:
        ax.stairs(data["target"], data["edges"], color="black", lw=1.5, label="target")
    _fix_axes(ax, data)


def _draw_lines(ax: Axes, data: dict, frame: int) -> None:
    for i, curve in enumerate(data["series"]):
        x, y = data["x"], curve["y"]
        if np.ndim(y) == 2:
            y = y[frame]
        if data.get("trail"):
            n = int(np.searchsorted(x, data["at"][frame][0]))
            x, y = x[:n] + data["at"][frame], [*y[:n], data["marks"][frame][i]]
        style = {"color": CATEGORIES[i % 6], "linestyle": STYLES[i % 6]}
        ax.plot(x, y, label=curve["name"], **style)
        if "at" in data:
            mark = data["at"][frame], data["marks"][frame][i]
            ax.plot(*mark, "o", color=style["color"], clip_on=False, zorder=3)
    _fix_axes(ax, data)


def _draw_matrix(ax: Axes, data: dict, frame: int) -> None:
    shape = len(data["rows"]), len(data["columns"])
    image = _scale(data)
    values = np.reshape(data["frames"][frame], shape)
    ax.imshow(values, cmap=image.cmap, norm=image.norm, aspect="auto")
    token_axes(ax, data["rows"], data["columns"])


def _draw_dials(ax: Axes, data: dict, frame: int) -> None:
    turn = np.exp(2j * np.pi * np.linspace(0, 1, 97))
    tips = np.reshape(data["frames"][frame], (-1, 2))
    for i, (name, fixed) in enumerate(zip(data["names"], data["fixed"], strict=True)):
        along = np.dot(tips[i], fixed) / np.dot(fixed, fixed) * np.array(fixed)
        centre = np.array([2.5 * i, 0])
        ax.plot(centre[0] + turn.real, turn.imag, "-", color="0.7", lw=1)
        ends = np.stack([centre, centre + along, centre + tips[i]])
        colour = CATEGORIES[2 if np.dot(tips[i], fixed) >= 0 else 3]
        ax.plot(*ends[:2].T, "-", color=colour, alpha=0.5, lw=8, solid_capstyle="butt")
        ax.plot(*ends[1:].T, ":", color="0.4", lw=1)
        for j, tip in ((1, fixed), (0, tips[i])):
            ends = np.stack([centre, centre + tip])
            label = None if i else data["arrows"][j]
            ax.plot(
                *ends.T, color=CATEGORIES[j], linestyle=STYLES[j], lw=2, label=label
            )
            ax.plot(*ends[1], "o", color=CATEGORIES[j], ms=6)
        ax.text(centre[0], -1.15, name, ha="center", va="top", size="small")
    ax.set(xlim=(-1.2, 2.5 * len(tips) - 1.3), ylim=(-1.6, 1.1), aspect="equal")
    ax.axis("off")


def _draw_texts(ax: Axes, data: dict, frame: int) -> None:
    fit = max(10, int(ax.get_window_extent().width / (0.62 * em(ax))))  # letters
    rows = [
        textwrap.wrap(line, fit) or [""] for line in data["frames"][frame].split("\n")
    ]
    text = "\n".join(itertools.chain(*rows))
    ax.text(0, 1, text, va="top", family="monospace", size="small", parse_math=False)
    ax.axis("off")


_DRAW = {
    "bars": _draw_bars,
    "lines": _draw_lines,
    "matrix": _draw_matrix,
    "dials": _draw_dials,
    "texts": _draw_texts,
}


def _legend(ax: Axes) -> int:
    """A legend between title and plot, where it hides no curve; returns its rows."""
    names = ax.get_legend_handles_labels()[1]
    if not names:
        return 0
    room = ax.get_window_extent().width / (0.47 * em(ax))  # in letters
    for rows in range(1, len(names) + 1):
        columns = [names[i : i + rows] for i in range(0, len(names), rows)]
        if sum(max(map(letters, column)) + 6 for column in columns) <= room:
            break
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
    gaps = {"borderpad": 0.2, "columnspacing": 1.2, "labelspacing": 0.2}
    legend = ax.legend(ncols=len(columns), frameon=False, **place, **gaps)
    legend.set_in_layout(False)  # or a long name squeezes the plot
    return rows


def _ramp(kind: str) -> ListedColormap:
    """The colour map in the steps that the player has too."""
    steps = np.linspace(0, 1, LEVELS)
    return ListedColormap(
        colormaps[DIVERGING if kind == "diverging" else SEQUENTIAL](steps)
    )


def _scale(data: dict) -> ScalarMappable:
    return ScalarMappable(Normalize(*data["v"]), _ramp(data["ramp"]))


def _colourbar(figure: Figure, ax: Axes, data: dict) -> None:
    ticks = [value for value, _ in data["vticks"]]
    bar = figure.colorbar(_scale(data), ax=ax, label=data["label"], ticks=ticks)
    bar.ax.set_yticklabels([text for _, text in data["vticks"]])


def _fix_axes(ax: Axes, data: dict) -> None:
    ax.set(xlim=data["xlim"], ylim=data["ylim"])
    for axis, ticks in ((ax.xaxis, data["xticks"]), (ax.yaxis, data["yticks"])):
        axis.set_ticks([v for v, _ in ticks], [text for _, text in ticks])
