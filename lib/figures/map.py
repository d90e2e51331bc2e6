"""Points with names: a map of words that can be searched, and clouds from layer to layer.

Where the points stand is computed by the page; map.js draws them. A name is text, never
markup.
"""

import base64
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from lib.checks import array
from lib.figures.element import Element
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES, letters

WIDE, HIGH = 1500, 1000  # the frame of a still, and of a map, which zooms
SMALL = 255, 170  # that of clouds: one byte for a number, as there are many frames
FPS = 0.8  # frames a second
MARKERS = ["o", "s", "^", "D"]


def word_map(
    places: np.ndarray, names: Sequence[str], near: np.ndarray, *, alt: str
) -> Element:
    """Words (N,) at `places` (N, 2), to search by name; at most 2,000 of them.

    `near` (N, K) are the rows of each word's neighbours, which are marked when it is
    chosen. The earlier a word, the sooner its name is written where there is room.

    Raises:
        ValueError: another number of places or neighbours than of names, too many
            words, or a neighbour that is no row.
    """
    near = array(near)
    if not 0 < len(names) <= 2000:
        raise ValueError(f"names: got {len(names)} words, wants 1 to 2,000")
    if near.ndim != 2 or len(near) != len(names):
        raise ValueError(f"near: got shape {near.shape}, wants ({len(names)}, K)")
    if near.size and not 0 <= near.min() <= near.max() < len(names):
        raise ValueError(f"near: wants rows from 0 to {len(names) - 1}")
    frame = _framed("places", places, len(names))
    found = {"title": "words", "names": [*names], "near": near.tolist()}
    found["frames"] = [{"u16": _packed(frame, "<u2")}]
    figure, ax = plt.subplots(figsize=(7, 4.7), layout="constrained")
    ax.scatter(*frame.T, s=3, color=CATEGORIES[5], alpha=0.5)
    _write(ax, frame, names)
    hint = "Search a word, or choose a point: its nearest words are marked."
    return _element(
        "A map of words", [found], (WIDE, HIGH), ["words"], hint, alt, figure
    )


def clouds(
    words: dict[str, tuple[Sequence[np.ndarray], Sequence[int], Sequence[str]]],
    groups: dict[str, Sequence[str]],
    labels: Sequence[str],
    *,
    alt: str,
) -> Element:
    """One cloud of points for each group, in frames that a slider walks through.

    Args:
        words: title -> (frames, kinds, names): the places (N, 2) in each frame, the
            group of each point, and what the point is called.
        groups: title -> the names of its groups, at most four.
        labels: one for each frame, the same for all titles.

    Each frame is drawn to its own scale. The still has the first title's first frame
    and its last.

    Raises:
        ValueError: sizes that do not fit, or a kind without a group.
    """
    found = []
    for title, (frames, kinds, names) in words.items():
        if len(frames) != len(labels) or len(kinds) != len(names):
            got = f"{len(frames)} frames, {len(kinds)} kinds"
            wants = f"{len(labels)} frames, {len(names)} kinds"
            raise ValueError(f"{title}: got {got}, wants {wants}")
        if not {*kinds} <= {*range(min(4, len(groups[title])))}:
            raise ValueError(f"{title}: kinds go from 0 to the last of its groups")
        small = [_framed(title, frame, len(names), SMALL) for frame in frames]
        one = {"title": title, "names": [*names], "kinds": [*kinds]}
        one["frames"] = [{"u8": _packed(frame, "u1")} for frame in small]
        found.append(one | {"groups": [*groups[title]]})
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2), layout="constrained")
    title, (frames, kinds, names) = next(iter(words.items()))
    for ax, number in zip(axes, (0, -1), strict=True):
        xy = _framed(title, frames[number], len(names))
        for kind, group in enumerate(groups[title]):
            look = {"marker": MARKERS[kind], "color": CATEGORIES[kind], "label": group}
            ax.scatter(*xy[np.array(kinds) == kind].T, s=26, **look)
        ax.set(title=f"{title}: {labels[number]}")
        _bare(ax)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    hint = "Choose a point, or move through them with the arrow keys, to read it."
    return _element("Clouds of a word", found, SMALL, [*labels], hint, alt, figure)


def _element(name, sets, size, labels, hint, alt, figure) -> Element:
    data = {"name": name, "alt": alt, "colours": CATEGORIES, "fps": FPS}
    data |= {"labels": labels, "hint": hint, "size": [*size], "sets": sets}
    return Element("map", data, png(figure))


def _packed(frame: np.ndarray, dtype: str) -> str:
    """x, y, x, y, … of a frame (N, 2), in bytes, as base64."""
    return base64.b64encode(frame.astype(dtype).tobytes()).decode()


def _framed(name: str, places, count: int, size=(WIDE, HIGH)) -> np.ndarray:
    """Places (N, 2) as whole numbers in a frame of this size, both axes to one scale."""
    places = array(places).astype(np.float64)
    if places.shape != (count, 2):
        raise ValueError(f"{name}: got shape {places.shape}, wants ({count}, 2)")
    if not np.isfinite(places).all():
        raise ValueError(f"{name}: a place is not finite")
    low, high = places.min(0), places.max(0)
    scale = max((high - low) / size)
    moved = (places - (low + high) / 2) / (scale if scale > 1e-9 else 1.0)
    moved = moved * [1, -1] + np.divide(size, 2)  # upwards is up
    return moved.round().astype(int)


def _bare(ax: Axes) -> None:
    ax.set(xlim=(-60, WIDE + 60), ylim=(HIGH + 60, -60), xticks=[], yticks=[])


def _write(ax: Axes, xy: np.ndarray, names: Sequence[str]) -> None:
    """The names for which there is room, the earlier first."""
    taken = []
    for (x, y), name in zip(xy, names, strict=True):
        box = x + 10, y - 16, x + 14 + 15 * letters(name), y + 16
        free = all(
            box[2] < a or c < box[0] or box[3] < b or d < box[1] for a, b, c, d in taken
        )
        if free and box[2] < WIDE + 60:
            taken.append(box)
            ax.text(x + 12, y, name, va="center", size=7)
    _bare(ax)
