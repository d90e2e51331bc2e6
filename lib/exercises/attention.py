"""The exercises of the attention chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.attention import attention as _attention
from lib.attention import causal_mask as _causal_mask
from lib.exercise import Exercise


def _weights(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- attend: the whole function ---------------------------------------------------------


def _attend(query, key, value, mask=None):
    return _attention(query, key, value, mask)[0]


def _scaled_by(power):
    def attend(query, key, value, mask=None):
        return _weights(query @ key.mT / query.shape[-1] ** power, mask) @ value

    return attend


def _over_queries(query, key, value, mask=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-2) @ value


def _over_everything(query, key, value, mask=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.flatten(-2).softmax(-1).view_as(scores) @ value


def _no_softmax(query, key, value, mask=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return (scores if mask is None else scores * mask) @ value


def _mask_ignored(query, key, value, mask=None):
    return _attend(query, key, value)


def _mask_after_softmax(query, key, value, mask=None):
    weights = _attention(query, key, value)[1]
    return (weights if mask is None else weights * mask) @ value


def _mask_as_zero_score(query, key, value, mask=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return (scores if mask is None else scores * mask).softmax(-1) @ value


def _mask_inverted(query, key, value, mask=None):
    return _attend(query, key, value, None if mask is None else ~mask)


def _query_and_key_swapped(query, key, value, mask=None):
    return _weights(key @ query.mT / query.shape[-1] ** 0.5, mask) @ value


def _value_is_key(query, key, value, mask=None):
    return _attend(query, key, key, mask)


def _only_weights(query, key, value, mask=None):
    return _attention(query, key, value, mask)[1]


def _value_transposed(query, key, value, mask=None):
    return _attention(query, key, value, mask)[1] @ value.mT


def _attend_cases() -> list[tuple]:
    """As many queries as keys as value features: swaps and transposes run, and differ.

    Each row and each column of the masks has an allowed and a forbidden cell, so that no
    mistake hides behind a nan.
    """
    shapes = [(2, 5, 4), (2, 5, 4), (2, 5, 5)]
    mild = [_random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    sharp = [2 * x for x in mild]
    shapes = [(1, 2, 6, 7), (1, 2, 6, 7), (1, 2, 6, 6)]
    heads = [_random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    place = torch.arange(6)
    mask = (place[:, None] + 2 * place) % 4 < 2  # (6, 6)
    return [(*mild, None), (*sharp, mask[:5, :5]), (*heads, mask)]


attend = Exercise(
    correct=_attend,
    mistakes={
        "the scores are not scaled: divide them by √d": _scaled_by(0),
        "the scores are divided by d: divide by its root, √d": _scaled_by(1),
        "the softmax runs over the queries (down a column): each query needs weights "
        "that sum to 1 over its keys, so take the last axis": _over_queries,
        "one softmax runs over the whole map: each row, the keys of one query, has to "
        "sum to 1": _over_everything,
        "there is no softmax: scores are not weights": _no_softmax,
        "the mask is not used": _mask_ignored,
        "the mask comes after the softmax: the rows no longer sum to 1; put −∞ into the "
        "scores before it": _mask_after_softmax,
        "forbidden cells get a score of 0, and exp(0) = 1 is a weight like others: "
        "give them −∞": _mask_as_zero_score,
        "the mask is inverted: True means that a query may attend": _mask_inverted,
        "query and key are swapped: row i of the scores belongs to query i, so it is "
        "query @ key.mT": _query_and_key_swapped,
        "the weights average the keys: they have to average the values": _value_is_key,
        "the values are transposed: there is no Vᵀ, the output is weights @ "
        "value": _value_transposed,
        "these are the weights: the output is weights @ value": _only_weights,
    },
    cases=_attend_cases(),
)


# --- padding: which keys are words ------------------------------------------------------


def _padding(lengths: Tensor, T: int) -> Tensor:
    return torch.arange(T)[None, None] < lengths[:, None, None]


padding = Exercise(
    correct=_padding,
    mistakes={
        "one key too many: position `length` is already padding, so it is < and not "
        "<=": lambda lengths, T: torch.arange(T)[None, None] <= lengths[:, None, None],
        "the mask is inverted: True means that the key may be attended to": (
            lambda lengths, T: ~_padding(lengths, T)
        ),
        "this masks the rows, that is the queries: it is the keys, the last axis, that "
        "must not be padding": lambda lengths, T: _padding(lengths, T).mT,
        "the shape is (B, T): an axis of size 1 is missing, (B, 1, T), so that the mask "
        "broadcasts over the queries": lambda lengths, T: _padding(lengths, T)[:, 0],
        "the mask looks backwards too: padding depends on the key alone, not on the "
        "query": lambda lengths, T: _padding(lengths, T) & _causal_mask(T),
    },
    cases=[(torch.tensor([3, 5, 1]), 5), (torch.tensor([2, 4]), 6)],
)


# --- split_heads: (B, T, D) -> (B, H, T, d) ---------------------------------------------


def _split_heads(x: Tensor, H: int) -> Tensor:
    return x.unflatten(-1, (H, -1)).transpose(1, 2)


split_heads = Exercise(
    correct=_split_heads,
    mistakes={
        "this is reshaped straight to (B, H, T, d): the shape is right, but a head then "
        "holds all features of some tokens; split D into (H, d) first, then swap the "
        "axes T and H": lambda x, H: x.reshape(len(x), H, x.shape[1], -1),
        "the features are dealt out in turn: head 0 has to hold the first d features "
        "(split D into (H, d), not (d, H))": lambda x, H: x.unflatten(
            -1, (-1, H)
        ).permute(0, 3, 1, 2),
        "the axes are (B, T, H, d): swap T and H, so that the last two are tokens and "
        "features": lambda x, H: x.unflatten(-1, (H, -1)),
        "the axes are (B, H, d, T): the last two have to be tokens, then "
        "features": lambda x, H: _split_heads(x, H).mT,
    },
    cases=[
        (torch.arange(48.0).view(2, 3, 8), 2),
        (torch.arange(48.0).view(1, 4, 12), 3),
    ],
)


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
    },
)
