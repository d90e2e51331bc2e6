"""lib.tokenizers.unigram, em and proto against `sentencepiece` and against all cuts."""

import math
import random
from collections import Counter
from itertools import combinations

import pytest
import sentencepiece as spm
from scipy import special, stats
from texts import drawn

from lib import weights
from lib.data import livedoor
from lib.data.origin import EMBEDDED
from lib.tokenizers import em, proto, sentencepiece, unigram

NUMBER = 2_000  # texts a case


def pieces_of(processor):
    """The normal pieces of a model of sentencepiece, with their scores."""
    kinds = (processor.is_control, processor.is_unknown, processor.is_byte)
    return {
        piece: score
        for n, (piece, score) in enumerate(sentencepiece.vocabulary(processor))
        if not any(kind(n) for kind in kinds)
    }


def shipped(name):
    processor = sentencepiece.load(weights.path("sentencepiece", name))
    return processor, unigram.tree(pieces_of(processor))


def drawn_model(draw):
    """A small model whose scores are whole numbers: cuts of one score are common."""
    letters = draw.sample("abcもで한", draw.randint(1, 3))
    pieces = {"▁", *letters} if draw.random() < 0.7 else {letters[0]}
    for _ in range(draw.randint(1, 12)):
        pieces.add("".join(draw.choices([*letters, "▁"], k=draw.randint(2, 4))))
    return {
        piece: -draw.randint(1, 9) / draw.choice((1, 1, 3)) for piece in sorted(pieces)
    }


def drawn_case(seed):
    """A model, the same as a processor of sentencepiece, a text and its normal form."""
    draw = random.Random(seed)
    scores = drawn_model(draw)
    letters = [*"".join(scores).replace("▁", " "), "x", "漢"]
    text = "a" + "".join(draw.choices(letters, k=draw.randint(0, 24)))
    processor = sentencepiece.load(proto.model_file(scores))
    return processor, unigram.tree(scores), text, processor.normalize(text)


def all_cuts(text):
    for n in range(len(text)):
        for inner in combinations(range(1, len(text)), n):
            yield [text[a:b] for a, b in zip((0, *inner), (*inner, None), strict=True)]


def weighed(text, tree, alpha=1.0):
    """Each cut into pieces, with its probability: by enumeration."""
    edges = {
        (start, end): score
        for end, arriving in enumerate(unigram.lattice(text, tree))
        for start, score in arriving
    }
    found = {}
    for cut in all_cuts(text):
        ends = [sum(map(len, cut[: n + 1])) for n in range(len(cut))]
        steps = list(zip([0, *ends], ends, strict=False))
        if all(step in edges for step in steps):
            found[tuple(cut)] = sum(alpha * edges[step] for step in steps)
    return found


# --- the best cuts --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unigram-2600.model", "unigram-8000-bytes.model"])
def test_pieces_are_those_of_sentencepiece(name):
    processor, tree = shipped(name)
    for text in drawn(NUMBER, seed=1):
        found = unigram.encode(processor.normalize(text), tree)
        if "bytes" in name:
            found = unigram.byte_fallback(found, tree)
        assert found == sentencepiece.pieces(processor, text), repr(text)


def test_pieces_of_news_are_those_of_sentencepiece():
    processor, tree = shipped("unigram-8000-bytes.model")
    articles = livedoor.embedded_articles()
    lines = [line for a in articles for line in sentencepiece.clean(a)]
    sentences = [x for line in lines for x in line.replace("。", "。\n").splitlines()]
    assert len(sentences) > 1_000
    for text in sentences:
        normal = unigram.marked(sentencepiece.normalise(text))
        assert normal == processor.normalize(text)
        found = unigram.byte_fallback(unigram.encode(normal, tree), tree)
        assert found == sentencepiece.pieces(processor, text)


def test_ties_fall_as_in_sentencepiece():
    for seed in range(NUMBER):
        processor, tree, text, normal = drawn_case(seed)
        assert unigram.encode(normal, tree) == sentencepiece.pieces(processor, text)


def test_n_best_is_that_of_sentencepiece_ties_included():
    for seed in range(NUMBER):
        processor, tree, text, normal = drawn_case(seed)
        n = 2 + seed % 20
        found = [pieces for pieces, _ in unigram.n_best(normal, tree, n)]
        assert found == processor.nbest_encode(text, nbest_size=n, out_type=str), text


def test_n_best_of_a_trained_model_is_that_of_sentencepiece():
    processor, tree = shipped("unigram-2600.model")
    for n, text in enumerate(drawn(NUMBER, seed=2)):
        normal, most = processor.normalize(text), 2 + n % 5
        if normal:
            found = [pieces for pieces, _ in unigram.n_best(normal, tree, most)]
            wanted = processor.nbest_encode(text, nbest_size=most, out_type=str)
            assert found == wanted, repr(text)


@pytest.mark.parametrize(
    ("scores", "length"),
    [
        ({"a": -1.0, "aa": -2.01, "aaa": -3.02}, 60),
        ({"a" * n: -1.0 * n for n in range(1, 17)}, 200),  # all cuts are equal
    ],
)
def test_n_best_past_ten_thousand_open_paths(scores, length, monkeypatch):
    """There both go on with the best 512 only, so the answer is no longer the n best."""
    spm.set_min_log_level(2)
    scores = scores | {"▁": -1.0}
    processor, tree = sentencepiece.load(proto.model_file(scores)), unigram.tree(scores)
    wanted = processor.nbest_encode("a" * length, nbest_size=500, out_type=str)
    text = "▁" + "a" * length
    assert [pieces for pieces, _ in unigram.n_best(text, tree, 500)] == wanted
    monkeypatch.setattr(unigram, "LARGE", 10**9)
    assert [pieces for pieces, _ in unigram.n_best(text, tree, 500)] != wanted


def test_n_best_is_all_cuts_in_order():
    for seed in range(NUMBER):
        _, tree, _, normal = drawn_case(seed)
        text = normal[:8]
        cuts = weighed(text, tree)
        found = unigram.n_best(text, tree, len(cuts) + 1)
        assert len(found) == len(cuts)
        scores = [score for _, score in found]
        assert scores == pytest.approx(sorted(cuts.values(), reverse=True), abs=1e-4)


def test_by_hand():
    tree = unigram.tree({"a": -1.0, "b": -1.5, "ab": -2.0, "▁": -3.0})
    assert unigram.lattice("abx", tree) == [
        [],
        [(0, -1)],
        [(0, -2), (1, -1.5)],
        [(2, -13)],
    ]
    assert unigram.encode("ab▁xyab", tree) == ["ab", "▁", "xy", "ab"]
    assert unigram.byte_fallback(["ab", "é"], tree) == ["ab", "<0xC3>", "<0xA9>"]
    assert unigram.n_best("ab", tree, 9) == [(["ab"], -2.0), (["a", "b"], -2.5)]
    assert unigram.words("a bc") == ["▁a", "▁bc"] and unigram.marked("a b") == "▁a▁b"
    assert unigram.is_unknown("x", tree) and not unigram.is_unknown("ab", tree)


def test_nothing_nul_and_what_is_refused():
    tree = unigram.tree({"a": -1.0})
    assert unigram.encode("", tree) == unigram.words("") == []
    assert unigram.marked("") == "" and unigram.n_best("", tree, 3) == [([], 0.0)]
    assert unigram.encode("a\0\ud800a", tree) == ["a", "\0\ud800", "a"]
    assert unigram.expected("", tree) == ({}, 0.0)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        unigram.byte_fallback(["\ud800"], tree)
    with pytest.raises(ValueError, match="n: expected at least 1, got 0"):
        unigram.n_best("a", tree, 0)
    for scores in ({}, {"": -1.0}):
        with pytest.raises(ValueError, match="scores: expected pieces"):
            unigram.tree(scores)


# --- all cuts -------------------------------------------------------------------------


def test_expected_counts_are_those_of_all_cuts():
    for seed in range(NUMBER):
        _, tree, _, normal = drawn_case(seed)
        text = normal[:8]
        cuts = weighed(text, tree)
        total = math.log(sum(map(math.exp, cuts.values())))
        wanted = Counter()
        for cut, score in cuts.items():
            for piece in cut:
                if not unigram.is_unknown(piece, tree):
                    wanted[piece] += math.exp(score - total)
        found, likelihood = unigram.expected(text, tree)
        assert likelihood == pytest.approx(total, abs=1e-9)
        assert found == pytest.approx(dict(wanted), abs=1e-9)
        edges = unigram.lattice(text, tree)
        assert unigram.backward(edges)[0] == pytest.approx(total, abs=1e-9)


SAMPLED = {
    "▁": -2.0,
    "a": -1.0,
    "b": -1.2,
    "ab": -1.9,
    "aba": -3.0,
    "ba": -2.5,
    "bab": -3.5,
}
DRAWS = 20_000


def chi_square(found, cuts):
    """The p-value of the counts found, if cuts are drawn with these scores."""
    total = sum(map(math.exp, cuts.values()))
    wanted = [DRAWS * math.exp(score) / total for score in cuts.values()]
    assert min(wanted) > 5 and found.keys() <= cuts.keys()
    return stats.chisquare([found[cut] for cut in cuts], wanted).pvalue


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_cuts_are_drawn_with_their_probability(alpha):
    tree, draw = unigram.tree(SAMPLED), random.Random(7)
    text = "▁ababa"
    cuts = weighed(text, tree, alpha)
    found = Counter(
        tuple(unigram.sample(text, tree, draw, alpha)) for _ in range(DRAWS)
    )
    assert chi_square(found, cuts) > 0.01
    assert chi_square(found, weighed(text, tree, alpha + 0.2)) < 1e-6


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_sentencepiece_draws_from_the_same_distribution(alpha):
    spm.set_random_generator_seed(7)
    processor = sentencepiece.load(proto.model_file(SAMPLED))
    options = {"enable_sampling": True, "alpha": alpha, "nbest_size": -1}
    found = Counter(
        tuple(processor.encode("ababa", out_type=str, **options)) for _ in range(DRAWS)
    )
    cuts = weighed("▁ababa", unigram.tree(SAMPLED), alpha)
    assert chi_square(found, cuts) > 0.01


# --- learning -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines():
    articles = livedoor.embedded_articles()
    found = [x for article in articles for x in sentencepiece.clean(article)]
    return [sentencepiece.normalise(line) for line in found]


@pytest.fixture(scope="module")
def counts(lines):
    return Counter(word for line in lines[::2] for word in unigram.words(line))


@pytest.fixture(scope="module")
def model(counts):
    return em.train(counts, 2_000)


def test_digamma():
    for x in (0.5, 0.51, 1, 2.5, 6.999, 7, 40, 1e6):
        assert em.digamma(x) == pytest.approx(special.digamma(x), abs=1e-8)


def test_repeated_substrings_by_hand():
    counts = {"abab": 2, "abc": 1, "xyz": 3, "q": 9}
    # ab 5 times; "ba" only in "bab"; "xy" always in "xyz"; a lone q is no substring of 2
    assert em.repeated(counts) == {"ab": 5, "abab": 2, "bab": 2, "xyz": 3, "yz": 3}
    assert em.repeated({"ab": 1, "cab": 1}) == {"ab": 2}
    assert em.repeated({"a" * 40: 1}).keys() == {"a" * n for n in range(2, 17)}
    scores = em.seeds(counts, most=2)
    assert scores.keys() == {*"abcxyzq", "ab", "xyz"}
    assert sum(map(math.exp, scores.values())) == pytest.approx(1)
    assert scores["xyz"] - scores["c"] == pytest.approx(math.log(9))


def test_each_step_of_em_expects_every_character_once(counts):
    scores = em.seeds(counts)
    before = -math.inf
    for _ in range(3):
        found, likelihood = em.expectations(counts, scores)
        assert likelihood > before
        before = likelihood
        read = sum(n * len(piece) for piece, n in found.items())
        total = sum(n * len(word) for word, n in counts.items())
        assert read == pytest.approx(total)
        total = math.log(sum(found.values()))
        scores = {p: math.log(n) - total for p, n in found.items() if n > 1e-9}


def test_the_step_that_is_taken_favours_few_pieces():
    found = em.maximised({"a": 100.0, "ab": 1.0, "b": 0.0, "ba": 0.4})
    assert found.keys() == {"a", "ab", "b"}  # a character stays, as if half a time
    plain = math.log(1 / 101)
    assert found["ab"] < plain - 0.5 and found["a"] == pytest.approx(
        math.log(100 / 101), abs=0.01
    )


def test_pruning_keeps_what_costs_most_to_lose():
    counts = {"abc": 10, "abd": 1, "xy": 5}
    scores = dict.fromkeys("abcdxy", -4.0) | {"ab": -2.0, "abc": -2.0, "xy": -9.0}
    characters = dict.fromkeys("abcdxy", -4.0)
    assert em.pruned(counts, scores, 7) == characters | {"abc": -2.0}
    assert em.pruned(counts, scores, 8) == characters | {"abc": -2.0, "ab": -2.0}
    assert em.pruned(counts, scores, 9) == em.pruned(counts, scores, 8)  # xy is unused


def test_a_model_has_its_size_and_all_characters(counts, model):
    assert len(model) == 2_000 and em.letters(counts).keys() <= model.keys()
    assert list(model.values()) == sorted(model.values(), reverse=True)
    assert all(len(piece) <= em.LONGEST and "▁" not in piece[1:] for piece in model)


def test_a_model_is_as_good_as_that_of_sentencepiece(lines, model):
    proto_file = sentencepiece.train(lines[::2], "unigram", 2_003, coverage=1.0)
    peer = pieces_of(sentencepiece.load(proto_file))
    assert len(peer) == len(model)
    tokens, nats = Counter(), Counter()
    for name, scores in (("ours", model), ("theirs", peer)):
        tree = unigram.tree(scores)
        for text in filter(None, map(unigram.marked, lines[1::2])):
            tokens[name] += len(unigram.encode(text, tree))
            nats[name] -= unigram.forward(unigram.lattice(text, tree))[-1]
    assert tokens["ours"] < 1.01 * tokens["theirs"]
    assert nats["ours"] < 1.01 * nats["theirs"]
    assert len(model.keys() & peer.keys()) > 0.7 * len(model)


def test_few_words_and_few_pieces_are_no_worse_than_those_of_sentencepiece(tmp_path):
    prose = (EMBEDDED / "prose.txt").read_text(encoding="utf-8").split()
    seen = dict(Counter(prose).most_common(400))
    rows = "".join(f"{word}\t{times}\n" for word, times in seen.items())
    (tmp_path / "words.tsv").write_text(rows, encoding="utf-8")
    spm.SentencePieceTrainer.train(
        input=tmp_path / "words.tsv",
        input_format="tsv",
        model_prefix=tmp_path / "model",
        model_type="unigram",
        vocab_size=203,
        character_coverage=1.0,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    peer = spm.SentencePieceProcessor(model_file=str(tmp_path / "model.model"))
    models = em.train(seen, 200), pieces_of(peer)
    ours, theirs = (em.expectations(seen, model)[1] for model in models)
    assert [len(model) for model in models] == [200, 200]
    assert ours > theirs and models[1].keys() >= em.letters(seen).keys()


def test_sentencepiece_encodes_with_our_model(lines, model):
    processor, tree = sentencepiece.load(proto.model_file(model)), unigram.tree(model)
    assert pieces_of(processor).keys() == model.keys()
    for text in lines + drawn(NUMBER, seed=3):
        normal = processor.normalize(text)
        assert unigram.encode(normal, tree) == sentencepiece.pieces(processor, text)


def test_training_refuses():
    for counts in ({}, {"": 3}):
        with pytest.raises(ValueError, match="counts: expected at least one word"):
            em.train(counts, 10)
    with pytest.raises(
        ValueError, match="vocab_size: expected at least the 3 characters"
    ):
        em.train({"abc": 1}, 2)
    with pytest.raises(
        ValueError, match=r"vocab_size: the text has pieces for \d at most"
    ):
        em.train({"abcabc": 4}, 100)


def test_a_corpus_of_one_line_or_one_character():
    assert list(em.train({"▁もももも": 1}, 3)) == ["もも", "▁", "も"]
    for n in range(1, 40):
        assert list(em.train({"a" * n: 1}, 1)) == ["a"]
