"""lib.data.senses: sentences that a reader can tell apart, and no template repeats."""

import json
import re
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from lib.data.origin import DataError
from lib.data.senses import FILE, senses, span
from lib.data.written import written_rows

ROWS = senses().rows
BY_WORD = defaultdict(list)
for row in ROWS:
    BY_WORD[row["word"]].append(row)
each_word = pytest.mark.parametrize("word", BY_WORD)
ROMAJI = r"[a-zāīūēō0-9 ,.?'\"-]+"


def words(sentence: str) -> list[str]:
    return re.findall(r"[a-z]+", sentence.lower())


def units(row: dict[str, str]) -> set[str]:
    """What two sentences may share: words, in Japanese pairs of characters."""
    text = row["sentence"]
    if row["language"] == "en":
        return set(words(text))
    return {text[i : i + 2] for i in range(len(text) - 1)}


def test_the_words_their_senses_and_their_sentences():
    languages = Counter(rows[0]["language"] for rows in BY_WORD.values())
    assert len(BY_WORD) >= 8 and languages["ja"] >= 2
    assert {"left", "bank", "plant", "はし", "甘い"} <= set(BY_WORD)
    for rows in BY_WORD.values():
        counts = Counter(row["sense"] for row in rows)
        assert len(counts) in (2, 3) and min(counts.values()) >= 25, counts
        assert len({row["language"] for row in rows}) == 1
        assert len({(row["sense"], row["gloss"]) for row in rows}) == len(counts)
    assert repr(senses()).startswith(f"senses: {len(ROWS)} sentences, ")
    assert "written for this book · CC BY 4.0" in repr(senses()) and senses().is_full


def test_each_sentence_holds_its_word_once_as_a_word_of_its_own():
    for row in ROWS:
        start, end = span(row)
        assert row["sentence"][start:end] == row["word"]
        if row["language"] == "en":
            assert words(row["sentence"]).count(row["word"]) == 1, row["sentence"]
        else:  # no longer word hides it, no particle runs into it
            around = row["sentence"][max(0, start - 1) : end + 1]
            assert not re.search(
                r"[右左両にでともだ]はし|はし[ごるゃら]|名高い", around
            )


def test_each_sentence_is_one_sentence_of_its_language():
    for row in ROWS:
        text = row["sentence"]
        if row["language"] == "en":
            assert re.fullmatch(r"[A-Z][A-Za-z ,;:'-]+[.?]", text), text
            assert 6 <= len(text.split()) <= 25, text
        else:
            assert re.fullmatch(r"[ぁ-ゖァ-ヺー一-鿿々、「」]+。", text), text
            assert 12 <= len(text) <= 45, text
            assert re.fullmatch(ROMAJI, row["reading"]), row["reading"]
            assert row["word_reading"] in row["reading"], row["reading"]
            english = row["translation"]
            assert re.fullmatch(r"\"?[A-Z][A-Za-z ,.;:'()\"-]+\.|.+\?", english), (
                english
            )


@each_word
def test_no_two_sentences_are_alike(word):
    for a, b in combinations(BY_WORD[word], 2):
        common, either = units(a) & units(b), units(a) | units(b)
        assert len(common) < 0.45 * len(either), (a["sentence"], b["sentence"])


@each_word
def test_the_openings_and_the_place_of_the_word_vary(word):
    rows = BY_WORD[word]
    japanese = rows[0]["language"] == "ja"
    start = Counter(
        row["sentence"][:5] if japanese else " ".join(words(row["sentence"])[:3])
        for row in rows
    )
    assert max(start.values()) <= 3, start.most_common(3)
    thirds = Counter(int(3 * span(row)[0] / len(row["sentence"])) for row in rows)
    assert min(thirds[0], thirds[1]) >= len(rows) / 5, thirds


def test_the_split_is_by_sentence_and_balanced():
    counts = Counter((row["word"], row["sense"], row["split"]) for row in ROWS)
    for word, sense, _ in counts:
        train, test = (counts[word, sense, split] for split in ("train", "test"))
        assert 0 <= train - test <= 1
    train, test = (
        {row["sentence"] for row in ROWS if row["split"] == split}
        for split in ("train", "test")
    )
    assert not train & test and len(train) + len(test) == len(ROWS)
    assert senses().rows == ROWS


def test_a_bag_of_the_words_around_it_does_well_and_not_perfectly():
    """Naive Bayes, each half from the other; Japanese by one and two characters."""
    scores = []
    for word, rows in BY_WORD.items():
        by_character = rows[0]["language"] == "ja"
        options = {"analyzer": "char", "ngram_range": (1, 2)} if by_character else {}
        around = [row["sentence"].replace(word, " ") for row in rows]
        train = np.array([row["split"] == "train" for row in rows])
        sense = np.array([row["sense"] for row in rows])
        for half in (train, ~train):
            model = make_pipeline(CountVectorizer(**options), MultinomialNB())
            model.fit(
                [t for t, seen in zip(around, half, strict=True) if seen], sense[half]
            )
            told = model.predict(
                [t for t, seen in zip(around, half, strict=True) if not seen]
            )
            scores.append(np.mean(told == sense[~half]))
    assert max(scores) < 1 and 0.6 < np.mean(scores) < 0.85, scores


LINES = FILE.read_text(encoding="utf-8").splitlines()
FIRST = json.loads(LINES[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINES[1][:40], "senses.jsonl, line 2: no JSON"),
        ("[1]", "senses.jsonl, line 2: got list, wants "),
        (json.dumps({"word": "left"}), r"line 2: got \['word'\], wants "),
        (json.dumps(FIRST | {"gloss": ""}), "line 2, gloss: got '', wants a text"),
        (json.dumps(FIRST | {"gloss": 1}), "line 2, gloss: got 1, wants a text"),
        (LINES[0], "senses.jsonl: twice the sentence 'She left the party"),
        (
            json.dumps(FIRST | {"sentence": "They came back, and they stayed."}),
            "'left': expected once, got 0 times in 'They came",
        ),
        (
            json.dumps(FIRST | {"sentence": "Turn left, then left again."}),
            "'left': expected once, got 2 times",
        ),
        (json.dumps(FIRST | {"sentence": "Left is left."}), "'left': .* got 2 times"),
        (json.dumps(FIRST | {"sentence": "Left, please."}), "'left': .* 'Left, please"),
    ],
)
def test_a_damaged_file_is_named_and_refused(tmp_path, line, message):
    file = tmp_path / FILE.name
    file.write_text(f"{LINES[0]}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        senses(file)


def test_a_file_of_no_rows_and_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / FILE.name
    file.write_bytes(b"\n\n")
    with pytest.raises(DataError, match=r"senses\.jsonl: no rows"):
        senses(file)
    file.write_bytes(LINES[0].encode()[:-3] + b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"senses\.jsonl, line 1: no JSON"):
        written_rows(file, {})
