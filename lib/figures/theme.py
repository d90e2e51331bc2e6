"""The book's look, and measures of what is drawn: colours, line styles, text.

What one chapter draws stays in that chapter.
"""

import matplotlib_fontja
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
# Hues after Okabe and Ito (2008), moved until each has a contrast of 3 to 1 on white and
# on the dark page. They are equally bright, so line styles tell them apart in greyscale.
CATEGORIES = ["#1b7fbd", "#d55e00", "#009e73", "#c46fa6", "#8c6d00", "#7a7a7a"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2))]


def apply() -> None:
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


def em(ax: Axes) -> float:
    """The height of small text in pixels."""
    return 0.83 * plt.rcParams["font.size"] * ax.figure.dpi / 72


def letters(text: str) -> int:
    """The width of a text, in Latin letters: a Japanese character takes two."""
    return sum(2 if ord(character) > 0x2E80 else 1 for character in text)


def luminance(colour) -> float:
    """Relative luminance of an RGB colour, 0 to 1 (WCAG 2.2)."""
    rgb = np.asarray(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
