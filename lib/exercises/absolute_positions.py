"""The exercises of absolute positions: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise


def _angles(T: int, D: int, power: float = 2.0, first: int = 0) -> Tensor:
    pair = torch.arange(D // 2)
    return torch.arange(first, first + T)[:, None] / 10_000 ** (power * pair / D)


def _woven(sine: Tensor, cosine: Tensor) -> Tensor:
    return torch.stack([sine, cosine], -1).flatten(-2)


# --- waves: the code -----------------------------------------------------------------


def _waves(T, D):
    angle = _angles(T, D)
    return _woven(angle.sin(), angle.cos())


def _half_power(T, D):
    angle = _angles(T, D, power=1.0)
    return _woven(angle.sin(), angle.cos())


def _from_one(T, D):
    angle = _angles(T, D, first=1)
    return _woven(angle.sin(), angle.cos())


def _cosine_first(T, D):
    angle = _angles(T, D)
    return _woven(angle.cos(), angle.sin())


def _sines_then_cosines(T, D):
    angle = _angles(T, D)
    return torch.cat([angle.sin(), angle.cos()], -1)


def _only_sines(T, D):
    angle = _angles(T, D)
    return _woven(angle.sin(), angle.sin())


def _multiplied(T, D):
    angle = torch.arange(T)[:, None] * 10_000 ** (2 * torch.arange(D // 2) / D)
    return _woven(angle.sin(), angle.cos())


def _own_frequency_each(T, D):
    angle = torch.arange(T)[:, None] / 10_000 ** (torch.arange(D) / D)
    return torch.where(torch.arange(D) % 2 == 0, angle.sin(), angle.cos())


def _transposed(T, D):
    return _waves(T, D).mT


def _ramp(T, D):
    return 0.01 * torch.arange(1.0, T + 1)[:, None].expand(T, D)


waves = Exercise(
    correct=_waves,
    mistakes={
        "the exponent is i/D, and the waves fall only half as far: it is 2i/D, where i "
        "counts pairs": _half_power,
        "positions start at 1: the first token stands at position 0": _from_one,
        "sine and cosine are swapped: the sine goes into the even feature": _cosine_first,
        "all sines come first: weave them, sine and cosine of one angle side by "
        "side": _sines_then_cosines,
        "the odd features hold sines, too: they are cosines": _only_sines,
        "the position is multiplied by 10000^(2i/D): divide, or the waves get faster "
        "instead of slower": _multiplied,
        "each feature has a frequency of its own: features 2i and 2i + 1 share "
        "one": _own_frequency_each,
        "rows and columns are swapped: one row for each position": _transposed,
        "that is a ramp: it grows without bound, and no two distances compare; take "
        "sines and cosines": _ramp,
    },
    cases=[(6, 8), (40, 4)],
    tol=1e-3,  # of the mistake that multiplies, float32 knows the angle no better
)


# --- wavelength ----------------------------------------------------------------------


def _wavelength(j, D):
    return 2 * math.pi * 10_000 ** (2 * (j // 2) / D)


wavelength = Exercise(
    correct=_wavelength,
    mistakes={
        "2π is missing: a wave is back after a full turn, not after one "
        "radian": lambda j, D: _wavelength(j, D) / (2 * math.pi),
        "that is the frequency, turns for each position: take its "
        "inverse": lambda j, D: 1 / _wavelength(j, D),
        "that is radians for each position: a full turn is 2π of them": lambda j, D: (
            2 * math.pi / _wavelength(j, D)
        ),
        "half a turn: sine and cosine are back after 2π, not π": lambda j, D: (
            _wavelength(j, D) / 2
        ),
        "j counts features, two to a pair: the pair is j // 2": lambda j, D: (
            2 * math.pi * 10_000 ** (2 * j / D)
        ),
        "the odd feature got a clock of its own: it shares that of its even "
        "neighbour": lambda j, D: 2 * math.pi * 10_000 ** (j / D),
        "the exponent is halved: it is 2i/D for pair i": lambda j, D: (
            2 * math.pi * 10_000 ** ((j // 2) / D)
        ),
    },
    cases=[(6, 32), (7, 32), (15, 64)],
)


# --- shift: the code of a later position ---------------------------------------------


def _turn(code, k, sign=1.0):
    D = len(code)
    angle = sign * k / 10_000 ** (torch.arange(0, D, 2) / D)
    sine, cosine = code[0::2], code[1::2]
    return _woven(
        sine * angle.cos() + cosine * angle.sin(),
        cosine * angle.cos() - sine * angle.sin(),
    )


def _turn_back(code, k):
    return _turn(code, k, sign=-1.0)


def _code_of_k(code, k):
    return _waves(k + 1, len(code))[k]


def _codes_added(code, k):
    return code + _code_of_k(code, k)


def _k_added(code, k):
    return code + k


def _same_angle(code, k):
    sine, cosine = code[0::2], code[1::2]
    c, s = math.cos(k), math.sin(k)
    return _woven(sine * c + cosine * s, cosine * c - sine * s)


def _halves(code, k):
    D = len(code)
    angle = k / 10_000 ** (torch.arange(0, D, 2) / D)
    sine, cosine = code.chunk(2)
    return torch.cat(
        [
            sine * angle.cos() + cosine * angle.sin(),
            cosine * angle.cos() - sine * angle.sin(),
        ]
    )


def _unmoved(code, k):
    return code


shift = Exercise(
    correct=_turn,
    mistakes={
        "the clocks turn the wrong way: that is the code k positions "
        "earlier": _turn_back,
        "that is the code of position k itself: start from the code that is "
        "given": _code_of_k,
        "adding the code of k is not moving by k: angles add, sines do "
        "not": _codes_added,
        "k was added to each feature: turn each pair by k ω": _k_added,
        "all clocks turn by the same angle: pair i turns by k / "
        "10000^(2i/D)": _same_angle,
        "the pairs are taken from the two halves: sine and cosine of a clock are "
        "neighbours, 2i and 2i + 1": _halves,
        "nothing has moved": _unmoved,
    },
    cases=[(_waves(30, 16)[23].clone(), 3), (_waves(30, 8)[11].clone(), 9)],
    tol=1e-4,
)


# --- add: a learned table ------------------------------------------------------------


def _add(x, table, start):
    return x + table[start : start + x.shape[1]]


def _from_the_top(x, table, start):
    return x + table[: x.shape[1]]


def _one_row(x, table, start):
    return x + table[start]


def _by_batch(x, table, start):
    return x + table[start : start + len(x), None]


def _last_rows(x, table, start):
    return x + table[-x.shape[1] :]


def _multiplied_in(x, table, start):
    return x * table[start : start + x.shape[1]]


def _joined(x, table, start):
    rows = table[start : start + x.shape[1]].expand(len(x), -1, -1)
    return torch.cat([x, rows], -1)


def _rows_alone(x, table, start):
    return table[start : start + x.shape[1]].expand(len(x), -1, -1)


def _off_by_one(x, table, start):
    return x + table[start + 1 : start + 1 + x.shape[1]]


_generator = torch.Generator().manual_seed(0)
_tables = [torch.randn(12, 5, generator=_generator) for _ in range(2)]
_words = [torch.randn(*shape, generator=_generator) for shape in ((2, 4, 5), (3, 3, 5))]

add = Exercise(
    correct=_add,
    mistakes={
        "the rows start at 0: the first token stands at position start": _from_the_top,
        "every token gets the same row: token t stands at start + t": _one_row,
        "the row follows the sequence, not the token: positions run along axis "
        "1": _by_batch,
        "those are the table's last rows": _last_rows,
        "words and positions are multiplied: add them": _multiplied_in,
        "words and positions are joined, so the width doubles: add them": _joined,
        "the words are gone: add the rows to x": _rows_alone,
        "one row too far: position start itself comes first": _off_by_one,
    },
    cases=[(_words[0], _tables[0], 3), (_words[1], _tables[1], 7)],
)
