"""The exercises of local attention: right answers, and the wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise

_generator = torch.Generator().manual_seed(0)


# --- causal_band: each query, itself and w before it -----------------------------


def _back(T: int) -> Tensor:
    at = torch.arange(T)
    return at[:, None] - at


def _band(T, w):
    return (_back(T) >= 0) & (_back(T) <= w)


causal_band = Exercise(
    correct=_band,
    mistakes={
        "one too few: the token w places back is met, too": lambda T, w: (
            (_back(T) >= 0) & (_back(T) < w)
        ),
        "the query does not meet itself": lambda T, w: (_back(T) > 0) & (_back(T) <= w),
        "it looks ahead as well: causal means no later key": lambda T, w: (
            _back(T).abs() <= w
        ),
        "it looks ahead only: rows are queries, columns keys": lambda T, w: (
            _band(T, w).mT
        ),
        "causal, but without a window: a key more than w back is not met": lambda T, w: (
            _back(T) >= 0
        ),
        "True means that a pair meets: yours says which are masked": lambda T, w: (
            ~_band(T, w)
        ),
        "half the window: w counts the tokens before the query, not both "
        "sides": lambda T, w: (_back(T) >= 0) & (_back(T) <= w // 2),
    },
    cases=[(9, 4), (16, 6)],
    tol=0,
)


# --- neighbours: the block before, itself, the block after -----------------------


def _near(blocks):
    wide = F.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat((wide[:-2], wide[1:-1], wide[2:]), 1)


def _wrapped(blocks):
    return torch.cat((blocks.roll(1, 0), blocks, blocks.roll(-1, 0)), 1)


def _clamped(blocks):
    return torch.cat(
        (torch.cat((blocks[:1], blocks[:-1])), blocks, torch.cat((blocks[1:], blocks[-1:]))),
        1,
    )  # fmt: skip


def _reversed(blocks):
    before, own, after = _near(blocks).chunk(3, 1)
    return torch.cat((after, own, before), 1)


def _own_first(blocks):
    before, own, after = _near(blocks).chunk(3, 1)
    return torch.cat((own, before, after), 1)


def _by_token(blocks):
    tokens = blocks.flatten(0, 1)
    wide = F.pad(tokens, (0, 0, 1, 1))
    near = torch.cat((wide[:-2], wide[1:-1], wide[2:]), 1)  # (T, 3 e)
    return near.view(len(blocks), -1, blocks.shape[2])


neighbours = Exercise(
    correct=_near,
    mistakes={
        "the ends meet: the first block has no block before it, and `roll` gives it the "
        "last": _wrapped,
        "the blocks at the ends stand there twice: beyond the ends stand "
        "zeros": _clamped,
        "before and after are exchanged": _reversed,
        "the own block stands first: the order is before, own, after": _own_first,
        "shifted by a token: shift by a whole block": _by_token,
        "the axis of the features was joined: join the tokens, axis 1": lambda blocks: (
            torch.cat(_near(blocks).chunk(3, 1), 2)
        ),
        "the own block is missing": lambda blocks: torch.cat(
            _near(blocks).chunk(3, 1)[::2], 1
        ),
    },
    cases=[
        (torch.randn(4, 3, 2, generator=_generator),),
        (torch.randn(5, 2, 3, generator=_generator),),
    ],
)


# --- real_keys: which of three blocks of keys are tokens --------------------------


def _at(T: int, block: int, before: int = 1) -> Tensor:
    first = (torch.arange(-(-T // block)) - before) * block
    return first[:, None] + torch.arange(3 * block)


def _real(T, block):
    return (_at(T, block) >= 0) & (_at(T, block) < T)


def _whole_blocks(T, block):
    return (_at(T, block) >= 0) & (_at(T, block) < -(-T // block) * block)


def _no_left(T, block):
    return _at(T, block) < T


def _no_right(T, block):
    return _at(T, block) >= 0


def _from_own(T, block):
    return _at(T, block, before=0) < T


def _one_more(T, block):
    return (_at(T, block) >= 0) & (_at(T, block) <= T)


real_keys = Exercise(
    correct=_real,
    mistakes={
        "the filled-up places of the last block count as tokens: a key is real up to "
        "T − 1": _whole_blocks,
        "keys before the first token count as real": _no_left,
        "keys after the last token count as real": _no_right,
        "the keys start one block before the queries, not with them": _from_own,
        "one too many: the last token stands at T − 1": _one_more,
        "True means real: yours says which are not": lambda T, block: ~_real(T, block),
    },
    cases=[(10, 4), (9, 3), (11, 5)],
    tol=0,
)


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
