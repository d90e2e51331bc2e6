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


# --- causal_keys: the block before, and the own one --------------------------------


def _filled(x: Tensor, block: int) -> Tensor:
    return F.pad(x, (0, 0, 0, -len(x) % block)).unflatten(0, (-1, block))


def _two(before: Tensor, own: Tensor) -> Tensor:
    return torch.cat((before, own), 1)


def _causal_keys(x, block):
    blocks = _filled(x, block)
    return _two(F.pad(blocks, (0, 0, 0, 0, 1, 0))[:-1], blocks)


def _own_first(x, block):
    before, own = _causal_keys(x, block).chunk(2, 1)
    return _two(own, before)


def _and_after(x, block):
    blocks = _filled(x, block)
    return _two(blocks, F.pad(blocks, (0, 0, 0, 0, 0, 1))[1:])


def _wrapped(x, block):
    blocks = _filled(x, block)
    return _two(blocks.roll(1, 0), blocks)


def _clamped(x, block):
    blocks = _filled(x, block)
    return _two(torch.cat((blocks[:1], blocks[:-1])), blocks)


def _filled_in_front(x, block):
    return _causal_keys(F.pad(x, (0, 0, -len(x) % block, 0)), block)


def _three(x, block):
    return torch.cat((_causal_keys(x, block), _and_after(x, block)[:, block:]), 1)


def _by_token(x, block):
    before = F.pad(x, (0, 0, 1, 0))[:-1]
    return _two(_filled(before, block), _filled(x, block))


causal_keys = Exercise(
    correct=_causal_keys,
    mistakes={
        "the own block stands first: the order is before, own": _own_first,
        "that is the own block and the one after it": _and_after,
        "the ends meet: the first block has no block before it, and yours has the "
        "last": _wrapped,
        "the first block stands there twice: before it stand zeros": _clamped,
        "the last block is left out where it is not full: fill it up with "
        "zeros": lambda x, block: _causal_keys(x[: len(x) // block * block], block),
        "the text is filled up at its start: fill up the last block, at the "
        "end": _filled_in_front,
        "three blocks: a causal window never meets the one after": _three,
        "shifted by a token: shift by a whole block": _by_token,
        "the axis of the features was joined: join the tokens, axis 1": lambda x, block: (
            torch.cat(_causal_keys(x, block).chunk(2, 1), 2)
        ),
        "the two blocks have an axis of their own: join the tokens into "
        "one": lambda x, block: torch.stack(_causal_keys(x, block).chunk(2, 1), 1),
        "the own block is missing": lambda x, block: (
            _causal_keys(x, block)[:, :block]
        ),
    },
    cases=[
        (torch.randn(10, 2, generator=_generator), 4),
        (torch.randn(11, 3, generator=_generator), 3),
        (torch.randn(8, 2, generator=_generator), 4),
    ],
)  # fmt: skip


# --- causal_mask: which of these keys a query meets ---------------------------------


def _places(T: int, block: int, before: int = 1) -> tuple[Tensor, Tensor]:
    """Of the queries (n, block, 1), and of the keys (n, 1, 2 · block)."""
    own = torch.arange(T).view(-1, block, 1)
    return own, own[:, :1] - before * block + torch.arange(2 * block)


def _causal_mask(T, block, w):
    own, other = _places(T, block)
    return (other >= 0) & (other <= own) & (own - other <= w)


def _no_start(T, block, w):
    own, other = _places(T, block)
    return (other <= own) & (own - other <= w)


def _ahead(T, block, w):
    own, other = _places(T, block)
    return (other >= 0) & ((own - other).abs() <= w)


def _later(T, block, w):
    own, other = _places(T, block)
    return (other >= 0) & (own - other <= w)


def _no_window(T, block, w):
    own, other = _places(T, block)
    return (other >= 0) & (other <= own)


def _one_too_few(T, block, w):
    own, other = _places(T, block)
    return _causal_mask(T, block, w) & (own - other < w)


def _not_itself(T, block, w):
    own, other = _places(T, block)
    return _causal_mask(T, block, w) & (own != other)


def _first_lost(T, block, w):
    return _causal_mask(T, block, w) & (_places(T, block)[1] > 0)


def _from_own(T, block, w):
    own, other = _places(T, block, before=0)
    return (other >= 0) & (other <= own) & (own - other <= w)


causal_mask = Exercise(
    correct=_causal_mask,
    mistakes={
        "keys before the first token are met: they do not exist": _no_start,
        "later keys are met, up to w ahead: causal means none": _ahead,
        "later keys are met: causal means none": _later,
        "causal, but without a window: a key more than w back is not met": _no_window,
        "one too few: the key w places back is met, too": _one_too_few,
        "the query does not meet itself": _not_itself,
        "token 0 is met by nobody: it stands at 0, and the keys before it below "
        "0": _first_lost,
        "the keys start one block before the queries, not with them": _from_own,
        "True means that a pair meets: yours says which are masked": lambda T, block, w: (
            ~_causal_mask(T, block, w)
        ),
    },
    cases=[(12, 4, 3), (15, 5, 5), (12, 3, 1)],
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
