"""The exercises of local attention: right answers, and the wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise

_generator = torch.Generator().manual_seed(0)


# --- dilated: a causal window with gaps --------------------------------------------


def _back(T: int) -> Tensor:
    at = torch.arange(T)
    return at[:, None] - at


def _dilated(T, w, gap):
    return _band(T, w * gap) & (_back(T) % gap == 0)


def _band(T, last):
    return (_back(T) >= 0) & (_back(T) <= last)


dilated = Exercise(
    correct=_dilated,
    mistakes={
        "the window ends w places back: it holds w keys before the query, the last of "
        "them w · gap back": lambda T, w, gap: _band(T, w) & (_back(T) % gap == 0),
        "there are no gaps: of the keys up to w · gap back, each gap-th is "
        "met": lambda T, w, gap: _band(T, w * gap),
        "that is the plain window: the gap is not used": lambda T, w, gap: _band(T, w),
        "it looks ahead as well: causal means no later key": lambda T, w, gap: (
            _dilated(T, w, gap) | _dilated(T, w, gap).mT
        ),
        "it looks ahead only: rows are queries, columns keys": lambda T, w, gap: (
            _dilated(T, w, gap).mT
        ),
        "one too few: the key w · gap back is met, too": lambda T, w, gap: (
            _dilated(T, w - 1, gap)
        ),
        "one too many: the last key stands w · gap back": lambda T, w, gap: (
            _dilated(T, w + 1, gap)
        ),
        "the query does not meet itself": lambda T, w, gap: (
            _dilated(T, w, gap) & (_back(T) > 0)
        ),
        "the window has no end": lambda T, w, gap: _dilated(T, T, gap),
        "`gap` is the step from key to key, not the number of keys left out": lambda T, w, gap: (
            _dilated(T, w, gap + 1)
        ),
        "the steps are counted from the start of the text: count them from the "
        "query": lambda T, w, gap: _band(T, w * gap) & (torch.arange(T) % gap == 0),
        "True means that a pair meets: yours says which are masked": lambda T, w, gap: (
            ~_dilated(T, w, gap)
        ),
    },
    cases=[(16, 3, 2), (14, 2, 3)],
    tol=0,
)  # fmt: skip


# --- collected: from blocks back to the text ----------------------------------------


def _collected(near, T):
    before, own = near.chunk(2, 1)  # (n, block, e) each
    return _text(own + F.pad(before[1:], (0, 0, 0, 0, 0, 1)), T)


def _text(blocks: Tensor, T: int) -> Tensor:
    return blocks.flatten(0, 1)[:T]


def _moved_on(near, T):
    before, own = near.chunk(2, 1)
    return _text(own + F.pad(before, (0, 0, 0, 0, 1, 0))[:-1], T)


def _own_first(near, T):
    return _collected(torch.cat(near.chunk(2, 1)[::-1], 1), T)


def _wrapped(near, T):
    before, own = near.chunk(2, 1)
    return _text(own + before.roll(-1, 0), T)


def _mean(near, T):
    ones = torch.ones_like(near)
    return _collected(near, T) / _collected(ones, T)


collected = Exercise(
    correct=_collected,
    mistakes={
        "only the own block is counted: the next block has its keys, "
        "too": lambda near, T: _text(near.chunk(2, 1)[1], T),
        "only the block before is counted: each token stands in its own, "
        "too": lambda near, T: _text(F.pad(near.chunk(2, 1)[0][1:], (0,) * 5 + (1,)), T),
        "not shifted: what a block holds of the one before belongs there": lambda near, T: (
            _text(sum(near.chunk(2, 1)), T)
        ),
        "shifted the wrong way: the first half of block r is of block r − 1": _moved_on,
        "the first half is of the block before, the second of the own one": _own_first,
        "the ends meet: before the first block there is no token, and yours gave its "
        "half to the last": _wrapped,
        "a mean: the copies of a token are added up": _mean,
        "half of it: the copies of a token are added up": lambda near, T: (
            _collected(near, T) / 2
        ),
        "the last block is only filled up: T tokens exist": lambda near, T: (
            _collected(near, len(near) * near.shape[1])
        ),
    },
    cases=[
        (torch.randn(3, 8, 2, generator=_generator), 10),
        (torch.randn(4, 4, 3, generator=_generator), 8),
        (torch.randn(2, 6, 1, generator=_generator), 4),
    ],
)  # fmt: skip


# --- packed: several texts in one row ------------------------------------------------


def _places(T: int, block: int) -> tuple[Tensor, Tensor]:
    """Of the queries (n, block, 1), and of the keys (n, 1, 3 · block)."""
    own = torch.arange(T).view(-1, block, 1)
    return own, own[:, :1] - block + torch.arange(3 * block)


def _there(T: int, block: int) -> Tensor:
    _, other = _places(T, block)
    return ((other >= 0) & (other < T)).expand(-1, block, -1)


def _same(texts, block, fill=0, compare=torch.eq):
    own, other = _places(len(texts), block)
    padded = F.pad(texts, (block, block), value=fill)
    return compare(texts[own], padded[other + block])


def _packed(texts, block):
    return _same(texts, block) & _there(len(texts), block)


def _causal(texts, block):
    own, other = _places(len(texts), block)
    return _packed(texts, block) & (other <= own)


def _by_first(texts, block):
    """The text of a block's first token stands for the whole block."""
    return _packed(texts.view(-1, block)[:, :1].expand(-1, block).flatten(), block)


packed = Exercise(
    correct=_packed,
    mistakes={
        "places outside the text are met: the zeros there look like text "
        "0": _same,
        "queries meet other texts: compare the numbers": lambda texts, block: (
            _there(len(texts), block)
        ),
        "the texts before are met, too: only the own one": lambda texts, block: (
            _same(texts, block, compare=torch.ge) & _there(len(texts), block)
        ),
        "the texts after are met, too: only the own one": lambda texts, block: (
            _same(texts, block, compare=torch.le) & _there(len(texts), block)
        ),
        "other texts are met, and the own one is not": lambda texts, block: (
            ~_same(texts, block) & _there(len(texts), block)
        ),
        "the window has two sides: nothing says causal here": _causal,
        "only the own block is met: the neighbours are keys, too": lambda texts, block: (
            _packed(texts, block).index_fill(
                2, torch.cat((torch.arange(block), torch.arange(2 * block, 3 * block))), 0
            )
        ),
        "a block may hold the end of one text and the start of the next: compare token "
        "by token": _by_first,
        "True means that a pair meets: yours says which are masked": lambda texts, block: (
            ~_packed(texts, block)
        ),
    },
    cases=[
        (torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2]), 4),
        (torch.tensor([0, 0, 1, 1, 1, 1, 1, 2, 2]), 3),
        (torch.tensor([0, 1, 1, 1, 2, 2, 2, 3]), 2),
    ],
    tol=0,
)  # fmt: skip


# --- layers_needed: the reach of a stack ------------------------------------------

layers_needed = Exercise(
    correct=lambda distance, w: -(-distance // w),
    mistakes={
        "rounded down: a part of a window takes a whole layer": lambda distance, w: (
            distance // w
        ),
        "one too many: the first layer already reaches w": lambda distance, w: (
            -(-distance // w) + 1
        ),
        "one too many where w divides the distance: round up, no more": lambda distance, w: (
            distance // w + 1
        ),
        "a causal window looks back only: 2w + 1 would be both sides": lambda distance, w: (
            -(-distance // (2 * w + 1))
        ),
        "a query meets w + 1 keys, but gets only w places farther in a "
        "layer": lambda distance, w: -(-distance // (w + 1)),
        "the square: L layers reach L · w": lambda distance, w: (
            -(-distance // w**2)
        ),
        "that is the distance: each layer carries it w places": lambda distance, w: (
            distance
        ),
    },
    cases=[(100, 8), (100, 4), (64, 16), (7, 3)],
    tol=0,
)  # fmt: skip


# --- scores: what the block form computes -----------------------------------------

scores = Exercise(
    correct=lambda T, block, window: -(-T // block) * block * window * block,
    mistakes={
        "that is dense attention: T²": lambda T, block, window: T * T,
        "the last block is filled up: round the length up to whole "
        "blocks": lambda T, block, window: T * window * block,
        "the last block is left out: round up": lambda T, block, window: (
            T // block * block * window * block
        ),
        "only the own block was counted: each meets `window` blocks": lambda T, block, window: (
            -(-T // block) * block * block
        ),
        "`window` is the number of all blocks met, not of those on each "
        "side": lambda T, block, window: (
            -(-T // block) * block * (2 * window + 1) * block
        ),
        "those are keys times blocks: each block has `block` queries": lambda T, block, window: (
            -(-T // block) * window * block
        ),
    },
    cases=[(1000, 64, 3), (100, 7, 5), (65, 16, 1)],
    tol=0,
)  # fmt: skip
