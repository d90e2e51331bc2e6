"""Retrieval: the book's text, passages, BM25, the index, fusion and measures."""

import json
import math
import os

import bm25s
import numpy as np
import pytest
import torch
from docutils.nodes import make_id
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from lib.retrieval import book, index, measure, rank, text
from lib.retrieval.bm25 import BM25

# --- The book's text ------------------------------------------------------------------

PAGE = """# A page *with* stress
Before {term}`words <word>`, [a link](x.md), `code`, $x_i$ and {cite:t}`brown2020`.

(label)=
## 1. It's a part
<b>bold</b> text

$$ y = 2 $$

```python
# no heading
```

| a | b |
|---|---|
| one | two |

### Check it
first
### Check it
second
## References
nothing of this
"""


def test_sections_of_a_page():
    found = book.sections("p", PAGE)
    assert [s.anchor for s in found] == [
        "a-page-with-stress",
        "its-a-part",
        "check-it",
        "check-it-2",
    ]
    assert found[0].text == "Before words, a link, code, x_i and Brown (2020)."
    assert found[1].text == "bold text\na b\none two"
    assert {s.chapter for s in found} == {"A page with stress"}
    assert found[1].place == "p#its-a-part"
    assert book.sections("p", "no heading") == []


def test_the_book_as_it_stands():
    found = book.read()
    assert len({s.page for s in found}) >= 25 and len(found) > 600
    assert not [s for s in found if book.OWN in s.page or not s.text.strip()]
    for section in found:  # docutils reads curly quotes, which the site makes
        curly = section.title.replace("'", "’").replace('"', "”")
        assert section.anchor.removesuffix("-2") == make_id(curly), section
    places = [s.place for s in found]
    assert len(set(places)) == len(places)
    assert not [s.place for s in found if "{term}" in s.text or "](" in s.text]


def test_no_sources(tmp_path):
    with pytest.raises(ValueError, match="holds no pages"):
        book.read(tmp_path)
    (tmp_path / "notebooks" / "a").mkdir(parents=True)
    (tmp_path / "notebooks" / "a" / "b.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=r"b\.ipynb: wants a notebook"):
        book.read(tmp_path)


def test_what_changed(tmp_path):
    file = tmp_path / "notebooks" / "a" / "b.ipynb"
    file.parent.mkdir(parents=True)
    write = lambda s: file.write_text(  # noqa: E731
        json.dumps({"cells": [{"cell_type": "markdown", "source": s}]})
    )
    write("# T\none")
    old = book.read(tmp_path)
    assert book.changed(old, old) == []
    write(["# T\n", "two"])
    assert book.changed(old, book.read(tmp_path)) == ["notebooks/a/b"]
    texts = [s.text for s in old]
    assert book.digest(texts) != book.digest(["two"]) != book.digest(["t", "wo"])
    assert [book.Section(**row) for row in json.loads(book.packed(old))] == old


# --- Terms and passages ---------------------------------------------------------------


def test_terms():
    assert text.terms("The 7,367 articles of 東京都") == [
        "7,367",
        "article",
        "東京",
        "京都",
    ]
    assert text.terms("Ｑｕｅｒｉｅｓ, heads! loss; bus") == [
        "query",
        "head",
        "loss",
        "bus",
    ]
    assert text.terms("what is the of") == text.terms("… ?") == []
    assert text.terms("水") == ["水"] and text.terms("GPT-2's W_q") == [
        "gpt",
        "2",
        "w",
        "q",
    ]
    assert text.singular("is") == "is" and text.singular("caches") == "cache"


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_terms_of_anything(given):
    found = text.terms(given)
    assert all(term and term not in text.STOP - {"s"} for term in found)
    assert text.terms(given.upper().lower()) == text.terms(given.upper())


def section(words, of=7):
    body = " ".join(f"w{i}" + "." * (i % of == of - 1) for i in range(words))
    return book.Section("p", "a", "Chapter", "Title", body)


@given(st.integers(1, 400), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_passages_lose_nothing(words, size):
    found = text.chunk([section(words)], size)
    assert " ".join(p.text for p in found).split() == section(words).text.split()
    assert all(len(p.text.split()) <= max(size, 7) for p in found)
    assert [p.number for p in found] == [*range(len(found))]
    assert found[0].whole.startswith("Chapter · Title\nw0")


def test_passages_of_bad_input():
    with pytest.raises(ValueError, match="words: got 0"):
        text.chunk([section(5)], 0)
    with pytest.raises(ValueError, match="sections: got none"):
        text.chunk([])
    assert text.packed(text.sentences("一。二。三。"), 2) == ["一。 二。", "三。"]


# --- BM25 -----------------------------------------------------------------------------

DOCUMENTS = [d.split() for d in ("a b a c", "b b d", "a", "c d e f g a")]


@pytest.mark.parametrize("method", ["lucene", "atire", "bm25+"])
def test_idf_is_that_of_bm25s(method):
    ours = BM25(DOCUMENTS, idf=method)
    named = bm25s.scoring._select_idf_scorer(method)
    for term, (rows, _) in ours.postings.items():
        assert ours.idf(term) == pytest.approx(named(len(rows), N=4))


@given(
    st.lists(
        st.lists(st.sampled_from("abcdefgh"), max_size=9), min_size=1, max_size=12
    ),
    st.lists(st.sampled_from("abcdefghxy"), min_size=1, max_size=5),
    st.sampled_from([(1.5, 0.75), (0.9, 0.4), (2.0, 0.0), (1.2, 1.0)]),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_bm25s(documents, query, constants):
    if not any(documents):
        with pytest.raises(ValueError, match="no term at all"):
            BM25(documents)
        return
    ours, (k1, b) = BM25(documents, *constants), constants
    theirs = bm25s.BM25(k1=k1, b=b, method="lucene")
    theirs.index(documents, show_progress=False)
    known = [term for term in query if term in ours.postings]
    wanted = theirs.get_scores(known) if known else np.zeros(len(documents))
    np.testing.assert_allclose(ours.scores(query), wanted, atol=1e-5)
    best = ours.search(query, 3)
    assert [s for _, s in best] == sorted((s for _, s in best), reverse=True)
    for i, score in best:
        assert sum(p.score for p in ours.explain(query, i)) == pytest.approx(score)


def test_negative_idf():
    old = BM25(DOCUMENTS, idf="robertson")
    assert old.idf("a") == pytest.approx(math.log(1.5 / 3.5)) and old.idf("a") < 0
    assert BM25(DOCUMENTS).idf("a") > 0 and old.idf("zebra") == 0


def test_bad_queries():
    ours = BM25(DOCUMENTS)
    for query, said in (([], "no term is left"), ("a b", "wants a list of terms")):
        with pytest.raises(ValueError, match=said):
            ours.search(query)
    with pytest.raises(ValueError, match="k: got 0"):
        ours.search(["a"], 0)
    assert ours.search(text.terms("注意機構")) == []  # another script: nothing shared
    assert len(ours.search(["a"], 100)) == 3  # k above what shares a term
    one = BM25([["a", "b"]])  # a corpus of one passage
    assert one.search(["a"]) == [(0, pytest.approx(one.idf("a") / 2.5))]
    with pytest.raises(ValueError, match="document: got 4"):
        ours.explain(["a"], 4)
    for wrong, said in (
        ({"idf": "best"}, "idf: got 'best'"),
        ({"b": 2}, "k1, b"),
    ):
        with pytest.raises(ValueError, match=said):
            BM25(DOCUMENTS, **wrong)
    with pytest.raises(ValueError, match="got a text"):
        BM25(["a b", "c"])


# --- The index ------------------------------------------------------------------------


def embed(texts):
    embed.asked += list(texts)
    return np.stack([np.eye(4, dtype=np.float32)[len(t) % 4] for t in texts])


def test_only_what_changed_is_made_anew(tmp_path):
    path, embed.asked = tmp_path / "new" / "index.safetensors", []
    first = index.refresh(path, ["a", "bb", "a"], "m", embed)
    assert embed.asked == ["a", "bb"] and first.shape == (3, 4)
    index.refresh(path, ["a", "bb", "a"], "m", embed)
    assert len(embed.asked) == 2
    index.refresh(path, ["a", "ccc"], "m", embed)
    assert embed.asked[2:] == ["ccc"]
    np.testing.assert_array_equal(index.load(path, ["ccc"], "m"), np.eye(4)[[3]])
    with pytest.raises(index.StaleIndex, match=r"another text; 1 of 2 .*'bb'"):
        index.load(path, ["a", "bb"], "m")
    with pytest.raises(index.StaleIndex, match="made by m, asked for with other"):
        index.load(path, ["a"], "other")
    index.refresh(path, ["a"], "other", embed)
    assert embed.asked[3:] == ["a"]
    assert [f.name for f in path.parent.iterdir()] == [path.name]


def test_a_killed_run_leaves_the_old_index(tmp_path, monkeypatch):
    path, embed.asked = tmp_path / "index.safetensors", []
    index.refresh(path, ["a"], "m", embed)
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        index.refresh(path, ["a", "bb"], "m", embed)
    assert len(index.load(path, ["a"], "m")) == 1


def test_a_damaged_index(tmp_path):
    path, embed.asked = tmp_path / "index.safetensors", []
    path.write_bytes(b"no index")
    with pytest.raises(index.StaleIndex, match="wants an index"):
        index.load(path, ["a"], "m")
    assert len(index.refresh(path, ["a"], "m", embed)) == 1
    with pytest.raises(ValueError, match="texts: got none"):
        index.refresh(path, [], "m", embed)
    with pytest.raises(ValueError, match="embed: got shape"):
        index.refresh(path, ["x"], "n", lambda t: np.zeros((2, 4)))


def test_nearest():
    vectors = np.eye(3, dtype=np.float32)
    assert index.nearest(vectors, np.array([0.6, 0.8, 0]), 2) == [
        (1, pytest.approx(0.8)),
        (0, pytest.approx(0.6)),
    ]
    assert len(index.nearest(vectors, vectors[0], 9)) == 3
    with pytest.raises(ValueError, match="of the model that made the index"):
        index.nearest(vectors, np.zeros(4), 1)
    with pytest.raises(ValueError, match="k: got 0"):
        index.nearest(vectors, vectors[0], 0)


# --- Ranks, measures, answers ---------------------------------------------------------


def test_fusion_by_hand():
    found = dict(rank.fuse([[7, 8, 9], [8, 5]]))
    assert found == {
        8: 1 / 62 + 1 / 61,
        7: 1 / 61,
        5: 1 / 62,
        9: 1 / 63,
    }
    assert [item for item, _ in rank.fuse([[1, 2], [2, 1]])] == [1, 2]
    for wrong in ([], [[1, 1]]):
        with pytest.raises(ValueError, match="rankings"):
            rank.fuse(wrong)


def test_question_likelihood_is_a_sum_by_hand():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128, **shape, **heads)).eval()
    encode = lambda s: [ord(c) % 128 for c in s]  # noqa: E731
    questions = ["why?", "what is it?"]
    found = rank.question_logs(model, encode, "A passage.", questions)
    for question, ours in zip(questions, found, strict=True):
        start, rest = encode("A passage." + rank.ASK), encode(f" {question}")
        with torch.no_grad():
            logs = model(torch.tensor([start + rest])).logits[0].log_softmax(-1)
        hand = sum(logs[len(start) - 1 + i, t].item() for i, t in enumerate(rest))
        assert ours == pytest.approx(hand, abs=1e-4)
    with pytest.raises(ValueError, match="got none or an empty one"):
        rank.question_logs(model, encode, "A passage.", ["why?", " "])


def test_measures():
    ranks = [1, 2, math.inf, 4]
    assert measure.first_right(["a", "b"], "b") == 2
    assert measure.first_right(["a"], "b") == math.inf
    assert measure.places(["a", "a", "b", "a"]) == ["a", "b"]
    assert [measure.recall(ranks, k) for k in (1, 2, 4)] == [0.25, 0.5, 0.75]
    assert measure.mrr(ranks) == pytest.approx((1 + 0.5 + 0.25) / 4)
    low, high = measure.interval(ranks, measure.mrr)
    assert 0 <= low < measure.mrr(ranks) < high <= 1
    assert measure.holm([0.03, 0.01, 0.5]) == pytest.approx([0.06, 0.03, 0.5])
    assert measure.shared([[1, 2], [3, 9]], [[2, 1], [3, 4]]) == 0.75
    assert measure.separation([2, 3], [1, 2]) == pytest.approx(3.5 / 4)
    gap, p = measure.paired([1.0] * 8, [0.0] * 8)
    assert gap == 1 and 0.003 < p < 0.02  # 2 of 256 signs
    assert measure.paired([1, 0], [0, 1])[1] == 1
    with pytest.raises(ValueError, match="ranks: got none"):
        measure.interval([], measure.mrr)


def test_answers():
    assert measure.exact("The 7,367.", ["7367"]) and not measure.exact("8", ["7"])
    assert measure.contains("It holds 7,367 articles", ["7,367"])
    assert not measure.contains("It holds 17,367", ["7,367"])
    assert measure.contains("15% of tokens", ["15%"])
    assert measure.declines("I don't know.") and not measure.declines("Geva")
