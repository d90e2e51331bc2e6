"""Sentences that hold one word of several senses, and the sense it has in each."""

from collections import Counter
from pathlib import Path

from lib.data.origin import EMBEDDED, DataError, Dataset
from lib.data.written import written_rows

FILE = EMBEDDED / "senses.jsonl"
ENGLISH = {"word", "sense", "gloss", "language", "sentence"}
FIELDS = {
    "English": ENGLISH,
    "Japanese": ENGLISH | {"word_reading", "reading", "translation"},
}


def senses(file: Path = FILE) -> Dataset:
    """Sentences for telling senses apart, written for this book, each with one word.

    Rows of word, sense, gloss, language ("en" or "ja"), sentence, split. A Japanese row
    also has word_reading, reading (both romaji) and translation. The word stands in the
    sentence exactly once, in this form; `span` says where.

    The split is by sentence and fixed: of each sense's sentences in the order of the
    file, the first, third, … are "train", the second, fourth, … "test".

    Raises:
        DataError: a row is not what it should be; the message names it.
    """
    rows = written_rows(file, FIELDS)
    seen: set[str] = set()
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        span(row)
        if row["sentence"] in seen:
            raise DataError(f"{file.name}: twice the sentence {row['sentence']!r}")
        seen.add(row["sentence"])
        sense = row["word"], row["sense"]
        row["split"] = ("train", "test")[counts[sense] % 2]
        counts[sense] += 1
    return Dataset(
        name="senses",
        source="sentences written for this book",
        licence="CC BY 4.0",
        is_full=True,
        rows=rows,
        unit="sentences",
        texts=("sentence",),
    )


def span(row: dict[str, str]) -> tuple[int, int]:
    """Where the word stands in its sentence: ``sentence[start:end] == word``.

    Raises:
        DataError: the word stands in the sentence never or twice, in any case.
    """
    word, sentence = row["word"], row["sentence"]
    if (got := sentence.lower().count(word)) != 1 or word not in sentence:
        raise DataError(f"{word!r}: expected once, got {got} times in {sentence!r}")
    start = sentence.index(word)
    return start, start + len(word)
