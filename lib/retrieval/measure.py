"""How good a search is, and how good an answer: counts with their luck."""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

REFUSALS = (  # what `declines` looks for, as `plain` writes it
    *("do not know", "don t know", "cannot answer", "unable to", "no information"),
    *("not mention", "not provide", "not specif", "not contain", "not state"),
    *("doesn t mention", "doesn t provide", "doesn t specif", "not in text"),
)


def first_right(found: Sequence[str], right: str) -> float:
    """The rank, from 1, at which the right place first stands; infinite if it does not."""
    return next((i for i, place in enumerate(found, 1) if place == right), np.inf)


def places(ranking: Sequence[str]) -> list[str]:
    """Each place once, where it first stood: passages of one section are one place."""
    return [*dict.fromkeys(ranking)]


def recall(ranks: Sequence[float], k: int) -> float:
    """The share of questions whose right place is among the first k."""
    return float((np.asarray(ranks) <= k).mean())


def mrr(ranks: Sequence[float]) -> float:
    """The mean reciprocal rank; a place that was not found counts 0."""
    return float((1 / np.asarray(ranks, dtype=float)).mean())


def interval(
    ranks: Sequence[float],
    score: Callable[[np.ndarray], float],
    draws: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % of the scores of as many questions, drawn again with repetition.

    It counts the luck of the questions alone. Raises ValueError for no question.
    """
    ranks = np.asarray(ranks)
    if not len(ranks):
        raise ValueError("ranks: got none, wants at least one")
    luck = np.random.default_rng(seed)
    rows = luck.integers(len(ranks), size=(draws, len(ranks)))
    low, high = np.percentile([score(ranks[row]) for row in rows], (2.5, 97.5))
    return float(low), float(high)


def paired(
    a: Sequence[float], b: Sequence[float], draws: int = 20_000, seed: int = 0
) -> tuple[float, float]:
    """The mean difference a − b over the same questions, and its p by changed signs.

    If a and b were one method, each difference could as well have the other sign.
    Raises ValueError for numbers of another count.
    """
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    luck = np.random.default_rng(seed)
    signs = luck.choice((-1, 1), size=(draws, len(gaps)))
    seen = np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9
    return float(gaps.mean()), float((seen.sum() + 1) / (draws + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected by Holm (1979), in their order."""
    found, least = [0.0] * len(ps), 0.0
    for done, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, ps[i] * (len(ps) - done)))
        found[i] = least
    return found


def shared(found: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> float:
    """The share of each row's right items that were found, as a mean over the rows."""
    pairs = zip(found, right, strict=True)
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in pairs]))


def separation(yes: Sequence[float], no: Sequence[float]) -> float:
    """How often a score of `yes` is above one of `no` (AUC); equal ones count half."""
    gaps = np.asarray(yes)[:, None] - np.asarray(no)[None, :]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


# --- Answers ------------------------------------------------------------------------


def plain(answer: str) -> str:
    """An answer as it is compared: small letters and digits, one space between words."""
    text = unicodedata.normalize("NFKC", answer).lower().replace(",", "")
    text = re.sub(r"[^\w%]+", " ", text)
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


def exact(answer: str, accepted: Sequence[str]) -> bool:
    """The answer is an accepted one, but for articles, case and punctuation."""
    return plain(answer) in {plain(one) for one in accepted}


def contains(answer: str, accepted: Sequence[str]) -> bool:
    """The answer holds an accepted one as whole words, whatever else it says."""
    text = f" {plain(answer)} "
    return any(f" {plain(one)} " in text for one in accepted)


def declines(answer: str) -> bool:
    """The answer says that it does not know, in one of a few ways."""
    return any(words in plain(answer) for words in REFUSALS)
