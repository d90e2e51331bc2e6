"""The bench of the tokenizers, on little text."""

import pytest

from benchmarks import tokenizers as bench
from lib.data.origin import EMBEDDED
from lib.tokenizers import presplit


@pytest.fixture(scope="module")
def prose():
    return bench.cut((EMBEDDED / "prose.txt").read_text("utf8"), 20_000)


def test_text_is_cut_between_characters():
    assert bench.cut("aé漢", 3) == "aé" and bench.cut("aé漢", 5) == "aé"


def test_a_row_against_the_textbook(prose):
    text = bench.cut(prose, 5_000)
    parts = presplit.byte_words(text)
    for words, slowly in [
        (bench.whole(text), bench.textbook),
        ([presplit.visible(text.encode())], bench.textbook),
        (parts, bench.textbook),
        (parts, bench.counted),
    ]:
        row = bench.against(words, slowly)  # it asserts that all three learn the same
        assert row["merges"] == 744 and row["words"] == len(words) >= row["different"]
        middle, low, high = row["ratio"]
        assert (
            0 < low <= middle <= high
        )  # how fast, the record says: here others work, too


@pytest.mark.parametrize(
    "what", ["BPE, lines", "BPE, words", "BPE, encoding", "Unigram, whole lines"]
)
def test_growth_is_measured_in_a_process_of_its_own(what, prose):
    found = bench.grown(what, prose, 600)
    assert 0 < found["seconds"] < 60 and 5 < found["mb"] < 100


def test_slope():
    assert bench.slope([1, 10, 100], [3, 30, 300]) == 1
    assert bench.slope([1, 10], [1, 100]) == 2


def test_both_unigram_trainers_are_judged_on_the_same_lines(prose, monkeypatch):
    monkeypatch.setattr(bench, "PIECES", 300)
    found = bench.unigrams(prose)
    assert found["pieces"] == [300, 300] and found["shared"] > 0.5
    for name in ("ours", "sentencepiece"):
        assert 0 < found[name]["tokens_per_character"] < 1
        assert 0 < found[name]["nats_per_character"] < 5
