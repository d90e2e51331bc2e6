"""Word vectors from text: counts by hand, PMI by its formula, what bad input does."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib import embeddings

LINES = [line.split() for line in ("a b c a", "b a", "c")]
corpora = st.lists(st.lists(st.sampled_from("abcde"), max_size=6), max_size=6)


def by_hand(lines, words, window):
    """Counts pair by pair."""
    counts = torch.zeros(len(words), len(words), dtype=torch.double)
    for line in lines:
        line = [w for w in line if w in words]
        for i, w in enumerate(line):
            for j, c in enumerate(line):
                if 0 < abs(i - j) <= window:
                    counts[words.index(w), words.index(c)] += 1
    return counts


def test_the_vocabulary_is_counted_most_frequent_first():
    assert embeddings.vocabulary(LINES) == {"a": 3, "b": 2, "c": 2}
    assert [*embeddings.vocabulary(LINES)] == ["a", "b", "c"]
    assert embeddings.vocabulary(LINES, 3) == {"a": 3}


@given(corpora, st.integers(1, 4))
def test_counts_are_those_by_hand(lines, window):
    words = ["a", "b", "c", "d"]  # e is outside
    pairs = embeddings.neighbours(lines, words, window)
    counts = embeddings.cooccurrences(pairs, 4)
    assert counts.dtype == torch.double
    torch.testing.assert_close(counts, by_hand(lines, words, window))


def test_pmi_is_its_formula():
    counts = torch.tensor([[0.0, 3, 1], [3, 2, 0], [1, 0, 4]], dtype=torch.double)
    for power in (1.0, 0.75):
        found = embeddings.pmi(counts, power)
        context = [sum(row) ** power for row in counts.T.tolist()]
        for i in range(3):
            for j in range(3):
                share = counts[i, j] / counts.sum()
                chance = counts[i].sum() / counts.sum() * context[j] / sum(context)
                wanted = math.log(share / chance) if counts[i, j] else -math.inf
                assert found[i, j].item() == pytest.approx(wanted)
    positive = embeddings.ppmi(counts, shift=0.1)
    assert (positive == (embeddings.pmi(counts) - 0.1).clamp(min=0)).all()
    assert positive.min() == 0 and positive.isfinite().all()


def test_all_factors_give_the_matrix_back():
    root = torch.randn(
        6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0)
    )
    matrix = root @ root.T  # its left and right singular vectors are the same
    found = embeddings.factors(matrix, 6)
    torch.testing.assert_close(found @ found.T, matrix)
    assert embeddings.factors(matrix, 2).shape == (6, 2)
    for d in (0, 7, True):
        with pytest.raises(ValueError, match=r"^d: got"):
            embeddings.factors(matrix, d)


def test_negatives_follow_their_chances():
    g = torch.Generator().manual_seed(0)
    chances = torch.tensor([1.0, 0.0, 3.0])
    drawn = embeddings.negatives(chances, torch.zeros(4000), 5, g)
    assert drawn.shape == (4000, 5)
    share = drawn.flatten().bincount(minlength=3) / drawn.numel()
    torch.testing.assert_close(share, torch.tensor([0.25, 0, 0.75]), atol=0.01, rtol=0)


def test_the_loss_is_its_formula():
    word, context, drawn = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    total = 0.0
    for i in range(3):
        total -= math.log(1 / (1 + math.exp(-(word[i] @ context[i]).item())))
        for j in range(2):
            total -= math.log(1 / (1 + math.exp((word[i] @ drawn[i, j]).item())))
    found = embeddings.sgns_loss(word, context, drawn)
    assert found.item() == pytest.approx(total / 3, rel=1e-5)


def test_skip_grams_learn_what_shares_contexts():
    """x and y never meet, and share their contexts; p and q share others."""
    lines = [[w, c] for w in "xy" for c in "abc"] + [
        [w, c] for w in "pq" for c in "def"
    ]
    words = embeddings.vocabulary(lines * 30)
    pairs = embeddings.neighbours(lines * 30, words, 1)
    frequency = torch.tensor([*words.values()])
    found = embeddings.sgns(pairs, frequency, 8, 2, epochs=60, batch=64)
    for word, other in ("xy", "yx", "pq", "qp"):
        assert embeddings.nearest(found, [*words], word, 1) == [other]
    again = embeddings.sgns(pairs, frequency, 8, 2, epochs=60, batch=64)
    assert torch.equal(found, again)
    fewer = embeddings.sgns(pairs, frequency, 8, 2, epochs=1, sample=0.01)
    assert fewer.shape == found.shape and not torch.equal(fewer, found)


# Bad input


def test_an_empty_corpus_is_refused():
    for lines in ([], [[]], [[], []]):
        with pytest.raises(ValueError, match="lines: got no word"):
            embeddings.vocabulary(lines)
    with pytest.raises(ValueError, match="no word that occurs 9 times"):
        embeddings.vocabulary(LINES, 9)
    with pytest.raises(TypeError, match="a list of words for each line"):
        embeddings.vocabulary(["a text"])
    for bad in (0, -1, 2.0):
        with pytest.raises(ValueError, match=r"^least"):
            embeddings.vocabulary(LINES, bad)
        with pytest.raises(ValueError, match=r"^window"):
            embeddings.neighbours(LINES, ["a"], bad)


def test_a_corpus_of_one_line_works():
    lines = [["the", "cat", "sat"]]
    words = embeddings.vocabulary(lines)
    pairs = embeddings.neighbours(lines, words, 2)
    assert pairs.shape == (2, 3)
    matrix = embeddings.ppmi(embeddings.cooccurrences(pairs, 3))
    assert matrix.isfinite().all()
    assert embeddings.sgns(pairs, torch.ones(3), 2, 1, epochs=1).isfinite().all()


def test_a_line_of_one_word_has_no_pairs():
    pairs = embeddings.neighbours([["cat"], ["cat"]], ["cat"], 2)
    assert pairs.shape == (2, 0)
    assert embeddings.ppmi(embeddings.cooccurrences(pairs, 1)).tolist() == [[0.0]]
    with pytest.raises(ValueError, match="pairs: got none"):
        embeddings.sgns(pairs, torch.ones(1))


def test_negatives_need_two_words():
    with pytest.raises(ValueError, match="got 1 word, wants at least 2"):
        embeddings.negatives(torch.ones(1), torch.zeros(3), 2)
    pairs = embeddings.neighbours([["cat", "cat"]], ["cat"], 2)
    with pytest.raises(ValueError, match="got 1 word, wants at least 2"):
        embeddings.sgns(pairs, torch.ones(1))
    for bad in ([0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="chances: wants none below 0"):
            embeddings.negatives(torch.tensor(bad), torch.zeros(3), 2)
    with pytest.raises(ValueError, match=r"^k: got 0"):
        embeddings.negatives(torch.ones(2), torch.zeros(3), 0)


def test_a_word_outside_the_vocabulary_is_named():
    vectors = torch.eye(2)
    assert embeddings.nearest(vectors, ["a", "b"], "a") == ["b"]
    with pytest.raises(KeyError, match="'zebra' is not in the vocabulary of 2 words"):
        embeddings.nearest(vectors, ["a", "b"], "zebra")
