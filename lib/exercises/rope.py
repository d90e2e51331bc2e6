"""The exercises of RoPE: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise
from lib.positions import to_half, to_interleaved

_generator = torch.Generator().manual_seed(0)


# --- turn: the rotation ----------------------------------------------------------


def _speeds(d: int, power: float = 1.0) -> Tensor:
    return 10_000 ** (-power * torch.arange(0, d, 2) / d)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    first, second = x[:, 0::2], x[:, 1::2]
    turned = (
        first * angle.cos() - second * angle.sin(),
        first * angle.sin() + second * angle.cos(),
    )
    return torch.stack(turned, -1).flatten(-2)


def _at(x: Tensor, first: int = 0) -> Tensor:
    return torch.arange(first, first + len(x))[:, None]


def _turn(x):
    return _turned(x, _at(x) * _speeds(x.shape[1]))


def _halves(x):
    return to_half(_turn(to_interleaved(x)))


def _joined(x):
    return to_half(_turn(x))


def _backwards(x):
    return _turned(x, -_at(x) * _speeds(x.shape[1]))


def _half_power(x):
    return _turned(x, _at(x) * _speeds(x.shape[1], 0.5))


def _faster(x):
    return _turned(x, _at(x) * _speeds(x.shape[1], -1.0))


def _one_speed(x):
    return _turned(x, (_at(x) * torch.ones(x.shape[1] // 2)).float())


def _from_one(x):
    return _turned(x, _at(x, 1) * _speeds(x.shape[1]))


def _mirrored(x):
    angle = _at(x) * _speeds(x.shape[1])
    first, second = x[:, 0::2], x[:, 1::2]
    turned = (
        first * angle.cos() + second * angle.sin(),
        first * angle.sin() + second * angle.cos(),
    )
    return torch.stack(turned, -1).flatten(-2)


def _added(x):
    angle = _at(x) * _speeds(x.shape[1])
    return x + torch.stack((angle.sin(), angle.cos()), -1).flatten(-2)


turn = Exercise(
    correct=_turn,
    mistakes={
        "the pairs are taken from the two halves: that is the half-split layout; "
        "interleaved pairs are neighbours": _halves,
        "the turned pairs are laid out half-split: weave them, each pair side by "
        "side": _joined,
        "the pairs turn the other way: first·cos − second·sin, first·sin + "
        "second·cos": _backwards,
        "a minus is missing: first·cos − second·sin, or it is no rotation": _mirrored,
        "the exponent is i/d, and the speeds fall only half as far: it is 2i/d, where i "
        "counts pairs": _half_power,
        "the later pairs turn faster: divide by 10000^(2i/d)": _faster,
        "all pairs turn at one speed: pair i turns by p / 10000^(2i/d)": _one_speed,
        "positions start at 1: the first token is not turned": _from_one,
        "the waves were added: RoPE adds nothing, it turns": _added,
    },
    cases=[
        (torch.randn(5, 8, generator=_generator),),
        (torch.randn(12, 16, generator=_generator),),
    ],
    tol=1e-3,
)


# --- convert: from interleaved to half-split -------------------------------------


def _convert(weight, num_heads):
    rows = weight.unflatten(0, (num_heads, -1))
    return torch.cat((rows[:, 0::2], rows[:, 1::2]), 1).flatten(0, 1)


def _across_heads(weight, num_heads):
    return torch.cat((weight[0::2], weight[1::2]))


def _inverse(weight, num_heads):
    rows = weight.unflatten(0, (num_heads, -1))
    return torch.stack(rows.chunk(2, 1), 2).flatten(1, 2).flatten(0, 1)


def _columns(weight, num_heads):
    return _convert(weight.mT, num_heads).mT


def _odd_first(weight, num_heads):
    rows = weight.unflatten(0, (num_heads, -1))
    return torch.cat((rows[:, 1::2], rows[:, 0::2]), 1).flatten(0, 1)


def _heads_inside(weight, num_heads):
    rows = weight.unflatten(0, (-1, num_heads)).transpose(0, 1)
    rows = torch.cat((rows[:, 0::2], rows[:, 1::2]), 1)
    return rows.transpose(0, 1).flatten(0, 1)


convert = Exercise(
    correct=_convert,
    mistakes={
        "the heads are mixed: even rows of all heads come first; permute within each "
        "head": _across_heads,
        "that is the inverse, from half-split to interleaved": _inverse,
        "the columns are permuted: they belong to the input, the rows make the "
        "features": _columns,
        "the odd rows come first: the first feature of each pair is the even "
        "one": _odd_first,
        "the rows of a head stand together: head h owns h·d … (h + 1)·d − "
        "1": _heads_inside,
        "nothing has moved": lambda weight, num_heads: weight,
    },
    cases=[
        (torch.randn(16, 16, generator=_generator), 2),
        (torch.randn(24, 24, generator=_generator), 3),
    ],
)


# --- come_round: pairs that make a full turn -------------------------------------


def _count(d, T, base, power=1.0, turn=math.tau):
    return sum(turn * base ** (power * 2 * i / d) <= T for i in range(d // 2))


come_round = Exercise(
    correct=_count,
    mistakes={
        "2π is missing: a full turn is 2π radians, not one": lambda d, T, base: _count(
            d, T, base, turn=1.0
        ),
        "half a turn is not round: a full turn is 2π": lambda d, T, base: _count(
            d, T, base, turn=math.pi
        ),
        "those are the pairs that do not come round": lambda d, T, base: (
            d // 2 - _count(d, T, base)
        ),
        "features were counted, two to a pair": lambda d, T, base: (
            2 * _count(d, T, base)
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
    cases=[(64, 128, 10_000.0), (128, 1000, 500_000.0), (32, 5000, 100_000.0)],
    tol=0,
)


# --- stretched_base: NTK scaling -------------------------------------------------


def _stretched(d, factor, base):
    return base * factor ** (d / (d - 2))


stretched_base = Exercise(
    correct=_stretched,
    mistakes={
        "the base times the factor makes the slowest pair not quite slow enough: its "
        "exponent is (d − 2)/d, not 1": lambda d, factor, base: base * factor,
        "the exponent is upside down: solve for the base": lambda d, factor, base: (
            base * factor ** ((d - 2) / d)
        ),
        "that base makes the pairs quicker: multiply, do not "
        "divide": lambda d, factor, base: base / factor ** (d / (d - 2)),
        "the slowest pair is d/2 − 1, not d/2 − 2: d / (d − "
        "2)": lambda d, factor, base: base * factor ** (d / (d - 4)),
        "the slowest pair is number d/2 − 1, counted in pairs: d − 2, not d − "
        "1": lambda d, factor, base: base * factor ** (d / (d - 1)),
        "the base itself is scaled, too: only the factor is raised to "
        "d/(d − 2)": lambda d, factor, base: (base * factor) ** (d / (d - 2)),
    },
    cases=[(64, 8.0, 10_000.0), (16, 4.0, 1_000.0)],
    tol=1e-3,
)
