"""The exercises of masked language models: right answers, and wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise

_generator = torch.Generator().manual_seed(0)


# --- pairs: how many scores a local layer has ------------------------------------


def _band(T, local_attention):
    place = torch.arange(T)
    return (place[:, None] - place).abs() <= local_attention // 2


def _pairs(T, local_attention):
    return int(_band(T, local_attention).sum())


pairs = Exercise(
    correct=_pairs,
    mistakes={
        "`local_attention` is the whole window: half of it lies on each side": (
            lambda T, w: _pairs(T, 2 * w)
        ),
        "at the ends of the text a part of the window is missing": (
            lambda T, w: T * (2 * (w // 2) + 1)
        ),
        "a token meets itself, too": lambda T, w: _pairs(T, w) - T,
        "a token meets itself, too, and near the ends a part of the window is missing": (
            lambda T, w: T * w
        ),
        "near the ends a token meets fewer others, but some": (
            lambda T, w: (T - 2 * (w // 2)) * (2 * (w // 2) + 1)
        ),
        "(i, j) and (j, i) are two scores: in one i is the query, in the other j": (
            lambda T, w: (_pairs(T, w) + T) // 2
        ),
        "this is a layer with full attention": lambda T, w: T * T,
    },
    cases=[(40, 8), (128, 32), (50, 6)],
    tol=0,
)


# --- together: one loss from two parts of a batch --------------------------------


def _together(parts):
    losses = [F.cross_entropy(logits, ids, reduction="sum") for logits, ids in parts]
    return sum(losses) / sum(len(ids) for _, ids in parts)


def _of_means(parts):
    return sum(F.cross_entropy(logits, ids) for logits, ids in parts) / len(parts)


def _summed(parts):
    return sum(F.cross_entropy(logits, ids, reduction="sum") for logits, ids in parts)


def _parts(*sizes: int) -> tuple[list[tuple[Tensor, Tensor]]]:
    return (
        [
            (
                3 * torch.randn(n, 11, generator=_generator),
                torch.randint(11, (n,), generator=_generator),
            )
            for n in sizes
        ],
    )


together = Exercise(
    correct=_together,
    mistakes={
        "this is the mean of the parts' means: a gap in a part with few gaps counts for "
        "more than one in a part with many": _of_means,
        "this is a sum: divide it by the number of gaps in all parts": _summed,
        "these are means, added: add sums, and divide once by the number of gaps": (
            lambda parts: len(parts) * _of_means(parts)
        ),
        "this is divided by the number of parts, and not by the number of gaps": (
            lambda parts: _summed(parts) / len(parts)
        ),
    },
    cases=[_parts(2, 17), _parts(5, 1, 30)],
)


# --- score: how likely a masked model finds a sentence ---------------------------


def _score(log_shares, ids):
    place = torch.arange(len(ids))
    return log_shares[place, place, ids].sum()


def _first_row(log_shares, ids):
    return log_shares[0, torch.arange(len(ids)), ids].sum()


def _everywhere(log_shares, ids):
    places = torch.arange(len(ids))
    return log_shares[:, places, ids].sum()


score = Exercise(
    correct=_score,
    mistakes={
        "only one row is read: in row 0 all tokens but the first stand there for the "
        "model to see": _first_row,
        "all places of every row are added: in row i only token i is hidden": _everywhere,
        "this is the mean: the sum was asked for, which falls with each further "
        "token": lambda log_shares, ids: _score(log_shares, ids) / len(ids),
        "the sign is turned: that is the loss, and the score is its negative": (
            lambda log_shares, ids: -_score(log_shares, ids)
        ),
        "this takes the likeliest token at each place, not the one of the sentence": (
            lambda log_shares, ids: log_shares.diagonal().amax(0).sum()
        ),
    },
    cases=[
        (
            torch.randn(T, T, 13, generator=_generator).log_softmax(-1),
            torch.randint(13, (T,), generator=_generator),
        )
        for T in (6, 9)
    ],
)
