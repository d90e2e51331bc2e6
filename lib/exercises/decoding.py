"""The exercises of the decoding chapter: right answers, and the wrong ones we name."""

import math

import torch
from torch import Tensor

from lib.exercise import Exercise

# --- typical: top-p with another order ---------------------------------------------------

_SHARES = torch.tensor([0.12, 0.4, 0.03, 0.25, 0.2])
_PEAKED = torch.tensor([0.62, 0.05, 0.17, 0.13, 0.03])
_EVEN = torch.tensor([0.0625, 0.5, 0.1875, 0.25])  # sums without rounding
_SURE = torch.tensor([0.93, 0.04, 0.02, 0.01])


def _entropy(shares: Tensor) -> Tensor:
    return -(shares * shares.log()).sum()


def _keep(
    shares: Tensor,
    distance: Tensor,
    p: float,
    crossing=True,
    share_out=True,
    spare=-1e-6,
):
    """The nearest ones, as many as it takes for a sum of p."""
    order = distance.argsort(stable=True)
    mass = shares[order]
    before = mass.cumsum(0) - mass
    kept = before < p + spare if crossing else mass.cumsum(0) <= p + 1e-9
    found = torch.zeros_like(shares).scatter(0, order, mass * kept)
    return found / found.sum() if share_out else found


def _typical(shares: Tensor, p: float, **more) -> Tensor:
    return _keep(shares, (-shares.log() - _entropy(shares)).abs(), p, **more)


def _two_bases(shares: Tensor, p: float) -> Tensor:
    return _keep(shares, (-shares.log() - _entropy(shares) / math.log(2)).abs(), p)


typical = Exercise(
    correct=_typical,
    mistakes={
        "this is the nucleus, likeliest tokens first: here those come first whose "
        "surprise is nearest to the entropy, above or below it, so take the difference "
        "without its sign": lambda shares, p: _keep(shares, -shares, p),
        "the token that crosses p has to stay: the set must reach p": lambda shares, p: (
            _typical(shares, p, crossing=False)
        ),
        "the kept probabilities do not sum to 1: divide by their sum": lambda shares, p: (
            _typical(shares, p, share_out=False)
        ),
        "compare a token's surprise, −ln of its probability, with the entropy, not the "
        "probability itself": lambda shares, p: _keep(
            shares, (shares - _entropy(shares)).abs(), p
        ),
        "the entropy weights each surprise by its probability; this is their plain "
        "mean": lambda shares, p: _keep(
            shares, (shares.log().mean() - shares.log()).abs(), p
        ),
        "nearest first: this begins with the tokens that are furthest from the "
        "entropy": lambda shares, p: _keep(
            shares, -(-shares.log() - _entropy(shares)).abs(), p
        ),
        "one token too many where the sum is p exactly: the set has reached p, and the "
        "smallest such set is asked for": lambda shares, p: _typical(
            shares, p, spare=1e-6
        ),
        "one of the two is in bits, the other in nats: use one logarithm": _two_bases,
    },
    cases=[
        (_SHARES, 0.42),
        (_SHARES, 0.7),
        (_PEAKED, 0.7),
        (_EVEN, 0.75),
        (_SURE, 0.5),
    ],
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


# --- frequency: a penalty that subtracts --------------------------------------------------


def _frequency(logits, ids, presence, frequency, count=None):
    count = torch.bincount(ids, minlength=len(logits)) if count is None else count
    return logits - presence * (count > 0) - frequency * count


def _once(logits, ids, presence, frequency):
    seen = torch.bincount(ids, minlength=len(logits)) > 0
    return _frequency(logits, ids, presence, frequency, seen.long())


def _pushed(logits, ids, presence, frequency):
    """As the repetition penalty of the page: dividing and multiplying."""
    count = torch.bincount(ids, minlength=len(logits))
    by = 1 + presence * (count > 0) + frequency * count
    return torch.where(logits < 0, logits * by, logits / by)


frequency = Exercise(
    correct=_frequency,
    mistakes={
        "each token counts as often as it occurs in `ids`; this counts it once": _once,
        "`presence` is subtracted once from each token that occurs, not at each "
        "occurrence": lambda logits, ids, presence, frequency: _frequency(
            logits, ids, 0.0, presence + frequency
        ),
        "`presence` is for the tokens of `ids`; this subtracts it from all": (
            lambda logits, ids, presence, frequency: (
                _frequency(logits, ids, 0.0, frequency) - presence
            )
        ),
        "this makes what occurred likelier: subtract": (
            lambda logits, ids, presence, frequency: _frequency(
                logits, ids, -presence, -frequency
            )
        ),
        "this divides and multiplies, as the repetition penalty does; here the penalty "
        "is subtracted": _pushed,
        "`presence` and `frequency` are swapped": (
            lambda logits, ids, presence, frequency: _frequency(
                logits, ids, frequency, presence
            )
        ),
        "`presence` is missing": lambda logits, ids, presence, frequency: _frequency(
            logits, ids, 0.0, frequency
        ),
        "count the token itself, not its place in `ids`": (
            lambda logits, ids, presence, frequency: _frequency(
                logits,
                ids,
                presence,
                frequency,
                torch.bincount(torch.arange(len(ids)), minlength=len(logits)),
            )
        ),
    },
    cases=[
        (torch.tensor([2.0, -1.0, 0.5, -3.0]), torch.tensor([2, 1, 1]), 0.4, 0.3),
        (torch.tensor([-0.2, 4.0, 1.0, 0.3]), torch.tensor([0, 2, 0, 0]), 0.0, 0.5),
        (torch.tensor([1.0, 0.2, -2.0]), torch.tensor([1, 1]), 1.0, 0.25),
    ],
)


# --- tie: the length penalty at which two texts change places ------------------------------


def _tie(sum_a: float, length_a: int, sum_b: float, length_b: int) -> float:
    return math.log(sum_b / sum_a) / math.log(length_b / length_a)


tie = Exercise(
    correct=_tie,
    mistakes={
        "the sign: with this alpha the scores move apart. If both sides are ratios, the "
        "same text stands above in both": lambda a, m, b, n: -_tie(a, m, b, n),
        "alpha is an exponent: the ratio of the sums equals the ratio of the lengths to "
        "the power alpha. Take logarithms": lambda a, m, b, n: (b / a) / (n / m),
        "upside down: this is the logarithm of the lengths over that of the sums": (
            lambda a, m, b, n: 1 / _tie(a, m, b, n)
        ),
        "the logarithm of a ratio is a difference of logarithms, and this is the "
        "difference without them": lambda a, m, b, n: (b - a) / (m - n),
        "this is the ratio of two logarithms on each side; the logarithm of a ratio is "
        "asked for": lambda a, m, b, n: (
            math.log(-b) / math.log(-a) / (math.log(n) / math.log(m))
        ),
        "the sums need their logarithm, too": lambda a, m, b, n: (
            b / a / math.log(n / m)
        ),
        "the lengths need their logarithm, too": (
            lambda a, m, b, n: math.log(b / a) / (n / m)
        ),
        "this uses ((5 + length) / 6)^alpha, the penalty of GNMT: `generate` divides by "
        "length^alpha": lambda a, m, b, n: (
            math.log(b / a) / math.log((5 + n) / (5 + m))
        ),
    },
    cases=[(-1.4, 3, -2.2, 4), (-6.0, 10, -7.5, 14), (-9.0, 12, -3.0, 5)],
)
