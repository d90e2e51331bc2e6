"""Baselines that fill gaps by counting: how often, beside what, and what stands near.

Each gives log-probabilities of every token for each gap of an exam; nothing is learned
by gradients. Models live in `models`, gaps and their judge in `gaps`.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from lib.gaps import Exam, judged

DISCOUNT = 0.75  # what is taken from the count of each pair that was seen
Guess = Callable[[Exam, Tensor, Tensor], Tensor]  # exam, rows, columns -> (m, V)


def answers(guess: Guess, exam: Exam, part: int = 256) -> tuple[Tensor, Tensor]:
    """The loss and the rank of each gap, (M,) each, as `gaps.filled` gives a model's."""
    rows, columns = exam.at.nonzero(as_tuple=True)  # (M,)
    targets, found = exam.targets, []
    for some in torch.arange(len(rows)).split(part):
        shares = guess(exam, rows[some], columns[some])  # (m, V)
        found.append(judged(shares, targets[some]))
    losses, ranks = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(ranks)


def unigram(articles: list[Tensor], vocabulary: int) -> Tensor:
    """How often each token occurs, one added to each: log-probabilities (V,)."""
    counts = torch.bincount(torch.cat(articles), minlength=vocabulary) + 1.0  # (V,)
    return (counts / counts.sum()).log()


def alone(shares: Tensor) -> Guess:
    """The same log-probabilities (V,) at every gap."""
    return lambda exam, rows, columns: shares.expand(len(rows), -1)


def copying(shares: Tensor, weight: float) -> Guess:
    """What stands in the same row, by how often; `shares` (V,) for the rest.

    `weight` is the probability that goes to the visible tokens of the row, [MASK], padding
    and control tokens left out.
    """

    def guess(exam: Exam, rows: Tensor, columns: Tensor) -> Tensor:
        seen = exam.seen[rows]  # (m, T)
        shown = exam.real[rows] & ~exam.at[rows] & (seen > 2)  # (m, T)
        counts = torch.zeros(len(rows), len(shares)).scatter_add_(
            1, seen, shown.float()
        )
        share = counts / counts.sum(1, keepdim=True).clamp(min=1)  # (m, V)
        return (weight * share + (1 - weight) * shares.exp()).log()

    return guess


class Neighbours:
    """Which token stands between two others, by the pairs of a text.

    P(w | left, right) is taken as P(w | left) · P(w | right) / P(w)^κ, made to sum to 1.
    With κ = 1 that is exact where the two neighbours say independent things about w.
    Each of the two is a bigram with absolute discounting: `DISCOUNT` is taken from every
    pair that was seen, and goes to all tokens by the number of different neighbours that
    they have (Kneser and Ney, 1995). A neighbour that is hidden, or absent, is left out.

    Args: articles, ids (n,) each, whose ends meet nothing; vocabulary, V.
    """

    def __init__(self, articles: list[Tensor], vocabulary: int):
        self.shares = unigram(articles, vocabulary)  # (V,)
        pairs = [torch.stack((a[:-1], a[1:])) for a in articles]
        left, right = torch.cat(pairs, 1).numpy()
        ones, shape = np.ones(len(left)), (vocabulary, vocabulary)
        self.after = csr_array((ones, (left, right)), shape)  # N(left, w), then summed
        self.before = csr_array((ones, (right, left)), shape)  # N(right, w)
        for counts in (self.after, self.before):
            counts.sum_duplicates()
        self.kinds = {}
        for name, counts in (("after", self.after), ("before", self.before)):
            met = np.bincount(counts.indices, minlength=vocabulary) + 1.0
            self.kinds[name] = torch.from_numpy(met / met.sum()).float()  # (V,)

    def beside(self, side: str, others: Tensor) -> Tensor:
        """log P(w | the token at its `side`) for each of `others` (m,): (m, V).

        `side` is "after" where the other token stands before w, and "before" where it
        stands behind.
        """
        counts = torch.from_numpy(getattr(self, side)[others.numpy()].toarray()).float()
        total = counts.sum(1, keepdim=True)  # (m, 1)
        taken = DISCOUNT * (counts > 0).sum(1, keepdim=True) / total.clamp(min=1)
        shares = (counts - DISCOUNT).clamp(min=0) / total.clamp(min=1)  # (m, V)
        taken = torch.where(total > 0, taken, 1.0)
        return (shares + taken * self.kinds[side]).log()

    def guess(self, exam: Exam, sides: str = "both", power: float = 1.0) -> Guess:
        """A guesser by the neighbours of a gap: "left", "right" or "both"; κ = `power`."""
        hidden = exam.at | ~exam.real  # (N, T)
        ids = exam.ids.masked_fill(hidden, -1)
        edge = torch.full_like(ids[:, :1], -1)
        left = torch.cat((edge, ids[:, :-1]), 1)  # (N, T), what stands before
        right = torch.cat((ids[:, 1:], edge), 1)

        def guess(exam: Exam, rows: Tensor, columns: Tensor) -> Tensor:
            found, met = 0.0, torch.zeros(len(rows), 1)
            for side, other in (("after", left), ("before", right)):
                if sides in ("both", {"after": "left", "before": "right"}[side]):
                    beside = other[rows, columns]  # (m,)
                    known = (beside >= 0).float()[:, None]  # (m, 1)
                    found = found + known * self.beside(side, beside.clamp(min=0))
                    met = met + known
            # Both: divided once by the unigram. One: as it is. None: the unigram.
            times = torch.where(met == 2, -power, (met == 0).float())
            return (found + times * self.shares).log_softmax(-1)  # (m, V)

        return guess
