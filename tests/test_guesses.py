"""lib.guesses: probabilities that sum to 1, and the numbers of a text small enough."""

import math
from itertools import pairwise

import pytest
import torch

from lib import gaps, guesses

V, MASK = 12, 11
TEXT = [torch.tensor([1, 3, 4, 5, 3, 4, 6, 2]), torch.tensor([1, 7, 4, 5, 3, 2])]


@pytest.fixture
def exam():
    ids = torch.tensor([[1, 3, 4, 5, 3, 4, 6, 2], [1, 3, 4, 3, 5, 2, MASK, MASK]])
    at = torch.zeros_like(ids).bool()
    at[0, 2] = at[1, 2] = at[1, 3] = at[1, 5] = True
    real = torch.ones_like(at)
    real[1, 6:] = False
    return gaps.Exam(ids, ids.masked_fill(at, MASK), at, real, torch.tensor([0, 1]))


def shares(guess, exam):
    rows, columns = exam.at.nonzero(as_tuple=True)
    found = guess(exam, rows, columns)
    assert found.shape == (len(rows), V)
    assert torch.allclose(found.exp().sum(-1), torch.ones(len(rows)), atol=1e-5)
    return found.exp()


def test_the_unigram(exam):
    found = guesses.unigram(TEXT, V)
    assert found.exp().sum().item() == pytest.approx(1)
    assert found[4].item() == pytest.approx(math.log((3 + 1) / (14 + V)))
    assert torch.equal(*shares(guesses.alone(found), exam)[:2])


def test_copying_is_by_what_is_visible(exam):
    base = guesses.unigram(TEXT, V)
    found = shares(guesses.copying(base, 0.5), exam)
    # Row 0 shows 3, 5, 3, 4, 6 beside control tokens.
    assert found[0, 3].item() == pytest.approx(0.5 * 2 / 5 + 0.5 * base[3].exp().item())
    assert found[0, 4].item() == pytest.approx(0.5 * 1 / 5 + 0.5 * base[4].exp().item())
    # Row 1 shows 3 and 5; padding and gaps, which are MASK, count for nothing.
    assert found[1, 5].item() == pytest.approx(0.5 / 2 + 0.5 * base[5].exp().item())
    assert found[1, MASK].item() == pytest.approx(0.5 * base[MASK].exp().item())


def test_bigrams_by_hand(exam):
    model = guesses.Neighbours(TEXT, V)
    # After 4 stand 5, 6, 5. Distinct left neighbours: of 5 one, of all tokens 9, +1 each.
    after = model.beside("after", torch.tensor([4, 9])).exp()
    pairs = {p for a in TEXT for p in pairwise(a.tolist())}
    base = (sum(b == 5 for _, b in pairs) + 1) / (len(pairs) + V)
    assert after[0, 5].item() == pytest.approx((2 - 0.75) / 3 + 0.75 * 2 / 3 * base)
    assert torch.allclose(after[1], model.kinds["after"])  # 9 was never met
    before = model.beside("before", torch.tensor([4])).exp()
    base = (sum(a == 3 for a, _ in pairs) + 1) / (len(pairs) + V)
    assert before[0, 3].item() == pytest.approx((2 - 0.75) / 3 + 0.75 * 2 / 3 * base)
    assert after.sum(1).tolist() == pytest.approx([1, 1])


def test_both_sides_where_both_are_there(exam):
    model = guesses.Neighbours(TEXT, V)
    left = model.beside("after", torch.tensor([3]))
    right = model.beside("before", torch.tensor([5]))
    for power in (0.0, 0.5, 1.0):
        found = shares(model.guess(exam, power=power), exam)
        both = (left + right - power * model.shares).softmax(-1)
        assert torch.allclose(found[0], both[0])  # between 3 and 5
        assert torch.allclose(found[1], left[0].exp(), atol=1e-6)  # a gap follows
        assert torch.allclose(found[2], right[0].exp(), atol=1e-6)  # a gap before it
    # The last gap has 5 before it and padding behind it.
    after5 = model.beside("after", torch.tensor([5]))[0].exp()
    assert torch.allclose(found[3], after5, atol=1e-6)


def test_one_side_is_the_bigram_and_none_the_unigram(exam):
    model = guesses.Neighbours(TEXT, V)
    found = shares(model.guess(exam, "left"), exam)
    assert torch.allclose(found[0], model.beside("after", torch.tensor([3]))[0].exp())
    assert torch.allclose(found[2], model.shares.exp(), atol=1e-6)  # a gap stands there
    losses, ranks = guesses.answers(model.guess(exam), exam, part=3)
    whole = guesses.answers(model.guess(exam), exam)
    assert torch.equal(losses, whole[0]) and torch.equal(ranks, whole[1])
    assert len(losses) == 4
