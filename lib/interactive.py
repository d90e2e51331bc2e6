"""Figures that a reader works: a distribution under sliders, a beam tree that grows.

The numbers are made here and drawn twice: for the still, and by interactive.js, which
filters as `lib.decoding` does. Replays of panels are in `figures`.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lib.figures import CATEGORIES

COARSE = 16  # the logits of unnamed tokens are rounded to 1/16
COLOURS = CATEGORIES[:2]


@dataclass(frozen=True)
class Interactive:
    """What a notebook displays: the still, and the script that takes its place."""

    data: dict
    still: bytes

    def _repr_mimebundle_(self, include=None, exclude=None):
        text = f"{self.data['name']}: {self.data['alt']}"
        return {"text/html": self._repr_html_(), "text/plain": text}

    def _repr_html_(self) -> str:
        text = json.dumps(
            self.data, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        text = text.replace("<", "\\u003c")  # so that no token ends the script
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        return (
            f'<div data-interactive="{key}" data-lm-suppress-shortcuts="true">\n'
            f'<img src="data:image/png;base64,{base64.b64encode(self.still).decode()}" '
            f'alt="{html.escape(self.data["alt"])}" '
            'style="max-width: 100%; background: #fff">\n'
            f'<script>\n{_script()}("{key}", {text});\n</script>\n</div>'
        )


@cache
def _script() -> str:
    """interactive.js without its indentation and comments."""
    source = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    found = (line.split(" // ")[0].strip() for line in source.splitlines())
    return "\n".join(line for line in found if line and not line.startswith("//"))


# --- The distribution ------------------------------------------------------------


def rounded(logits: Tensor, named: int = 300) -> Tensor:
    """The logits (V,) that the sliders work on: what a page can carry.

    The `named` likeliest are rounded to 0.0001, all others to 1/16, so that they are a
    list of values with the number of tokens at each. float64, the largest at 0.
    """
    logits = logits.double() - logits.max()
    order = logits.argsort(descending=True, stable=True)
    found = (logits * COARSE).round() / COARSE
    found[order[:named]] = logits[order[:named]].round(decimals=4)
    return found


def distribution(
    logits: Tensor, names: Sequence[str], *, alt: str, named: int = 300, shown: int = 16
) -> Interactive:
    """Next-token logits (V,) under sliders for temperature, top-k, top-p and min-p.

    `names` (V,) are the tokens' texts; the `shown` likeliest have a bar. The browser
    works on `rounded(logits, named)`, and finds what `lib.decoding.filtered` finds there.
    """
    order = logits.double().argsort(descending=True, stable=True)
    logits = rounded(logits, named)
    values, counts = logits[order[named:]].unique(return_counts=True)
    rest = zip(values.tolist(), counts.tolist(), strict=True)
    data = {
        "kind": "distribution",
        "name": "The next token",
        "alt": alt,
        "colours": COLOURS,
        "size": len(logits),
        "shown": shown,
        "tokens": [names[i] for i in order[:shown].tolist()],
        "logits": logits[order[:named]].tolist(),
        "rest": [list(pair) for pair in rest],
    }
    shares = logits.softmax(-1)[order[:shown]].tolist()
    figure, ax = plt.subplots(figsize=(7, 0.28 * shown + 0.8))
    ax.barh([*data["tokens"], "all others"], [*shares, 1 - sum(shares)])
    ax.patches[-1].set_color(COLOURS[1])
    ax.invert_yaxis()
    ax.set(xlabel="probability at temperature 1", xlim=(0, 1))
    return Interactive(data, _png(figure))


# --- The tree --------------------------------------------------------------------


def tree(
    steps: Sequence[Sequence[tuple[tuple[str, ...], float, str]]],
    best: tuple[str, ...],
    *,
    alt: str,
    start: str = "start",
    wide: int = 128,
) -> Interactive:
    """A beam search as it grows: two frames a step, what is weighed and what is kept.

    `steps` holds for each step its candidates: the words so far, their score (drawn
    with two digits), and their fate, "kept", "dropped" or "ended"; `best` are the words
    of the result, marked in the last frame. `wide` is the width of a word in pixels.
    """
    fates = {"kept": "k", "dropped": "d", "ended": "e"}
    labels = ["the start"]
    born, fate, value = {(): 0}, {(): "k"}, {(): ""}
    for number, candidates in enumerate(steps, 1):
        labels.append(f"step {number}: {len(candidates)} candidates")
        went = {kind: 0 for kind in fates}
        for words, score, kind in candidates:
            born[words], fate[words] = len(labels) - 1, fates[kind]
            value[words] = f"{score:.2f}".replace("-", "−")
            went[kind] += 1
        ended = f", {went['ended']} ended" if went["ended"] else ""
        labels.append(f"step {number}: {went['kept']} kept{ended}")
    labels.append(f"the result: {' '.join(best)}")
    last, order = len(labels) - 1, _leaves_first(born)
    index = {words: i for i, words in enumerate(order)}
    nodes = []
    for words, lane in order.items():
        states = ["."] * born[words] + ["c"] * (words != ())
        states += [fate[words]] * (last + 1 - len(states))
        if words == best[: len(words)]:
            states[last] = "b"
        node = {"text": words[-1] if words else start, "value": value[words]}
        node |= {"depth": len(words), "lane": lane, "states": "".join(states)}
        nodes.append(node | {"parent": index[words[:-1]] if words else -1})
    data = {"kind": "tree", "name": "Beam search", "alt": alt, "colours": COLOURS}
    data |= {"labels": labels, "nodes": nodes, "wide": wide}
    return Interactive(data, _png(_draw_tree(nodes, wide, labels[-1])))


def _leaves_first(born: dict) -> dict[tuple, float]:
    """Each node's lane: leaves below each other, a parent amid its children."""
    lanes, free = {}, 0
    children = {words: [] for words in born}
    for words in born:
        if words:
            children[words[:-1]].append(words)

    def place(words: tuple) -> float:
        nonlocal free
        if not children[words]:
            lanes[words], free = free, free + 1
        else:
            found = [place(child) for child in children[words]]
            lanes[words] = (found[0] + found[-1]) / 2
        return lanes[words]

    place(())
    return {words: lanes[words] for words in born}


def _draw_tree(nodes: list[dict], wide: int, title: str) -> Figure:
    lanes, depth = max(n["lane"] for n in nodes) + 1, max(n["depth"] for n in nodes) + 1
    figure, ax = plt.subplots(figsize=(depth * wide / 90, 0.3 * lanes + 0.6))
    for node in nodes:
        look = {"k": (1, 1.5, "-"), "e": (1, 1.5, "-"), "b": (1, 3, "-")}
        ink, width, line = look.get(node["states"][-1], (0.6, 1, ":"))
        best = node["states"][-1] == "b"
        if node["parent"] >= 0:
            parent = nodes[node["parent"]]
            colour = COLOURS[1] if best else COLOURS[0] if ink == 1 else "black"
            x, y = [node["depth"] - 0.22, node["depth"] - 0.04], parent["lane"]
            style = {"color": colour, "lw": width, "ls": line, "alpha": ink}
            ax.plot(x, [y, node["lane"]], **style)
        text = {
            "va": "center",
            "alpha": ink,
            "weight": "bold" if ink == 1 else "normal",
        }
        ax.text(node["depth"], node["lane"], node["text"], **text)
        at = node["depth"] + 0.75
        ax.text(at, node["lane"], node["value"], ha="right", va="center", alpha=ink)
    ax.set(xlim=(-0.05, depth), ylim=(lanes - 0.5, -0.6), title=title)
    ax.axis("off")
    return figure


def _png(figure: Figure) -> bytes:
    """The figure in few colours; closes it, or the notebook shows it too."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()
