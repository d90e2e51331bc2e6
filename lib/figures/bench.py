"""The position bench, drawn alike on every page that shows it.

What the runs measured is in `checkpoints/positions`; their script is `train/positions.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.theme import CATEGORIES

# A colour and a mark for each scheme, the same in all figures.
SCHEMES = dict(
    zip(
        ("none", "sinusoidal", "learned", "shaw", "t5", "alibi", "rope"),
        zip((CATEGORIES[5], *CATEGORIES[:5], "#111111"), "osD^vXP", strict=True),
        strict=True,
    )
)


def spread(
    ax: Axes,
    lengths: Sequence[int],
    columns: Sequence[Sequence[float | None]],
    label: str,
    colour: str,
    marker: str,
) -> None:
    """The mean of several runs over lengths, with a band from the lowest to the highest.

    Args:
        lengths: (L,), drawn on a logarithmic axis.
        columns: (L, runs); a length at which a run has no number (None) is left out.

    Raises: ValueError if there is not one column for each length.
    """
    if len(columns) != len(lengths):
        raise ValueError(f"columns: got {len(columns)}, wants one of {len(lengths)}")
    known = [
        (x, runs) for x, runs in zip(lengths, columns, strict=True) if None not in runs
    ]
    x, runs = [x for x, _ in known], [runs for _, runs in known]
    mean = [sum(run) / len(run) for run in runs]
    look = {"color": colour, "marker": marker, "ms": 5, "lw": 1.5, "ls": "-"}
    ax.plot(x, mean, label=label, **look)
    low, high = [min(run) for run in runs], [max(run) for run in runs]
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    ax.set_xscale("log")
    ax.minorticks_off()


def position_bench(bench: Mapping[str, Any], key: str = "loss") -> Figure:
    """The loss of the seven schemes against the length given.

    The axis is split: the lower part shows what separates the schemes that hold, the
    upper one those that fail.

    Args:
        bench: the trace, `weights.trace("positions")`.
        key: "loss", or "cut" for the loss with the keys cut to the last 128.
    """
    lengths = bench["lengths"]
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(7, 4.4), layout="constrained", sharex=True, height_ratios=[2, 3]
    )
    figure.get_layout_engine().set(h_pad=0.02, hspace=0.02)
    for ax in (upper, lower):
        for name, one in bench["schemes"].items():
            columns = list(zip(*(run[key] for run in one["runs"]), strict=True))
            spread(ax, lengths, columns, name, *SCHEMES[name])
        ax.axvline(lengths[0], color="0.5", lw=1, ls="-", zorder=0)
    upper.set(ylim=(3.0, 4.7), yticks=[3.0, 3.5, 4.0, 4.5])
    lower.set(ylim=(1.8, 2.6), xlabel="length given (characters, log scale)")
    lower.set_xticks(lengths, [f"{n:,}" for n in lengths])
    upper.spines.bottom.set_visible(False)
    upper.tick_params(bottom=False)
    slash = {"marker": [(-1, -0.6), (1, 0.6)], "ms": 9, "ls": "", "color": "0.35"}
    upper.plot(0, 0, transform=upper.transAxes, clip_on=False, **slash)
    lower.plot(0, 1, transform=lower.transAxes, clip_on=False, **slash)
    figure.supylabel("loss (nats a character)", size="small")
    handles, labels = lower.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=4, frameon=False, loc="outside upper center")
    return figure
