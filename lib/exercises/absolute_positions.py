"""The exercises of absolute positions: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise


def _angles(T: int, D: int, first: int = 0) -> Tensor:
    pair = torch.arange(D // 2)
    return torch.arange(first, first + T)[:, None] / 10_000 ** (2 * pair / D)


def _woven(sine: Tensor, cosine: Tensor) -> Tensor:
    return torch.stack([sine, cosine], -1).flatten(-2)


def _waves(T: int, D: int) -> Tensor:
    angle = _angles(T, D)
    return _woven(angle.sin(), angle.cos())


# --- grid: a code for two positions ----------------------------------------------------


def _joined(row: Tensor, column: Tensor) -> Tensor:
    """(H, d) and (W, d) -> (H, W, 2 d)."""
    H, W = len(row), len(column)
    halves = row[:, None].expand(H, W, -1), column.expand(H, W, -1)
    return torch.cat(halves, -1)


def _grid(H, W, D):
    return _joined(_waves(H, D // 2), _waves(W, D // 2))


def _with(first: int = 0, woven=_woven):
    def code(T, D):
        angle = _angles(T, D, first)
        return woven(angle.sin(), angle.cos())

    return lambda H, W, D: _joined(code(H, D // 2), code(W, D // 2))


def _of_whole_width(H, W, D):
    return _joined(_waves(H, D)[:, : D // 2], _waves(W, D)[:, : D // 2])


def _other_half(H, W, D):
    return _joined(_waves(H, D)[:, : D // 2], _waves(W, D)[:, D // 2 :])


grid = Exercise(
    correct=_grid,
    mistakes={
        "the row and the column have changed places: the row comes first": (
            lambda H, W, D: _joined(_waves(H, D // 2), _waves(W, D // 2)).roll(
                D // 2, -1
            )
        ),
        "rows and columns of the picture are swapped: the shape is (H, W, D)": (
            lambda H, W, D: _grid(H, W, D).transpose(0, 1)
        ),
        "the patches stand in one line: keep two axes, (H, W, D)": (
            lambda H, W, D: _grid(H, W, D).flatten(0, 1)
        ),
        "this numbers the patches from 0 to HW − 1, as in a text: give row and column "
        "waves of their own": lambda H, W, D: _waves(H * W, D).view(H, W, D),
        "the two codes are added: put them side by side, half of the features each": (
            lambda H, W, D: _waves(H, D)[:, None] + _waves(W, D)
        ),
        "the clocks are those of width D, and fall only half as far: each half is a "
        "code of width D/2": (_of_whole_width),
        "the column got the slow clocks of one code: it has a code of width D/2 of its "
        "own": _other_half,
        "the code of the row alone, twice": lambda H, W, D: _joined(
            _waves(H, D // 2), _waves(W, D // 2)
        )[..., : D // 2].repeat(1, 1, 2),
        "the column is missing: these are waves of the row alone": (
            lambda H, W, D: _waves(H, D)[:, None].expand(H, W, D)
        ),
        "the row is missing: these are waves of the column alone": (
            lambda H, W, D: _waves(W, D).expand(H, W, D)
        ),
        "rows and columns start at 1: the first is 0": _with(first=1),
        "all sines come first: weave them, sine and cosine of one angle side by "
        "side": _with(woven=lambda sine, cosine: torch.cat([sine, cosine], -1)),
        "sine and cosine are swapped: the sine goes into the even feature": _with(
            woven=lambda sine, cosine: _woven(cosine, sine)
        ),
        "row and column are woven feature by feature: the first half is the row's": (
            lambda H, W, D: torch.stack(_grid(H, W, D).chunk(2, -1), -1).flatten(-2)
        ),
    },
    cases=[(3, 5, 8), (6, 2, 16)],
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


def _side_by_side(x, table, start):
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
        "words and positions are joined, so the width doubles: add them": _side_by_side,
        "the words are gone: add the rows to x": _rows_alone,
        "one row too far: position start itself comes first": _off_by_one,
    },
    cases=[(_words[0], _tables[0], 3), (_words[1], _tables[1], 7)],
)
