"""The exercises of the hybrid architecture: right answers, and the wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise

_generator = torch.Generator().manual_seed(0)


def _draw(B: int, T: int, V: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, T, V), ids (B, T), and which of them are masked: in the last none."""
    logits = 3 * torch.randn(B, T, V, generator=_generator)
    ids = torch.randint(V, (B, T), generator=_generator)
    at = torch.rand(B, T, generator=_generator) < share
    at[:, 0], at[-1] = True, False
    return logits, ids, at


_DRAWN = [_draw(3, 30, 12, 0.3), _draw(4, 20, 9, 0.4)]


# --- losses: at the gaps only, text by text ----------------------------------------


def _each(logits, ids):
    return F.cross_entropy(logits.mT, ids, reduction="none")  # (B, T)


def _losses(logits, ids, at):
    return (_each(logits, ids) * at).sum(1) / at.sum(1).clamp(min=1)


def _shifted(logits, ids, at):
    return _losses(logits[:, :-1], ids[:, 1:], at[:, 1:])


losses = Exercise(
    correct=_losses,
    mistakes={
        "this is one mean over all gaps: each text has its own": (
            lambda logits, ids, at: F.cross_entropy(logits[at], ids[at])
        ),
        "these are the losses gap by gap: a text has the mean of its own": (
            lambda logits, ids, at: F.cross_entropy(
                logits[at], ids[at], reduction="none"
            )
        ),
        "a text without a gap has 0 / 0: let it be 0": lambda logits, ids, at: (
            (_each(logits, ids) * at).sum(1) / at.sum(1)
        ),
        "this averages over all tokens; the others stand in the input for all to read, "
        "and the model learns to copy them": lambda logits, ids, at: _each(
            logits, ids
        ).mean(1),
        "the losses of the gaps are right, but they are divided by the number of all "
        "tokens: divide by that of the text's gaps": lambda logits, ids, at: (
            _each(logits, ids) * at
        ).mean(1),
        "each text is divided by the gaps of all texts: take its own": (
            lambda logits, ids, at: (_each(logits, ids) * at).sum(1) / at.sum()
        ),
        "these are sums: with twice the gaps they are twice as large": (
            lambda logits, ids, at: (_each(logits, ids) * at).sum(1)
        ),
        "this predicts the next token, as a causal model does; a gap's logits stand at "
        "the gap itself": _shifted,
        "there are two softmaxes: cross_entropy takes logits, and has its own": (
            lambda logits, ids, at: _losses(logits.softmax(-1), ids, at)
        ),
        "these are the tokens that the model can read: `at` is True at the gaps": (
            lambda logits, ids, at: _losses(logits, ids, ~at)
        ),
    },
    cases=_DRAWN,
)


# --- reciprocal: the mean of 1 / rank ----------------------------------------------


def _rank(logits, ids, at):
    right = logits[at].gather(1, ids[at][:, None])  # (N, 1)
    return (logits[at] > right).sum(-1) + 1.0  # (N,)


def _everywhere(at):
    return torch.ones_like(at)


reciprocal = Exercise(
    correct=lambda *case: (1 / _rank(*case)).mean(),
    mistakes={
        "ranks count from 1: the best guess would have 1 / 0": lambda *case: (
            1 / (_rank(*case) - 1)
        ).mean(),
        "the right token is counted among those before it: the best guess has rank "
        "1": lambda *case: (1 / (_rank(*case) + 1)).mean(),
        "this is the mean rank: one gap at rank 8,000 outweighs all others; take "
        "1 / rank first": lambda *case: _rank(*case).mean(),
        "this is 1 / mean rank: take 1 / rank of each gap first": lambda *case: (
            1 / _rank(*case).mean()
        ),
        "the ranks count from the worst guess": lambda logits, ids, at: (
            1 / _rank(-logits, ids, at)
        ).mean(),
        "all tokens are counted, those that the model can read as well": (
            lambda logits, ids, at: (1 / _rank(logits, ids, _everywhere(at))).mean()
        ),
        "this is a sum: divide by the number of gaps": lambda *case: (
            1 / _rank(*case)
        ).sum(),
        "that is divided by the number of all tokens": lambda logits, ids, at: (
            (1 / _rank(logits, ids, at)).sum() / at.numel()
        ),
        "this is the share of gaps that are right at once: rank 2 counts a half": (
            lambda *case: (_rank(*case) == 1).double().mean()
        ),
        "this is the top-5 accuracy": lambda *case: (_rank(*case) <= 5).double().mean(),
        "these are the gaps one by one: their mean is asked for": lambda *case: (
            1 / _rank(*case)
        ),
    },
    cases=_DRAWN,
)


# --- scores: of a stack with full and local layers -----------------------------------


def _near(T: int, side: int) -> int:
    return T * (2 * side + 1) - side * (side + 1)


def _scores(T, layers, every, side):
    full = -(-layers // every)
    return full * T**2 + (layers - full) * _near(T, side)


def _with(full, near):
    return lambda T, layers, every, side: (
        full(layers, every) * T**2 + (layers - full(layers, every)) * near(T, side)
    )


def _up(layers, every):
    return -(-layers // every)


scores = Exercise(
    correct=_scores,
    mistakes={
        "layer 0 is full, and each `every`-th after it: round up": _with(
            lambda layers, every: layers // every, _near
        ),
        "that has a full layer after each `every` local ones": _with(
            lambda layers, every: -(-layers // (every + 1)), _near
        ),
        "the kinds have changed places: each `every`-th layer is full": _with(
            lambda layers, every: layers - -(-layers // every), _near
        ),
        "the first and the last tokens have fewer neighbours: side · (side + 1) are "
        "missing": _with(_up, lambda T, side: T * (2 * side + 1)),
        "a token meets itself, too": _with(_up, lambda T, side: _near(T, side) - T),
        "`side` tokens are met on each side, not in all": _with(
            _up, lambda T, side: _near(T, side // 2)
        ),
        "that window looks back only: it has as many tokens ahead": _with(
            _up, lambda T, side: T * (side + 1) - side * (side + 1) // 2
        ),
        "all layers are full": lambda T, layers, every, side: layers * T**2,
        "all layers are local": lambda T, layers, every, side: layers * _near(T, side),
        "that is one full and one local layer": lambda T, layers, every, side: (
            T**2 + _near(T, side)
        ),
    },
    cases=[(256, 4, 3, 16), (8192, 22, 3, 64), (100, 9, 2, 10)],
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
