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


def _over_queries(x, w_q, w_k, w_v, w_o, H):
    query, key, value = _split(x @ w_q, H), (x @ w_k)[:, None], (x @ w_v)[:, None]
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return _join(scores.softmax(-2) @ value) @ w_o


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
        "the softmax runs over the queries: the weights of one query, over its keys, sum "
        "to 1": _over_queries,
        "keys and values are swapped: keys meet the queries, values are handed over": (
            lambda x, q, k, v, o, H: _shared(x, q, v, k, o, H)
        ),
    },
    cases=[_shared_case(0, 6, 12, 3), _shared_case(1, 5, 8, 2)],
)


# --- silent: the output without one head ---------------------------------------------------


def _kept(heads, h, axis=1):
    kept = heads.clone()
    kept.select(axis, h).zero_()
    return kept


def _silent(heads, w_o, h):
    return _join(_kept(heads, h)) @ w_o


def _part(heads, w_o, h):
    d = heads.shape[-1]
    return heads[:, h] @ w_o[h * d : (h + 1) * d]


def _outputs_cut(heads, w_o, h):
    d, w_o = heads.shape[-1], w_o.clone()
    w_o[:, h * d : (h + 1) * d] = 0
    return _join(heads) @ w_o


def _in_turn_cut(heads, w_o, h):
    w_o = w_o.clone()
    w_o[h :: heads.shape[1]] = 0
    return _join(heads) @ w_o


silent = Exercise(
    correct=_silent,
    mistakes={
        "this is head h alone: what all the other heads add is asked for": _part,
        "this is the whole output: head h still adds its part": lambda heads, w_o, h: (
            _join(heads) @ w_o
        ),
        "columns of W_O are cut: a column makes an output feature, a row reads a joined "
        "feature, so head h has rows": _outputs_cut,
        "the rows are dealt out in turn: the d rows of a head stand together": (
            _in_turn_cut
        ),
        "this is without the head after it: heads count from 0": lambda heads, w_o, h: (
            _silent(heads, w_o, (h + 1) % heads.shape[1])
        ),
        "this is without the head before it: heads count from 0": (
            lambda heads, w_o, h: _silent(heads, w_o, h - 1)
        ),
        "a token is silenced: in (B, H, T, d) the heads are axis 1": (
            lambda heads, w_o, h: _join(_kept(heads, h, 2)) @ w_o
        ),
        "the axes are not swapped back before the heads are joined": (
            lambda heads, w_o, h: _joined_without_swap(_kept(heads, h)) @ w_o
        ),
        "W_O is missing: the heads stand side by side, and nothing mixes them": (
            lambda heads, w_o, h: _join(_kept(heads, h))
        ),
        "the other heads are scaled up: they stay as they are": lambda heads, w_o, h: (
            _silent(heads, w_o, h) * heads.shape[1] / (heads.shape[1] - 1)
        ),
        "head h hands over the mean of the others: it has to hand over nothing": (
            lambda heads, w_o, h: (
                _silent(heads, w_o, h)
                + _part(
                    (_kept(heads, h).sum(1, True) / (heads.shape[1] - 1)).expand_as(
                        heads
                    ),
                    w_o,
                    h,
                )
            )
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


# --- winners: which tokens a linear readout of two heads can name -------------------------


def _winners(weights, low=0.0, high=1.0, absent=True, looks=10_000):
    """Who is farthest in some direction, between `low` and `high` of a full turn."""
    angle = torch.linspace(low, high, looks) * 2 * torch.pi
    directions = torch.stack([angle.cos(), angle.sin()], -1)  # (looks, 2)
    points = torch.cat([weights, torch.zeros(1, 2)]) if absent else weights
    best = (directions.to(points) @ points.mT).argmax(-1)
    return torch.isin(torch.arange(len(weights)), best)


def _best_of(score):
    return lambda weights: score(weights) == score(weights).amax(0)


winners = Exercise(
    correct=_winners,
    mistakes={
        "the absent symbols are forgotten: they stand at 0, 0 and win where less weight "
        "is preferred": lambda weights: _winners(weights, absent=False),
        "a readout can also prefer less weight in a head: its direction may be negative": (
            lambda weights: _winners(weights, 0, 0.25)
        ),
        "only the largest weight of each head is found so: a readout can look at both "
        "heads at once": lambda weights: _best_of(lambda w: w)(weights).any(-1),
        "two numbers tell all of them apart, but not for a linear readout: what lies "
        "inside the others' outline is never farthest": lambda weights: (
            torch.ones(len(weights)) > 0
        ),
        "this adds the two heads up: a readout may weigh them in any way": _best_of(
            lambda w: w.sum(-1)
        ),
        "this is the point farthest from 0, 0 alone: every corner of the outline can "
        "win": _best_of(lambda w: w.norm(dim=-1)),
        "these are the places of the winners: return True or False for each token": (
            lambda weights: _winners(weights).nonzero().flatten()
        ),
    },
    cases=[
        (torch.tensor([[0.55, 0.05], [0.15, 0.1], [0.2, 0.42], [0.1, 0.15]]),),
        (torch.tensor([[0.5, 0.2], [0.4, 0.0], [0.1, 0.3], [0.0, 0.5]]),),
        (torch.tensor([[0.42, 0.0], [0.37, 0.21], [0.21, 0.38], [0.0, 0.41]]),),
        (torch.tensor([[0.42, 0.3], [0.3, 0.4], [0.18, 0.18], [0.1, 0.12]]),),
    ],
)
