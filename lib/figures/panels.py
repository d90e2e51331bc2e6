"""The panels of a replay: numbers checked, rounded and given round ticks.

A panel is the one source of both drawings, the still and GIF (replay.py) and the player
(replay.js). Nothing here draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import ticker


@dataclass(frozen=True)
class Panel:
    """One panel of a replay: the numbers that both drawings use, rounded already.

    `frames` is None for a panel that any number of frames fits.
    """

    data: dict
    frames: int | None


def bars(
    title: str,
    edges,
    heights,
    *,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float] | None = None,
    target=None,
) -> Panel:
    """A histogram that moves: `edges` (bins + 1,), `heights` (frames, bins).

    `target` (bins,) is drawn as an outline. Axes stay fixed over the frames.
    """
    edges = finite("edges", edges, (None,))
    heights = finite("heights", heights, (None, len(edges) - 1))
    if (np.diff(edges) <= 0).any():
        raise ValueError("edges must increase")
    data = {"kind": "bars", "title": title, "edges": _rounded(edges)}
    top = heights.max()
    if target is not None:
        target = finite("target", target, (len(edges) - 1,))
        data["target"] = _rounded(target)
        top = max(top, target.max())
    data["frames"] = _rounded(heights)
    low, high = ylim or (min(0, heights.min()), 1.05 * top or 1)
    data |= _axes((edges[0], edges[-1]), (low, high), xlabel, ylabel)
    return Panel(data, len(heights))


def lines(
    title: str,
    x,
    ys: Mapping[str, object],
    *,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float] | None = None,
    yscale: str = "linear",
    marker=True,
    trail: bool = False,
) -> Panel:
    """Curves over `x` (n,): each of `ys` is fixed (n,) or changes (frames, n).

    Where all curves are fixed, a marker moves along them: with `marker=True` to x[frame]
    (then n is the number of frames), or to the x that `marker` (frames,) gives. With
    `trail` the curves are drawn as it goes, up to the marker.
    `yscale` is "linear" or "log"; on a log scale every y must be above zero.
    """
    x = finite("x", x, (None,))
    if not ys:
        raise ValueError("ys must hold at least one curve")
    if len(x) > 1 and (np.diff(x) <= 0).any():
        raise ValueError("x must increase")
    curves = {
        name: finite(
            f"ys[{name!r}]", y, (None, len(x)) if np.ndim(y) == 2 else (len(x),)
        )
        for name, y in ys.items()
    }
    if yscale not in ("linear", "log"):
        raise ValueError(f"yscale must be 'linear' or 'log', got {yscale!r}")
    if log := yscale == "log":
        curves = {n: _log10(f"ys[{n!r}]", y) for n, y in curves.items()}
        ylim = ylim and tuple(_log10("ylim", np.asarray(ylim, float)))
    counts = {len(y) for y in curves.values() if y.ndim == 2}
    if len(counts) > 1:
        raise ValueError(f"ys must have one number of frames, got {sorted(counts)}")
    frames = counts.pop() if counts else None
    data = {"kind": "lines", "title": title, "x": _rounded(x)}
    data["series"] = [{"name": n, "y": _rounded(y)} for n, y in curves.items()]
    if frames is None and marker is not False:
        at = x if marker is True else finite("marker", marker, (None,))
        if at.min() < x[0] or at.max() > x[-1]:
            raise ValueError(f"marker must lie within x, {x[0]:g} to {x[-1]:g}")
        frames = len(at)
        marks = [np.interp(at, x, y) for y in curves.values()]
        data["at"] = _rounded(at[:, None])
        data["marks"] = _rounded(np.stack(marks, axis=1))  # (frames, curves)
        data["trail"] = trail
    elif trail:
        raise ValueError("trail needs fixed curves and their marker")
    low = min(y.min() for y in curves.values())
    high = max(y.max() for y in curves.values())
    room = 0.05 * (high - low) or 0.5
    ylim = ylim or (low - room, high + room)
    data |= _axes((x[0], x[-1]), ylim, xlabel, ylabel, log)
    return Panel(data, frames)


def matrix(
    title: str,
    values,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    vmin: float | None = None,
    vmax: float | None = None,
    signed: bool = False,
    label: str = "value",
) -> Panel:
    """A heat map that moves: `values` (frames, rows, columns), one colour scale for all.

    `signed` takes a diverging map centred on zero; `label` says what the colours are.
    """
    values = finite("values", values, (None, len(rows), len(columns)))
    if signed:
        vmax = float(np.abs(values).max()) if vmax is None else vmax
        vmin = -vmax
    vmin = float(values.min()) if vmin is None else vmin
    vmax = float(values.max()) if vmax is None else vmax
    if not vmin < vmax:
        raise ValueError(f"vmin must be below vmax, got {vmin} and {vmax}")
    data = {
        "kind": "matrix",
        "title": title,
        "rows": [str(row) for row in rows],
        "columns": [str(column) for column in columns],
        "frames": _rounded(values.reshape(len(values), -1)),
        "ramp": "diverging" if signed else "sequential",
        "v": _rounded(np.array([vmin, vmax])),
        "vticks": _ticks(vmin, vmax),
        "label": label,
        "xlabel": xlabel,
        "ylabel": ylabel,
    }
    return Panel(data, len(values))


def dials(
    title: str, fixed, moving, names: Sequence[str], *, arrows: tuple[str, str]
) -> Panel:
    """Circles side by side, each with a fixed arrow and one that turns over the frames.

    `fixed` (n, 2) and `moving` (frames, n, 2) are the tips; a circle has the radius of
    the longest arrow. `names` stand below the circles, `arrows` names the moving and the
    fixed one. The bar from the centre is the moving arrow's part along the fixed one,
    green where they agree, pink where they do not.
    """
    moving = finite("moving", moving, (None, len(names), 2))
    fixed = finite("fixed", fixed, (len(names), 2))
    lengths = np.hypot(*np.moveaxis(fixed, -1, 0))
    if (lengths == 0).any():
        raise ValueError("fixed must hold arrows, got one of length 0")
    radius = max(np.hypot(*np.moveaxis(moving, -1, 0)).max(), lengths.max())
    data = {
        "kind": "dials",
        "title": title,
        "names": [str(name) for name in names],
        "arrows": [str(name) for name in arrows],
        "fixed": _rounded(fixed / radius),
        "frames": _rounded((moving / radius).reshape(len(moving), -1)),
        "xlabel": "",
        "ylabel": "",
        "yticks": [],
    }
    return Panel(data, len(moving))


def texts(title: str, frames: Sequence[str]) -> Panel:
    """A text that changes: one a frame, such as what a model writes as it learns.

    Raises: ValueError for no frames, or one that is no text.
    """
    frames = list(frames)
    if not frames or not all(isinstance(text, str) for text in frames):
        raise ValueError("frames must hold one text for each frame")
    data = {"kind": "texts", "title": title, "frames": frames}
    return Panel(data | {"xlabel": "", "ylabel": "", "yticks": []}, len(frames))


def _axes(xlim, ylim, xlabel: str, ylabel: str, log: bool = False) -> dict:
    xlim, ylim = _rounded(np.array(xlim)), _rounded(np.array(ylim))
    if not ylim[0] < ylim[1]:
        raise ValueError(f"ylim must increase, got {ylim[0]} and {ylim[1]}")
    if xlim[0] == xlim[1]:  # a single point
        xlim = [xlim[0] - 0.5, xlim[1] + 0.5]
    return {
        "xlim": xlim,
        "ylim": ylim,
        "xticks": _ticks(*xlim),
        "yticks": _log_ticks(*ylim) if log else _ticks(*ylim),
        "xlabel": xlabel,
        "ylabel": ylabel,
    }


def _ticks(low: float, high: float) -> list:
    """Round values within the limits, each with its text."""
    values = ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    room = 1e-9 * (high - low)
    kept = [v for v in values if low - room <= v <= high + room]
    return [[_plain(float(f"{v:.4g}")), _text(v)] for v in kept]


def _log_ticks(low: float, high: float) -> list:
    """Powers of ten between the exponents; over less than two decades 1, 2 and 5 too."""
    step = max(1, round((high - low) / 5))
    steps = [1] if high - low >= 2 else [1, 2, 5]
    decades = np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step
    values = np.outer(10.0**decades, steps).ravel()
    kept = [v for v in values if low <= np.log10(v) <= high]
    return [[_plain(round(float(np.log10(v)), 3)), _text(v)] for v in kept]


def _text(value: float) -> str:
    """A tick's label: 0.25, −3, 20,000, 2×10⁻⁵."""
    text = f"{float(f'{value:.4g}') + 0.0:,.6g}"
    if "e" in text:
        digits, power = text.split("e")
        power = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"10{power}" if digits == "1" else f"{digits}×10{power}"
    return text.replace("-", "−")


def _log10(name: str, values: np.ndarray) -> np.ndarray:
    if (values <= 0).any():
        raise ValueError(
            f"{name} must be above zero on a log scale, got {values.min():g}"
        )
    return np.log10(values)


def _rounded(values: np.ndarray) -> list:
    """Nested lists of numbers, four significant digits of the largest."""
    largest = np.abs(values).max(initial=0)
    digits = 3 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    return _plain(np.round(values.astype(float), digits).tolist())


def _plain(value):
    """Whole numbers as int: shorter in JSON."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def finite(name: str, values, shape: tuple) -> np.ndarray:
    """`values` as finite floats of `shape`, where None is any length of at least one."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    array = np.asarray(values, dtype=float)
    fits = array.ndim == len(shape) and all(
        got == want or (want is None and got > 0)
        for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array
