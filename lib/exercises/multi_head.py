"""The exercises of the multi-head chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.attention import attention as _attention
from lib.attention import join_heads as _join
from lib.attention import split_heads as _split
from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- shared: one head of keys and values for all queries -----------------------------------


def _shared(x, w_q, w_k, w_v, w_o, H, split=_split, join=_join, root=None, mix=True):
    query, key, value = split(x @ w_q, H), (x @ w_k)[:, None], (x @ w_v)[:, None]
    if root is not None:  # lib.attention divides by the root of a head's width
        query = query * query.shape[-1] ** 0.5 / root(x.shape[-1], H)
    joined = join(_attention(query, key, value)[0])
    return joined @ w_o if mix else joined


def _reshaped(x, H):
    return x.reshape(len(x), H, x.shape[1], -1)


def _dealt(x, H):
    return x.unflatten(-1, (-1, H)).permute(0, 3, 1, 2)


def _joined_without_swap(x):
    return x.reshape(len(x), x.shape[2], -1)


def _joined_in_turn(x):
    return x.permute(0, 2, 3, 1).flatten(2)


def _averaged(x):
    return x.mean(1).repeat(1, 1, x.shape[1])


def _first_alone(x):
    return x[:, :1].expand_as(x).transpose(1, 2).flatten(2)


def _variant(**change):
    return lambda *case: _shared(*case, **change)


def _shared_case(seed: int, T: int, D: int, H: int) -> tuple:
    w_q, w_o = (_random(D, D, seed=10 * seed + i) / 2 for i in (1, 2))
    w_k, w_v = (_random(D, D // H, seed=10 * seed + i) / 2 for i in (3, 4))
    return _random(2, T, D, seed=seed), w_q, w_k, w_v, w_o, H


shared = Exercise(
    correct=_shared,
    mistakes={
        "the queries are reshaped straight to (B, H, T, d): the shape is right, but a "
        "head then holds all features of some tokens; split D into (H, d), then swap T "
        "and H": _variant(split=_reshaped),
        "the features of the queries are dealt out in turn: head 0 has to hold the "
        "first d (split D into (H, d), not (d, H))": _variant(split=_dealt),
        "the heads are joined without swapping the axes back: from (B, H, T, d) swap H "
        "and T first, then flatten (H, d)": _variant(join=_joined_without_swap),
        "the heads are joined in the wrong order, as (d, H): the d features of a head "
        "stay together, so flatten (H, d)": _variant(join=_joined_in_turn),
        "the heads are averaged: they are joined, end to end, and keep their own "
        "features": _variant(join=_averaged),
        "the first head is used H times: keys and values are shared, the queries are "
        "not": _variant(join=_first_alone),
        "W_O is missing: the heads stand side by side, and nothing mixes them": (
            _variant(mix=False)
        ),
        "the scores are divided by the root of the model's width D: the width of a "
        "head, d, is what is summed over": _variant(root=lambda D, H: D**0.5),
        "the scores are divided by d: take its root": _variant(root=lambda D, H: D / H),
        "the scores are not scaled: divide them by √d": _variant(root=lambda D, H: 1),
        "keys and values are swapped: keys meet the queries, values are handed over": (
            lambda x, q, k, v, o, H: _shared(x, q, v, k, o, H)
        ),
    },
    cases=[_shared_case(0, 6, 12, 3), _shared_case(1, 5, 8, 2)],
)


# --- part: what one head adds to the output -----------------------------------------------


def _part(heads, w_o, h):
    d = heads.shape[-1]
    return heads[:, h] @ w_o[h * d : (h + 1) * d]


part = Exercise(
    correct=_part,
    mistakes={
        "these are columns of W_O: a column makes an output feature, a row reads a "
        "joined feature, so head h has rows": lambda heads, w_o, h: (
            heads[:, h] @ w_o[:, h * heads.shape[-1] : (h + 1) * heads.shape[-1]].mT
        ),
        "these rows are dealt out in turn: the d rows of a head stand together": (
            lambda heads, w_o, h: heads[:, h] @ w_o[h :: heads.shape[1]]
        ),
        "these are the rows of head 0": lambda heads, w_o, h: (
            heads[:, h] @ w_o[: heads.shape[-1]]
        ),
        "these are the rows of the head after it: heads count from 0": (
            lambda heads, w_o, h: (
                heads[:, h]
                @ w_o.roll(-heads.shape[-1], 0)[
                    h * heads.shape[-1] : (h + 1) * heads.shape[-1]
                ]
            )
        ),
        "this is the whole output, the sum over all heads": lambda heads, w_o, h: (
            _join(heads) @ w_o
        ),
        "this is the output without head h: its own part is asked for": (
            lambda heads, w_o, h: _join(heads) @ w_o - _part(heads, w_o, h)
        ),
        "this is the head before W_O, (B, T, d): its part of the output is (B, T, D)": (
            lambda heads, w_o, h: heads[:, h]
        ),
        "the part is divided by the number of heads: heads are added, not averaged": (
            lambda heads, w_o, h: _part(heads, w_o, h) / heads.shape[1]
        ),
    },
    cases=[
        (_random(2, 3, 5, 4, seed=60), _random(12, 12, seed=61), 1),
        (_random(1, 4, 3, 2, seed=62), _random(8, 8, seed=63), 2),
    ],
)


# --- flops: of the matrix products of a layer that reads another sequence -----------------


def _flops(Tq, Tk, D):
    return 4 * Tq * D**2 + 4 * Tk * D**2 + 4 * Tq * Tk * D


flops = Exercise(
    correct=_flops,
    mistakes={
        "these are multiplications: each goes with an addition, so a product of (n, m) "
        "and (m, p) takes 2 n m p": lambda Tq, Tk, D: _flops(Tq, Tk, D) // 2,
        "all four maps are counted for the queries: keys and values are made from the "
        "Tk tokens of the context": lambda Tq, Tk, D: 8 * Tq * D**2 + 4 * Tq * Tk * D,
        "all four maps are counted for the context: queries and output have Tq tokens": (
            lambda Tq, Tk, D: 8 * Tk * D**2 + 4 * Tq * Tk * D
        ),
        "this is self-attention of Tq tokens: keys and values have Tk": (
            lambda Tq, Tk, D: _flops(Tq, Tq, D)
        ),
        "this is self-attention of Tk tokens: the queries have Tq": (
            lambda Tq, Tk, D: _flops(Tk, Tk, D)
        ),
        "this is self-attention of both sequences joined": lambda Tq, Tk, D: _flops(
            Tq + Tk, Tq + Tk, D
        ),
        "the output map is counted for the context: W_O acts on the Tq tokens of the "
        "output": lambda Tq, Tk, D: (2 * Tq + 6 * Tk) * D**2 + 4 * Tq * Tk * D,
        "W_O is missing: it acts on the Tq tokens of the output": lambda Tq, Tk, D: (
            (2 * Tq + 4 * Tk) * D**2 + 4 * Tq * Tk * D
        ),
        "only the four maps are counted: scores and weighted sums are products, too": (
            lambda Tq, Tk, D: 4 * (Tq + Tk) * D**2
        ),
        "only the scores are counted: weights @ value costs as much": lambda Tq, Tk, D: (
            4 * (Tq + Tk) * D**2 + 2 * Tq * Tk * D
        ),
        "the four maps are missing: 2 T D² each": lambda Tq, Tk, D: 4 * Tq * Tk * D,
    },
    cases=[(10, 25, 64), (512, 128, 256), (1, 300, 24)],
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
