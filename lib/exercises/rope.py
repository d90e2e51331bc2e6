"""The exercises of RoPE: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise
from lib.positions import to_half, to_interleaved

_generator = torch.Generator().manual_seed(0)


def _speeds(d: int, base: float = 10_000.0) -> Tensor:
    return base ** (-torch.arange(0, d, 2) / d)


def _turned(x: Tensor, at: Tensor, base: float = 10_000.0, width=None) -> Tensor:
    """x (T, d) turned to the positions `at` (T,), with the speeds of `width` features."""
    d = x.shape[1]
    angle = at[:, None] * _speeds(width or d, base)[: d // 2]
    first, second = x[:, 0::2], x[:, 1::2]
    turned = (
        first * angle.cos() - second * angle.sin(),
        first * angle.sin() + second * angle.cos(),
    )
    return torch.stack(turned, -1).flatten(-2)


def _halves(x: Tensor, at: Tensor) -> Tensor:
    return to_half(_turned(to_interleaved(x), at))


# --- partial: only the first features are turned -----------------------------------


def _partial(x, turned, first=0, sign=1, **how):
    at = sign * torch.arange(first, first + len(x))
    return torch.cat((_turned(x[:, :turned], at, **how), x[:, turned:]), 1)


def _partial_halves(x, turned):
    there = _halves(x[:, :turned], torch.arange(len(x)))
    return torch.cat((there, x[:, turned:]), 1)


def _partial_joined(x, turned):
    there = _turned(x[:, :turned], torch.arange(len(x)))
    return torch.cat((to_half(there), x[:, turned:]), 1)


def _partial_last(x, turned):
    at = torch.arange(len(x))
    return torch.cat((x[:, :-turned], _turned(x[:, -turned:], at)), 1)


def _partial_both(x, turned):
    at = torch.arange(len(x))
    return torch.cat((_turned(x[:, :turned], at), _turned(x[:, turned:], at)), 1)


partial = Exercise(
    correct=_partial,
    mistakes={
        "the speeds are those of the whole head: the turned part is a small head of its "
        "own, base^(−2i/turned)": lambda x, turned: _partial(
            x, turned, width=x.shape[1]
        ),
        "all features are turned: those from `turned` on stay as they "
        "are": lambda x, turned: _turned(x, torch.arange(len(x))),
        "nothing is turned: turn the first `turned` features": lambda x, turned: x,
        "the others are turned as well, as a head of their own: they stay as they "
        "are": _partial_both,
        "the last features are turned: it is the first": _partial_last,
        "the others are missing: return all d features": lambda x, turned: _partial(
            x, turned
        )[:, :turned],
        "the others have become 0: they stay as they are": lambda x, turned: (
            _partial(x, turned) * (torch.arange(x.shape[1]) < turned)
        ),
        "`turned` counts features, not pairs": lambda x, turned: _partial(
            x, 2 * turned
        ),
        "the pairs are taken from the two halves: that is the half-split layout; "
        "interleaved pairs are neighbours": _partial_halves,
        "the turned pairs are laid out half-split: weave them, each pair side by "
        "side": _partial_joined,
        "the pairs turn the other way: first·cos − second·sin, first·sin + "
        "second·cos": lambda x, turned: _partial(x, turned, sign=-1),
        "the speeds fall only half as far: either the base is 100 instead of 10,000, or "
        "the exponent is i/turned instead of 2i/turned": lambda x, turned: _partial(
            x, turned, base=100.0
        ),
        "the later pairs turn faster: the exponent wants a minus": lambda x, turned: (
            _partial(x, turned, base=1e-4)
        ),
        "all pairs turn at one speed: pair i turns by p / "
        "10000^(2i/turned)": lambda x, turned: _partial(x, turned, base=1.0),
        "positions start at 1: the first token is not turned": lambda x, turned: (
            _partial(x, turned, first=1)
        ),
    },
    cases=[
        (torch.randn(5, 12, generator=_generator), 6),
        (torch.randn(12, 16, generator=_generator), 4),
    ],
    tol=1e-3,
)


# --- shift: a cache whose first keys leave ------------------------------------------


def _shift(keys, dropped, by=-1.0, **how):
    left = keys[dropped:]
    return _turned(left, torch.full((len(left),), by * dropped), **how)


def _shift_halves(keys, dropped):
    left = keys[dropped:]
    return _halves(left, torch.full((len(left),), -1.0 * dropped))


def _raw(keys, dropped):
    return _turned(keys, -torch.arange(len(keys)))[dropped:]


def _own_way_back(keys, dropped):
    left = keys[dropped:]
    return _turned(left, -torch.arange(len(left)))


def _turned_again(keys, dropped):
    left = keys[dropped:]
    return _turned(left, torch.arange(len(left)))


def _last_dropped(keys, dropped):
    return (
        _shift(keys, dropped)
        if not dropped
        else _turned(
            keys[:-dropped], torch.full((len(keys) - dropped,), -1.0 * dropped)
        )
    )


shift = Exercise(
    correct=_shift,
    mistakes={
        "they moved away: they were turned on by `dropped`, and have to be turned "
        "back": lambda keys, dropped: _shift(keys, dropped, by=1.0),
        "they still stand at their old positions: turn each back by "
        "`dropped`": lambda keys, dropped: keys[dropped:],
        "these are the keys before any turn: each has to keep the turn of its new "
        "position": _raw,
        "each was turned back by its new position: all go back by the same "
        "angle": _own_way_back,
        "they were turned a second time, from where they stood: turn "
        "back": _turned_again,
        "the last keys were dropped: the first ones leave": _last_dropped,
        "the last keys were dropped, and the others still stand at their old positions: "
        "the first ones leave": lambda keys, dropped: keys[: len(keys) - dropped],
        "nothing was dropped": lambda keys, dropped: _turned(
            keys, torch.full((len(keys),), -1.0 * dropped)
        ),
        "one position too few: key number `dropped` now stands at "
        "0": lambda keys, dropped: _turned(
            keys[dropped:], torch.full((len(keys) - dropped,), 1.0 - dropped)
        ),
        "the pairs are taken from the two halves: these keys are "
        "interleaved": _shift_halves,
        "the speeds fall only half as far: either the base is 100 instead of 10,000, or "
        "the exponent is i/d instead of 2i/d": lambda keys, dropped: _shift(
            keys, dropped, base=100.0
        ),
        "all pairs go back at one speed: pair i by dropped · ω_i": lambda keys, dropped: (
            _shift(keys, dropped, base=1.0)
        ),
    },
    cases=[
        (torch.randn(9, 8, generator=_generator), 3),
        (torch.randn(12, 16, generator=_generator), 5),
    ],
    tol=1e-4,
)


# --- come_round: pairs that make a full turn ----------------------------------------


def _count(d, T, base, power=1.0, turn=math.tau, pairs=None):
    pairs = d // 2 if pairs is None else pairs
    return sum(turn * base ** (power * 2 * i / d) <= T for i in range(pairs))


def _uncapped(d, T, base):
    return max(0, math.floor(d / 2 * math.log(T / math.tau) / math.log(base)) + 1)


come_round = Exercise(
    correct=_count,
    mistakes={
        "2π is missing: a full turn is 2π radians, not one": lambda d, T, base: _count(
            d, T, base, turn=1.0
        ),
        "half a turn is not round: a full turn is 2π": lambda d, T, base: _count(
            d, T, base, turn=math.pi
        ),
        "`base` is not used: it is not always 10,000": lambda d, T, base: _count(
            d, T, 10_000.0
        ),
        "those are the pairs that do not come round": lambda d, T, base: (
            d // 2 - _count(d, T, base)
        ),
        "features were counted, two to a pair": lambda d, T, base: (
            2 * _count(d, T, base)
        ),
        "i runs over the d features: there are only d/2 pairs": lambda d, T, base: (
            _count(d, T, base, pairs=d)
        ),
        "more pairs than there are: there are only d/2": _uncapped,
        "a wavelength between T − 1 and T counts: it is at most T": lambda d, T, base: (
            _count(d, T - 1, base)
        ),
        "the exponent is halved: it is 2i/d for pair i": lambda d, T, base: _count(
            d, T, base, power=0.5
        ),
        "that is the number of the last pair that comes round: they count from "
        "0": lambda d, T, base: _count(d, T, base) - 1,
        "all pairs are counted: the slow ones do not come round": lambda d, T, base: (
            d // 2
        ),
    },
    cases=[
        (64, 128, 10_000.0),
        (128, 1000, 500_000.0),
        (32, 5000, 100_000.0),
        (64, 7, 10_000.0),  # the first wavelength, 6.28, lies between 6 and 7
        (8, 1_000_000, 10.0),  # all come round
        (16, 5, 10_000.0),  # none does
    ],
    tol=0,
)


# --- fitting_base: the slowest pair and the length of the text ----------------------


def _base(d, T, turn=math.pi / 2, last=2):
    return (T / turn) ** (d / (d - last))


fitting_base = Exercise(
    correct=_base,
    mistakes={
        "that is a full turn: a quarter of a turn is π/2 radians": lambda d, T: _base(
            d, T, math.tau
        ),
        "that is half a turn: a quarter of a turn is π/2 radians": lambda d, T: _base(
            d, T, math.pi
        ),
        "that is an angle of one radian: a quarter of a turn is π/2": lambda d, T: (
            _base(d, T, 1.0)
        ),
        "a turn was counted as 1: in radians a quarter of a turn is π/2, not "
        "1/4": lambda d, T: _base(d, T, 1 / 4),
        "π/2 belongs below T: the speed is (π/2) / T": lambda d, T: _base(
            d, T, 2 / math.pi
        ),
        "that is the speed of the slowest pair: solve for the base": lambda d, T: (
            math.pi / 2 / T
        ),
        "the exponent of the slowest pair is (d − 2)/d, not 1: solve for the "
        "base": lambda d, T: _base(d, T, last=0),
        "the exponent is upside down: solve for the base": lambda d, T: (
            (T / (math.pi / 2)) ** ((d - 2) / d)
        ),
        "the slowest pair is number d/2 − 1, and its exponent 2(d/2 − 1)/d = (d − "
        "2)/d": lambda d, T: _base(d, T, last=1),
        "the slowest pair is number d/2 − 1, not d/2 − 2": lambda d, T: _base(
            d, T, last=4
        ),
        "that base makes the later pairs turn faster: T and π/2 have changed "
        "places": lambda d, T: _base(d, 1 / T, 2 / math.pi),
    },
    cases=[(64, 4096), (16, 128), (8, 1000)],
    tol=1e-3,
)
