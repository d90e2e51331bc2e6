"""What one device holds in training, under sliders.

The numbers are those of `lib.memory.plan`, which budget.js computes once more.
"""

from collections.abc import Sequence

from matplotlib import pyplot as plt

from lib import memory
from lib.figures.element import Element
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES

PARTS = ("weights", "gradients", "optimiser", "activations")
COLOURS = CATEGORIES[:4]
SIZES = (0.1, 0.4, 1, 3, 7, 13, 34, 70)  # billions of parameters
ROOMS = (16, 24, 40, 80, 141, 192)  # GB of a device
RATE, LINK = 400e12, 50e9  # operations a second that are reached; bytes a second sent


def budget(devices: Sequence[int] = (1, 8, 64), *, alt: str) -> Element:
    """Bars of what a device holds, for a 7 B model, and the sliders that move them.

    The still has a group for each number of `devices`, unsharded and all sharded.
    """
    data = {
        "name": "Memory of one device",
        "alt": alt,
        "colours": COLOURS,
        "parts": PARTS,
        "stages": memory.STAGES,
        "sizes": SIZES,
        "rooms": ROOMS,
        "head": memory.HEAD,
        "vocabulary": memory.VOCABULARY,
        "rate": RATE,
        "link": LINK,
    }
    figure, ax = plt.subplots(figsize=(7, 0.9 * len(devices) + 0.6))
    rows = []
    for n in devices:
        for shard in (0, 3) if n > 1 else (0,):
            name = f"{n} devices, {'sharded' if shard else 'copies'}"
            name = "1 device" if n == 1 else name
            rows.append((name, memory.plan(7e9, n, shard=shard, checkpoint=True)))
    left = [0.0] * len(rows)
    for part, colour in zip(PARTS, COLOURS, strict=True):
        sizes = [found[part] / 1e9 for _, found in rows]
        names = [name for name, _ in rows]
        ax.barh(names, sizes, left=left, color=colour, label=part, edgecolor="white")
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    ax.axvline(80, color="0.25", linestyle="--")
    ax.text(81, -0.75, "80 GB", size="small", va="center")
    ax.invert_yaxis()
    ax.set(xlabel="GB that one device holds: 7 B parameters, 4,096 tokens")
    ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.45, 1.18), frameon=False)
    figure.subplots_adjust(left=0.22, right=0.97, bottom=0.16, top=0.86)
    return Element("budget", data, png(figure))
