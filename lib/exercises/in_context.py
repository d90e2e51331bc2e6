"""The exercises of the in-context chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise

# --- passes: how often the model has to read ---------------------------------------------


def _starts(one, other):
    return other[: len(one)] == one


def _within(one, other):  # anywhere, in a row
    return any(_starts(one, other[i:]) for i in range(len(other)))


def _digits(one, other):
    return "".join(map(str, other)).startswith("".join(map(str, one)))


def _ends(labels, contains=_starts, whole=False):
    """The beginnings that no longer one contains."""
    known = {tuple(x if whole else x[:-1]) for x in labels}
    return [k for k in known if not any(o != k and contains(k, o) for o in known)]


def _beginnings(labels):
    return {tuple(x[:i]) for x in labels for i in range(len(x))}


passes = Exercise(
    correct=lambda labels: len(_ends(labels)),
    mistakes={
        "these are the passes of `score`: one that reads a longer beginning has also "
        "read the shorter ones": lambda labels: len(_beginnings(labels)),
        "the pass behind nothing is left out, the other short beginnings are not: one "
        "that reads a longer beginning has read them, too": lambda labels: len(
            _beginnings(labels) - {()}
        ),
        "a beginning that a longer one goes on from has a pass of its own: the longer "
        "one has read it": lambda labels: len({tuple(x[:-1]) for x in labels}),
        "labels are counted: equal beginnings share a pass, and a longer one contains "
        "shorter ones": len,
        "labels of several tokens are counted: equal beginnings share a pass, and a "
        "longer one contains shorter ones": lambda labels: sum(
            len(x) > 1 for x in labels
        ),
        "labels are read to their end: nothing has to be predicted after a label's "
        "last token": lambda labels: len(_ends(labels, whole=True)),
        "where all labels have one token, the question still has to be read once": (
            lambda labels: len([k for k in _ends(labels) if k])
        ),
        "first tokens are counted: beginnings that part later need passes of their "
        "own": lambda labels: max(1, len({x[0] for x in labels if len(x) > 1})),
        "a beginning counts as read wherever its tokens stand in another: it has to be "
        "that one's beginning": lambda labels: len(_ends(labels, _within)),
        "12 is taken to begin with 1: compare tokens, not their digits": (
            lambda labels: len(_ends(labels, _digits))
        ),
        "the longest label is counted: a pass reads a whole beginning, not one "
        "token": lambda labels: max(map(len, labels)),
    },
    cases=[
        ([[5], [7], [9, 2]],),
        ([[4], [8]],),
        ([[1, 2, 3], [1, 2, 4], [6], [1, 8], [7, 2, 3]],),
        ([[3, 1, 4, 1], [3, 1, 4, 2], [3, 1], [2]],),
        ([[3, 5], [1, 3, 4], [6, 1], [1, 2, 9, 7], [1, 2, 8], [1, 7, 2]],),
        ([[1, 5], [12, 6]],),
    ],
)


# --- batch: calibration without content-free inputs --------------------------------------


def _others(rows):
    """The mean over the other rows: (N, L)."""
    return (rows.sum(0) - rows) / (len(rows) - 1)


def _batch(logs):
    return logs - _others(logs.softmax(-1)).log()


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 4


batch = Exercise(
    correct=_batch,
    mistakes={
        "a question counts in its own prior: take the mean over the others": (
            lambda logs: logs - logs.softmax(-1).mean(0).log()
        ),
        "the others' sum is divided by the number of all: they are one fewer": (
            lambda logs: (
                logs - (_others(logs.softmax(-1)) * (len(logs) - 1) / len(logs)).log()
            )
        ),
        "a question's own distribution is taken away: take the mean over the others": (
            lambda logs: logs - logs.log_softmax(-1)
        ),
        "the mean of the logarithms is taken: take the logarithm of the mean": (
            lambda logs: logs - _others(logs.log_softmax(-1))
        ),
        "the mean is that of the log-probabilities as they are: make each row a "
        "distribution over the labels first": lambda logs: logs - _others(logs),
        "the rows are not made distributions over the labels: their probabilities do "
        "not sum to 1": lambda logs: logs - _others(logs.exp()).log(),
        "the softmax runs over the items: it belongs along a row, over the "
        "labels": lambda logs: logs - _others(logs.softmax(0)).log(),
        "the prior is added: it has to be taken away": lambda logs: (
            logs + _others(logs.softmax(-1)).log()
        ),
        "the probability of the prior is taken away, not its logarithm": lambda logs: (
            logs - _others(logs.softmax(-1))
        ),
        "these are quotients of probabilities: return their logarithms": lambda logs: (
            logs.softmax(-1) / _others(logs.softmax(-1))
        ),
        "these are the best labels: return the scores (N, L)": lambda logs: _batch(
            logs
        ).argmax(1),
        "each row is made a distribution in the result, too: take the prior away from "
        "the log-probabilities as they are": lambda logs: (
            logs.log_softmax(-1) - _others(logs.softmax(-1)).log()
        ),
    },
    cases=[(_random(6, 3, seed=0),), (_random(4, 5, seed=1),)],
)


# --- latest: the key of the last copy -----------------------------------------------------


def _latest(ids, pick=max, after=1, own=0):
    T = len(ids)
    found = torch.zeros(T, T, dtype=torch.bool)
    for t in range(T):
        copies = [j for j in range(t + own) if ids[j] == ids[t]]
        if copies and pick(copies) + after < T:
            found[t, pick(copies) + after] = True
    return found


def _every(ids):
    T = len(ids)
    found = torch.zeros(T, T, dtype=torch.bool)
    for t in range(T):
        for j in range(t):
            found[t, j + 1] |= bool(ids[j] == ids[t])
    return found


latest = Exercise(
    correct=_latest,
    mistakes={
        "every earlier copy is wanted: take the last one alone": _every,
        "the first copy is taken: take the last one": lambda ids: _latest(ids, min),
        "the copy itself is wanted: the key is one place after it": lambda ids: _latest(
            ids, after=0
        ),
        "the key is one place before the copy: it is one place after": lambda ids: (
            torch.stack([row.roll(-2) for row in _latest(ids)])
        ),
        "the token counts as its own copy: look at earlier places alone": lambda ids: (
            _latest(ids, own=1)
        ),
        "the axes have changed places: a row is a query, a column a key": lambda ids: (
            _latest(ids).T
        ),
        "these are the places of the keys: return a table (T, T) of True and "
        "False": lambda ids: torch.where(
            _latest(ids).any(1), _latest(ids).int().argmax(1), -1
        ),
    },
    cases=[
        (torch.tensor([3, 1, 2, 1, 4, 1, 2, 5]),),
        (torch.tensor([2, 2, 2, 0, 2, 0]),),
    ],
)


# --- spread: between draws and between orders ---------------------------------------------


def _spread(right, correction=0):
    accuracy = right.double().mean(-1)  # (draws, orders)
    between = accuracy.mean(1).var(correction=correction)
    within = accuracy.var(1, correction=correction).mean()
    return torch.stack([between, within])


def _bits(*shape: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    share = torch.rand(*shape[:2], 1, generator=g)
    return torch.rand(*shape, generator=g) < share


spread = Exercise(
    correct=_spread,
    mistakes={
        "the two have changed places: first between draws, then within": lambda r: (
            _spread(r).flip(0)
        ),
        "draws and orders have changed places: draws are the first axis": lambda r: (
            _spread(r.transpose(0, 1))
        ),
        "the sum of squares is divided by the number less one: divide by the "
        "number, correction=0": lambda r: _spread(r, 1),
        "these are standard deviations: return variances": lambda r: _spread(r).sqrt(),
        "the second is the variance of all accuracies: take that of each draw's "
        "orders, and the mean of those": lambda r: torch.stack(
            [_spread(r)[0], r.double().mean(-1).var(correction=0)]
        ),
        "the first is the variance of all accuracies: take each draw's mean over its "
        "orders first": lambda r: torch.stack(
            [r.double().mean(-1).var(correction=0), _spread(r)[1]]
        ),
        "the second is the variance of one draw: take the mean over the draws": (
            lambda r: torch.stack(
                [_spread(r)[0], r.double().mean(-1)[0].var(correction=0)]
            )
        ),
        "the variance is that of single answers: take the accuracy over the items "
        "first": lambda r: torch.stack(
            [
                r.double().mean(1).var(0, correction=0).mean(),
                r.double().var(1, correction=0).mean(),
            ]
        ),
    },
    cases=[(_bits(4, 3, 30, seed=0),), (_bits(3, 5, 20, seed=1),)],
)
