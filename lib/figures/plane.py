"""Maps over a plane that change step by step, with points and moving paths on them.

A map's colours are numbers on a grid: what a net answers at each place, or a loss. The
player is plane.js; the still and the GIF are drawn here from the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure

from lib.figures.animation import Animation, animation
from lib.figures.element import Element
from lib.figures.panels import finite
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES, DIVERGING, SEQUENTIAL, STYLES

LEVELS = 64  # steps of the colour map
FINE = 50  # steps in which a map's numbers travel
MARKS = "osD^vX"
Limits = tuple[float, float]


def grid(xlim: Limits, ylim: Limits, n: int) -> np.ndarray:
    """The places (n · n, 2) at which a map of n × n cells wants its numbers, row by row."""
    (a, b), (c, d) = xlim, ylim
    middles = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(a + (b - a) * middles, c + (d - c) * middles)
    return np.stack([x.ravel(), y.ravel()], -1)


def plane(
    title: str,
    values,
    xlim: Limits,
    ylim: Limits,
    *,
    xlabel: str,
    ylabel: str,
    label: str,
    v: Limits,
    signed: bool = False,
    points: Mapping[str, object] | None = None,
    paths: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
) -> dict:
    """One map: `values` (frames, n · n), or (n · n,) where it stays, at the places of `grid`.

    Args:
        v: the numbers at the ends of the colour scale; `label` says what they are.
        signed: a diverging scale, white in the middle of `v`.
        points: name -> (number, 2), in the colours and marks of categories.
        paths: name -> (frames, 2); each is drawn as far as the frame.
        notes: one line for each frame, below the title.

    Raises ValueError for numbers that are not finite, of another shape, or no grid.
    """
    values = finite("values", values, (None,) * max(1, min(2, np.ndim(values))))
    n = round(values.shape[-1] ** 0.5)
    if n * n != values.shape[-1]:
        raise ValueError(f"values: got {values.shape[-1]} places, wants n · n of them")
    for name, (low, high) in {"xlim": xlim, "ylim": ylim, "v": v}.items():
        if not low < high:
            raise ValueError(f"{name}: got {low} and {high}, wants the smaller first")
    share = np.clip((values - v[0]) / (v[1] - v[0]), 0, 1)
    data = {"title": title, "xlim": list(xlim), "ylim": list(ylim), "n": n}
    data |= {"xlabel": xlabel, "ylabel": ylabel, "label": label, "v": list(v)}
    data |= {"ramp": "diverging" if signed else "sequential", "notes": [*notes]}
    data["frames"] = np.rint(np.atleast_2d(share) * FINE).astype(int).tolist()
    for key, given in {"points": points, "paths": paths}.items():
        found = {
            k: finite(f"{key}[{k!r}]", x, (None, 2)) for k, x in (given or {}).items()
        }
        data[key] = [{"name": k, "xy": x.round(3).tolist()} for k, x in found.items()]
    return data


@dataclass(frozen=True)
class Planes:
    """Maps that a reader plays, pauses and steps through; see `planes`."""

    maps: tuple[dict, ...]
    labels: tuple[str, ...]
    alt: str

    @property
    def fps(self) -> float:
        """Frames per second: about six seconds in all, never above eight a second."""
        return min(8, max(1.5, len(self.labels) / 6))

    def draw(self, frame: int) -> Figure:
        """The maps at `frame`, drawn by matplotlib."""
        figure, axes = self._canvas
        self._fill(axes, frame)
        figure.suptitle(self.labels[frame], size="medium")
        return figure

    def animation(self) -> Animation:
        """The same frames as a GIF."""
        hold = round(2 * self.fps)
        return animation(
            self.draw, len(self.labels), fps=self.fps, hold=hold, alt=self.alt
        )

    @cached_property  # laying a figure out takes longer than drawing it
    def _canvas(self) -> tuple[Figure, list[Axes]]:
        rows = -(-len(self.maps) // 2)
        size = 7.0, 0.4 + 3.3 * rows
        columns = min(2, len(self.maps))
        figure, axes = plt.subplots(
            rows, columns, figsize=size, layout="constrained", squeeze=False
        )
        plt.close(figure)  # or a notebook shows it too
        axes = [*axes.flat][: len(self.maps)]
        self._fill(axes, len(self.labels) - 1)
        for label in dict.fromkeys(data["label"] for data in self.maps):
            pairs = zip(self.maps, axes, strict=True)
            alike = [ax for data, ax in pairs if data["label"] == label]
            figure.colorbar(alike[0].images[0], ax=alike, label=label, shrink=0.8)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=5)
        figure.suptitle(self.labels[-1], size="medium")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure, axes

    def _fill(self, axes: list[Axes], frame: int) -> None:
        for ax, data in zip(axes, self.maps, strict=True):
            ax.clear()
            _draw(ax, data, frame)

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {
            "name": "Maps",
            "alt": self.alt,
            "labels": self.labels,
            "fps": round(self.fps, 2),
            "colours": CATEGORIES,
            "fine": FINE,
            "ramps": {
                kind: [to_hex(colour) for colour in _ramp(kind).colors]
                for kind in sorted({data["ramp"] for data in self.maps})
            },
            "panels": self.maps,
        }
        text = f"maps: {len(self.labels)} frames; {self.alt}"
        still = png(self.draw(len(self.labels) - 1))
        return {
            "text/html": Element("plane", data, still)._repr_html_(),
            "text/plain": text,
        }


def planes(maps: Sequence[dict], labels: Sequence[str], *, alt: str) -> Planes:
    """A player for maps made by `plane`, two side by side, one label a frame.

    It starts on its last frame, which therefore makes the point alone. `alt` says what
    is shown and what to see in it. ValueError where frames and labels differ in number.
    """
    maps, labels = tuple(maps), tuple(str(label) for label in labels)
    if not maps or not labels or not alt.strip():
        raise ValueError("maps, labels and alt must not be empty")
    for data in maps:
        counts = {len(data["frames"])} - {1}
        counts |= {len(path["xy"]) for path in data["paths"]}
        counts |= {len(data["notes"])} - {0}
        if counts - {len(labels)}:
            raise ValueError(
                f"labels has {len(labels)} entries, map {data['title']!r} has frames, "
                f"paths or notes of {sorted(counts)}"
            )
    return Planes(maps, labels, alt)


def _draw(ax: Axes, data: dict, frame: int) -> None:
    n, values = data["n"], data["frames"][frame % len(data["frames"])]
    values = np.reshape(values, (n, n)) / FINE * (data["v"][1] - data["v"][0])
    look = {"vmin": data["v"][0], "vmax": data["v"][1], "cmap": _ramp(data["ramp"])}
    extent = *data["xlim"], *data["ylim"]
    look |= {"interpolation": "bilinear", "aspect": "auto", "extent": extent}
    ax.imshow(values + data["v"][0], origin="lower", **look)
    for i, group in enumerate(data["points"]):
        mark = {"marker": MARKS[i], "ms": 4, "mec": "white", "mew": 0.6, "ls": ""}
        ax.plot(
            *np.transpose(group["xy"]), color=CATEGORIES[i], label=group["name"], **mark
        )
    halo = [patheffects.Stroke(linewidth=3.5, foreground="white"), patheffects.Normal()]
    for i, path in enumerate(data["paths"]):
        way = np.transpose(path["xy"][: frame + 1])
        style = {"color": CATEGORIES[i], "ls": STYLES[i], "path_effects": halo}
        ax.plot(*way, label=path["name"], lw=1.8, **style)
        mark = {"marker": MARKS[i], "ms": 7, "mec": "white", "mew": 1}
        ax.plot(*way[:, -1:], color=CATEGORIES[i], clip_on=False, zorder=5, **mark)
    note = f"\n{data['notes'][frame]}" if data["notes"] else ""
    ax.set_title(data["title"] + note, size="small")
    ax.set(xlabel=data["xlabel"], ylabel=data["ylabel"])
    ax.set(xlim=data["xlim"], ylim=data["ylim"])
    ax.locator_params(nbins=5)
    ax.grid(False)


def _ramp(kind: str) -> ListedColormap:
    steps = np.linspace(0, 1, LEVELS)
    return ListedColormap(
        colormaps[DIVERGING if kind == "diverging" else SEQUENTIAL](steps)
    )
