"""The exercises of neural networks: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- slope: (a b + a)² by a, at a = 3 and b = 4 ------------------------------------------

slope = Exercise(
    correct=150,
    mistakes={
        "that is the value of f: its slope by a is asked for": 225,
        "one way from a to a b + a is missing, the one on which a is added: b + 1, not "
        "b": 120,
        "one way from a to a b + a is missing, the one through the product: b + 1, not "
        "1": 30,
        "2 u belongs to both ways: 2 u times (b + 1), not 2 u b + 1": 121,
        "that is the slope of the inside, a b + a: multiply it by 2 u, the slope of the "
        "square": 5,
        "the slope of u² is 2 u = 30, not u = 15": 75,
        "that is the slope by b: a is asked for": 90,
        "that is 2 u times the inside once more: the slope of the inside by a is b + "
        "1": 450,
    },
)

# --- larger: the larger of two numbers, with its slopes -----------------------------------


def _larger(a, b):
    if a == b:
        return a, 0.5, 0.5
    return max(a, b), float(a > b), float(b > a)


def _told(slopes):
    return lambda a, b: (max(a, b), *slopes(a, b))


larger = Exercise(
    correct=_larger,
    mistakes={
        "at a tie both inputs get 1: the result moves once, so each gets half": _told(
            lambda a, b: (float(a >= b), float(b >= a))
        ),
        "at a tie neither input gets a slope: each gets half": _told(
            lambda a, b: (float(a > b), float(b > a))
        ),
        "at a tie the first input gets all: each gets half": _told(
            lambda a, b: (float(a >= b), float(b > a))
        ),
        "at a tie the second input gets all: each gets half": _told(
            lambda a, b: (float(a > b), float(b >= a))
        ),
        "the slopes are swapped: the larger input moves the result": lambda a, b: (
            max(a, b),
            *_larger(a, b)[:0:-1],
        ),
        "both slopes are always 1: the smaller input does not move the result": _told(
            lambda a, b: (1.0, 1.0)
        ),
        "both slopes are always half: that is right at a tie only": _told(
            lambda a, b: (0.5, 0.5)
        ),
        "the slopes are the numbers themselves: the larger input has the slope 1": _told(
            lambda a, b: (
                a * (a > b) + a * (a == b) / 2,
                b * (b > a) + b * (a == b) / 2,
            )
        ),
        "this is the smaller of the two": lambda a, b: (
            min(a, b),
            *_larger(a, b)[:0:-1],
        ),
    },
    cases=[(3.0, 5.0), (-1.0, -4.0), (2.0, 2.0), (0.0, 0.5)],
)

# --- back: through the mean square of a row ----------------------------------------------


def _rows(scale):
    return lambda g, x: g * scale(x)


back = Exercise(
    correct=_rows(lambda x: 2 * x / x.shape[-1]),
    mistakes={
        "the division by D is missing: this is the way back through a sum of squares": (
            _rows(lambda x: 2 * x)
        ),
        "the 2 of the square is missing": _rows(lambda x: x / x.shape[-1]),
        "it divides by the number of rows: the mean is over the last axis, of D "
        "numbers": _rows(lambda x: 2 * x / x.shape[0]),
        "it divides by all numbers of x: each row has a mean of its own, of D numbers": (
            _rows(lambda x: 2 * x / x.numel())
        ),
        "this is the way back through a mean of x, without the square": _rows(
            lambda x: torch.ones_like(x) / x.shape[-1]
        ),
        "g is left out: it is the slope of the end by y": lambda g, x: (
            2 * x / x.shape[-1]
        ),
        "this is the way back through the root of the mean square": lambda g, x: (
            g * x / x.shape[-1] / x.square().mean(-1, keepdim=True).sqrt()
        ),
        "the slopes are right, but in a tuple: return the tensor itself": lambda g, x: (
            (g * 2 * x / x.shape[-1],)
        ),
        "the rows are added up: each has its own result, and its own g": lambda g, x: (
            g.sum(0, keepdim=True) * 2 * x / x.shape[-1]
        ),
        "it squares x: the slope of x² is 2 x": _rows(
            lambda x: x.square() / x.shape[-1]
        ),
    },
    cases=[(_random(3, 1, seed=0), _random(3, 4, seed=1))],
)

# --- nesterov: one step ------------------------------------------------------------------


def _nesterov(p, g, v, rate, keep):
    v = keep * v + g
    return p - rate * (g + keep * v), v


def _stepped(step, memory=lambda g, v, keep: keep * v + g):
    def nesterov(p, g, v, rate, keep):
        new = memory(g, v, keep)
        return p - rate * step(g, v, new, keep), new

    return nesterov


nesterov = Exercise(
    correct=_nesterov,
    mistakes={
        "this is plain momentum: step along g + keep · v with the new v, not along v": _stepped(
            lambda g, v, new, keep: new
        ),
        "the step leaves out g: it goes along g + keep · v": _stepped(
            lambda g, v, new, keep: keep * new
        ),
        "the step goes along g + v: v is shortened by keep once more": _stepped(
            lambda g, v, new, keep: g + new
        ),
        "the step goes uphill: subtract it": lambda p, g, v, rate, keep: (
            2 * p - _nesterov(p, g, v, rate, keep)[0],
            keep * v + g,
        ),
        "v is a running mean, with (1 - keep) · g: here g is added whole": _stepped(
            lambda g, v, new, keep: g + keep * new,
            lambda g, v, keep: keep * v + (1 - keep) * g,
        ),
        "the old v is returned: the next step needs the new one": (
            lambda p, g, v, rate, keep: (_nesterov(p, g, v, rate, keep)[0], v)
        ),
        "v holds the rate as well: torch multiplies by the rate in the step": (
            lambda p, g, v, rate, keep: (
                p - (rate * g + keep * (keep * v + rate * g)),
                keep * v + rate * g,
            )
        ),
        "v and p are swapped: return p first": lambda *a: _nesterov(*a)[::-1],
    },
    cases=[
        (*(_random(2, 3, seed=s) for s in (2, 3, 4)), 0.1, 0.9),
        (*(_random(4, seed=s) for s in (5, 6, 7)), 0.5, 0.7),
    ],
)

# --- clip: by the length of all gradients together -----------------------------------------


def _length(gradients) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients))


def _clip(gradients, most):
    factor = min(1.0, most / (_length(gradients) or 1.0))
    return [g * factor for g in gradients]


_long = [_random(2, 3, seed=8), 5 * _random(2, 3, seed=9)]
_short = [0.1 * g for g in _long]

clip = Exercise(
    correct=_clip,
    mistakes={
        "each tensor is shortened by its own length: one factor for all keeps the "
        "direction": lambda gradients, most: [_clip([g], most)[0] for g in gradients],
        "each number is clamped: that changes the direction": lambda gradients, most: [
            g.clamp(-most, most) for g in gradients
        ],
        "short gradients are made longer: leave them as they are": (
            lambda gradients, most: [g * most / _length(gradients) for g in gradients]
        ),
        "the root is missing: the length is the root of the sum of squares": (
            lambda gradients, most: [
                g * min(1.0, most / _length(gradients) ** 2) for g in gradients
            ]
        ),
        "the lengths of the tensors are added up: add the squares, and take one root": (
            lambda gradients, most: [
                g * min(1.0, most / sum(_length([x]) for x in gradients))
                for g in gradients
            ]
        ),
        "that is the length of the longest tensor: all numbers count together": (
            lambda gradients, most: [
                g * min(1.0, most / max(_length([x]) for x in gradients))
                for g in gradients
            ]
        ),
        "that is the largest number: the length is the root of the sum of squares": (
            lambda gradients, most: [
                g * min(1.0, most / max(float(x.abs().max()) for x in gradients))
                for g in gradients
            ]
        ),
        "they get the length 1: the length that is allowed is `most`": (
            lambda gradients, most: [
                g / _length(gradients) if _length(gradients) > most else g
                for g in gradients
            ]
        ),
        "the factor is upside down: most / length": lambda gradients, most: [
            g * (_length(gradients) / most) if _length(gradients) > most else g
            for g in gradients
        ],
        "nothing is shortened": lambda gradients, most: gradients,
    },
    cases=[(_long, 2.0), (_short, 2.0), (_long, 0.5)],
)
