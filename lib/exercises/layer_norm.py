"""The exercises of the layer-norm chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- layer_norm: the whole function -----------------------------------------------------


def _standardised(x: Tensor, eps: float, axis=-1) -> Tensor:
    variance = x.var(axis, correction=0, keepdim=True)
    return (x - x.mean(axis, keepdim=True)) / (variance + eps).sqrt()


def _layer_norm(x, weight, bias, eps):
    return weight * _standardised(x, eps) + bias


def _over(axis):
    return lambda x, weight, bias, eps: weight * _standardised(x, eps, axis) + bias


def _divided_by(spread):
    """A LayerNorm whose denominator is `spread(x, eps)`."""

    def norm(x, weight, bias, eps):
        return weight * (x - x.mean(-1, keepdim=True)) / spread(x, eps) + bias

    return norm


def _variance(x: Tensor, correction: int = 0) -> Tensor:
    return x.var(-1, correction=correction, keepdim=True)


layer_norm = Exercise(
    correct=_layer_norm,
    mistakes={
        "this is the unbiased variance, divided by D − 1: LayerNorm divides by D "
        "(correction=0)": _divided_by(lambda x, e: (_variance(x, 1) + e).sqrt()),
        "ε stands outside the root: it is √(σ² + ε), not σ + ε": _divided_by(
            lambda x, e: _variance(x).sqrt() + e
        ),
        "two things: ε stands outside the root, and x.std() divides by D − 1": (
            _divided_by(lambda x, e: _variance(x, 1).sqrt() + e)
        ),
        "ε is missing: a token whose features are nearly equal is blown up": (
            _divided_by(lambda x, e: _variance(x).sqrt())
        ),
        "you divide by the variance: take the root of σ² + ε": _divided_by(
            lambda x, e: _variance(x) + e
        ),
        "μ and σ are taken over the tokens: each token is normalised over its own "
        "features, the last axis": _over(-2),
        "μ and σ are taken over the batch, as BatchNorm does: each token is normalised "
        "over its own features, the last axis": _over(0),
        "μ and σ are taken over all tokens at once: each token has its own": _over(
            (0, 1, 2)
        ),
        "one μ and σ for all tokens of a sequence: each token has its own": _over(
            (1, 2)
        ),
        "γ and β are missing: scale by weight, shift by bias": (
            lambda x, weight, bias, eps: _standardised(x, eps)
        ),
        "β is missing: add bias": lambda x, weight, bias, eps: (
            weight * _standardised(x, eps)
        ),
        "γ is missing: multiply by weight": lambda x, weight, bias, eps: (
            _standardised(x, eps) + bias
        ),
        "γ and β have changed places: weight multiplies, bias is added": (
            lambda x, weight, bias, eps: _layer_norm(x, bias, weight, eps)
        ),
        "β is added before γ multiplies, so it is scaled too: β comes last": (
            lambda x, weight, bias, eps: weight * (_standardised(x, eps) + bias)
        ),
        "the mean is not subtracted from x": lambda x, weight, bias, eps: (
            weight * x / (_variance(x) + eps).sqrt() + bias
        ),
        "the mean is not subtracted at all: this is RMSNorm with a shift": (
            lambda x, weight, bias, eps: (
                weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt() + bias
            )
        ),
    },
    cases=[
        (1 + _random(2, 3, 4, seed=0), _random(4, seed=1), _random(4, seed=2), 0.1),
        (
            5 + 3 * _random(3, 2, 4, seed=3),
            _random(4, seed=4),
            _random(4, seed=5),
            0.02,
        ),
    ],
)


# --- rms_norm ---------------------------------------------------------------------------


def _mean_square(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _rms_norm(x, weight, eps):
    return weight * x / (_mean_square(x) + eps).sqrt()


rms_norm = Exercise(
    correct=_rms_norm,
    mistakes={
        "the mean is subtracted: this is LayerNorm without β; RMSNorm leaves the mean "
        "in": lambda x, weight, eps: _rms_norm(_centred(x), weight, eps),
        "the mean is subtracted above the line only: RMSNorm subtracts it nowhere": (
            lambda x, weight, eps: weight * _centred(x) / (_mean_square(x) + eps).sqrt()
        ),
        "you divide by the standard deviation: take the mean of x², from which no mean "
        "was subtracted": lambda x, weight, eps: (
            weight * x / (_variance(x) + eps).sqrt()
        ),
        "ε stands outside the root": lambda x, weight, eps: (
            weight * x / (_mean_square(x).sqrt() + eps)
        ),
        "ε is missing: a token near zero is blown up": lambda x, weight, eps: (
            weight * x / _mean_square(x).sqrt()
        ),
        "you divide by the mean square: take its root": lambda x, weight, eps: (
            weight * x / (_mean_square(x) + eps)
        ),
        "you divide by the length of the token, the root of the sum of x²: take the "
        "mean, or the result shrinks with the width": lambda x, weight, eps: (
            weight * x / (x.square().sum(-1, keepdim=True) + eps).sqrt()
        ),
        "you divide by the mean of |x|: RMS is the root of the mean of x²": (
            lambda x, weight, eps: weight * x / (x.abs().mean(-1, keepdim=True) + eps)
        ),
        "γ is missing: multiply by weight": lambda x, weight, eps: (
            x / (_mean_square(x) + eps).sqrt()
        ),
        "the mean square is taken over the tokens: each token has its own, over the "
        "last axis": lambda x, weight, eps: (
            weight * x / (x.square().mean(-2, keepdim=True) + eps).sqrt()
        ),
    },
    cases=[
        (1 + _random(2, 3, 4, seed=6), _random(4, seed=7), 0.1),
        (5 + 3 * _random(3, 2, 4, seed=8), _random(4, seed=9), 0.02),
    ],
)


# --- backward: the gradient of the input ------------------------------------------------


def _backward_from(scaled: Tensor, x: Tensor, eps: float, mean=1, along=1) -> Tensor:
    """`scaled` is γ · dy; `mean` and `along` switch the two correcting terms."""
    normed = _standardised(x, eps)
    scaled = (
        scaled
        - mean * scaled.mean(-1, keepdim=True)
        - along * normed * (scaled * normed).mean(-1, keepdim=True)
    )
    return scaled / (_variance(x) + eps).sqrt()


def _backward(dy, x, weight, eps):
    return _backward_from(weight * dy, x, eps)


backward = Exercise(
    correct=_backward,
    mistakes={
        "μ and σ are held fixed: they depend on x, and that takes two more terms": (
            lambda dy, x, weight, eps: _backward_from(weight * dy, x, eps, 0, 0)
        ),
        "the term of μ is missing: subtract the mean of γ · dy": (
            lambda dy, x, weight, eps: _backward_from(weight * dy, x, eps, 0, 1)
        ),
        "the term of σ is missing: subtract x̂ times the mean of γ · dy · x̂": (
            lambda dy, x, weight, eps: _backward_from(weight * dy, x, eps, 1, 0)
        ),
        "the term of σ has the wrong sign": lambda dy, x, weight, eps: _backward_from(
            weight * dy, x, eps, 1, -1
        ),
        "γ is missing: the gradient passes γ first": lambda dy, x, weight, eps: (
            _backward_from(dy, x, eps)
        ),
        "γ comes too late: multiply dy by it before the two means are taken": (
            lambda dy, x, weight, eps: weight * _backward_from(dy, x, eps)
        ),
        "1/σ is missing: large tokens have small gradients": (
            lambda dy, x, weight, eps: (
                _backward(dy, x, weight, eps) * (_variance(x) + eps).sqrt()
            )
        ),
        "you multiply by σ: divide by it": lambda dy, x, weight, eps: (
            _backward(dy, x, weight, eps) * (_variance(x) + eps)
        ),
        "the two means run over the tokens: they run over the features of one token": (
            lambda dy, x, weight, eps: _backward_over_tokens(weight * dy, x, eps)
        ),
        "these are sums: the two terms are means over the features": (
            lambda dy, x, weight, eps: _backward_from(
                weight * dy, x, eps, x.shape[-1], x.shape[-1]
            )
        ),
    },
    cases=[
        (
            _random(2, 3, 4, seed=10),
            2 * _random(2, 3, 4, seed=11),
            _random(4, seed=12),
            0.1,
        ),
        (
            _random(3, 2, 6, seed=13),
            _random(3, 2, 6, seed=14),
            _random(6, seed=15),
            0.01,
        ),
    ],
)


def _backward_over_tokens(scaled: Tensor, x: Tensor, eps: float) -> Tensor:
    normed = _standardised(x, eps)
    along = normed * (scaled * normed).mean(-2, keepdim=True)
    scaled = scaled - scaled.mean(-2, keepdim=True) - along
    return scaled / (_variance(x) + eps).sqrt()


# --- pre_norm: where the norm goes ------------------------------------------------------


pre_norm = Exercise(
    correct=lambda x, branch, norm: x + branch(norm(x)),
    mistakes={
        "this is Post-LN: the norm stands after the sum, on the stream; in Pre-LN it "
        "stands before the branch": lambda x, branch, norm: norm(x + branch(x)),
        "the residual is normalised too: what is added to the branch is x itself": (
            lambda x, branch, norm: norm(x) + branch(norm(x))
        ),
        "the residual is missing: add x": lambda x, branch, norm: branch(norm(x)),
        "the norm is missing: the branch reads norm(x)": lambda x, branch, norm: (
            x + branch(x)
        ),
        "the norm stands on the branch's output: it belongs on its input": (
            lambda x, branch, norm: x + norm(branch(x))
        ),
        "there is a second norm, after the sum: the stream of Pre-LN is never "
        "normalised": lambda x, branch, norm: norm(x + branch(norm(x))),
    },
    cases=[
        (
            1 + 2 * _random(2, 3, 4, seed=16),
            lambda x: torch.relu(x) * 3 - 1,
            lambda x: _standardised(x, 0.1) * 2 + 0.5,
        )
    ],
)


# --- learned: how many numbers ----------------------------------------------------------

_D, _DEPTH = 64, 24

learned = Exercise(
    correct=2 * _D * (_DEPTH + 1),
    mistakes={
        "the last norm, before the readout, is missing": 2 * _D * _DEPTH,
        "each norm learns two vectors, γ and β": _D * (_DEPTH + 1),
        "each norm learns two vectors, γ and β; and the last norm, before the readout, "
        "is missing": _D * _DEPTH,
        "μ and σ are not learned: each token's are computed when it comes": 4
        * _D
        * (_DEPTH + 1),
        "one LayerNorm a block learns half of that: two norms a block are counted, or μ "
        "and σ, which are not learned; and the last norm, before the readout, is "
        "missing": 4 * _D * _DEPTH,
        "two norms a block are counted: each has one here": 2 * _D * (2 * _DEPTH + 1),
        "γ and β have one number for each feature, not one for the layer": 2
        * (_DEPTH + 1),
        "γ and β have one number for each feature; and the last norm, before the "
        "readout, is missing": 2 * _DEPTH,
        "that is one norm: count all of them": 2 * _D,
    },
)
