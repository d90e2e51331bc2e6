"""Wiring diagrams: boxes in rows, arrows with shapes on them, residual roads, groups.

What a box does is the chapter's to say. Figures of numbers live in the files beside this.
"""

import base64
import html
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.text import Text
from PIL import Image

from lib.figures.theme import CATEGORIES

LINE, GAP, PAD = 0.17, 0.42, 0.13  # inches: of text, between rows, around a group
TEXT, SMALL = 9, 8  # points, in boxes and beside arrows
DPI, SHOWN = 220, 110  # drawn twice as large as it is shown, for fine screens and print
Wires = Mapping[tuple[str, str], str]  # (from, to) -> the shape that travels, or ""
Box = tuple[float, float, float, float]  # centre x, y; half the width, half the height


@dataclass(frozen=True)
class Diagram:
    """A picture that a notebook displays with its alt text; see `diagram`."""

    png: bytes
    alt: str
    width: int  # pixels on the page

    def _repr_mimebundle_(self, include=None, exclude=None):
        # As HTML the alt text is there for everyone: Jupyter, Colab, GitHub, the site.
        # A narrow screen shrinks the picture by a quarter at most, and then scrolls.
        least = f"max-width: max(100%, {self.width * 3 // 4}px); min-width: 0"
        style = f"{least}; height: auto; background: #fff"
        data, alt = base64.b64encode(self.png).decode(), html.escape(self.alt)
        picture = f'<img src="data:image/png;base64,{data}" alt="{alt}" '
        picture += f'width="{self.width}" style="{style}">'
        return {"text/html": picture, "text/plain": f"diagram: {self.alt}"}


def diagram(
    rows: Sequence[Sequence[str | None]],
    arrows: Wires,
    *,
    alt: str,
    roads: Wires | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    labels: Mapping[str, str] | None = None,
    learned: Sequence[str] = (),
) -> Diagram:
    """Draw how parts are wired, from top to bottom. A phone shows three boxes abreast.

    Args:
        rows: the names of the boxes, row by row. Each row is centred; None keeps a place.
        arrows: (from, to) -> the shape that travels, or "". They lead down or across.
        roads: the same for ways around, such as a residual; they run right of all boxes.
        groups: title -> the names of the boxes in its frame.
        labels: name -> text, where it is not the name. One character stands in a circle.
        learned: the names of boxes that have weights; they are tinted.
        alt: what the diagram shows and what to see in it.

    ValueError if alt is empty, a name stands twice or in no row, an arrow leads up.
    """
    roads, groups, labels = roads or {}, groups or {}, labels or {}
    row_of = {name: i for i, row in enumerate(rows) for name in row if name is not None}
    if not alt.strip():
        raise ValueError("alt must say what the diagram shows and what to see in it")
    if twice := [name for name in row_of if sum(row.count(name) for row in rows) > 1]:
        raise ValueError(f"rows: {twice[0]!r} stands twice; give labels to two names")
    used = {"arrows": sum(arrows, ()), "roads": sum(roads, ()), "labels": labels}
    used |= {"groups": [x for group in groups.values() for x in group]}
    for argument, names in (used | {"learned": learned}).items():
        if odd := [name for name in names if name not in row_of]:
            raise ValueError(f"{argument}: got {odd[0]!r}, wants one of {[*row_of]}")
    if up := [pair for pair in arrows if row_of[pair[0]] > row_of[pair[1]]]:
        raise ValueError(f"arrows: {up[0]} leads up; make it one of the roads")

    figure = FigureCanvasAgg(Figure(figsize=(1, 1), dpi=DPI)).figure
    ax = figure.add_axes((0, 0, 1, 1), autoscale_on=False)  # in inches
    texts = {name: labels.get(name, name) for name in row_of}
    boxes = _place(ax, rows, texts, {**roads, **arrows})
    inner = {a for a, _ in arrows} & {b for _, b in arrows}
    for name, (x, y, w, h) in boxes.items():
        fill = "#cfe3f2" if name in learned else "white" if name in inner else "0.92"
        look = {"fc": fill, "ec": "0.25", "lw": 1 + (name in learned), "zorder": 3}
        shape = "circle" if len(texts[name]) == 1 else "round,rounding_size=0.07"
        frame = (x - w, y - h), 2 * w, 2 * h, f"{shape},pad=0"
        ax.add_patch(FancyBboxPatch(*frame, **look))
        ax.text(x, y, texts[name], size=TEXT, ha="center", va="center", zorder=4)
    arriving = Counter(b for _, b in arrows)
    for (a, b), text in arrows.items():
        _draw_arrow(ax, boxes[a], boxes[b], text, arriving[b] > 1)
    reach = _draw_roads(ax, boxes, roads)
    for title, members in groups.items():
        lanes = [x for (_, b), x in reach.items() if b in members]
        _draw_group(ax, title, [boxes[name] for name in members], lanes)
    return _picture(ax, alt)


def _place(ax: Axes, rows, texts: Mapping[str, str], wires: Wires) -> dict[str, Box]:
    """Where each box stands. All have one width; their texts and arrows have room."""
    every = {*texts.values(), *wires.values()}
    drawn = {text: Text(text=text, size=TEXT, figure=ax.figure) for text in every}
    widths = {text: drawn[text].get_window_extent().width / DPI for text in every}
    wide = max(widths[text] for text in texts.values()) + 0.2
    pitch = wide + 0.25
    for pair, text in wires.items():
        across = wide if any(set(pair) <= set(row) for row in rows) else 0
        pitch = max(pitch, across + widths[text] * SMALL / TEXT + 0.2)
    boxes, y = {}, 0.0
    for row in rows:
        lines = max([texts[name].count("\n") for name in row if name], default=0) + 1
        half = (lines * LINE + 0.16) / 2
        for i, name in enumerate(row):
            size = (wide / 2, half) if name and len(texts[name]) > 1 else (0.14, 0.14)
            boxes[name] = (i - (len(row) - 1) / 2) * pitch, y - half, *size
        y -= 2 * half + GAP
    return {name: box for name, box in boxes.items() if name is not None}


def _draw_arrow(ax: Axes, start: Box, end: Box, text: str, shared: bool) -> None:
    """Out of the bottom, into the top, with a knee where the two are not in line."""
    (xa, ya, wa, ha), (xb, yb, wb, hb) = start, end
    top, bottom, side = ya - ha, yb + hb, np.sign(round(xb - xa, 6))
    if shared and wb > 0.14:  # what comes from left and right arrives apart
        xb -= side * wb / 2
    knee = bottom + GAP / 2
    points, x, y = [(xa, top), (xb, bottom)], xa, knee
    if ya == yb:
        points = [(xa + side * wa, ya), (end[0] - side * wb, yb)]
        x, y = min(points)[0], ya + 0.09
    elif side:
        points = [(xa, top), (xa, knee), (xb, knee), (xb, bottom)]
        # The shape stands at the end that no other arrow shares.
        x, y = (xa, top - GAP / 4) if shared else (xb, bottom + GAP / 4 + 0.03)
    _line(ax, points)
    _write(ax, x + 0.05, y, text)


def _draw_roads(ax: Axes, boxes: Mapping[str, Box], roads: Wires) -> dict:
    """Each in a free lane right of boxes and words. Returns how far it reaches."""
    reach, taken = {}, []
    edge = 0.15 + max(t.get_window_extent().x1 / DPI for t in (*ax.texts, *ax.patches))
    for (a, b), text in roads.items():
        (xa, ya, _, ha), (xb, yb, wb, _) = boxes[a], boxes[b]
        start = ya - ha - GAP / 4
        low, high = sorted((start, yb))
        beside = [x + 0.25 for x, down, up in taken if low < up and down < high]
        lane = max(beside, default=edge)
        taken.append((lane, low, high))
        ax.plot(xa, start, "o", color=CATEGORIES[1], markersize=4, zorder=2)
        way = [(xa, start), (lane, start), (lane, yb), (xb + wb, yb)]
        _line(ax, way, color=CATEGORIES[1], linewidth=2)
        words = _write(ax, lane + 0.06, (low + high) / 2, text)
        reach[a, b] = max(lane, words.get_window_extent().x1 / DPI)
    return reach


def _draw_group(ax: Axes, title: str, inside: list[Box], lanes: list[float]) -> None:
    left, low = (min(box[i] - box[i + 2] for box in inside) - PAD for i in (0, 1))
    right = max([x + w for x, _, w, _ in inside] + lanes) + PAD
    high = max(y + h for _, y, _, h in inside) + PAD
    look = {"fill": False, "ec": "0.45", "linestyle": "--", "zorder": 0}
    look["boxstyle"] = "round,rounding_size=0.1,pad=0"
    ax.add_patch(FancyBboxPatch((left, low), right - left, high - low, **look))
    # Upright: arrows come in above and leave below.
    _write(ax, left, (low + high) / 2, title, ha="center", rotation=90, color="0.3")


def _line(ax: Axes, points: list[tuple[float, float]], **look) -> None:
    look = {"color": "0.25", "linewidth": 1.2, "mutation_scale": 9, "zorder": 1} | look
    ax.add_patch(FancyArrowPatch(path=Path(points), arrowstyle="-|>", **look))


def _write(ax: Axes, x: float, y: float, text: str, **look) -> Text:
    look = {"ha": "left", "va": "center", "size": SMALL, "zorder": 2} | look
    return ax.text(x, y, text, bbox={"fc": "white", "ec": "none", "pad": 0.8}, **look)


def _picture(ax: Axes, alt: str) -> Diagram:
    drawn = [artist.get_window_extent().extents for artist in (*ax.patches, *ax.texts)]
    left, low = np.min(drawn, 0)[:2] / DPI - 0.08
    right, high = np.max(drawn, 0)[2:] / DPI + 0.08
    ax.figure.set_size_inches(right - left, high - low)
    ax.set(xlim=(left, right), ylim=(low, high))
    ax.set_axis_off()
    ax.figure.canvas.draw()
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3]
    png = io.BytesIO()  # 64 colours, a third of the bytes
    Image.fromarray(pixels).quantize(64).save(png, "PNG", optimize=True)
    return Diagram(png.getvalue(), alt, round((right - left) * SHOWN))
