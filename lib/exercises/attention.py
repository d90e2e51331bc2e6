"""The exercises of the attention chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.attention import attention as _attention
from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- divisor: what makes the variance of a score 1 --------------------------------------

divisor = Exercise(
    correct=16,
    mistakes={
        "that is √64, right when keys have variance 1: a key feature of variance 4 makes "
        "each product vary 4 times as much": 8,
        "that is the variance of the score: divide by its standard deviation, the "
        "root": 256,
        "that is the number of features: the variance grows with it, the standard "
        "deviation with its root": 64,
        "the 4 is a variance, so it belongs under the root: √(64 · 4), not 4 · √64": 32,
        "that is the spread of one product: the score is a sum of 64 of them": 2,
        "the score gets larger with the spread of the keys: multiply 64 by 4 under the "
        "root, do not divide": 4,
        "the variances of the two factors of a product multiply, they do not add up: "
        "√(64 · 1 · 4), not √(64 · (1 + 4))": 320**0.5,
        "the 64 belongs under the root, too: √(64 · 4), not 64 · √4": 128,
        "that is the number to multiply by: you divide by the standard deviation": 1
        / 16,
    },
)


# --- near: attention whose score is a distance ------------------------------------------


def _gaps(query: Tensor, key: Tensor) -> Tensor:
    gap = query[..., :, None, :] - key[..., None, :, :]  # (..., Tq, Tk, d)
    return gap.square().sum(-1)  # (..., Tq, Tk)


def _sizes(query: Tensor, key: Tensor) -> Tensor:
    gap = query[..., :, None, :] - key[..., None, :, :]  # (..., Tq, Tk, d)
    return gap.abs().sum(-1)  # (..., Tq, Tk)


def _lengths(key: Tensor) -> Tensor:
    return key.square().sum(-1)[..., None, :]  # (..., 1, Tk)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return -_gaps(query, key) / 2 / query.shape[-1] ** 0.5


def _near(query, key, value, mask=None):
    return _masked(_scores(query, key), mask).softmax(-1) @ value


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))


def _scored(score):
    def near(query, key, value, mask=None):
        return _masked(score(query, key), mask).softmax(-1) @ value

    return near


def _weighed(weigh):
    def near(query, key, value, mask=None):
        return weigh(_scores(query, key), mask) @ value

    return near


def _near_cases() -> list[tuple]:
    """As many queries as keys as value features: swaps and transposes run, and differ.

    Each row and each column of the masks has an allowed and a forbidden cell, so that no
    mistake hides behind a nan.
    """
    shapes = [(2, 5, 4), (2, 5, 4), (2, 5, 5)]
    mild = [_random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    shapes = [(1, 2, 6, 7), (1, 2, 6, 7), (1, 2, 6, 6)]
    heads = [_random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    place = torch.arange(6)
    mask = (place[:, None] + 2 * place) % 4 < 2  # (6, 6)
    return [(*mild, None), (*mild, mask[:5, :5]), (*heads, mask)]


near = Exercise(
    correct=_near,
    mistakes={
        "what comes out is attention by the dot product, as on the page: −½ ‖q − k‖² "
        "also has −½ ‖k‖², a number for each key, along a row": (
            lambda *case: _attention(*case)[0]
        ),
        "this is the page's function: the score is −½ ‖q − k‖² here, and the output "
        "alone comes back": _attention,
        "two things come back, as from the page's function: return the output "
        "alone": lambda *case: (_near(*case), _weights(*case)),
        "these are the weights: the output is weights @ value": (
            lambda *case: _weights(*case)
        ),
        "the distance is not squared: the score is −½ ‖q − k‖²": _scored(
            lambda q, k: -_gaps(q, k).sqrt() / 2 / q.shape[-1] ** 0.5
        ),
        "the distance is not squared, and the ½ is missing: the score is "
        "−½ ‖q − k‖²": _scored(lambda q, k: -_gaps(q, k).sqrt() / q.shape[-1] ** 0.5),
        "the absolute differences are added up: add up their squares": _scored(
            lambda q, k: -_sizes(q, k) / 2 / q.shape[-1] ** 0.5
        ),
        "the term with ‖k‖² lacks its ½: −½ ‖q − k‖² is q · k − ½ ‖q‖² − "
        "½ ‖k‖²": _scored(
            lambda q, k: _scores(q, k) - _lengths(k) / 2 / q.shape[-1] ** 0.5
        ),
        "the term with ‖k‖² has the wrong sign: −½ ‖q − k‖² is q · k − ½ ‖q‖² − "
        "½ ‖k‖²": _scored(
            lambda q, k: _scores(q, k) + _lengths(k) / q.shape[-1] ** 0.5
        ),
        "the scores are divided by the root of the number of keys: d is the number of "
        "features, `query.shape[-1]`": _scored(
            lambda q, k: -_gaps(q, k) / 2 / k.shape[-2] ** 0.5
        ),
        "the squares are averaged: add them up over the features": _scored(
            lambda q, k: _scores(q, k) / q.shape[-1]
        ),
        "the ½ is missing": _scored(lambda q, k: 2 * _scores(q, k)),
        "the scores are not scaled: divide them by √d": _scored(
            lambda q, k: -_gaps(q, k) / 2
        ),
        "the scores are divided by d: divide by its root, √d": _scored(
            lambda q, k: -_gaps(q, k) / 2 / q.shape[-1]
        ),
        "the sign is wrong: the nearer a key, the higher its score": _scored(
            lambda q, k: -_scores(q, k)
        ),
        "row i of the scores has to belong to query i: query and key are "
        "swapped": _scored(lambda q, k: _scores(k, q)),
        "the softmax runs over the queries (down a column): each query needs weights "
        "that sum to 1 over its keys, so take the last axis": _weighed(
            lambda scores, mask: _masked(scores, mask).softmax(-2)
        ),
        "the mask is not used": _weighed(lambda scores, mask: scores.softmax(-1)),
        "the mask comes after the softmax: the rows no longer sum to 1; put −∞ into the "
        "scores before it": _weighed(
            lambda scores, mask: scores.softmax(-1) * (1 if mask is None else mask)
        ),
        "forbidden cells get a score of 0, the best there is: give them −∞": _weighed(
            lambda scores, mask: (scores * (1 if mask is None else mask)).softmax(-1)
        ),
        "the mask is inverted: True means that a query may attend": _weighed(
            lambda scores, mask: _masked(
                scores, None if mask is None else ~mask
            ).softmax(-1)
        ),
        "the weights average the keys: they have to average the values": (
            lambda query, key, value, mask: _near(query, key, key, mask)
        ),
    },
    cases=_near_cases(),
)


def _weights(query, key, value, mask=None):
    return _masked(_scores(query, key), mask).softmax(-1)


# --- prefix: the question is open to all, the answer causal -----------------------------


def _before(T: int) -> Tensor:
    return torch.arange(T) <= torch.arange(T)[:, None]  # (T, T): key at or before query


def _question(lengths: Tensor, T: int) -> Tensor:
    return torch.arange(T) < lengths[:, None, None]  # (B, 1, T): keys of the question


def _prefix(lengths: Tensor, T: int) -> Tensor:
    return _before(T) | _question(lengths, T)


prefix = Exercise(
    correct=_prefix,
    mistakes={
        "one key too many: position `length` is already the answer, so it is < and not "
        "<=": lambda lengths, T: _before(T) | _question(lengths + 1, T),
        "one key too few: the question has `length` tokens, the last at place `length` − "
        "1": lambda lengths, T: _before(T) | _question(lengths - 1, T),
        "everything is allowed: among the tokens of the answer the mask is causal": (
            lambda lengths, T: torch.ones(len(lengths), T, T).bool()
        ),
        "the longest question counts for all sequences: each has its own length": (
            lambda lengths, T: _prefix(lengths.max().expand(len(lengths)), T)
        ),
        "the answer may not attend to the question: every token may": (
            lambda lengths, T: (
                _prefix(lengths, T)
                & (_question(lengths, T) == _question(lengths, T).mT)
            )
        ),
        "these are numbers to add to the scores, 0 and −∞: return booleans, True = may "
        "attend": lambda lengths, T: torch.zeros(len(lengths), T, T).masked_fill(
            ~_prefix(lengths, T), float("-inf")
        ),
        "this allows only what both rules allow: a key needs one of them, so it is | and "
        "not &": lambda lengths, T: _before(T) & _question(lengths, T),
        "this is the causal mask: the question is open to all queries": (
            lambda lengths, T: _before(T).expand(len(lengths), T, T)
        ),
        "this is the causal mask, one for all sequences: the question is open to all "
        "queries, and each sequence has a question of its own": (
            lambda lengths, T: _before(T)
        ),
        "only the question can be attended to: among the tokens of the answer the mask "
        "is causal": lambda lengths, T: _question(lengths, T).expand(-1, T, T),
        "the mask is inverted: True means that a query may attend": (
            lambda lengths, T: ~_prefix(lengths, T)
        ),
        "the causal part looks forward: a key may stand at or before its query": (
            lambda lengths, T: _before(T).mT | _question(lengths, T)
        ),
        "the rows of the question are open, and not its columns: it is the keys of the "
        "question that all may attend to": (
            lambda lengths, T: _before(T) | _question(lengths, T).mT
        ),
        "query and key are swapped: rows are queries, columns are keys": (
            lambda lengths, T: _prefix(lengths, T).mT
        ),
        "a token may attend to itself, also in the answer: at or before, so <=": (
            lambda lengths, T: _before(T).tril(-1) | _question(lengths, T)
        ),
        "the answer may not attend to what it said before: it is causal, and not "
        "closed": lambda lengths, T: _question(lengths, T) | torch.eye(T).bool(),
        "there is an axis too many: (B, T, T)": (
            lambda lengths, T: _prefix(lengths, T)[:, None]
        ),
    },
    cases=[(torch.tensor([3, 5, 1]), 5), (torch.tensor([2, 4, 0]), 6)],
)


# --- forbid: a mask after the softmax ---------------------------------------------------


def _without(weights: Tensor, forbidden: Tensor) -> Tensor:
    return weights.scatter(1, forbidden[:, None], 0.0)


def _forbid(weights: Tensor, forbidden: Tensor) -> Tensor:
    left = _without(weights, forbidden)
    return left / left.sum(-1, keepdim=True)


def _shared_out(weights: Tensor, forbidden: Tensor) -> Tensor:
    taken = weights.gather(1, forbidden[:, None])  # (Tq, 1)
    more = taken / (weights.shape[1] - 1)
    return _without(weights + more, forbidden)


def _softmax_again(weights: Tensor, forbidden: Tensor) -> Tensor:
    allowed = _without(torch.ones_like(weights), forbidden) > 0
    return weights.masked_fill(~allowed, float("-inf")).softmax(-1)


def _columns(weights: Tensor, forbidden: Tensor) -> Tensor:
    left = _without(weights, forbidden)
    return left / left.sum(0)


def _one_column(weights: Tensor, forbidden: Tensor) -> Tensor:
    return _forbid(weights, forbidden[:1].expand(len(weights)))


def _rows(weights: Tensor, forbidden: Tensor) -> Tensor:
    left = weights.scatter(0, forbidden[None], 0.0)
    return left / left.sum(-1, keepdim=True)


def _every_column(weights: Tensor, forbidden: Tensor) -> Tensor:
    left = weights.clone()
    left[:, forbidden] = 0
    return left / left.sum(-1, keepdim=True)


forbid = Exercise(
    correct=_forbid,
    mistakes={
        "the rows no longer sum to 1: divide by what is left": _without,
        "the weight that was taken away is shared out equally: the others grow in "
        "proportion, each divided by what is left": _shared_out,
        "this takes a second softmax, of weights: their exponentials were taken already, "
        "so only divide by what is left": _softmax_again,
        "this takes a softmax of weights, where a zero counts as e⁰ = 1: only divide by "
        "what is left": lambda weights, forbidden: _without(weights, forbidden).softmax(
            -1
        ),
        "the logarithm of the forbidden weight becomes 0, that of a weight of 1: it has "
        "to be −∞": lambda weights, forbidden: _without(
            weights.log(), forbidden
        ).softmax(-1),
        "this divides by what was taken away: divide by what is left": (
            lambda weights, forbidden: (
                _without(weights, forbidden) / weights.gather(1, forbidden[:, None])
            )
        ),
        "column j is divided by the sum of row j: keep the axis, `sum(-1, "
        "keepdim=True)`": lambda weights, forbidden: (
            _without(weights, forbidden) / _without(weights, forbidden).sum(-1)
        ),
        "all weights are divided by one sum: each row has its own": (
            lambda weights, forbidden: (
                _without(weights, forbidden) / _without(weights, forbidden).sum()
            )
        ),
        "the columns are made to sum to 1: each row, the keys of one query, has to": (
            _columns
        ),
        "one key is forbidden to all queries: each query i has its own, "
        "forbidden[i]": _one_column,
        "the cells [forbidden[i], i] are set to zero: rows are queries, so it is "
        "[i, forbidden[i]]": _rows,
        "all of these keys are forbidden to every query: each query i has one of its "
        "own, forbidden[i]": _every_column,
        "nothing is forbidden: the weights are what they were": (
            lambda weights, forbidden: weights
        ),
    },
    cases=[
        (_random(4, 4, seed=0).softmax(-1), torch.tensor([1, 0, 2, 1])),
        (_random(5, 5, seed=1).mul(2).softmax(-1), torch.tensor([4, 4, 0, 1, 1])),
    ],
)
