"""train.memorisation: the longest shared piece, the 5-gram model, the passages."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib import weights
from lib.data.shakespeare import tiny_shakespeare
from lib.models.pretraining import language_model
from train import memorisation as study

TEXT = "".join(f"line {i}: {'abc' * (i % 7)}\n" for i in range(300))


@given(st.text("ab", max_size=12), st.text("ab", max_size=30))
def test_longest_is_the_longest(sample, text):
    pieces = {sample[i:j] for j in range(len(sample) + 1) for i in range(j + 1)}
    wants = max((p for p in pieces if p in text), key=len)
    found = study.longest(sample, text)
    assert len(found) == len(wants) and found in text and found in sample


def test_a_passage_of_the_text_is_found_whole():
    assert study.longest("zz" + TEXT[100:150] + "zz", TEXT) == TEXT[100:150]
    assert study.longest("zz", TEXT) == "" == study.longest("", TEXT)


def test_n_grams_are_those_of_the_text_and_have_its_shares():
    follow = study.n_gram_counts("abcdabcdabce", 4)
    assert follow["abc"] == ("de", [2, 1]) and follow["bcd"] == ("a", [2])
    some = study.n_gram_texts(TEXT, 20, 60)
    assert some == study.n_gram_texts(TEXT, 20, 60) and len({*some}) > 10
    for one in some:
        assert len(one) == 60
        assert all(one[i : i + 5] in TEXT for i in range(50))


def test_an_end_that_nothing_follows_is_gone_on_from():
    assert all(len(one) == 40 for one in study.n_gram_texts("ab\n" * 9 + "xyz", 5, 40))


def test_passages_begin_lines_and_differ():
    some = study.passages(TEXT, 50, 30)
    assert len({*some}) == 50 or len(some) == 50
    assert all(len(one) == 30 and one.startswith("line ") for one in some)


def test_texts_of_a_model_repeat():
    torch.manual_seed(0)
    vocabulary = "\nab"
    model = language_model(3, 8, 2, 1).eval()
    some = study.model_texts(model, vocabulary, 3, 7)
    assert some == study.model_texts(model, vocabulary, 3, 7)
    assert [len(one) for one in some] == [7] * 3 and {*"".join(some)} <= {*vocabulary}


def test_the_shipped_record_is_of_the_shipped_weights_and_this_text():
    if study.NAME not in weights.names():
        pytest.skip("not recorded yet")
    trace, card = weights.trace(study.NAME), weights.card("pretraining")
    assert trace["sha256"] == card["files"]["model.safetensors"]
    assert trace["of"] == card["config"]["shipped"]
    assert {len(some) for some in trace["lengths"].values()} == {study.SAMPLES}
    for kind, piece in trace["longest"].items():
        assert len(piece) == max(trace["lengths"][kind])
    corpus = tiny_shakespeare()
    if corpus.is_full:
        text = corpus.rows[0]["content"]
        read = text[: len(text) * 9 // 10 * 49 // 50]
        assert all(piece in read for piece in trace["longest"].values())
