"""The heads of models, as a reader walks through them: grids of measures, and the lines.

What is shown is computed by the page; heads.js draws it. Token texts are never markup.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from lib.checks import array
from lib.figures.element import Element
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES, SEQUENTIAL

# One character for each of 64 levels of weight, as in base64.
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def head_text(tokens: Sequence[str], maps) -> dict:
    """One text with the maps (L, H, T, T) that every head draws of it, in 64 levels.

    A map without weight above its diagonal travels as its lower triangle alone.

    Raises ValueError for another number of tokens, or weights outside 0 to 1.
    """
    maps, tokens = array(maps).astype(np.float64), [str(token) for token in tokens]
    if maps.ndim != 4 or maps.shape[2:] != (len(tokens),) * 2 or not tokens:
        raise ValueError(
            f"maps: got shape {maps.shape}, wants (L, H, {len(tokens)}, {len(tokens)})"
        )
    if not (maps.min() >= 0 and maps.max() <= 1 + 1e-4):
        raise ValueError("maps: wants weights from 0 to 1")
    T = len(tokens)
    causal = bool((maps[..., ~np.tri(T, dtype=bool)] == 0).all())
    levels = np.rint(maps.clip(max=1) * 63).astype(int)
    flat = levels[..., np.tri(T, dtype=bool)] if causal else levels.reshape(-1, T * T)
    letters = np.array([*LEVELS])[flat.reshape(-1)]
    return {"tokens": tokens, "causal": causal, "maps": "".join(letters)}


def head_grid(
    models: Mapping[str, tuple[Mapping[str, object], Mapping[str, tuple]]],
    scales: Mapping[str, tuple[float, str]],
    *,
    alt: str,
    still: Sequence[str] = (),
) -> Element:
    """Every head of some models in grids, layer by head, with the map of the chosen one.

    Args:
        models: name -> (measures, texts): a measure's name -> its values (L, H), and a
            text's title -> (tokens, maps (L, H, T, T)).
        scales: measure -> (the value at the end of the colour scale, which starts at 0,
            and what the measure is); the reader chooses among these, in this order.
        still: the measures in the still, else the first four.

    Raises:
        ValueError: values or maps of another shape or not finite, an unknown measure.
    """
    found = []
    for name, (measures, texts) in models.items():
        values = {m: _table(f"{name}, {m}", v) for m, v in measures.items()}
        shapes = {v.shape for v in values.values()}
        if len(shapes) != 1 or not values.keys() <= scales.keys():
            raise ValueError(
                f"{name}: got {[*values]} of shapes {sorted(shapes)}, wants one shape "
                f"and names among {[*scales]}"
            )
        [(L, H)] = shapes
        one = {"name": name, "layers": L, "heads": H, "texts": []}
        one["values"] = {m: np.round(v, 3).ravel().tolist() for m, v in values.items()}
        for title, (tokens, maps) in texts.items():
            if np.shape(maps)[:2] != (L, H):
                raise ValueError(
                    f"{name}, {title}: got maps of shape {np.shape(maps)}, wants "
                    f"({L}, {H}, T, T)"
                )
            one["texts"].append({"title": title, **head_text(tokens, maps)})
        found.append(one)
    data = {"name": "Every head", "alt": alt, "view": "grid", "models": found}
    data["scales"] = [
        {"name": name, "high": high, "what": what}
        for name, (high, what) in scales.items()
    ]
    names = still or [*scales][:4]
    figure, axes = plt.subplots(
        len(found),
        len(names),
        figsize=(7.6, 5.6),
        height_ratios=[3 + one["layers"] for one in found],
        squeeze=False,
        layout="constrained",
    )
    for row, one in zip(axes, found, strict=True):
        for ax, name in zip(row, names, strict=True):
            _still(ax, one, name, scales[name][0])
    return Element("heads", data | _look(), png(figure))


def head_lines(
    name: str,
    texts: Mapping[str, tuple],
    start: tuple[int, int, int],
    *,
    alt: str,
) -> Element:
    """A token-to-token view: lines from each query to the keys, one head at a time.

    `texts`: title -> (tokens, maps (L, H, T, T)). `start` is the layer, the head and the
    query at which the view begins. ValueError for one that does not exist.
    """
    found = []
    for title, (tokens, maps) in texts.items():
        L, H, T, _ = np.shape(maps)
        for what, at, end in zip(
            ("layer", "head", "query"), start, (L, H, T), strict=True
        ):
            if not 0 <= at < end:
                raise ValueError(f"{what}: got {at}, {title!r} has 0 to {end - 1}")
        found.append({"title": title, **head_text(tokens, maps)})
    model = {"name": name, "layers": L, "heads": H, "texts": found, "values": {}}
    data = {"name": "From token to token", "alt": alt, "view": "lines"}
    data |= {"models": [model], "scales": [], "start": [*start]}
    tokens, maps = next(iter(texts.values()))
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 0.3 + 0.27 * len(tokens)))
    for ax, query in zip(axes, (None, start[2]), strict=True):
        _lines(ax, tokens, array(maps)[start[0], start[1]], query)
    axes[0].set_title(f"layer {start[0]}, head {start[1]}: all queries")
    axes[1].set_title(f"the query {tokens[start[2]]} alone")
    return Element("heads", data | _look(), png(figure))


def _look() -> dict:
    steps = colormaps[SEQUENTIAL](np.linspace(0, 1, 64))
    return {"ramp": [to_hex(colour) for colour in steps], "colours": CATEGORIES}


def _table(name: str, values) -> np.ndarray:
    values = array(values).astype(np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"{name}: got shape {values.shape}, wants finite (L, H)")
    return values


def _still(ax: Axes, one: dict, name: str, high: float) -> None:
    ax.grid(False)
    L, H = one["layers"], one["heads"]
    ax.set(xticks=range(0, H, 2), yticks=range(0, L, 5), xlabel="head")
    ax.tick_params(labelsize=7)
    if name not in one["values"]:
        ax.set_axis_off()
        return
    values = np.reshape(one["values"][name], (L, H))
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=high, aspect="auto")
    ax.set_title(f"{one['name']}:\n{name}", size=8.5)
    ax.set_ylabel("layer" if ax.get_subplotspec().is_first_col() else "")
    ax.figure.colorbar(image, ax=ax, shrink=0.9).ax.tick_params(labelsize=7)


def _lines(ax: Axes, tokens: Sequence[str], weights: np.ndarray, query) -> None:
    ax.set(xlim=(0, 1), ylim=(len(tokens) - 0.4, -0.6))
    ax.set_axis_off()
    for i, token in enumerate(tokens):
        ink = CATEGORIES[1] if i == query else "black"
        ax.text(0.28, i, token, ha="right", va="center", size=8, color=ink)
        ax.text(0.72, i, token, ha="left", va="center", size=8)
        for j, weight in enumerate(weights[i]):
            if query in (None, i) and weight > 0.02:
                look = {"color": CATEGORIES[0], "alpha": min(1, float(weight))}
                ax.plot([0.3, 0.7], [i, j], lw=0.5 + 3 * weight, ls="-", **look)
