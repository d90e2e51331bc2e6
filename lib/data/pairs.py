"""English sentences with their Japanese translations, for retrieval across languages."""

from collections import Counter
from pathlib import Path

from lib.data.origin import EMBEDDED, DataError, Dataset
from lib.data.written import written_rows

FILE = EMBEDDED / "english-japanese.jsonl"
FIELDS = {"pair": {"topic", "en", "ja", "reading"}}


def pairs(file: Path = FILE) -> Dataset:
    """Translated sentences, written for this book: rows of topic, en, ja, reading.

    Four pairs share a topic, so that the right translation has near neighbours. The
    reading of the Japanese sentence is in romaji.

    Raises:
        DataError: a row is not what it should be; the message names it.
    """
    rows = written_rows(file, FIELDS)
    for name in ("en", "ja"):
        (text, times) = Counter(row[name] for row in rows).most_common(1)[0]
        if times > 1:
            raise DataError(f"{file.name}: {times} times the sentence {text!r}")
    return Dataset(
        name="english-japanese",
        source="sentences and translations written for this book",
        licence="CC BY 4.0",
        is_full=True,
        rows=rows,
        unit="pairs",
        texts=("en", "ja"),
    )
