"""The exercises of the decoding chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise
from lib.filters import penalise as _penalise

_SHARES = torch.tensor([0.12, 0.4, 0.03, 0.25, 0.2])
_FLAT = torch.tensor([0.3, 0.24, 0.26, 0.2])
_EVEN = torch.tensor([0.125, 0.5, 0.125, 0.25])  # sums without rounding


# --- nucleus: top-p on probabilities --------------------------------------------------


def _nucleus(shares: Tensor, p: float, crossing=True, share_out=True, order=True):
    if order:
        values, at = shares.sort(descending=True)
    else:
        values, at = shares, torch.arange(len(shares))
    before = values.cumsum(0) - values
    kept = before < p - 1e-9 if crossing else values.cumsum(0) <= p
    found = torch.zeros_like(shares).scatter(0, at, values * kept)
    return found / found.sum() if share_out else found


def _one_more(shares: Tensor, p: float):
    values, at = shares.sort(descending=True)
    kept = values * (values.cumsum(0) - values <= p)
    found = torch.zeros_like(shares).scatter(0, at, kept)
    return found / found.sum()


def _threshold(shares: Tensor, p: float):
    found = shares * (shares >= 1 - p)
    return found / found.sum()


nucleus = Exercise(
    correct=_nucleus,
    mistakes={
        "the token that crosses p has to stay: the set must reach p": lambda shares, p: (
            _nucleus(shares, p, crossing=False)
        ),
        "the kept probabilities do not sum to 1: divide by their sum": lambda shares, p: (
            _nucleus(shares, p, share_out=False)
        ),
        "the likeliest tokens come first: sort before you add up": lambda shares, p: (
            _nucleus(shares, p, order=False)
        ),
        "p is no threshold for one token; it is for the sum of the kept ones": _threshold,
        "one token too many where the sum is p exactly: the set has reached p, and the "
        "smallest such set is asked for": _one_more,
    },
    cases=[(_SHARES, 0.7), (_FLAT, 0.5), (_SHARES, 0.95), (_EVEN, 0.75)],
)


# --- step: one step of beam search ------------------------------------------------------


def _step(scores: Tensor, log_probs: Tensor, K: int):
    total, at = (scores[:, None] + log_probs).flatten().topk(K)
    return at // log_probs.shape[1], at % log_probs.shape[1], total


def _one_each(scores, log_probs, K):
    best, token = log_probs.max(1)
    total, order = (scores + best).sort(descending=True)
    return order, token[order], total


def _best_beam(scores, log_probs, K):
    best, beam = (scores[:, None] + log_probs).max(0)
    total, token = best.topk(K)
    return beam[token], token, total


def _last_only(scores, log_probs, K):
    found, at = log_probs.flatten().topk(K)
    return at // log_probs.shape[1], at % log_probs.shape[1], found


def _product(scores, log_probs, K):
    total, at = (scores[:, None] * log_probs).flatten().topk(K)
    return at // log_probs.shape[1], at % log_probs.shape[1], total


def _mixed_up(scores, log_probs, K):
    total, at = (scores[:, None] + log_probs).flatten().topk(K)
    return at % log_probs.shape[1], at // log_probs.shape[1], total


_CASES = [
    (
        torch.tensor([0.4, 0.35, 0.25]).log(),
        torch.tensor(
            [[0.5, 0.3, 0.15, 0.05], [0.3, 0.3, 0.29, 0.11], [0.05, 0.05, 0.9, 0.0001]]
        ).log(),
        3,
    ),
    (
        torch.tensor([0.6, 0.1]).log(),
        torch.tensor([[0.45, 0.3, 0.25], [0.8, 0.15, 0.05]]).log(),
        2,
    ),
    (  # the two best end in the same token
        torch.tensor([0.5, 0.45]).log(),
        torch.tensor([[0.6, 0.3, 0.1], [0.55, 0.35, 0.1]]).log(),
        2,
    ),
]
step = Exercise(
    correct=_step,
    mistakes={
        "each beam hands on one word here; all words of all beams compete": _one_each,
        "each token keeps its best beam only; two of the K best may end in the same "
        "token": _best_beam,
        "what counts is the sum since the start, not the last word alone": _last_only,
        "logarithms are added where probabilities are multiplied": _product,
        "beam and token are swapped: the flat index is beam · V + token": _mixed_up,
    },
    cases=_CASES,
)


# --- penalty: the repetition penalty -----------------------------------------------------


def _divide_all(logits, ids, penalty):
    found = logits.clone()
    found[ids.unique()] /= penalty
    return found


def _each_time(logits, ids, penalty):
    found = logits.clone()
    for i in ids.tolist():
        found[i] = found[i] * penalty if found[i] < 0 else found[i] / penalty
    return found


def _multiply_all(logits, ids, penalty):
    found = logits.clone()
    found[ids.unique()] *= penalty
    return found


def _every_token(logits, ids, penalty):
    return torch.where(logits < 0, logits * penalty, logits / penalty)


def _subtract(logits, ids, penalty):
    found = logits.clone()
    found[ids.unique()] -= penalty
    return found


penalty = Exercise(
    correct=lambda logits, ids, penalty: _penalise(logits[None], ids[None], penalty)[0],
    mistakes={
        "a negative logit that is divided comes nearer to 0, so the token becomes "
        "likelier: multiply there": _divide_all,
        "a positive logit that is multiplied grows, so the token becomes likelier: "
        "divide there": _multiply_all,
        "tokens that are not among `ids` keep their logits": _every_token,
        "a token that stood there twice is penalised once": _each_time,
        "this penalty divides or multiplies; the one that subtracts is another": _subtract,
    },
    cases=[
        (torch.tensor([2.0, -1.0, 0.5, -3.0]), torch.tensor([2, 1, 1, 0]), 1.5),
        (torch.tensor([-0.2, 4.0, 1.0, 0.3]), torch.tensor([0, 2]), 2.0),
    ],
)


# --- score: what ranks finished beams -----------------------------------------------------


def _score(log_probs: list[float], alpha: float) -> float:
    return sum(log_probs) / len(log_probs) ** alpha


score = Exercise(
    correct=_score,
    mistakes={
        "this is the sum whatever alpha is": lambda log_probs, alpha: sum(log_probs),
        "this divides by ((5 + length) / 6)^alpha, the penalty of GNMT: `generate` "
        "divides by length^alpha": lambda log_probs, alpha: (
            sum(log_probs) / ((5 + len(log_probs)) / 6) ** alpha
        ),
        "this is the mean whatever alpha is": lambda log_probs, alpha: _score(
            log_probs, 1
        ),
        "this multiplies by the length: divide": lambda log_probs, alpha: (
            sum(log_probs) * len(log_probs) ** alpha
        ),
        "alpha is an exponent of the length, not a factor": lambda log_probs, alpha: (
            sum(log_probs) / (len(log_probs) * alpha)
        ),
        "alpha belongs to the length alone, not to the sum": lambda log_probs, alpha: (
            -(abs(sum(log_probs) / len(log_probs)) ** alpha)
        ),
    },
    cases=[([-1.0, -0.5, -2.0], 0.7), ([-0.3] * 6, 2.0), ([-2.0], 0.5)],
)
