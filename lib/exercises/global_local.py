"""The exercises of global and local attention: right answers, and the wrong ones."""

import torch
from torch import Tensor

from lib.exercise import Exercise
from lib.sparse import pattern

# --- mask: window and two-way globals --------------------------------------------


def _mask(T, block, places):
    return pattern(T, block=block, global_tokens=places)


def _window(T, block):
    return pattern(T, block=block)


def _column(T, block, places):
    mask = _window(T, block)
    mask[:, list(places)] = True
    return mask


def _row(T, block, places):
    return _column(T, block, places).mT


def _among_themselves(T, block, places):
    mask = _window(T, block)
    for i in places:
        mask[i, list(places)] = True
    return mask


def _band(T, block, places):
    at = torch.arange(T)
    mask = (at[:, None] - at).abs() <= block
    mask[:, list(places)] = mask[list(places)] = True
    return mask


def _blocks_of_globals(T, block, places):
    whole = sorted({i for p in places for i in range(T) if i // block == p // block})
    return _mask(T, block, whole)


def _own_block(T, block, places):
    return pattern(T, block=block, window=1, global_tokens=places)


mask = Exercise(
    correct=_mask,
    mistakes={
        "everything reads the global tokens, but they read only their window: the rows "
        "are missing": _column,
        "the global tokens read everything, but nothing far off reads them: the columns "
        "are missing": _row,
        "the global tokens read only each other": _among_themselves,
        "the window counts tokens: it is whole blocks, the own one and the two beside "
        "it": _band,
        "whole blocks became global: only the tokens at `places` are": (
            _blocks_of_globals
        ),
        "each block reads itself only: the two beside it belong to the window": (
            _own_block
        ),
        "the globals are missing": lambda T, block, places: _window(T, block),
    },
    cases=[(20, 4, [1, 13]), (17, 3, [0, 7])],
    tol=0,
)


# --- once: each key one time -----------------------------------------------------


def _inside(table: Tensor, T: int) -> Tensor:
    return (table >= 0) & (table < T)


def _same(table: Tensor) -> Tensor:
    return table[:, :, None] == table[:, None]


def _once(table, T):
    return _inside(table, T) & ~_same(table).tril(-1).any(-1)


def _last(table, T):
    return _inside(table, T) & ~_same(table).triu(1).any(-1)


def _none_left(table, T):
    return _inside(table, T) & (_same(table).sum(-1) == 1)


def _all_rows(table, T):
    flat = table.flatten()[None]
    return _inside(table, T) & ~_same(flat).tril(-1).any(-1).view(table.shape)


once = Exercise(
    correct=_once,
    mistakes={
        "places outside the text are kept: they hold no token": lambda table, T: (
            ~_same(table).tril(-1).any(-1)
        ),
        "a key that stands twice is counted twice": _inside,
        "the first of two is hidden and the last kept: globals stand first, and stay": (
            _last
        ),
        "a key that stands twice is hidden both times: nobody meets it": _none_left,
        "a key that another row has met is hidden: each row counts for itself": (
            _all_rows
        ),
        "that is what to hide: return what to keep": lambda table, T: ~_once(table, T),
    },
    cases=[
        (torch.tensor([[1, -1, 0, 1], [1, 1, 2, 3], [4, 7, 6, 4]]), 6),
        (torch.tensor([[0, 5, -2, -1, 0], [0, 5, 4, 5, 6]]), 6),
    ],
    tol=0,
)


# --- entries: the cost of a pattern ----------------------------------------------


def _entries(T, block, G):
    return block**2 * (3 * T // block - 2) + 2 * G * (T - 2 * block)


entries = Exercise(
    correct=_entries,
    mistakes={
        "the first and the last block have one neighbour, not two": (
            lambda T, block, G: 3 * T * block + 2 * G * (T - 2 * block)
        ),
        "rows and columns are counted whole: what the window holds already is counted "
        "twice": lambda T, block, G: block**2 * (3 * T // block - 2) + 2 * G * T - G**2,
        "each global has a row and a column: one of them is missing": (
            lambda T, block, G: block**2 * (3 * T // block - 2) + G * (T - 2 * block)
        ),
        "only the global's own block is taken off: its neighbour lies in the window, "
        "too": lambda T, block, G: (
            block**2 * (3 * T // block - 2) + 2 * G * (T - block)
        ),
        "that is the window alone": lambda T, block, G: block**2 * (3 * T // block - 2),
        "that is dense attention": lambda T, block, G: T**2,
    },
    cases=[(64, 4, 2), (4096, 64, 64), (90, 10, 1)],
    tol=0,
)


# --- layers: hops in the graph of a pattern --------------------------------------


def _layers(mask, source, asked):
    there, count = torch.zeros(len(mask), dtype=torch.bool), 0
    there[source] = True
    while not there[asked]:
        more = there | (mask & there).any(-1)
        if torch.equal(more, there):
            return -1
        there, count = more, count + 1
    return count


def _turned(mask, source, asked):
    return _layers(mask.mT, source, asked)


def _both_ways(mask, source, asked):
    return _layers(mask | mask.mT, source, asked)


def _between(mask, source, asked):
    found = _layers(mask, source, asked)
    return found - 1 if found > 0 else found


def _at_least_one(mask, source, asked):
    return (
        max(1, _layers(mask, source, asked))
        if source == asked
        else _layers(mask, source, asked)
    )


def _given_up(mask, source, asked):
    found = _layers(mask, source, asked)
    return found if found < len(mask) - 1 else -1


def _zero_for_never(mask, source, asked):
    return max(0, _layers(mask, source, asked))


_one_way = torch.eye(8, dtype=torch.bool) | torch.eye(8, dtype=torch.bool).roll(1, 0)
_one_way[0, 7] = False  # token i reads i and i − 1
_one_way[6, 1] = True
_chain = torch.eye(6, dtype=torch.bool)
_chain[range(1, 6), range(5)] = True  # token i reads i and i − 1
_near = pattern(12, block=2, window=3)
_star = _near.clone()
_star[0] = True  # a row without its column

layers = Exercise(
    correct=_layers,
    mistakes={
        "the wrong way round: information goes from a key to the query that reads "
        "it": _turned,
        "that takes reading for mutual: row i says what i reads, not who reads "
        "it": _both_ways,
        "those are the tokens between them: count the layers": _between,
        "a token has its own information before any layer: 0": _at_least_one,
        "what never arrives is −1, not 0": _zero_for_never,
        "this gives up too soon: along a chain of T tokens it takes T − 1 "
        "layers": _given_up,
    },
    cases=[
        (_one_way, 0, 6),
        (_one_way, 1, 7),
        (_one_way, 3, 2),
        (_near, 0, 11),
        (_star, 11, 3),
        (_star, 4, 4),
        (_chain, 0, 5),
    ],
    tol=0,
)
