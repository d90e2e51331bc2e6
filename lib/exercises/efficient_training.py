"""The exercises of the chapter on training with many devices, and the mistakes we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- joined: means and counts of the ranks, to the mean of all -------------------------


def _joined(means, counts):
    sums = torch.nan_to_num(means) * counts[:, None]
    return sums.sum(0) / counts.sum()


joined = Exercise(
    correct=_joined,
    mistakes={
        "this is the mean of the means: weigh each by its count": lambda m, c: (
            torch.nan_to_num(m).mean(0)
        ),
        "a rank without tokens has the mean 0 / 0, nan, and nan times 0 is nan: leave "
        "that rank out": lambda m, c: (m * c[:, None]).sum(0) / c.sum(),
        "this is the sum over all tokens: divide by their number": lambda m, c: (
            torch.nan_to_num(m) * c[:, None]
        ).sum(0),
        "the sum is divided by the number of ranks: divide by the number of tokens": (
            lambda m, c: (torch.nan_to_num(m) * c[:, None]).mean(0)
        ),
        "each mean is divided by its count: multiply": lambda m, c: (
            (torch.nan_to_num(m) / c.clamp(min=1)[:, None]).sum(0) / c.sum()
        ),
        "this is one number: keep the N numbers of the gradient": lambda m, c: _joined(
            m, c
        ).mean(),
        "only ranks with tokens are averaged, all alike: weigh each by its count": (
            lambda m, c: m[c > 0].mean(0)
        ),
    },
    cases=[
        (_random(2, 3, seed=0), torch.tensor([3, 1])),
        (_random(4, 5, seed=1), torch.tensor([10, 2, 7, 40])),
        (
            torch.cat([_random(2, 3, seed=2), torch.full((1, 3), torch.nan)]),
            torch.tensor([5, 9, 0]),
        ),
    ],
)


# --- scale: the next loss scale ---------------------------------------------------------


def _scale(scale, good, finite, interval):
    if not finite:
        return scale / 2, 0
    good += 1
    return (scale * 2, 0) if good == interval else (scale, good)


def _forgetful(scale, good, finite, interval):
    if not finite:
        return scale / 2, good
    return _scale(scale, good, finite, interval)


def _greedy(scale, good, finite, interval):
    if not finite:
        return scale / 2, 0
    good += 1
    return (scale * 2, good) if good >= interval else (scale, good)


def _late(scale, good, finite, interval):
    if not finite:
        return scale / 2, 0
    return (scale * 2, 0) if good == interval else (scale, good + 1)


scale = Exercise(
    correct=_scale,
    mistakes={
        "after an overflow the count of good steps starts again at 0": _forgetful,
        "after doubling the count starts again at 0, else each further step doubles": (
            _greedy
        ),
        "it doubles one step late: this good step counts": _late,
        "an overflow doubles and good steps halve: it is the other way round": (
            lambda s, g, f, i: (
                (s * 2, 0) if not f else (s / 2, 0) if g + 1 == i else (s, g + 1)
            )
        ),
        "each good step doubles the scale: only `interval` good steps in a row do": (
            lambda s, g, f, i: (s * 2, 0) if f else (s / 2, 0)
        ),
        "the scale never grows": lambda s, g, f, i: (
            (s / 2, 0) if not f else (s, 0 if g + 1 == i else g + 1)
        ),
        "an overflow leaves the scale as it is: halve it": lambda s, g, f, i: (
            _scale(s, g, f, i) if f else (s, 0)
        ),
    },
    cases=[
        (1024.0, 2, True, 4),
        (1024.0, 3, True, 4),
        (1024.0, 3, False, 4),
        (65536.0, 0, True, 1),
        (8.0, 0, False, 3),
    ],
)


# --- held: bytes of a device in float32 ---------------------------------------------------


def _held(N, n, stage):
    weights, gradients, states = 4 * N, 4 * N, 8 * N
    return (
        weights / (n if stage > 2 else 1)
        + gradients / (n if stage > 1 else 1)
        + states / (n if stage > 0 else 1)
    )


def _mixed(N, n, stage):
    parts = (2 * N, 3), (2 * N, 2), (12 * N, 1)
    return sum(size / (n if stage >= first else 1) for size, first in parts)


def _order(N, n, stage):
    parts = (4 * N, 1), (4 * N, 2), (8 * N, 3)
    return sum(size / (n if stage >= first else 1) for size, first in parts)


held = Exercise(
    correct=_held,
    mistakes={
        "these are the bytes of mixed precision, 2 + 2 + 12: here all are float32": (
            _mixed
        ),
        "weights are the first to be split here: states come first, weights last": (
            _order
        ),
        "each stage splits everything: stage 1 splits the states alone": (
            lambda N, n, s: 16 * N / (n if s else 1)
        ),
        "nothing is split: from stage 1 on a device keeps 1/n of the states": (
            lambda N, n, s: 16.0 * N
        ),
        "stage 2 splits the gradients, and stage 1 does not": lambda N, n, s: (
            _held(N, n, s) if s != 1 else _held(N, n, 2)
        ),
        "Adam keeps two numbers for each weight, 8 bytes": lambda N, n, s: (
            _held(N, n, s) - 4 * N / (n if s else 1)
        ),
        "these are numbers, not bytes: a float32 has 4": lambda N, n, s: (
            _held(N, n, s) / 4
        ),
        "a part is split once too often: stage s splits the first s of states, "
        "gradients, weights": lambda N, n, s: _held(N, n, min(s + 1, 3)),
    },
    cases=[(1000, 4, stage) for stage in range(4)] + [(7_000_000_000, 64, 2)],
)


# --- kept: pieces whose activations are held ----------------------------------------------


def _held_after(order):
    now, found = 0, []
    for kind, _ in order:
        now += 1 if kind == "F" else -1
        found.append(now)
    return found


def _kept(order):
    return max(_held_after(order), default=0)


_ONE_EACH = [("F", 0), ("F", 1), ("F", 2), ("B", 0), ("F", 3), ("B", 1), ("B", 2)]
_ONE_EACH += [("B", 3)]

kept = Exercise(
    correct=_kept,
    mistakes={
        "these are all pieces: one is dropped after its backward pass": lambda order: (
            sum(kind == "F" for kind, _ in order)
        ),
        "this is what is held at the end: look for the most on the way": lambda order: (
            _held_after(order)[-1]
        ),
        "this counts the forward passes before the first backward pass: more may come "
        "later": lambda order: [*(kind for kind, _ in order), "B"].index("B"),
        "this is the length of the list": len,
        "the last piece is not counted: count after the forward pass": lambda order: (
            _kept(order) - 1
        ),
        "this is the mean over the steps: the most decides what has to fit": (
            lambda order: sum(_held_after(order)) / len(order)
        ),
        "backward passes are counted, too, instead of taken off": lambda order: max(
            sum(i == j for _, i in order) for _, j in order
        ),
    },
    cases=[
        (_ONE_EACH,),
        ([("F", 0), ("B", 0), ("F", 1), ("F", 2), ("B", 1), ("B", 2)],),
        ([("F", 0), ("F", 1), ("F", 2), ("F", 3), ("B", 3), ("B", 0), ("B", 1)],),
        (
            [
                ("F", 0),
                ("F", 1),
                ("B", 0),
                ("F", 2),
                ("F", 3),
                ("B", 1),
                ("B", 2),
                ("B", 3),
            ],
        ),
    ],
)
