"""The exercises of global and local attention: right answers, and the wrong ones."""

import torch
from torch import Tensor

from lib.exercise import Exercise
from lib.sparse import pattern

# --- fixed: a causal pattern whose blocks end in a summary -------------------------


def _own(T: int, block: int) -> Tensor:
    of = torch.arange(T) // block
    return of[:, None] == of


def _columns(T: int, block: int, at: int) -> Tensor:
    """The columns of the tokens that stand `at` within their block."""
    return (torch.arange(T) % block == at).expand(T, T)


def _fixed(T, block):
    return (_own(T, block) | _columns(T, block, block - 1)).tril()


def _and_rows(T, block):
    ends = _columns(T, block, block - 1)
    return (_fixed(T, block) | ends.mT).tril()


fixed = Exercise(
    correct=_fixed,
    mistakes={
        "a token reads later ones: causal means itself and those before it": (
            lambda T, block: _own(T, block) | _columns(T, block, block - 1)
        ),
        "the own block is not causal: a token reads later ones in it": (
            lambda T, block: _fixed(T, block) | _own(T, block)
        ),
        "the last tokens of the earlier blocks are missing": lambda T, block: _own(
            T, block
        ).tril(),
        "the own block is missing": lambda T, block: _columns(
            T, block, block - 1
        ).tril(),
        "those are the first tokens of the blocks: each block's last is "
        "read": lambda T, block: (_own(T, block) | _columns(T, block, 0)).tril(),
        "that leaves out the first of the last tokens: they stand at block − 1, "
        "2 · block − 1, …": lambda T, block: (
            (_own(T, block) | _columns(T, block, block - 1)).tril()
            & ((torch.arange(T) != block - 1) | _own(T, block))
        ),
        "the last tokens of the blocks are read by all, but read only what others "
        "read: they have a column, no row": _and_rows,
        "a token reads itself, too": lambda T, block: _fixed(T, block).tril(-1),
        "a token does not read the block before its own, only that block's last "
        "token": lambda T, block: _fixed(T, block) | pattern(T, block=block).tril(),
        "rows and columns have changed places: row i says what i reads": (
            lambda T, block: _fixed(T, block).mT
        ),
        "True means reads: yours says what is left out": lambda T, block: (
            ~_fixed(T, block)
        ),
    },
    cases=[(14, 4), (12, 3)],
    tol=0,
)


# --- shared: copies of a key that share its weight ---------------------------------


def _outside(table: Tensor, T: int) -> Tensor:
    return (table < 0) | (table >= T)


def _copies(table: Tensor) -> Tensor:
    return (table[:, :, None] == table[:, None]).sum(-1).to(torch.get_default_dtype())


def _closed(bias: Tensor, table: Tensor, T: int) -> Tensor:
    return bias.masked_fill(_outside(table, T), -torch.inf)


def _shared(table, T):
    return _closed(-_copies(table).log(), table, T)


def _hides(table, T):
    again = (table[:, :, None] == table[:, None]).tril(-1).any(-1)
    bias = torch.zeros(table.shape).masked_fill(again, -torch.inf)
    return _closed(bias, table, T)


def _counts_all_rows(table, T):
    all_rows = (table.flatten()[:, None] == table.flatten()).sum(-1)
    return _closed(-all_rows.view(table.shape).double().log(), table, T)


def _counts_so_far(table, T):
    so_far = (table[:, :, None] == table[:, None]).tril().sum(-1)
    return _closed(-so_far.double().log(), table, T)


shared = Exercise(
    correct=_shared,
    mistakes={
        "what lies outside the text is not closed: its number is −∞": lambda table, T: (
            -_copies(table).log()
        ),
        "what lies outside the text gets 0, which leaves its score as it is: −∞ gives "
        "it the weight 0": lambda table, T: (-_copies(table).log()).masked_fill(
            _outside(table, T), 0
        ),
        "that makes copies heavier: log m is taken off": lambda table, T: _closed(
            _copies(table).log(), table, T
        ),
        "1 / m is a factor of the weight: what is added to a score goes through the "
        "exponential first": lambda table, T: _closed(1 / _copies(table), table, T),
        "a weight is not divided by m if m is taken off its score": lambda table, T: (
            _closed(-_copies(table), table, T)
        ),
        "the number of further copies is taken off: the softmax needs the logarithm of "
        "m": lambda table, T: _closed(1 - _copies(table), table, T),
        "m counts all the copies in the row, the entry itself included, and no "
        "more": lambda table, T: _closed(-(_copies(table) + 1).log(), table, T),
        "the softmax uses e: take the natural logarithm": lambda table, T: _closed(
            -_copies(table).log2(), table, T
        ),
        "that hides all copies but one: here all of them get the same number": _hides,
        "copies are counted in the whole table: each row counts for itself": (
            _counts_all_rows
        ),
        "only the copies up to the entry are counted: all of a key's entries get the "
        "same number": _counts_so_far,
        "nothing is taken off: a key with two entries has twice its weight": (
            lambda table, T: _closed(torch.zeros(table.shape), table, T)
        ),
    },
    cases=[
        (torch.tensor([[1, -1, 0, 1], [1, 1, 2, 1], [4, 7, 6, 4]]), 6),
        (torch.tensor([[0, 5, -2, -1, 0], [0, 5, 4, 5, 6], [3, 6, 6, 6, 3]]), 6),
    ],
)


# --- entries: the cost of a causal pattern -----------------------------------------


def _triangle(block: int) -> int:
    return block * (block + 1) // 2


def _entries(T, block, G):
    blocks = T // block
    return blocks * _triangle(block) + (blocks - 1) * block**2 + G * (T - 2 * block)


def _two_way(T, block, G):
    return block**2 * (3 * T // block - 2) + 2 * G * (T - 2 * block)


entries = Exercise(
    correct=_entries,
    mistakes={
        "that is the pattern that looks both ways": _two_way,
        "half of the pattern that looks both ways: the diagonal is kept whole, so a "
        "block of its own has b (b + 1) / 2": lambda T, block, G: (
            _two_way(T, block, G) / 2
        ),
        "within its own block a token reads itself and those before it, not the whole "
        "block": lambda T, block, G: (
            block**2 * (2 * T // block - 1) + G * (T - 2 * block)
        ),
        "a token reads itself, too: b (b + 1) / 2 in its own block": (
            lambda T, block, G: _entries(T, block, G) - T
        ),
        "the first block has no block before it": lambda T, block, G: (
            _entries(T, block, G) + block**2
        ),
        "the row of a global token at the start adds nothing: all that it may read is "
        "in its window": lambda T, block, G: (
            _entries(T, block, G) + G * (T - 2 * block)
        ),
        "the second block has the globals in its window already": (
            lambda T, block, G: _entries(T, block, G) + G * block
        ),
        "the columns are counted whole: the first two blocks have the globals in their "
        "window": lambda T, block, G: _entries(T, block, G) + 2 * G * block,
        "the block before is missing: a causal window has the own block and that "
        "one": lambda T, block, G: T // block * _triangle(block) + G * (T - 2 * block),
        "that is the window alone: the columns are missing": lambda T, block, G: (
            _entries(T, block, 0)
        ),
        "that is dense causal attention": lambda T, block, G: T * (T + 1) // 2,
    },
    cases=[(64, 4, 2), (90, 10, 1), (64_000_000, 64, 64)],
    tol=0,
)


# --- heard: layers whose patterns differ -------------------------------------------


def _heard(masks, source):
    there = torch.arange(masks.shape[-1]) == source
    for mask in masks:
        there = there | (mask & there).any(-1)
    return there


def _nothing_kept(masks, source):
    there = torch.arange(masks.shape[-1]) == source
    for mask in masks:
        there = (mask & there).any(-1)
    return there


_near = pattern(10, block=1)
_column, _row = _near.clone(), _near.clone()
_column[:, 0], _row[0] = True, True
_moved = torch.eye(10, dtype=torch.bool).roll(
    2, 0
)  # token i reads i − 2 and not itself
_moved[:2] = False

heard = Exercise(
    correct=_heard,
    mistakes={
        "the layers are in the wrong order: the first of `masks` comes "
        "first": lambda masks, source: _heard(masks.flip(0), source),
        "the wrong way round: information goes from a key to the query that reads "
        "it": lambda masks, source: _heard(masks.mT, source),
        "those are the tokens of which `source` has something": lambda masks, source: (
            _heard(masks.flip(0).mT, source)
        ),
        "a token keeps what it has: each layer has a residual": _nothing_kept,
        "that joins the masks: a token reads by the mask of the layer "
        "alone": lambda masks, source: _heard(
            masks.any(0).expand(len(masks), -1, -1), source
        ),
        "that is one layer which has all the masks: news goes one step in each "
        "layer": lambda masks, source: _heard(masks.any(0)[None], source),
        "only the last mask is used": lambda masks, source: _heard(masks[-1:], source),
        "only the first mask is used": lambda masks, source: _heard(masks[:1], source),
        "the first mask is used in every layer": lambda masks, source: _heard(
            masks[:1].expand_as(masks), source
        ),
        "a layer too few: the last one counts": lambda masks, source: _heard(
            masks[:-1], source
        ),
    },
    cases=[
        (torch.stack((_row, _column)), 7),
        (torch.stack((_column, _row)), 7),
        (torch.stack((_near, _moved, _moved)), 4),
        (torch.stack((_moved, _column, _near)), 0),
        (torch.stack((_moved, _near, _column, _row)), 6),
    ],
    tol=0,
)
