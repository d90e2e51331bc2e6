"""One look for every figure: theme, token heat map, animation, replay player.

What one chapter draws stays in that chapter. The numbers of a replay's panels are made in
panels.py, and drawn here for the still and the GIF, in replay.js for the player.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import matplotlib_fontja
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from lib.panels import Panel, bars, dials, finite, lines, matrix

__all__ = [
    "animation",
    "bars",
    "dials",
    "lines",
    "matrix",
    "replay",
    "theme",
    "token_heatmap",
]

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
# Hues after Okabe and Ito (2008), moved until each has a contrast of 3 to 1 on white and
# on the dark page. They are equally bright, so line styles tell them apart in greyscale.
CATEGORIES = ["#1b7fbd", "#d55e00", "#009e73", "#c46fa6", "#8c6d00", "#7a7a7a"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2))]
LEVELS = 64  # steps of a colour map in the player and in its still
MAX_BYTES = 1_000_000


def theme() -> None:
    """Set the book's look for matplotlib: seaborn's grid, our colours, Japanese text.

    A figure 7 inches wide has 770 pixels. Fonts are the two that matplotlib and
    matplotlib-fontja ship, so that pictures do not depend on the machine.
    """
    sns.set_theme(context="notebook", style="whitegrid", font_scale=0.9)
    matplotlib_fontja.japanize()  # after seaborn, which resets the font
    plt.rcParams.update(
        {
            # DejaVu has the marks of tokenizers (▁) and −; IPAex has the Japanese.
            "font.family": ["DejaVu Sans", "IPAexGothic"],
            "figure.dpi": 110,
            "figure.figsize": (7.0, 3.5),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "svg.hashsalt": "glass-box",
            "axes.prop_cycle": cycler(color=CATEGORIES, linestyle=STYLES),
            "axes.edgecolor": "0.35",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.labelsize": "small",
            "grid.color": "0.9",
            "image.cmap": SEQUENTIAL,
            "legend.fontsize": "small",
            "xtick.labelsize": "small",
            "ytick.labelsize": "small",
        }
    )


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
    _token_axes(ax, rows, columns)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    cell = ax.get_window_extent().width / len(columns)
    if annotate and cell > (3.0 if np.min(values) < 0 else 2.4) * _em(ax):
        for (i, j), value in np.ndenumerate(values):
            ink = "black" if _luminance(image.to_rgba(value)) > 0.18 else "white"
            text = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
            ax.text(j, i, text, ha="center", va="center", color=ink, size="x-small")
    return image


# --- Animation ------------------------------------------------------------------------


@dataclass(frozen=True)
class Animation:
    """A GIF that a notebook displays: it plays three times and rests on its last frame."""

    data: bytes
    frames: int
    seconds: float
    alt: str | None = None

    def _repr_mimebundle_(self, include=None, exclude=None):
        text = f"animation: {self.frames} frames, {self.seconds:.1f} s"
        gif = base64.b64encode(self.data).decode()
        return {"image/gif": gif, "text/plain": text}, (
            {"image/gif": {"alt": self.alt}} if self.alt else {}
        )


def animation(
    draw: Callable[[int], Figure],
    frames: int,
    *,
    fps: float = 8,
    alt: str | None = None,
    hold: int = 12,
) -> Animation:
    """The figures `draw(0)` … `draw(frames - 1)` as an optimised GIF of at most 1 MB.

    Frames share one palette, a thin bar below them marks progress, and the last one is
    held for `hold` frames' time; `fps` is frames per second. All figures must have one
    size. ValueError names the size of a GIF above 1 MB.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    if fps <= 0 or hold < 1:
        raise ValueError(f"fps must be > 0 and hold >= 1, got {fps} and {hold}")
    pictures = [_pixels(draw(i)) for i in range(frames)]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        sizes = sorted(f"{w}×{h}" for h, w, _ in shapes)
        raise ValueError(f"draw must return figures of one size, got {sizes}")
    pictures = [
        _with_progress(picture, (i + 1) / frames) for i, picture in enumerate(pictures)
    ]
    images = _indexed(pictures)
    step = round(1000 / fps)
    out = io.BytesIO()
    images[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=[step] * (frames - 1) + [step * hold],
        loop=2,  # twice more after the first
        optimize=True,
        disposal=1,
    )
    if out.tell() > MAX_BYTES:
        raise ValueError(
            f"the GIF has {out.tell():,} bytes, at most {MAX_BYTES:,} are allowed: "
            f"draw fewer frames than {frames}, or smaller figures"
        )
    return Animation(out.getvalue(), frames, (frames - 1 + hold) * step / 1000, alt)


def _pixels(figure: Figure) -> np.ndarray:
    """The figure's pixels (height, width, 3); closes it, or the notebook shows it too."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _indexed(pictures: Sequence[np.ndarray]) -> list[Image.Image]:
    """The pictures with one palette, in which the commonest colours stay exact.

    Pillow's own choice turns white into a light grey, and differs from frame to frame.
    """
    codes = [picture.astype(np.uint32) @ [1 << 16, 1 << 8, 1] for picture in pictures]
    counts = np.zeros(1 << 24, np.int64)
    for code in codes:
        colours, number = np.unique(code, return_counts=True)
        counts[colours] += number
    seen = np.flatnonzero(counts)
    rgb = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], axis=1)
    palette = rgb[np.argsort(-counts[seen], kind="stable")][:255]
    if len(seen) > 255:
        rest = Image.fromarray(rgb[None].astype(np.uint8)).quantize(127)
        more = np.reshape(rest.getpalette(), (-1, 3))
        palette = np.concatenate([palette[:128], more])
    nearest = np.empty(1 << 24, np.uint8)
    for part in range(0, len(seen), 4096):
        away = rgb[part : part + 4096, None] - palette
        nearest[seen[part : part + 4096]] = np.square(away).sum(-1).argmin(1)
    images = []
    for code in codes:
        images.append(Image.frombytes("P", code.shape[::-1], nearest[code].tobytes()))
        images[-1].putpalette(palette.astype(np.uint8).tobytes())
    return images


def _with_progress(picture: np.ndarray, done: float) -> np.ndarray:
    bar = np.full((5, picture.shape[1], 3), 225, np.uint8)
    bar[:, : round(done * picture.shape[1])] = 90
    return np.concatenate([picture, bar])


# --- Replay ---------------------------------------------------------------------------


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
        text = json.dumps(
            data, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        text = text.replace("<", "\\u003c")  # so that no label ends the script
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        [still] = _indexed([_pixels(self.draw(len(self.labels) - 1))])
        png = io.BytesIO()
        still.save(png, "PNG", optimize=True)
        return (
            f'<div data-replay="{key}" data-lm-suppress-shortcuts="true">\n'
            f'<img src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}" '
            f'alt="{html.escape(self.alt)}" style="max-width: 100%; background: #fff">\n'
            f'<script>\n{_script()}("{key}", {text});\n</script>\n</div>'
        )


@cache
def _script() -> str:
    """replay.js without its indentation and comments."""
    source = Path(__file__).with_name("replay.js").read_text(encoding="utf-8")
    found = (line.split(" // ")[0].strip() for line in source.splitlines())
    return "\n".join(line for line in found if line and not line.startswith("//"))


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
    _token_axes(ax, data["rows"], data["columns"])


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


_DRAW = {
    "bars": _draw_bars,
    "lines": _draw_lines,
    "matrix": _draw_matrix,
    "dials": _draw_dials,
}


def _legend(ax: Axes) -> int:
    """A legend between title and plot, where it hides no curve; returns its rows."""
    names = ax.get_legend_handles_labels()[1]
    if not names:
        return 0
    room = ax.get_window_extent().width / (0.47 * _em(ax))  # in letters
    for rows in range(1, len(names) + 1):
        columns = [names[i : i + rows] for i in range(0, len(names), rows)]
        if sum(max(map(_letters, column)) + 6 for column in columns) <= room:
            break
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
    gaps = {"borderpad": 0.2, "columnspacing": 1.2, "labelspacing": 0.2}
    legend = ax.legend(ncols=len(columns), frameon=False, **place, **gaps)
    legend.set_in_layout(False)  # or a long name squeezes the plot
    return rows


def _em(ax: Axes) -> float:
    """The height of small text in pixels."""
    return 0.83 * plt.rcParams["font.size"] * ax.figure.dpi / 72


def _letters(text: str) -> int:
    """The width of a text, in Latin letters: a Japanese character takes two."""
    return sum(2 if ord(character) > 0x2E80 else 1 for character in text)


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


def _token_axes(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Token tick labels; long or many columns are turned, many labels thinned."""
    rows, columns = [str(row) for row in rows], [str(column) for column in columns]
    box, em = ax.get_window_extent(), _em(ax)
    room, longest = box.width / len(columns), max(map(_letters, columns))
    turned = 0.6 * em * longest > room
    step_x = int(np.ceil(1.1 * em / room)) if turned else 1
    step_y = int(np.ceil(0.9 * em * len(rows) / box.height))  # a letter's own height
    ax.set_xticks(range(0, len(columns), step_x), columns[::step_x])
    ax.set_yticks(range(0, len(rows), step_y), rows[::step_y])
    if turned:
        plt.setp(ax.get_xticklabels(), rotation=90)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _luminance(colour) -> float:
    """Relative luminance of an RGB colour, 0 to 1 (WCAG 2.2)."""
    rgb = np.asarray(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
