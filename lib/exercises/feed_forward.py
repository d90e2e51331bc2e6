"""The exercises of the feed-forward chapter: right answers, and the wrong ones we name."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- slope: the derivative of GELU ------------------------------------------------------


def _share(x: Tensor) -> Tensor:  # Φ(x)
    return (1 + torch.erf(x / 2**0.5)) / 2


def _bell(x: Tensor) -> Tensor:  # φ(x)
    return torch.exp(-x * x / 2) / math.tau**0.5


def _slope_tanh(x: Tensor) -> Tensor:
    inner = (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)
    steep = (2 / math.pi) ** 0.5 * (1 + 3 * 0.044715 * x * x)
    t = torch.tanh(inner)
    return (1 + t) / 2 + x * (1 - t * t) * steep / 2


slope = Exercise(
    correct=lambda x: _share(x) + x * _bell(x),
    mistakes={
        "this is GELU itself: its slope is asked for": F.gelu,
        "x is taken as a constant: by the product rule x φ(x) is missing": _share,
        "Φ is taken as a constant: by the product rule Φ(x) is missing": (
            lambda x: x * _bell(x)
        ),
        "the factor x is missing: the second part of the product rule is x φ(x)": (
            lambda x: _share(x) + _bell(x)
        ),
        "this is φ(x) alone, the product of the two slopes: the product rule is a sum, "
        "Φ(x) · 1 + x · φ(x)": _bell,
        "the x stands in the wrong part: each part has one factor differentiated, "
        "Φ(x) and x φ(x)": lambda x: x * _share(x) + _bell(x),
        "−x φ(x) is the slope of the bell: the slope of Φ is the bell itself": (
            lambda x: _share(x) - x * x * _bell(x)
        ),
        "the root is missing: φ(x) = exp(−x²/2) / √(2π)": lambda x: (
            _share(x) + x * _bell(x) / math.tau**0.5
        ),
        "the √2 is missing in Φ: it is (1 + erf(x / √2)) / 2": lambda x: (
            (1 + torch.erf(x)) / 2 + x * _bell(x)
        ),
        "the √(2π) is missing: φ(x) = exp(−x²/2) / √(2π)": lambda x: (
            _share(x) + x * torch.exp(-x * x / 2)
        ),
        "the half in the exponent is missing: φ(x) = exp(−x²/2) / √(2π)": lambda x: (
            _share(x) + x * torch.exp(-x * x) / math.tau**0.5
        ),
        "erf(x / √2) has the inner slope 1/√2, which is missing": lambda x: (
            _share(x) + 2**0.5 * x * _bell(x)
        ),
        "x φ(x) is subtracted: Φ grows with x, so it is added": lambda x: (
            _share(x) - x * _bell(x)
        ),
        "this is the slope of ReLU: 0 or 1": lambda x: (x > 0).to(x),
        "this is the slope of SiLU: the share below x is Φ(x), not the sigmoid": (
            lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))
        ),
        "this is the slope of the tanh form: near, but not the exact one": _slope_tanh,
    },
    cases=[(torch.linspace(-4, 4, 34),)],
)

# --- without: some hidden units switched off --------------------------------------------


def _kept(units: list, hidden: int) -> Tensor:
    kept = torch.ones(hidden)
    kept[units] = 0
    return kept


def _without(x, w_up, b_up, w_down, b_down, units):
    hidden = F.gelu(x @ w_up.mT + b_up) * _kept(units, len(w_up))
    return hidden @ w_down.mT + b_down


def _whole(x, w_up, b_up, w_down, b_down, activation=F.gelu):
    return activation(x @ w_up.mT + b_up) @ w_down.mT + b_down


without = Exercise(
    correct=_without,
    mistakes={
        "nothing is switched off: this is the whole MLP": lambda *case: _whole(
            *case[:-1]
        ),
        "it is the other way round: only the named units are left on": (
            lambda x, wu, bu, wd, bd, units: (
                (F.gelu(x @ wu.mT + bu) * (1 - _kept(units, len(wu)))) @ wd.mT + bd
            )
        ),
        "a row of `w_up` is set to zero but not its bias: the unit still gives GELU "
        "of its bias": lambda x, wu, bu, wd, bd, units: _whole(
            x, wu * _kept(units, len(wu))[:, None], bu, wd, bd
        ),
        "the bias of a unit is set to zero but not its row of `w_up`: the unit still "
        "reads the token": lambda x, wu, bu, wd, bd, units: _whole(
            x, wu, bu * _kept(units, len(wu)), wd, bd
        ),
        "rows of `w_down` are set to zero: a row is a feature of the output, a column "
        "a unit": lambda x, wu, bu, wd, bd, units: _whole(
            x, wu, bu, wd * _kept(units, len(wd))[:, None], bd
        ),
        "features of x are set to zero: the units are in the hidden layer": (
            lambda x, wu, bu, wd, bd, units: _whole(
                x * _kept(units, x.shape[-1]), wu, bu, wd, bd
            )
        ),
        "the activation is forgotten": lambda x, wu, bu, wd, bd, units: (
            ((x @ wu.mT + bu) * _kept(units, len(wu))) @ wd.mT + bd
        ),
        "this is ReLU: the exercise wants GELU": lambda x, wu, bu, wd, bd, units: (
            (torch.relu(x @ wu.mT + bu) * _kept(units, len(wu))) @ wd.mT + bd
        ),
        "`b_down` is missing: it belongs to no unit and stays": (
            lambda x, wu, bu, wd, bd, units: (
                (F.gelu(x @ wu.mT + bu) * _kept(units, len(wu))) @ wd.mT
            )
        ),
        "`b_up` is missing": lambda x, wu, bu, wd, bd, units: (
            (F.gelu(x @ wu.mT) * _kept(units, len(wu))) @ wd.mT + bd
        ),
        "tokens are silenced: in (..., hidden) the units are the last axis": (
            lambda x, wu, bu, wd, bd, units: (
                F.gelu(x @ wu.mT + bu).index_fill(-2, torch.tensor(units), 0) @ wd.mT
                + bd
            )
        ),
        "features of the output are set to zero: the units are in the hidden layer": (
            lambda x, *case: _whole(x, *case[:-1]) * _kept(case[-1], x.shape[-1])
        ),
        "the units write their average over the tokens: silent ones write nothing": (
            lambda x, wu, bu, wd, bd, units: (
                (h := F.gelu(x @ wu.mT + bu)).where(
                    _kept(units, len(wu)) > 0, h.mean((0, 1))
                )
                @ wd.mT
                + bd
            )
        ),
        "this is the tanh form of GELU": lambda x, wu, bu, wd, bd, units: (
            (F.gelu(x @ wu.mT + bu, approximate="tanh") * _kept(units, len(wu))) @ wd.mT
            + bd
        ),
        "this is what the named units write: the output without them is asked for": (
            lambda *case: _whole(*case[:-1]) - _without(*case)
        ),
        "x is added: the residual connection stands outside the MLP": (
            lambda x, *case: x + _without(x, *case)
        ),
        "this is what the named units write, with the sign turned: subtract it from "
        "the whole output": lambda *case: _without(*case) - _whole(*case[:-1]),
    },
    cases=[
        (
            _random(2, 5, 4, seed=0),  # x (B, T, D)
            _random(6, 4, seed=1),
            _random(6, seed=2),
            _random(4, 6, seed=3),
            _random(4, seed=4),
            [0, 3],
        )
    ],
)

# --- merged: gate and up in one matrix --------------------------------------------------


def _merged(x, w_in, w_down, activation=F.gelu):
    gate, up = (x @ w_in.mT).chunk(2, -1)
    return (activation(gate) * up) @ w_down.mT


def _by_turns(x, w_in, w_down):
    both = x @ w_in.mT
    return (F.gelu(both[..., 0::2]) * both[..., 1::2]) @ w_down.mT


def _joined(x, w_in, w_down, join):
    return join(*(x @ w_in.mT).chunk(2, -1)) @ w_down.mT


merged = Exercise(
    correct=_merged,
    mistakes={
        "the halves are swapped: the gate's rows come first": lambda x, wi, wd: _joined(
            x, wi, wd, lambda a, b: a * F.gelu(b)
        ),
        "rows are taken by turns: the first half is the gate, the second is up": (
            _by_turns
        ),
        "GELU acts on both halves: it belongs on the gate alone": lambda x, wi, wd: (
            _joined(x, wi, wd, lambda a, b: F.gelu(a) * F.gelu(b))
        ),
        "GELU acts on the product: it belongs on the gate alone": lambda x, wi, wd: (
            _joined(x, wi, wd, lambda a, b: F.gelu(a * b))
        ),
        "this is SiLU: the exercise wants GELU": lambda x, wi, wd: _merged(
            x, wi, wd, F.silu
        ),
        "this is a sigmoid: the exercise wants GELU": lambda x, wi, wd: _merged(
            x, wi, wd, torch.sigmoid
        ),
        "this is ReLU: the exercise wants GELU": lambda x, wi, wd: _merged(
            x, wi, wd, torch.relu
        ),
        "the activation is forgotten: this is the bilinear form": lambda x, wi, wd: (
            _joined(x, wi, wd, lambda a, b: a * b)
        ),
        "the halves are added: a gate multiplies": lambda x, wi, wd: _joined(
            x, wi, wd, lambda a, b: F.gelu(a) + b
        ),
        "the up half is missing: this is a plain MLP of the gate": lambda x, wi, wd: (
            _joined(x, wi, wd, lambda a, b: F.gelu(a))
        ),
        "x is added: the residual connection stands outside the MLP": (
            lambda x, wi, wd: x + _merged(x, wi, wd)
        ),
    },
    cases=[
        (_random(2, 5, 4, seed=5), _random(12, 4, seed=6), _random(4, 6, seed=7)),
        (_random(3, 8, seed=8), _random(8, 8, seed=9), _random(8, 4, seed=10)),
    ],
)

# --- parallel: both branches read one norm ----------------------------------------------


def _norm(x: Tensor) -> Tensor:
    return 1.5 * F.layer_norm(x, x.shape[-1:]) - 0.2


def _mix(x: Tensor) -> Tensor:  # stands for attention: each token and the one before
    return 0.7 * torch.sin(x) + 0.5 * x.roll(1, -2)


def _alone(x: Tensor) -> Tensor:  # stands for the MLP
    return torch.relu(2 * x - 0.5) + 0.3


def _one_after_another(x, attend, mlp, norm):
    x = x + attend(norm(x))
    return x + mlp(norm(x))


parallel = Exercise(
    correct=lambda x, a, m, n: x + a(n(x)) + m(n(x)),
    mistakes={
        "the MLP reads the stream after attention has written: here both read the same "
        "norm of x": _one_after_another,
        "the MLP reads what attention wrote: here both read the same norm of x": (
            lambda x, a, m, n: x + (h := a(n(x))) + m(h)
        ),
        "the MLP reads what attention wrote, and nothing else is added": (
            lambda x, a, m, n: x + m(a(n(x)))
        ),
        "the MLP reads the stream after attention has written, without a norm: here both "
        "read the same norm of x": lambda x, a, m, n: (y := x + a(n(x))) + m(y),
        "the MLP reads the norm plus what attention wrote: here both read the same norm "
        "of x": lambda x, a, m, n: x + a(h := n(x)) + m(h + a(h)),
        "this is Post-LN, one branch after the other: here both read the same norm of x": (
            lambda x, a, m, n: n((y := n(x + a(x))) + m(y))
        ),
        "the MLP comes first, and attention reads what it wrote: here both read the same "
        "norm of x": lambda x, a, m, n: (y := x + m(n(x))) + a(n(y)),
        "a norm stands behind each branch: it belongs before them": lambda x, a, m, n: (
            x + n(a(x)) + n(m(x))
        ),
        "x is added twice: one residual connection leads around both branches": (
            lambda x, a, m, n: 2 * x + a(n(x)) + m(n(x))
        ),
        "the residual connection is missing": lambda x, a, m, n: a(n(x)) + m(n(x)),
        "the norm itself is carried on: x must be added as it was before the norm": (
            lambda x, a, m, n: (h := n(x)) + a(h) + m(h)
        ),
        "the norms are missing: the branches read x itself": lambda x, a, m, n: (
            x + a(x) + m(x)
        ),
        "the MLP reads x without the norm": lambda x, a, m, n: x + a(n(x)) + m(x),
        "attention reads x without the norm": lambda x, a, m, n: x + a(x) + m(n(x)),
        "the norm stands after the sum: it belongs before the branches": (
            lambda x, a, m, n: n(x + a(x) + m(x))
        ),
        "attention is missing": lambda x, a, m, n: x + m(n(x)),
        "the MLP is missing": lambda x, a, m, n: x + a(n(x)),
        "the two writes are multiplied: they are added": lambda x, a, m, n: (
            x + a(n(x)) * m(n(x))
        ),
    },
    cases=[(3 * _random(2, 5, 4, seed=11) + 1, _mix, _alone, _norm)],
)

# --- hidden: how many units a gated MLP may have ----------------------------------------


def _up_to(parts: int, multiple: int) -> int:  # `parts` thirds, rounded up
    return -(-parts // (3 * multiple)) * multiple


hidden = Exercise(
    correct=lambda d_model, multiple: _up_to(8 * d_model, multiple),
    mistakes={
        "rounded down: the next multiple above is asked for": lambda d, m: (
            8 * d // (3 * m) * m
        ),
        "rounded to the nearest multiple: the next one above is asked for": (
            lambda d, m: round(8 * d / (3 * m)) * m
        ),
        "one multiple too many where the number is a multiple already": lambda d, m: (
            (8 * d // (3 * m) + 1) * m
        ),
        "not rounded up to a multiple": lambda d, m: 8 * d / 3,
        "rounded up to a whole number, not to a multiple": lambda d, m: -(-8 * d // 3),
        "this is the plain MLP's width: three matrices in place of two leave two thirds "
        "of it": lambda d, m: _up_to(12 * d, m),
        "this is two thirds of the token's width: the plain MLP is four times as wide": (
            lambda d, m: _up_to(2 * d, m)
        ),
        "half of the plain width: the three matrices share what two had, so it is two "
        "thirds": lambda d, m: _up_to(6 * d, m),
        "three quarters of the plain width: two matrices to three are two thirds": (
            lambda d, m: _up_to(9 * d, m)
        ),
        "this is half as wide again as the plain MLP: three matrices must be "
        "narrower, not wider": lambda d, m: _up_to(18 * d, m),
        "this counts the parameters: the hidden width is asked for": (
            lambda d, m: 8 * d * d
        ),
    },
    # Llama 7 B and 13 B; a number that is a multiple already; small multiples
    cases=[(4096, 256), (5120, 256), (96, 64), (100, 8), (64, 16)],
)
