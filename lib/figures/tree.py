"""A beam search that grows, step by step, as a tree of words."""

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from lib.figures.element import Element
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES

COLOURS = CATEGORIES[:2]
FPS = 0.83  # frames a second: words want time to be read


def tree(
    steps: Sequence[Sequence[tuple[tuple[str, ...], float, str]]],
    best: tuple[str, ...],
    *,
    alt: str,
    start: str = "start",
    wide: int = 128,
) -> Element:
    """A beam search as it grows: two frames a step, what is weighed and what is kept.

    `steps` holds for each step its candidates: the words so far, their score (drawn
    with two digits), and their fate, "kept", "dropped" or "ended"; `best` are the words
    of the result, marked in the last frame. `wide` is the width of a word in pixels.
    """
    labels, nodes = _grown(steps, best, start)
    data = {"name": "Beam search", "alt": alt, "colours": COLOURS, "fps": FPS}
    data |= {"labels": labels, "nodes": nodes, "wide": wide}
    lanes, depth = _size(nodes)
    figure, ax = plt.subplots(figsize=(depth * wide / 90, 0.3 * lanes + 0.6))
    _draw_tree(ax, nodes, labels[-1])
    return Element("tree", data, png(figure))


def still(
    ax: Axes,
    steps: Sequence[Sequence[tuple[tuple[str, ...], float, str]]],
    best: tuple[str, ...],
    title: str,
    *,
    start: str = "start",
) -> None:
    """The last frame of `tree`, to stand beside others in one figure."""
    _draw_tree(ax, _grown(steps, best, start)[1], title)


def _grown(steps, best: tuple[str, ...], start: str) -> tuple[list[str], list[dict]]:
    """The label of each frame, and each node with its state in each frame."""
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
    return labels, nodes


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


def _size(nodes: list[dict]) -> tuple[float, int]:
    return max(n["lane"] for n in nodes) + 1, max(n["depth"] for n in nodes) + 1


def _draw_tree(ax: Axes, nodes: list[dict], title: str) -> None:
    lanes, depth = _size(nodes)
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
