"""The exercises of the multi-head chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.attention import attention as _attention
from lib.attention import join_heads as _join
from lib.attention import split_heads as _split
from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- multi_head: the whole layer, from its four matrices ----------------------------------


def _layer(split=_split, join=_join, scale=None, mix=True):
    """A wrong multi-head attention, made of its parts; `scale` is the power of D."""

    def multi_head(x, context, w_q, w_k, w_v, w_o, H):
        query, key, value = (
            split(y @ w, H) for y, w in ((x, w_q), (context, w_k), (context, w_v))
        )
        if scale is not None:  # lib.attention divides by the root of a head's width
            query = query * query.shape[-1] ** 0.5 / x.shape[-1] ** scale
        joined = join(_attention(query, key, value)[0])
        return joined @ w_o if mix else joined

    return multi_head


def _reshaped(x, H):
    return x.reshape(len(x), H, x.shape[1], -1)


def _dealt(x, H):
    return x.unflatten(-1, (-1, H)).permute(0, 3, 1, 2)


def _joined_without_swap(x):
    return x.reshape(len(x), x.shape[2], -1)


def _joined_in_turn(x):
    return x.permute(0, 2, 3, 1).flatten(2)


def _heads_summed(x, context, w_q, w_k, w_v, w_o, H):
    query, key, value = (
        _split(y @ w, H) for y, w in ((x, w_q), (context, w_k), (context, w_v))
    )
    averaged = _attention(query, key, value)[0].mean(1)
    return averaged.repeat(1, 1, H) @ w_o


def _one_head(x, context, w_q, w_k, w_v, w_o, H):
    return _layer()(x, context, w_q, w_k, w_v, w_o, 1)


def _roles(order):
    def multi_head(x, context, w_q, w_k, w_v, w_o, H):
        given = {"x": x, "c": context}
        made = (given[o] @ w for o, w in zip(order, (w_q, w_k, w_v), strict=True))
        return _join(_attention(*(_split(y, H) for y in made))[0]) @ w_o

    return multi_head


def _transposed(x, context, w_q, w_k, w_v, w_o, H):
    return _layer()(x, context, w_q.mT, w_k.mT, w_v.mT, w_o.mT, H)


def _cases() -> list[tuple]:
    """Lengths that equal (all mistakes run) and lengths that differ; H and d differ."""
    found = []
    for seed, (Tq, Tk, D, H) in enumerate([(6, 6, 12, 3), (4, 6, 12, 2)]):
        x, context = _random(2, Tq, D, seed=seed), _random(2, Tk, D, seed=seed + 10)
        four = [_random(D, D, seed=10 * seed + i + 20) / 2 for i in range(4)]
        found.append((x, context, *four, H))
    return found


multi_head = Exercise(
    correct=_layer(),
    mistakes={
        "this is reshaped straight to (B, H, T, d): the shape is right, but a head then "
        "holds all features of some tokens; split D into (H, d), then swap T and "
        "H": _layer(split=_reshaped),
        "the features are dealt out in turn: head 0 has to hold the first d features "
        "(split D into (H, d), not (d, H))": _layer(split=_dealt),
        "the heads are joined without swapping the axes back: from (B, H, T, d) swap H "
        "and T first, then flatten (H, d)": _layer(join=_joined_without_swap),
        "the heads are joined in the wrong order, as (d, H): the d features of a head "
        "stay together, so flatten (H, d)": _layer(join=_joined_in_turn),
        "the heads are averaged: they are joined, end to end, and keep their own "
        "features": _heads_summed,
        "W_O is missing: the heads stand side by side, and nothing mixes them": _layer(
            mix=False
        ),
        "the scores are divided by the root of the model's width D: the width of a "
        "head, d, is what is summed over": _layer(scale=0.5),
        "the scores are divided by the model's width D: take √d, the root of a head's "
        "width": _layer(scale=1),
        "the scores are not scaled: divide them by √d": _layer(scale=0),
        "this is one head of full width: split into H heads before you "
        "attend": _one_head,
        "the context is not used: keys and values are made from it": _roles("xxx"),
        "query and context are swapped: the queries are made from x": _roles("cxx"),
        "the matrices are transposed: here a token is a row, so it is x @ w": _transposed,
    },
    cases=_cases(),
)


# --- join: (B, H, T, d) -> (B, T, D) ------------------------------------------------------

join = Exercise(
    correct=_join,
    mistakes={
        "this is reshaped straight to (B, T, D): the shape is right, but a token then "
        "gets what other tokens collected; swap H and T first": _joined_without_swap,
        "the features of the heads are interleaved, (d, H): the d features of head 0 "
        "come first, then those of head 1": _joined_in_turn,
        "the heads come in reverse order: head 0 comes first": lambda x: _join(
            x.flip(1)
        ),
        "the heads are added up: they stand side by side, and the width is H · "
        "d": lambda x: x.sum(1),
        "the heads are averaged: they stand side by side, and the width is H · "
        "d": lambda x: x.mean(1),
        "the axes are (B, T, H, d): flatten the last two": lambda x: x.transpose(1, 2),
    },
    cases=[
        (torch.arange(48.0).view(2, 2, 3, 4),),
        (torch.arange(60.0).view(1, 3, 4, 5),),
    ],
)


# --- flops: of the matrix products of one layer -------------------------------------------


def _flops(T, D, H):
    return 8 * T * D**2 + 4 * T**2 * D


flops = Exercise(
    correct=_flops,
    mistakes={
        "these are multiplications: each goes with an addition, so a product of (n, m) "
        "and (m, p) takes 2 n m p": lambda T, D, H: _flops(T, D, H) // 2,
        "too many by the heads: each head is only D / H wide, so all heads together cost "
        "what one of full width costs": lambda T, D, H: H * _flops(T, D, H),
        "the maps of T × T are counted H times at full width: a head sums over D / H "
        "features": lambda T, D, H: 8 * T * D**2 + 4 * H * T**2 * D,
        "too few by the heads: there are H of them, each D / H wide": lambda T, D, H: (
            8 * T * D**2 // H + 4 * T**2 * D // H
        ),
        "W_O is missing: there are four maps of D × D": lambda T, D, H: (
            6 * T * D**2 + 4 * T**2 * D
        ),
        "only the four maps are counted: scores and weighted sums are products, "
        "too": lambda T, D, H: 8 * T * D**2,
        "only the scores are counted: weights @ value costs as much": lambda T, D, H: (
            8 * T * D**2 + 2 * T**2 * D
        ),
        "the four maps are missing: 2 T D² each": lambda T, D, H: 4 * T**2 * D,
    },
    cases=[(10, 64, 4), (512, 256, 8), (7, 24, 3)],
)


# --- readable: how many of four tokens a linear readout finds in one head's average ------

readable = Exercise(
    correct=1,
    mistakes={
        "the smallest of the four weights is not an end: the symbols that are not there "
        "have weight 0, below it": 2,
        "different weights tell all four apart for a function that is not linear; a "
        "linear readout can only prefer more weight, or less": 4,
        "the weights lie on a line, and only an end of a line can come out on top": 3,
        "the token with the largest weight has the largest score, so it can be read": 0,
    },
)
