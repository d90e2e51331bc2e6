"""The exercises of the chapter on probing and patching: right answers, known errors."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- selectivity: over rows that nothing was known of by heart -------------------------


def _selectivity(right, lot, types, fit):
    new = ~torch.isin(types, types[fit])
    return right[new].double().mean() - lot[new].double().mean()


def _over(right, lot, rows):
    return right[rows].double().mean() - lot[rows].double().mean()


_TYPES = torch.tensor([0, 1, 1, 2, 0, 3, 4, 4, 5, 2, 6, 7])
_FIT = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).bool()
_RIGHT = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1]).bool()
_LOT = torch.tensor([1, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0, 0]).bool()

selectivity = Exercise(
    correct=_selectivity,
    mistakes={
        "all rows count: leave out those whose type the fit has met": lambda r, c, t, f: (
            _over(r, c, torch.ones_like(f))
        ),
        "rows that were not in the fit, but whose type was, still count: the label of "
        "the type can be known by heart": lambda r, c, t, f: _over(r, c, ~f),
        "these are the rows whose type the fit has met: take the "
        "others": lambda r, c, t, f: _over(r, c, torch.isin(t, t[f])),
        "this is the share on the task alone: take the control's off": lambda r, c, t, f: (
            r[~torch.isin(t, t[f])].double().mean()
        ),
        "the difference has the other sign: task less control": lambda r, c, t, f: (
            -_selectivity(r, c, t, f)
        ),
        "this is the share of rows where the task is right and the control is not: "
        "take the difference of the two shares": lambda r, c, t, f: (
            (r & ~c)[~torch.isin(t, t[f])].double().mean()
        ),
    },
    cases=[
        (_RIGHT, _LOT, _TYPES, _FIT),
        (_RIGHT.flip(0), _LOT, _TYPES, _FIT.roll(4)),
    ],
)


# --- restored: what patches add, as a share of what there is to add --------------------


def _restored(clean, corrupted, patched):
    added = (patched - corrupted[:, None, None]).mean(0)
    return added / (clean - corrupted).mean()


def _of_pairs(clean, corrupted, patched):
    there = (clean - corrupted)[:, None, None]
    return ((patched - corrupted[:, None, None]) / there).mean(0)


restored = Exercise(
    correct=_restored,
    mistakes={
        "this is the mean of the pairs' shares: take both means first, and divide "
        "once": _of_pairs,
        "the corrupted run's measure is not taken off: 0 is the corrupted "
        "run": lambda c, d, p: p.mean(0) / (c - d).mean(),
        "the difference is not divided: 1 is the clean run": lambda c, d, p: (
            p - d[:, None, None]
        ).mean(0),
        "this is what is still missing: 0 is the corrupted run and 1 the clean "
        "one": lambda c, d, p: (c[:, None, None] - p).mean(0) / (c - d).mean(),
        "it is divided by the clean measure alone: take the corrupted one "
        "off": lambda c, d, p: (p - d[:, None, None]).mean(0) / c.mean(),
        "the mean runs over layers and places, too: keep the map": lambda c, d, p: (
            (p - d[:, None, None]).mean() / (c - d).mean()
        ),
    },
    cases=[
        (
            _random(4, seed=0) + 3,
            _random(4, seed=1) - 2,
            _random(4, 3, 5, seed=2),
        ),
        (
            _random(6, seed=3) + 2,
            _random(6, seed=4) - 3,
            _random(6, 2, 4, seed=5),
        ),
    ],
)


# --- plane: two directions that are not at right angles --------------------------------


def _plane(x, u, v):
    w = v - (v @ u) * u
    w = w / w.norm()
    return x - (x @ u)[:, None] * u - (x @ w)[:, None] * w


def _at_once(x, u, v):
    return x - (x @ u)[:, None] * u - (x @ v)[:, None] * v


def _in_turn(x, u, v):
    x = x - (x @ u)[:, None] * u
    return x - (x @ v)[:, None] * v


def _unscaled(x, u, v):
    w = v - (v @ u) * u
    return x - (x @ u)[:, None] * u - (x @ w)[:, None] * w


def _plane_of_sum(x, u, v):
    w = (u + v) / (u + v).norm()
    return x - (x @ w)[:, None] * w


def _pair(D, seed):
    u, v = _random(2, D, seed=seed)
    u = u / u.norm()
    v = v / v.norm() + 0.8 * u
    return u, v / v.norm()


plane = Exercise(
    correct=_plane,
    mistakes={
        "what the two directions share is taken out twice: they are not at right "
        "angles": _at_once,
        "one after the other: taking out v has put something back along u": _in_turn,
        "one after the other: taking out u has put something back along v": (
            lambda x, u, v: _in_turn(x, v, u)
        ),
        "the second direction is shorter than 1 once u is out of it: bring it back to "
        "length 1": _unscaled,
        "u alone is out": lambda x, u, v: x - (x @ u)[:, None] * u,
        "v alone is out": lambda x, u, v: x - (x @ v)[:, None] * v,
        "this is what was taken out: return what is left": lambda x, u, v: (
            x - _plane(x, u, v)
        ),
        "only the sum of the two is out: a plane has two directions": lambda x, u, v: (
            _plane_of_sum(x, u, v)
        ),
    },
    cases=[
        (_random(5, 6, seed=0), *_pair(6, 1)),
        (_random(3, 4, seed=2), *_pair(4, 3)),
    ],
)


# --- batch: the largest values of a whole batch ----------------------------------------


def _batch(z, k):
    least = z.flatten().topk(k * len(z)).values[-1]
    return z.where(z >= least, torch.zeros_like(z))


def _each(z, k):
    return z.where(z >= z.topk(k).values[:, -1:], torch.zeros_like(z))


def _columns(z, k):
    return z.where(z >= z.topk(min(k, len(z)), 0).values[-1], torch.zeros_like(z))


def _values(seed, *shape):
    """Different rows have different sizes, so that the batch's choice is uneven."""
    z = _random(*shape, seed=seed).abs()
    return z * torch.linspace(0.3, 2.0, shape[0], dtype=z.dtype)[:, None]


batch = Exercise(
    correct=_batch,
    mistakes={
        "each state keeps k: choose among the values of all states together": _each,
        "k values stay in all: k for each state is k · N": lambda z, k: z.where(
            z >= z.flatten().topk(k).values[-1], torch.zeros_like(z)
        ),
        "each feature keeps its k largest states: choose among all values "
        "together": _columns,
        "those that stay are 1: keep their values": lambda z, k: (
            _batch(z, k) > 0
        ).double(),
        "the smallest value that stays is lost: ≥, not >": lambda z, k: z.where(
            z > z.flatten().topk(k * len(z)).values[-1], torch.zeros_like(z)
        ),
        "the threshold is taken off: values stay as they are": lambda z, k: (
            z - z.flatten().topk(k * len(z)).values[-1]
        ).relu(),
    },
    cases=[(_values(0, 4, 7), 2), (_values(1, 3, 9), 3)],
)
