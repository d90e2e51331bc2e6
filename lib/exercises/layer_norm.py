"""The exercises of the layer-norm chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- group_norm: several norms in one token ----------------------------------------------


def _standardised(x: Tensor, eps: float, axis=-1, correction: int = 0) -> Tensor:
    variance = x.var(axis, correction=correction, keepdim=True)
    return (x - x.mean(axis, keepdim=True)) / (variance + eps).sqrt()


def _grouped(normalise):
    """`normalise` acts on the last axis of (..., groups, D / groups)."""

    def norm(x, weight, bias, groups, eps):
        parts = normalise(x.unflatten(-1, (groups, -1)), eps)
        return weight * parts.flatten(-2) + bias

    return norm


_group_norm = _grouped(_standardised)


def _of_groups_as_long(x, weight, bias, groups, eps):
    parts = _standardised(x.unflatten(-1, (-1, groups)), eps)
    return weight * parts.flatten(-2) + bias


def _interleaved(x, weight, bias, groups, eps):
    parts = _standardised(x.unflatten(-1, (-1, groups)), eps, -2)
    return weight * parts.flatten(-2) + bias


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _variance(x: Tensor) -> Tensor:
    return x.var(-1, correction=0, keepdim=True)


def _mean_square(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True)


def _with(change):
    return lambda x, w, b, *rest: _group_norm(x, *change(w, b), *rest)


group_norm = Exercise(
    correct=_group_norm,
    mistakes={
        "one μ and σ for the whole token: this is LayerNorm; each group has its own": (
            lambda x, weight, bias, groups, eps: weight * _standardised(x, eps) + bias
        ),
        "these are groups of `groups` features: `groups` says how many groups there "
        "are": _of_groups_as_long,
        "a group takes every `groups`-th feature: it is made of neighbours": _interleaved,
        "μ and σ run across the groups: they run over the features of one group": (
            _grouped(lambda x, eps: _standardised(x, eps, -2))
        ),
        "μ and σ are shared by all tokens of a sequence, as for images: each token has "
        "its own": _grouped(lambda x, eps: _standardised(x, eps, (-3, -1))),
        "μ and σ are taken over the tokens: each token has its own": _grouped(
            lambda x, eps: _standardised(x, eps, -3)
        ),
        "this is the unbiased variance: divide by the number of features of the group "
        "(correction=0)": _grouped(lambda x, eps: _standardised(x, eps, correction=1)),
        "ε stands outside the root: it is √(σ² + ε), not σ + ε": _grouped(
            lambda x, eps: _centred(x) / (_variance(x).sqrt() + eps)
        ),
        "this is std() + ε: std() divides by one feature less, and ε belongs under the "
        "root": _grouped(lambda x, eps: _centred(x) / (x.std(-1, keepdim=True) + eps)),
        "ε is missing: a group whose features are nearly equal is blown up": _grouped(
            lambda x, eps: _standardised(x, 0)
        ),
        "you divide by the variance: take the root of σ² + ε": _grouped(
            lambda x, eps: _centred(x) / (_variance(x) + eps)
        ),
        "the mean is not subtracted: this is RMSNorm in groups, with a shift": _grouped(
            lambda x, eps: x / (_mean_square(x) + eps).sqrt()
        ),
        "γ and β are missing: scale by weight, shift by bias": _with(
            lambda w, b: (1, 0)
        ),
        "β is missing: add bias": _with(lambda w, b: (w, 0)),
        "γ is missing: multiply by weight": _with(lambda w, b: (1, b)),
        "γ and β have changed places: weight multiplies, bias is added": _with(
            lambda w, b: (b, w)
        ),
        "β is added before γ multiplies, so it is scaled too: β comes last": (
            lambda x, weight, bias, groups, eps: (
                weight * _group_norm(x, 1, bias, groups, eps)
            )
        ),
    },
    cases=[
        (
            1 + _random(2, 3, 12, seed=0),
            _random(12, seed=1),
            _random(12, seed=2),
            3,
            0.1,
        ),
        (
            5 + 3 * _random(3, 5, 8, seed=3),
            _random(8, seed=4),
            _random(8, seed=5),
            2,
            0.02,
        ),
    ],
)


# --- rms_backward: the gradient through RMSNorm ------------------------------------------


def _rms(x: Tensor, eps: float) -> Tensor:
    return (_mean_square(x) + eps).sqrt()


def _rms_backward(
    dy, x, weight, eps, root=_rms, outer=None, inner=None, along=1, axis=-1
):
    # `outer` and `inner` make of x, x̂ and γ what stands in the place of x̂.
    s = root(x, eps)
    g, normed = weight * dy, x / s
    before, inside = (
        normed if make is None else make(x, normed, weight) for make in (outer, inner)
    )
    return (g - along * before * (g * inside).mean(axis, keepdim=True)) / s


def _but(**change):
    return lambda *case: _rms_backward(*case, **change)


def _layer_norm_backward(dy, x, weight, eps, centred=_centred):
    g, normed = weight * dy, _standardised(x, eps)
    along = normed * (g * normed).mean(-1, keepdim=True)
    return (centred(g) - along) / (_variance(x) + eps).sqrt()


rms_backward = Exercise(
    correct=_rms_backward,
    mistakes={
        "this is LayerNorm's gradient: RMSNorm subtracts no mean, neither from x nor "
        "from γ · dy": _layer_norm_backward,
        "the mean of γ · dy is subtracted: that term comes from μ, and RMSNorm has no "
        "μ": lambda dy, x, weight, eps: (
            _rms_backward(dy, x, weight, eps)
            - (weight * dy).mean(-1, keepdim=True) / _rms(x, eps)
        ),
        "x̂ is that of LayerNorm: here it is x over the root of its mean square": (
            lambda *case: _layer_norm_backward(*case, lambda g: g)
        ),
        "the root is held fixed: it depends on x, and that takes one more term": (
            _but(along=0)
        ),
        "the term of the root has the wrong sign": _but(along=-1),
        "γ is missing: the gradient passes γ first": lambda dy, x, w, eps: (
            _rms_backward(dy, x, 1, eps)
        ),
        "γ comes too late: multiply dy by it before the mean is taken": (
            lambda dy, x, w, eps: w * _rms_backward(dy, x, 1, eps)
        ),
        "γ is missing inside the mean: it is that of γ · dy · x̂": (
            _but(inner=lambda x, normed, weight: normed / weight)
        ),
        "γ is in x̂, too: x̂ is x over the root, before γ": _but(
            outer=lambda x, normed, w: w * normed, inner=lambda x, normed, w: w * normed
        ),
        "ε is missing: it stands under the root, as in the forward pass": _but(
            root=lambda x, eps: _rms(x, 0)
        ),
        "ε stands outside the root: it is √(mean of x² + ε)": _but(
            root=lambda x, eps: _rms(x, 0) + eps
        ),
        "the division by the root is missing: large tokens have small gradients": (
            lambda dy, x, w, eps: _rms_backward(dy, x, w, eps) * _rms(x, eps)
        ),
        "you multiply by the root: divide by it": lambda dy, x, w, eps: (
            _rms_backward(dy, x, w, eps) * _rms(x, eps) ** 2
        ),
        "this is a sum: the term of the root has the mean of γ · dy · x̂": (
            lambda dy, x, w, eps: _rms_backward(dy, x, w, eps, along=x.shape[-1])
        ),
        "the mean runs over the tokens: it runs over the features of one token": (
            _but(axis=-2)
        ),
        "x̂ is missing behind the mean: the term is x̂ times the mean of γ · dy · x̂": (
            _but(outer=lambda x, normed, weight: 1)
        ),
        "x is used where x̂ belongs, in both places: x̂ is x over the root": _but(
            outer=lambda x, normed, weight: x, inner=lambda x, normed, weight: x
        ),
        "x is used where x̂ belongs, inside the mean: x̂ is x over the root": _but(
            inner=lambda x, normed, weight: x
        ),
    },
    cases=[
        (
            _random(2, 3, 4, seed=10),
            1 + 2 * _random(2, 3, 4, seed=11),
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


# --- fold: γ and β into the map behind the norm ------------------------------------------


def _fold(W, b, weight, bias):
    return W * weight, b + W @ bias


fold = Exercise(
    correct=_fold,
    mistakes={
        "γ scales the rows of W: each feature that W reads is a column": (
            lambda W, b, weight, bias: (weight[:, None] * W, b + W @ bias)
        ),
        "γ is missing: the columns of W are scaled by it": (
            lambda W, b, weight, bias: (W, b + W @ bias)
        ),
        "you divide by γ: what read γ x̂ now reads x̂, so multiply": (
            lambda W, b, weight, bias: (W / weight, b + W @ bias)
        ),
        "β is missing: W β joins b": lambda W, b, weight, bias: (W * weight, b),
        "β joins b as it is: it passes W first": lambda W, b, w, c: (W * w, b + c),
        "β passes the scaled W, so γ scales it, too: γ comes before β": (
            lambda W, b, weight, bias: (W * weight, b + (W * weight) @ bias)
        ),
        "W * β scales columns: W β is a product, one number for each row": (
            lambda W, b, weight, bias: (W * weight, b + W * bias)
        ),
        "β passes W the wrong way round: it is W β, not β W": (
            lambda W, b, weight, bias: (W * weight, b + bias @ W)
        ),
        "the map's own b is lost: W β is added to it": lambda W, b, weight, bias: (
            W * weight,
            W @ bias,
        ),
        "W is transposed: it has the shape (K, D), as in nn.Linear": (
            lambda W, b, weight, bias: (W.mT * weight, b + W.mT @ bias)
        ),
        "two results are asked for: the new matrix and the new bias": (
            lambda W, b, weight, bias: W * weight
        ),
        "the two have changed places: the matrix comes first": (
            lambda W, b, weight, bias: (b + W @ bias, W * weight)
        ),
    },
    cases=[
        tuple(_random(*shape, seed=seed) for seed, shape in enumerate(shapes, 16))
        for shapes in (((4, 4), (4,), (4,), (4,)), ((6, 6), (6,), (6,), (6,)))
    ],
)


# --- block: two branches with a norm each ------------------------------------------------


def _first(x, attention, norm_1):
    return x + attention(norm_1(x))


def _block(x, attention, mlp, norm_1, norm_2):
    return _first(_first(x, attention, norm_1), mlp, norm_2)


def _post(x, attention, mlp, norm_1, norm_2):
    y = norm_1(x + attention(x))
    return norm_2(y + mlp(y))


def _second(*, after, joined):
    """The second branch reads `after(x, y, norms)`; `joined` says what it joins."""

    def block(x, attention, mlp, norm_1, norm_2):
        y = _first(x, attention, norm_1)
        return joined(x, y) + mlp(after(x, y, norm_1, norm_2))

    return block


def _normalised_roads(x, attention, mlp, norm_1, norm_2):
    read = norm_1(x)
    y = read + attention(read)
    read = norm_2(y)
    return read + mlp(read)


block = Exercise(
    correct=_block,
    mistakes={
        "this is Post-LN: the norms stand after the sums; in Pre-LN each stands before "
        "its branch": _post,
        "both branches read x: the MLP reads the stream with attention's output in it": (
            _second(after=lambda x, y, n1, n2: n2(x), joined=lambda x, y: y)
        ),
        "attention's output is lost from the stream: the MLP's is added to y, not to "
        "x": _second(after=lambda x, y, n1, n2: n2(y), joined=lambda x, y: x),
        "x is added twice: y holds it already": _second(
            after=lambda x, y, n1, n2: n2(y), joined=lambda x, y: x + y
        ),
        "the second residual is missing: add y": _second(
            after=lambda x, y, n1, n2: n2(y), joined=lambda x, y: 0
        ),
        "the first residual is missing: add x": lambda x, attention, mlp, n1, n2: (
            _first(attention(n1(x)), mlp, n2)
        ),
        "one residual leads around both branches: each has its own": (
            lambda x, attention, mlp, n1, n2: x + mlp(n2(attention(n1(x))))
        ),
        "the norms are missing: each branch reads a norm of the stream": (
            lambda x, attention, mlp, *_: _block(x, attention, mlp, *[lambda x: x] * 2)
        ),
        "both residuals are missing: each branch is added to what came in": (
            lambda x, attention, mlp, n1, n2: mlp(n2(attention(n1(x))))
        ),
        "the second norm is missing: the MLP reads norm_2 of the stream": _second(
            after=lambda x, y, n1, n2: y, joined=lambda x, y: y
        ),
        "the first norm is missing: attention reads norm_1 of the stream": (
            lambda x, attention, mlp, n1, n2: _block(x, attention, mlp, lambda x: x, n2)
        ),
        "both branches use norm_1: each has its own": _second(
            after=lambda x, y, n1, n2: n1(y), joined=lambda x, y: y
        ),
        "the two norms have changed places": lambda x, attention, mlp, n1, n2: _block(
            x, attention, mlp, n2, n1
        ),
        "the MLP comes first: attention does": lambda x, attention, mlp, n1, n2: _block(
            x, mlp, attention, n1, n2
        ),
        "the residuals are normalised, too: the stream itself passes untouched": (
            _normalised_roads
        ),
        "the stream is normalised at the end: within a block nothing normalises it": (
            lambda x, attention, mlp, n1, n2: n2(_block(x, attention, mlp, n1, n2))
        ),
    },
    cases=[
        (
            1 + 2 * _random(2, 3, 4, seed=20),
            lambda x: 2 * x.mean(-2, keepdim=True) - x,  # mixes the tokens
            lambda x: torch.relu(x) * 3 - 1,
            lambda x: _standardised(x, 0.1) * 2 + 0.5,
            lambda x: _standardised(x, 0.2) * 0.7 - 0.3,
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
