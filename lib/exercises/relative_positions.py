"""The exercises of relative positions: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- distance: of the last tokens of a text to all of it -----------------------------


def _distance(new, total):
    return torch.arange(total)[None, :] - torch.arange(total - new, total)[:, None]


distance = Exercise(
    correct=_distance,
    mistakes={
        "the sign is turned: key minus query, so that what came before is "
        "negative": lambda new, total: -_distance(new, total),
        "the new tokens do not start at position 0: the first stands at total − "
        "new": lambda new, total: torch.arange(total) - torch.arange(new)[:, None],
        "rows and columns are swapped: one row for each query": lambda new, total: (
            _distance(new, total).mT
        ),
        "the sign is lost: before and after must differ": lambda new, total: _distance(
            new, total
        ).abs(),
        "only the new tokens are there as keys: a query meets the whole "
        "text": lambda new, total: _distance(new, total)[:, total - new :],
        "the whole text is there as queries: only the new ones ask": lambda n, total: (
            _distance(total, total)
        ),
        "one too far: the last query stands at the last position, total − "
        "1": lambda new, total: _distance(new, total) - 1,
    },
    cases=[(3, 7), (1, 5), (4, 4)],
)


# --- values: Shaw's second table -----------------------------------------------------


def _column(T, reach, sign=1):
    apart = sign * (torch.arange(T)[None, :] - torch.arange(T)[:, None])
    return apart.clamp(-reach, reach) + reach


def _of_distance(weights, table, sign=1):
    """Each pair's vector, weighted: (T, d)."""
    column = _column(len(weights), len(table) // 2, sign)
    return torch.einsum("ij,ijd->id", weights, table[column])


def _values(weights, value, table):
    return weights @ value + _of_distance(weights, table)


def _wrapped(weights, value, table):
    """Distances counted from the middle, without the shift: negative ones wrap."""
    column = _column(len(value), len(table) // 2) - len(table) // 2
    return weights @ value + torch.einsum("ij,ijd->id", weights, table[column])


def _not_cut(weights, value, table):
    reach, T = len(table) // 2, len(value)
    column = torch.arange(T)[None, :] - torch.arange(T)[:, None] + reach
    vectors = table[column % len(table)]
    return weights @ value + torch.einsum("ij,ijd->id", weights, vectors)


def _summed(weights, value, table):
    return table[_column(len(value), len(table) // 2)].sum(1)


values = Exercise(
    correct=_values,
    mistakes={
        "the values of the tokens are missing: the vector of the distance is added to "
        "them": lambda weights, value, table: _of_distance(weights, table),
        "the values of the tokens have lost their weights": lambda w, value, table: (
            value + _of_distance(w, table)
        ),
        "the vectors of the distances are missing": lambda weights, value, table: (
            weights @ value
        ),
        "the vectors are added up without their weights": lambda weights, value, table: (
            weights @ value + _summed(weights, value, table)
        ),
        "the vectors are averaged: each counts with the weight of its "
        "pair": lambda weights, value, table: (
            weights @ value + _summed(weights, value, table) / len(value)
        ),
        "before and after are swapped: the distance is key minus "
        "query": lambda weights, value, table: (
            weights @ value + _of_distance(weights, table, -1)
        ),
        "the middle row of the table is distance 0: add the reach to the "
        "distance": _wrapped,
        "a distance beyond the table wraps around: cut it off at the reach": _not_cut,
        "the weights are turned: a row belongs to a query": lambda w, value, table: (
            _values(w.mT, value, table)
        ),
        "divided by √d: that is for scores, not for values": lambda w, value, table: (
            w @ value + _of_distance(w, table) / value.shape[-1] ** 0.5
        ),
        "a softmax of weights: they have been through one": lambda w, value, table: (
            _values(w.softmax(-1), value, table)
        ),
    },
    cases=[
        (_normal(0, 6, 6).softmax(-1), _normal(1, 6, 4), _normal(2, 5, 4)),
        (_normal(3, 4, 4).softmax(-1), _normal(4, 4, 9), _normal(5, 7, 9)),
    ],
)


# --- first: where a bucket of T5 begins ------------------------------------------------


def _start(b, buckets, far, exact=None, own=True, over=None):
    """Not rounded."""
    exact = buckets // 2 if exact is None else exact
    if own and b < exact:
        return b
    return exact * (far / exact) ** ((b - exact) / (over or buckets - exact))


def _first(b, buckets, far):
    return math.ceil(_start(b, buckets, far))


def _equally_wide(b, buckets, far):
    h = buckets // 2
    return b if b < h else math.ceil(h + (b - h) / (buckets - h) * (far - h))


def _ratio_of_far(b, buckets, far):
    h = buckets // 2
    return b if b < h else math.ceil(h * far ** ((b - h) / (buckets - h)))


first = Exercise(
    correct=_first,
    mistakes={
        "rounded down: the whole number below belongs to the bucket "
        "before": lambda b, buckets, far: math.floor(_start(b, buckets, far)),
        "one too far where the border is a whole number, as at buckets // 2: round up "
        "instead of down and one on": lambda b, buckets, far: (
            b if b < buckets // 2 else math.floor(_start(b, buckets, far)) + 1
        ),
        "rounded to the nearest: a whole number below the border belongs to the bucket "
        "before": lambda b, buckets, far: round(_start(b, buckets, far)),
        "not a whole number: the bucket begins at the next distance that there "
        "is": _start,
        "the first half of the buckets hold one distance each": lambda b, buckets, far: (
            math.ceil(_start(b, buckets, far, own=False))
        ),
        "every bucket holds one distance here: only the first half do": lambda b, *_: b,
        "the wide buckets are equally wide: they widen in ratio": _equally_wide,
        "the ratio starts at far / 1: it leads from buckets // 2 to `far`": _ratio_of_far,
        "the ratio runs over all buckets: it runs over the wide ones, buckets − buckets "
        "// 2": lambda b, buckets, far: math.ceil(
            _start(b, buckets, far, over=buckets)
        ),
        "a quarter of the buckets is exact: it is half, when nothing comes "
        "later": lambda b, buckets, far: math.ceil(
            _start(b, buckets, far, buckets // 4)
        ),
        "one bucket too far: bucket buckets // 2 begins at buckets // "
        "2": lambda b, buckets, far: _first(b + 1, buckets, far),
        "that is where the bucket before ends: this one begins a step "
        "later": lambda b, buckets, far: _first(b, buckets, far) - 1,
        "that is where the bucket ends": lambda b, buckets, far: (
            _first(b + 1, buckets, far) - 1
        ),
    },
    # No border lies on a whole number, so that rounding never decides.
    cases=[(31, 32, 128), (16, 32, 128), (7, 32, 128), (20, 32, 128), (6, 8, 22)],
)


# --- reach: how far a slope looks ----------------------------------------------------


reach = Exercise(
    correct=lambda slope, share: -math.log(share) / slope,
    mistakes={
        "the logarithm is that of base 2: the softmax takes powers of "
        "e": lambda slope, share: -math.log2(share) / slope,
        "the sign: the logarithm of a share is negative": lambda slope, share: (
            math.log(share) / slope
        ),
        "multiplied by the slope: a steep slope reaches less far": lambda slope, share: (
            -math.log(share) * slope
        ),
        "that is where the bias, not the weight, has fallen so far": lambda s, share: (
            share / s
        ),
        "the share is of the weight that is left, not of what is "
        "lost": lambda slope, share: -math.log(1 - share) / slope,
    },
    cases=[(0.5, 0.25), (1 / 256, 0.1), (0.125, 0.9)],
)


# --- heads: slopes that span a range of distances ----------------------------------------


def _spread(H, near, far, over=None, begin=0):
    """Steps back at which each head's weight is a tenth: (H,)."""
    share = (torch.arange(H) + begin) / (over or H - 1)
    return near * (far / near) ** share


def _heads(H, near, far):
    return math.log(10) / _spread(H, near, far)


heads = Exercise(
    correct=_heads,
    mistakes={
        "the slopes are equal steps apart: they fall by a constant "
        "ratio": lambda H, near, far: torch.linspace(
            math.log(10) / near, math.log(10) / far, H
        ),
        "the distances are equal steps apart: the slopes, and so the distances, have a "
        "constant ratio": lambda H, near, far: (
            math.log(10) / torch.linspace(near, far, H)
        ),
        "the last head does not reach `far`: between H heads are H − 1 "
        "steps": lambda H, near, far: math.log(10) / _spread(H, near, far, over=H),
        "the first head is not at `near`: its exponent is 0": lambda H, near, far: (
            math.log(10) / _spread(H, near, far, over=H, begin=1)
        ),
        "those are the distances: a slope is what each step costs": _spread,
        "the logarithm is that of base 2: the softmax takes powers of "
        "e": lambda H, near, far: math.log2(10) / _spread(H, near, far),
        "that slope brings the weight to 1/e, not to a tenth": lambda H, near, far: (
            1 / _spread(H, near, far)
        ),
        "the sign: a slope is positive, the bias subtracts it": lambda H, near, far: (
            -_heads(H, near, far)
        ),
        "the order is turned: the first head is the steepest": lambda H, near, far: (
            _heads(H, near, far).flip(0)
        ),
        "those are ALiBi's slopes, which end at 1/256 whatever is "
        "asked": lambda H, near, far: 2.0 ** (-8 * torch.arange(1, H + 1) / H),
    },
    cases=[(4, 5, 500), (8, 3, 1000), (2, 10, 100)],
)
