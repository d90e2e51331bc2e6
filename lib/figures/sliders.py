"""A next-token distribution under sliders.

The numbers are made here and drawn twice: for the still, and by sliders.js, which filters
as `lib.decoding` does.
"""

from collections.abc import Sequence

from matplotlib import pyplot as plt
from torch import Tensor

from lib.figures.element import Element
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES

COARSE = 16  # the logits of unnamed tokens are rounded to 1/16
COLOURS = CATEGORIES[:2]


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
) -> Element:
    """Next-token logits (V,) under sliders for temperature, top-k, top-p and min-p.

    `names` (V,) are the tokens' texts; the `shown` likeliest have a bar. The browser
    works on `rounded(logits, named)`, and finds what `lib.filters.filtered` finds there.
    """
    order = logits.double().argsort(descending=True, stable=True)
    logits = rounded(logits, named)
    values, counts = logits[order[named:]].unique(return_counts=True)
    rest = zip(values.tolist(), counts.tolist(), strict=True)
    data = {
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
    return Element("sliders", data, png(figure))
