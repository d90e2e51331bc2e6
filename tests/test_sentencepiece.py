"""lib.tokenizers against sentencepiece itself, the shipped models, train.sentencepiece."""

import io
import operator
import random
import unicodedata
from collections import Counter

import pytest
import sentencepiece as spm
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import weights
from lib.data import livedoor, origin
from lib.tokenizers import sentencepiece
from train import sentencepiece as study

quick = settings(max_examples=60)
JAPANESE = st.text(
    st.sampled_from(
        "のはがを、。私自然言語ソフトウェア東京ーぁｱｶﾞﾊﾟＡｂ１㈱①～〜…　 abc12.▁"
    )
    | st.sampled_from(
        "\t\n\r\u061c\u1680\u200b\u200e\u2028\ufeff\ufffd\x01\x0b\x1f\x7f\x9f"
    )
    | st.characters(min_codepoint=0x3041, max_codepoint=0x3096),
    max_size=40,
)


@pytest.fixture(scope="module")
def articles():
    """The embedded default: these tests need no corpus."""
    return livedoor.embedded_articles()


@pytest.fixture(scope="module")
def lines(articles):
    return [line for article in articles for line in sentencepiece.clean(article)]


@pytest.fixture(scope="module")
def with_bytes(lines):
    return sentencepiece.load(
        sentencepiece.train(lines, "bpe", 3_000, byte_fallback=True)
    )


@pytest.fixture(scope="module")
def without(lines):
    return sentencepiece.load(
        sentencepiece.train(lines, "unigram", 2_000, coverage=0.98)
    )


# --- text -----------------------------------------------------------------------------


def test_clean_keeps_title_and_body_only():
    article = {
        "url": "http://example.org/1",
        "date": "2012-09-01T00:00:00+0900",
        "title": " 題名 ",
        "content": "　一行目\n\n\t\n二行目　",
    }
    assert sentencepiece.clean(article) == ["題名", "一行目", "二行目"]


def test_split_is_stratified_and_does_not_depend_on_order(articles):
    train, held_out = sentencepiece.split(articles)
    assert (train, held_out) == sentencepiece.split(articles[::-1])
    assert len(train) + len(held_out) == len(articles)
    assert not {a["title"] for a in train} & {a["title"] for a in held_out}
    total = Counter(a["category"] for a in articles)
    held = Counter(a["category"] for a in held_out)
    assert held == {category: -(-n // 10) for category, n in total.items()}


def test_split_uses_a_repeated_article_once(articles):
    repeated = [*articles, {**articles[0], "url": "elsewhere"}]
    assert sum(map(len, sentencepiece.split(repeated))) == len(articles)
    with pytest.raises(ValueError, match="every: expected"):
        sentencepiece.split(articles, every=1)


def marked(start):
    """A text of letters that carry several combining marks, in any order."""
    draw = random.Random(start)
    marks = [*map(chr, range(0x300, 0x370)), *map(chr, range(0x591, 0x5BE)), "゙", "゚"]
    letters = [
        draw.choice("eaouかはうABΩй한ᄒが 　ﾊｳ")
        + "".join(draw.choices(marks, k=draw.randint(0, 4)))
        for _ in range(draw.randint(1, 6))
    ]
    return "".join(letters)


MARKED = [marked(start) for start in range(2_000)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ＮＨＮ\u3000Ｊａｐａｎ㈱", "NHN Japan(株)"),
        ("ﾃﾞｼﾞﾀﾙ ①～③", "デジタル 1～3"),
        ("一\u200b二\t\t三\x07 ", "一 二 三"),
        ("▁a▁b", "a b"),
        ("e\u0301\u0323", "\u00e9\u0323"),  # NFKC sorts the marks: ẹ, then ´
        ("か\u0304\u3099", "か\u0304\u3099"),  # and would make が of it
        ("a\u0344", "a\u0308\u0301"),
        ("", ""),
    ],
)
def test_normalise_by_hand(text, wanted):
    assert sentencepiece.normalise(text) == wanted


def encoders_own(processor, text):
    """What a trained model encodes: ▁ for spaces, one before the text."""
    return processor.normalize(text).replace(sentencepiece.SPACE, " ").removeprefix(" ")


@quick
@given(text=JAPANESE)
def test_normalise_is_what_a_model_encodes(with_bytes, text):
    assert sentencepiece.normalise(text) == encoders_own(with_bytes, text)


def test_combining_marks_are_normalised_as_a_model_does_and_come_back(with_bytes):
    normal = [sentencepiece.normalise(text) for text in MARKED]
    assert normal == [encoders_own(with_bytes, text) for text in MARKED]
    assert with_bytes.decode(with_bytes.encode(MARKED)) == normal
    plain = [unicodedata.normalize("NFKC", text) for text in MARKED]
    assert sum(map(operator.ne, normal, plain)) > 1_000  # the order of marks matters


def test_alphabet_is_the_trainers(lines):
    counts = sentencepiece.characters(lines)
    for coverage in (0.98, 0.99, 0.9995, 1.0):
        needed = (
            len(sentencepiece.alphabet(counts, coverage)) + sentencepiece.META_PIECES
        )
        with pytest.raises(ValueError, match=f"vs {needed}\\."):
            sentencepiece.train(lines, "bpe", needed - 1, coverage=coverage)
    with pytest.raises(ValueError, match="coverage: expected"):
        sentencepiece.alphabet(counts, 0)


# --- models ---------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_training_is_repeatable_and_has_the_size_asked_for(lines, model_type):
    first, second = (
        sentencepiece.train(lines, model_type, 2_200, coverage=0.99) for _ in range(2)
    )
    assert first == second
    assert sentencepiece.load(first).get_piece_size() == 2_200


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        (
            {"coverage": 0.99, "byte_fallback": True, "seeds": 5_000},
            {
                "character_coverage": 0.99,
                "byte_fallback": True,
                "seed_sentencepiece_size": 5_000,
            },
        ),
    ],
)
def test_training_is_sentencepieces_with_these_options(lines, given, changed):
    """Byte by byte: a model records how it was trained."""
    spm.set_min_log_level(2)
    model, options = io.BytesIO(), {"character_coverage": 0.9995}
    options |= {"seed_sentencepiece_size": 1_000_000, "byte_fallback": False}
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=2_600,
        num_threads=1,
        max_sentence_length=1_000_000,
        **options | changed,
    )
    assert sentencepiece.train(lines, "unigram", 2_600, **given) == model.getvalue()


def test_a_unigram_model_starts_from_the_most_useful_substrings(lines):
    few, many = (
        {piece for piece, _ in sentencepiece.vocabulary(sentencepiece.load(model))}
        for model in (
            sentencepiece.train(lines, "unigram", 2_000, coverage=0.98, seeds=seeds)
            for seeds in (2_500, 1_000_000)
        )
    )
    assert len(few - many) > 50  # fewer to choose from: others are kept


def test_training_refuses(lines):
    with pytest.raises(ValueError, match="model_type: expected unigram or bpe"):
        sentencepiece.train(lines, "word", 2_000)
    with pytest.raises(ValueError, match="too high"):
        sentencepiece.train(lines, "unigram", 100_000)
    with pytest.raises(ValueError, match=r"character_coverage\(\) >= 0\.98"):
        sentencepiece.train(lines, "bpe", 2_000, coverage=0.9)


def test_long_lines_are_read():
    line = "すもももももももものうち。" * 1_000
    model = sentencepiece.load(sentencepiece.train([line], "bpe", 12))
    assert "もも" in dict(sentencepiece.vocabulary(model))


@quick
@given(text=JAPANESE)
def test_round_trip_with_byte_fallback(with_bytes, text):
    assert with_bytes.decode(with_bytes.encode(text)) == sentencepiece.normalise(text)


def test_round_trip_of_characters_never_met(with_bytes):
    for text in ("🍣🍣", "鱸", "Ελλάδα", "<0x41>", "<unk>", "</s>"):
        assert with_bytes.decode(with_bytes.encode(text)) == text


def test_load_takes_bytes_and_paths(lines, tmp_path):
    model = sentencepiece.train(lines, "bpe", 2_000, coverage=0.98)
    (tmp_path / "x.model").write_bytes(model)
    text = lines[1]
    assert sentencepiece.load(model).encode(text) == sentencepiece.load(
        tmp_path / "x.model"
    ).encode(text)


# --- measures -------------------------------------------------------------------------


def test_measure_counts(with_bytes, without):
    text = "鰆鰆と私"
    found = sentencepiece.measure(without, [text, ""])
    shown = sentencepiece.pieces(without, text)
    assert "鰆鰆" in shown  # one <unk> hides both
    assert (found["unknown"], found["unk_tokens"]) == (2, 1)
    assert (found["characters"], found["bytes"]) == (4, 12)
    assert found["tokens"] == len(shown) and found["byte_tokens"] == 0
    found = sentencepiece.measure(with_bytes, [text])
    assert (found["unknown"], found["byte_tokens"]) == (0, 6)


@quick
@given(text=JAPANESE)
def test_measure_adds_up(without, text):
    """Known and unknown characters are all characters; two lines are twice one."""
    found = sentencepiece.measure(without, [text])
    assert 0 <= found["unk_tokens"] <= found["unknown"] <= found["characters"]
    twice = sentencepiece.measure(without, [text, text])
    assert twice == {name: 2 * count for name, count in found.items()}


# --- the shipped checkpoint -----------------------------------------------------------


def test_shipped_models_cut_as_the_trace_says():
    trace = weights.trace(study.NAME)
    by_file = {study.Run(**_options(run)).file: run for run in trace["runs"]}
    models = [f for f in weights.card(study.NAME)["files"] if f.endswith(".model")]
    assert len(models) == 8
    for file in models:
        processor = sentencepiece.load(weights.path(study.NAME, file))
        run = by_file[file]
        assert processor.get_piece_size() == run["vocab_size"]
        for text, pieces in run["pieces"].items():
            assert sentencepiece.pieces(processor, text) == pieces


def _options(run):
    names = study.Run.__dataclass_fields__
    return {key: value for key, value in run.items() if key in names}


def test_what_the_chapter_claims():
    trace = weights.trace(study.NAME)
    runs = {study.Run(**_options(run)).file: run for run in trace["runs"]}
    assert trace["corpus"]["articles"] == 7_367
    words = trace["corpus"]["words"]
    assert words["自然言語"]["train"] == 0 and words["ソフトウェア"]["train"] > 1_500
    assert not runs["unigram-2600.model"]["one_piece"]["ソフトウェア"]
    assert runs["unigram-2600-coverage0.98.model"]["one_piece"]["ソフトウェア"]
    exact = trace["becomes_piece"]
    assert exact["there"] and not exact["one_less"]


# --- the script -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(articles):
    dataset = origin.Dataset("livedoor", "here", "MIT", False, articles)
    return study.Corpus(dataset)


def test_script_refuses_the_embedded_default(articles, corpus, monkeypatch):
    small = origin.Dataset("livedoor", "here", "MIT", False, articles)
    monkeypatch.setattr(study, "livedoor", lambda: small)
    monkeypatch.setattr(weights, "save", lambda *_, **__: pytest.fail("it saved"))
    with pytest.raises(SystemExit, match="refused: the checkpoint comes from the full"):
        study.main([])


def test_script_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    run = study.Run("bpe", 3_000, byte_fallback=True)
    model = study.trained(run, corpus, tmp_path)
    assert study.trained(study.Run("bpe", 50), corpus, tmp_path) is None  # refused
    monkeypatch.setattr(sentencepiece, "train", lambda *_, **__: pytest.fail("again"))
    assert study.trained(run, corpus, tmp_path) == model
    assert study.trained(study.Run("bpe", 50), corpus, tmp_path) is None
    assert not list(tmp_path.glob("*.part"))


def test_plan_and_cuts(corpus):
    runs = list(study.plan(corpus))
    assert len({run.file for run in runs}) == len(set(runs))
    cuts = [corpus.lines(4, sample) for sample in range(4)]
    assert sorted(line for cut in cuts for line in cut) == sorted(corpus.lines())
    count = sum(line.count(study.FREQUENT) for line in corpus.lines())
    text = "\n".join(corpus.lines(exchanged=3))
    assert (text.count(study.FREQUENT), text.count(study.ABSENT)) == (count - 3, 3)


def test_measured_says_what_a_run_did(corpus, tmp_path):
    run = study.Run("bpe", 3_000, fraction=2, sample=1)
    found = study.measured(run, study.trained(run, corpus, tmp_path), corpus)
    assert found["trained"] and found["articles"] == len(corpus.train[1::2])
    assert "".join(found["pieces"][study.ABSENT]) == "▁" + study.ABSENT
    assert found["held_out"]["tokens"] > 0
    assert study.measured(run, None, corpus)["trained"] is False
