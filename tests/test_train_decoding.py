"""The measures of train/decoding.py, and the record that it shipped."""

import pytest

from lib import weights
from train import decoding as train


def test_trigram_is_a_distribution():
    model = train.Trigram([[1, 2, 3, 1, 2, 4], [2, 3, 3], [1, 2, 3]], vocabulary=6)
    for context in [(-1, -1), (-1, 1), (1, 2), (3, 3), (5, 5)]:
        total = sum(model.share(context, token) for token in range(6))
        assert total == pytest.approx(1.0)
    assert model.share((1, 2), 3) > model.share((1, 2), 4) > model.share((1, 2), 0) > 0
    assert model.surprise([1, 2, 3]) < model.surprise([5, 5, 5])


def test_repetition_and_pairs():
    assert train.repetition([1, 2, 3, 4, 5]) == 0
    assert train.repetition([1] * 7) == 0.75  # four runs of four, all alike
    assert train.repetition([1, 2]) == 0
    assert train.pairs([[1, 2, 3], [1, 2]]) == pytest.approx(2 / 3, abs=1e-4)
    assert train.cut([5, 6, 2, 7, 0]) == [5, 6]


def test_the_record_has_all_settings_and_openings():
    trace = weights.trace("decoding")
    assert trace["openings"] == train.OPENINGS and len(set(train.OPENINGS)) == 60
    assert list(trace["runs"])[: len(train.SETTINGS)] == list(train.SETTINGS)
    for name in train.SETTINGS:
        run = trace["runs"][name]
        assert run["lengths"] == [len(tokens) for tokens in run["tokens"]]
        assert run["pairs"] == train.pairs(run["tokens"])
        assert run["repetition"] == [
            round(train.repetition(tokens), 4) for tokens in run["tokens"]
        ]
