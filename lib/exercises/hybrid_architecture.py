"""The exercises of the hybrid architecture: right answers, and the wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise

_generator = torch.Generator().manual_seed(0)


def _draw(B: int, T: int, V: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, T, V), ids (B, T), and which of them are masked."""
    logits = 3 * torch.randn(B, T, V, generator=_generator)
    ids = torch.randint(V, (B, T), generator=_generator)
    at = torch.rand(B, T, generator=_generator) < share
    at[:, 0] = True
    return logits, ids, at


_DRAWN = [_draw(2, 30, 12, 0.3), _draw(3, 20, 9, 0.4)]


# --- loss: at the gaps only ------------------------------------------------------


def _loss(logits, ids, at):
    return F.cross_entropy(logits[at], ids[at])


def _everywhere(logits, ids, at):
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def _diluted(logits, ids, at):
    losses = F.cross_entropy(logits.mT, ids, reduction="none")
    return (losses * at).mean()


def _summed(logits, ids, at):
    return F.cross_entropy(logits[at], ids[at], reduction="sum")


def _softmax_twice(logits, ids, at):
    return F.cross_entropy(logits[at].softmax(-1), ids[at])


def _shifted(logits, ids, at):
    return F.cross_entropy(logits[:, :-1][at[:, 1:]], ids[:, 1:][at[:, 1:]])


loss = Exercise(
    correct=_loss,
    mistakes={
        "this averages over all tokens; the others stand in the input for all to read, "
        "and the model learns to copy them": _everywhere,
        "the losses of the gaps are right, but they are divided by the number of all "
        "tokens: the share that is masked would scale the loss": _diluted,
        "this is a sum: with twice the gaps it is twice as large": _summed,
        "this predicts the next token, as a causal model does; a gap's logits stand at "
        "the gap itself": _shifted,
        "there are two softmaxes: cross_entropy takes logits, and has its own": (
            _softmax_twice
        ),
        "these are the tokens that the model can read: `at` is True at the gaps": (
            lambda logits, ids, at: _loss(logits, ids, ~at)
        ),
    },
    cases=_DRAWN,
)


# --- top_five: the share of gaps ---------------------------------------------------


def _top(logits, ids, at, k=5):
    return (logits[at].topk(k).indices == ids[at][:, None]).any(-1).double().mean()


top_five = Exercise(
    correct=_top,
    mistakes={
        "this is top-1: the first guess alone": lambda *case: _top(*case, k=1),
        "all tokens are counted, those that the model can read as well": (
            lambda logits, ids, at: _top(logits, ids, torch.ones_like(at))
        ),
        "each guess is counted apart: a gap has five, of which one at most is right": (
            lambda *case: _top(*case) / 5
        ),
    },
    cases=_DRAWN,
)


# --- entries: scores that one hybrid layer computes ------------------------------


def _pattern(T, block, reach, G):
    at = torch.arange(T) // block
    near = (at[:, None] - at).abs() <= reach
    column = torch.zeros(T, T, dtype=torch.bool)
    column[:, :G] = True
    return near, column


def _entries(T, block, reach, G):
    near, column = _pattern(T, block, reach, G)
    return int((near | column | column.T).sum())


def _one_way(T, block, reach, G):
    near, column = _pattern(T, block, reach, G)
    return int((near | column).sum())


def _twice(T, block, reach, G):
    near, column = _pattern(T, block, reach, G)
    return int(near.sum() + (column | column.T).sum())


def _filled(T, block, reach, G):
    return _entries(-(-T // block) * block, block, reach, G)


def _unordered(T, block, reach, G):
    return (_entries(T, block, reach, G) + T) // 2


def _in_the_first_block(T, block, reach, G):
    window = block**2 * ((2 * reach + 1) * (T // block) - reach * (reach + 1))
    return window + 2 * G * (T - (reach + 1) * block)


def _endless(T, block, reach, G):
    return T * ((2 * reach + 1) * block + G) + G * T


entries = Exercise(
    correct=_entries,
    mistakes={
        "the column is there and the row is not: a global token also meets "
        "everybody": _one_way,
        "a global key in the window is counted twice": _twice,
        "the first and last blocks have no neighbour on one side, and a global key "
        "inside the window is met once": _endless,
        "the last block is filled up: only the T tokens are queries and keys": _filled,
        "(i, j) and (j, i) are two entries: in one i is the query, in the other "
        "j": _unordered,
        "that takes whole blocks, and all global tokens in the first: one that stands in "
        "a later block has more of its row in the window already": _in_the_first_block,
    },
    cases=[(24, 4, 1, 2), (30, 5, 2, 5), (22, 4, 1, 7), (256, 16, 1, 32)],
    tol=0,
)


# --- start: the deviation of a tied table ----------------------------------------


start = Exercise(
    correct=lambda d_model, spread: spread / d_model**0.5,
    mistakes={
        "the sum of D products has D times their variance, and √D times their "
        "deviation": lambda d_model, spread: spread / d_model,
        "the width is missing: a hidden vector has D features of size 1": (
            lambda d_model, spread: spread
        ),
        "`spread` is missing: that gives logits of deviation 1": lambda d_model, spread: (
            1 / d_model**0.5
        ),
        "the width has to make it smaller, not larger": (
            lambda d_model, spread: spread * d_model**0.5
        ),
    },
    cases=[(128, 0.3), (768, 1.0)],
)


# --- reach: how far a stack of local layers carries ------------------------------


reach = Exercise(
    correct=lambda layers, block, window: layers * (window // 2) * block + block - 1,
    mistakes={
        "from the first token of a block it is that; the last token of its block is "
        "block − 1 farther": (lambda n, block, window: n * (window // 2) * block),
        "a window of w blocks has (w − 1) / 2 on each side": (
            lambda n, block, window: n * window * block
        ),
        "this is one layer: each further layer carries on from where the one before "
        "ended": (lambda n, block, window: (window // 2) * block + block - 1),
        "both sides are counted: to the left it is half": (
            lambda n, block, window: n * (window - 1) * block + block - 1
        ),
    },
    cases=[(4, 16, 3), (3, 8, 5), (2, 10, 7)],
    tol=0,
)
