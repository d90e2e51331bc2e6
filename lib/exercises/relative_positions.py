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


# --- shaw: the vectors of the distances, met by the query ----------------------------


def _column(T, reach, sign=1):
    apart = sign * (torch.arange(T)[None, :] - torch.arange(T)[:, None])
    return apart.clamp(-reach, reach) + reach


def _shaw(query, table, sign=1):
    column = _column(len(query), len(table) // 2, sign)
    return (query @ table.mT / query.shape[-1] ** 0.5).gather(-1, column)


def _wrapped(query, table):
    """Distances counted from the middle, without the shift: negative ones wrap."""
    reach = len(table) // 2
    column = (_column(len(query), reach) - reach) % len(table)
    return (query @ table.mT / query.shape[-1] ** 0.5).gather(-1, column)


def _not_cut(query, table):
    reach, T = len(table) // 2, len(query)
    column = torch.arange(T)[None, :] - torch.arange(T)[:, None] + reach
    return (query @ table.mT / query.shape[-1] ** 0.5).gather(-1, column % len(table))


def _met_by_key(query, table):
    """q_j in the place of q_i."""
    vectors = table[_column(len(query), len(table) // 2)]  # (T, T, d)
    return (vectors * query[None]).sum(-1) / query.shape[-1] ** 0.5


shaw = Exercise(
    correct=_shaw,
    mistakes={
        "the division by √d is missing": lambda query, table: (
            _shaw(query, table) * query.shape[-1] ** 0.5
        ),
        "divided by d: it is its root": lambda query, table: (
            _shaw(query, table) / query.shape[-1] ** 0.5
        ),
        "before and after are swapped: the distance is key minus "
        "query": lambda query, table: _shaw(query, table, -1),
        "the middle row of the table is distance 0: add the reach to the "
        "distance": _wrapped,
        "a distance beyond the table wraps around: cut it off at the reach": _not_cut,
        "each vector met the token of the column: it meets the query, that of the "
        "row": _met_by_key,
        "rows and columns are swapped: one row for each query": lambda query, table: (
            _shaw(query, table).mT
        ),
        "those are scores for each row of the table: pick the one of each pair's "
        "distance": lambda query, table: query @ table.mT / query.shape[-1] ** 0.5,
    },
    cases=[(_normal(0, 6, 4), _normal(1, 5, 4)), (_normal(2, 4, 9), _normal(3, 7, 9))],
)


# --- bucket: T5's, for a model that reads forwards -----------------------------------


def _bucket(back, buckets, far, exact=None, cap=True, log=True, cut=torch.floor):
    exact = buckets // 2 if exact is None else exact
    share = torch.log(back.clamp(min=1) / exact) / math.log(far / exact)
    if not log:
        share = (back - exact) / (far - exact)
    wide = exact + cut(share * (buckets - exact)).long()
    if cap:
        wide = wide.clamp(max=buckets - 1)
    return torch.where(back < exact, back, wide)


bucket = Exercise(
    correct=_bucket,
    mistakes={
        "the last bucket has no end: beyond `far`, all share buckets − "
        "1": lambda back, buckets, far: _bucket(back, buckets, far, cap=False),
        "the wide buckets are equally wide: they widen in ratio, by the "
        "logarithm": lambda back, buckets, far: _bucket(back, buckets, far, log=False),
        "every distance has a bucket of its own: only the first half of the buckets "
        "works so": lambda back, buckets, far: back.clamp(max=buckets - 1),
        "the wide buckets start at 0: they follow the own ones, from buckets // 2 "
        "on": lambda back, buckets, far: torch.where(
            back < buckets // 2,
            back,
            (_bucket(back, buckets, far) - buckets // 2),
        ),
        "a quarter of the buckets is exact: it is half, when nothing comes "
        "later": lambda back, buckets, far: _bucket(
            back, buckets, far, exact=buckets // 4
        ),
        "one bucket too high beyond the first half: either the fraction is rounded up "
        "(cut it off), or the distance buckets // 2 has a bucket of its own (it opens "
        "the wide ones)": lambda back, buckets, far: torch.where(
            back <= buckets // 2,
            back,
            (_bucket(back, buckets, far) + 1).clamp(max=buckets - 1),
        ),
        "rounded to the nearest: cut off the fraction": lambda back, buckets, far: (
            _bucket(back, buckets, far, cut=torch.round)
        ),
    },
    cases=[  # no distance lies where a bucket begins, so that rounding never decides
        (torch.arange(40), 8, 22),
        (torch.tensor([0, 1, 15, 16, 17, 20, 50, 127, 128, 5000]), 32, 128),
    ],
)


# --- slopes: ALiBi's -----------------------------------------------------------------


def _slopes(H):
    return 2.0 ** (-8 * torch.arange(1, H + 1) / H)


slopes = Exercise(
    correct=_slopes,
    mistakes={
        "the first head has slope 1: heads count from 1, so that the last has "
        "1/256": lambda H: 2.0 ** (-8 * torch.arange(H) / H),
        "that is right for 8 heads only: the exponents run to 8 in H equal "
        "steps": lambda H: 2.0 ** -torch.arange(1.0, H + 1),
        "the steps are equal in the slope: they are equal in the exponent, a constant "
        "ratio": lambda H: torch.linspace(0.5, 1 / 256, H),
        "the sign: a slope is positive, the bias subtracts it": lambda H: -_slopes(H),
        "the order is turned: the first head has the steepest slope": lambda H: _slopes(
            H
        ).flip(0),
        "the powers are of e: they are of 2": lambda H: torch.exp(
            -8 * torch.arange(1, H + 1) / H
        ),
        "the slopes are 1/h: they fall by a constant ratio": lambda H: (
            1 / torch.arange(1.0, H + 1)
        ),
    },
    cases=[(8,), (16,), (4,)],
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
