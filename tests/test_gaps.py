"""lib.gaps: what is hidden follows BERT's numbers; an exam is the same for everybody."""

import math

import pytest
import torch
from scipy.stats import binomtest, chisquare

from lib import gaps

MASK = 60


def drawn(seed=0, N=400, T=128):
    ids = torch.randint(MASK, (N, T), generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    at = gaps.chosen(ids, 0.15, generator)
    return ids, at, gaps.corrupted(ids, at, MASK, generator)


def test_fifteen_of_a_hundred_and_no_control_token():
    ids, at, _ = drawn()
    free = ids >= gaps.CONTROL
    assert not (at & ~free).any()
    assert binomtest(int(at.sum()), int(free.sum()), 0.15).pvalue > 1e-3
    # One choice says nothing about the next.
    both = (at[:, 1:] & at[:, :-1]).sum(), (free[:, 1:] & free[:, :-1]).sum()
    assert binomtest(*map(int, both), 0.15**2).pvalue > 1e-3


def test_eighty_ten_ten():
    ids, at, seen = drawn()
    assert torch.equal(seen[~at], ids[~at])
    before, after = ids[at], seen[at]
    number = len(before)
    masked, kept = int((after == MASK).sum()), int((after == before).sum())
    other = number - masked - kept
    drawn_same = 1 / (MASK - gaps.CONTROL)  # a random token may be the token itself
    shares = (0.8, 0.1 + 0.1 * drawn_same, 0.1 - 0.1 * drawn_same)
    wanted = [number * share for share in shares]
    assert chisquare([masked, kept, other], wanted).pvalue > 1e-3
    counts = torch.bincount(after[(after != MASK) & (after != before)], minlength=MASK)
    assert not counts[: gaps.CONTROL].any()
    assert chisquare(counts[gaps.CONTROL :]).pvalue > 1e-3  # each as likely


def test_the_same_seed_the_same_gaps():
    for a, b in zip(drawn(3), drawn(3), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(drawn(3)[1], drawn(4)[1])


def test_wrong_arguments_are_named():
    generator = torch.Generator()
    with pytest.raises(ValueError, match="share: got 15"):
        gaps.chosen(torch.zeros(2, 3).long(), 15, generator)
    with pytest.raises(ValueError, match="mask: got 3"):
        gaps.corrupted(torch.zeros(2, 3).long(), torch.zeros(2, 3).bool(), 3, generator)


ARTICLES = [torch.arange(3, 3 + n) for n in (50, 20, 8)]


def test_an_exam_is_fixed_and_knows_whose_gaps_are_whose():
    exam = gaps.exam(ARTICLES, 16, MASK, stretches=2, share=0.3)
    again = gaps.exam(ARTICLES, 16, MASK, stretches=2, share=0.3)
    assert len(exam) == 6 and exam.article.tolist() == [0, 0, 1, 1, 2, 2]
    for a, b in zip(vars(exam).values(), vars(again).values(), strict=True):
        assert torch.equal(a, b)
    for ids, real, article in zip(exam.ids, exam.real, exam.article, strict=True):
        whole = ARTICLES[article]
        n = min(len(whole), 16)
        assert real.tolist() == [True] * n + [False] * (16 - n)
        assert (whole.unfold(0, n, 1) == ids[:n]).all(1).any()
    assert not (exam.at & ~exam.real).any()
    assert (exam.seen[exam.at] == MASK).all() and (exam.seen[~exam.real] == MASK).all()
    shown = exam.real & ~exam.at
    assert torch.equal(exam.seen[shown], exam.ids[shown])
    assert torch.equal(exam.owner, exam.article[exam.at.nonzero()[:, 0]])
    other = gaps.exam(ARTICLES, 16, MASK, stretches=2, share=0.3, masks=7)
    assert torch.equal(other.ids, exam.ids) and not torch.equal(other.at, exam.at)
    assert len(exam.first(2)) == 2 and torch.equal(exam.first(2).at, exam.at[:2])


class Knows(torch.nn.Module):
    """Gives the token before a gap the logit 2, all others 0."""

    def forward(self, ids, real, at):
        before = ids.roll(1, 1)[at]
        return 2.0 * torch.nn.functional.one_hot(before, MASK + 1)


def test_the_judge_by_hand():
    exam = gaps.exam([torch.tensor([5] * 40)], 40, MASK, share=0.3)
    losses, ranks = gaps.filled(Knows(), exam, rows=1)
    right = exam.seen.roll(1, 1)[exam.at] == 5
    total = math.log(math.exp(2) + MASK)
    assert losses[right].tolist() == pytest.approx([total - 2] * int(right.sum()))
    assert losses[~right].tolist() == pytest.approx([total] * int((~right).sum()))
    assert set(ranks[right].tolist()) == {0}
    assert set(ranks[~right].tolist()) == {MASK}  # as likely as all others: behind them


def test_the_loss_of_training_is_that_of_the_gaps_alone():
    ids, at, seen = drawn(N=4)
    logits = torch.randn(int(at.sum()), MASK + 1)
    total, number = gaps.hidden_loss(lambda seen, real, at: logits, seen, ids, at)
    wanted = torch.nn.functional.cross_entropy(logits, ids[at])
    assert number == at.sum() and torch.allclose(total / number, wanted)
