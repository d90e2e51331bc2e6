"""The exercises of the transformer-by-hand chapter: right answers, and wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- shift: what the decoder reads and what it has to name --------------------------------


def _shift(ids):
    return [ids[:, :-1], ids[:, 1:]]


shift = Exercise(
    correct=_shift,
    mistakes={
        "the two are swapped: the decoder reads up to the last token but one, and names "
        "what follows": lambda ids: [ids[:, 1:], ids[:, :-1]],
        "nothing is shifted: the decoder reads the very word that it has to "
        "name": lambda ids: [ids, ids],
        "the decoder reads all tokens, and there is nothing to name after the last one: "
        "drop it": lambda ids: [ids, ids[:, 1:]],
        "the shift runs over the batch: sentences are rows, tokens are "
        "columns": lambda ids: [ids[:-1], ids[1:]],
        "only one end is cut: the end mark is to be named, too": lambda ids: [
            ids[:, :-2],
            ids[:, 1:-1],
        ],
    },
    cases=[(torch.arange(1, 16).reshape(3, 5),), (torch.arange(2, 10).reshape(2, 4),)],
)


# --- decoder_mask: causal and without padding ----------------------------------------------


def _causal(ids):
    T = ids.shape[1]
    return torch.ones(T, T, dtype=torch.bool).tril()


def _mask(ids):
    return _causal(ids) & (ids != 0)[:, None, None]


decoder_mask = Exercise(
    correct=_mask,
    mistakes={
        "padding may still be attended to: forbid it as a key, too": lambda ids: (
            _causal(ids).expand(len(ids), 1, -1, -1)
        ),
        "later words may still be attended to: the mask has to be causal": lambda ids: (
            ids != 0
        )[:, None, None].expand(-1, 1, ids.shape[1], -1),
        "True has to mean “may attend”: yours is the other way round": lambda ids: (
            ~_mask(ids)
        ),
        "this is the triangle of what comes later: row = query, column = key, so keep "
        "what is at or below the diagonal": lambda ids: (
            _causal(ids).mT & (ids != 0)[:, None, None]
        ),
        "padding is taken out as a query, too: only as a key it must not be there, and "
        "what a padding query collects is never used": lambda ids: (
            _mask(ids) & (ids != 0)[:, None, :, None]
        ),
        "padding is taken out as a query: it has to be taken out as a key, on the last "
        "axis": lambda ids: _causal(ids) & (ids != 0)[:, None, :, None],
        "either will do in yours: a key has to be allowed by both masks, so join them "
        "with &": lambda ids: _causal(ids) | (ids != 0)[:, None, None],
    },
    cases=[
        (torch.tensor([[5, 4, 3, 2, 1], [7, 8, 9, 0, 0]]),),
        (torch.tensor([[1, 2, 0], [3, 0, 0], [1, 1, 1]]),),
        (torch.tensor([[0, 0, 6, 5], [0, 3, 2, 1]]),),  # padding at the start
    ],
)


# --- product_backward: dA and dB of Y = A B -------------------------------------------------

_a, _b, _dy = _random(4, 4, seed=0), _random(4, 4, seed=1), _random(4, 4, seed=2)

product_backward = Exercise(
    correct=lambda A, B, dY: [dY @ B.mT, A.mT @ dY],
    mistakes={
        "nothing is transposed: with matrices that are not square it would not "
        "fit": lambda A, B, dY: [dY @ B, A @ dY],
        "the two are swapped: return dA first": lambda A, B, dY: [A.mT @ dY, dY @ B.mT],
        "the factors stand in the wrong order: dY stands where the product stood, "
        "so it comes first in dA and last in dB": lambda A, B, dY: [
            B.mT @ dY,
            dY @ A.mT,
        ],
        "each gradient has its own factor in it: the gradient of A is made with B, that "
        "of B with A": lambda A, B, dY: [dY @ A.mT, B.mT @ dY],
        "dA is right; in dB the factors stand in the wrong order: A was on the left": (
            lambda A, B, dY: [dY @ B.mT, dY @ A.mT]
        ),
        "dA is right; in dB nothing is transposed": lambda A, B, dY: [
            dY @ B.mT,
            A @ dY,
        ],
        "dA is right; dB is made with A": lambda A, B, dY: [dY @ B.mT, B.mT @ dY],
        "dB is right; in dA the factors stand in the wrong order: B was on the right": (
            lambda A, B, dY: [B.mT @ dY, A.mT @ dY]
        ),
        "dB is right; in dA nothing is transposed": lambda A, B, dY: [
            dY @ B,
            A.mT @ dY,
        ],
        "dB is right; dA is made with B": lambda A, B, dY: [dY @ A.mT, A.mT @ dY],
        "this multiplies entry by entry: each entry of A met a whole row of "
        "B": lambda A, B, dY: [dY * B, A * dY],
    },
    cases=[(_a, _b, _dy)],
)


# --- norm_backward: through the normalisation of each row -----------------------------------


def _beside(variance):
    return (variance + 1e-5).sqrt()


def _normed(R, spread=_beside):
    deviation = spread(R.var(-1, keepdim=True, unbiased=False))
    return (R - R.mean(-1, keepdim=True)) / deviation, deviation


def _norm_backward(dN, R, mean=True, spread=True, axis=-1, divide=True, root=_beside):
    N, deviation = _normed(R, root)
    found = dN
    if mean:
        found = found - dN.mean(axis, keepdim=True)
    if spread:
        found = found - N * (dN * N).mean(axis, keepdim=True)
    return found / deviation if divide else found


norm_backward = Exercise(
    correct=_norm_backward,
    mistakes={
        "the mean and the deviation are taken as fixed numbers: they move with the row, "
        "so two terms are missing": lambda dN, R: _norm_backward(
            dN, R, mean=False, spread=False
        ),
        "the deviation moves with the row, too: the term N · mean(dN · N) is "
        "missing": lambda dN, R: _norm_backward(dN, R, spread=False),
        "the mean moves with the row, too: the term mean(dN) is "
        "missing": lambda dN, R: _norm_backward(dN, R, mean=False),
        "the means run over the tokens: a row is normalised alone, over its "
        "features": lambda dN, R: _norm_backward(dN, R, axis=0),
        "the division by the deviation is missing": lambda dN, R: _norm_backward(
            dN, R, divide=False
        ),
        "ε is missing: it stands beside the variance": lambda dN, R: _norm_backward(
            dN, R, root=torch.sqrt
        ),
        "ε stands outside the root: it is √(σ² + ε), not σ + ε": lambda dN, R: (
            _norm_backward(dN, R, root=lambda variance: variance.sqrt() + 1e-5)
        ),
        "R stands where N belongs: the second term is N · mean(dN · N)": lambda dN, R: (
            (dN - dN.mean(-1, keepdim=True) - R * (dN * R).mean(-1, keepdim=True))
            / _normed(R)[1]
        ),
        "these are sums: the two terms are means over the features": lambda dN, R: (
            (
                dN
                - dN.sum(-1, keepdim=True)
                - _normed(R)[0] * (dN * _normed(R)[0]).sum(-1, keepdim=True)
            )
            / _normed(R)[1]
        ),
        "this is the forward pass once more: the gradient dN is not in it": lambda dN, R: (
            _normed(R)[0]
        ),
    },
    cases=[
        (_random(3, 5, seed=3), 2 * _random(3, 5, seed=4) + 1),
        (_random(3, 5, seed=5), 3e-3 * _random(3, 5, seed=6)),  # a variance near ε
    ],
)
