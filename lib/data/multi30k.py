"""Multi30k, English captions with a German translation, or pairs of a small grammar."""

import json
from collections import Counter

from lib.data.origin import EMBEDDED, DataError, Dataset, Unreachable, from_hub

NAME = "bentrevett/multi30k"
PAIRS = {"train": 29_000, "validation": 1_014, "test": 1_000}


def multi30k() -> Dataset:
    """English captions of pictures with a German translation: rows of split, en, de.

    29,000 pairs to train, 1,014 to validate, 1,000 to test (of 2016), as
    `datasets.load_dataset` gives them, spaces at the ends removed. Where the hub does
    not answer and the client's cache has no copy, pairs of a small grammar stand in;
    `is_full` is then False and `notice` says why.

    Raises:
        DataError: the data set is there and is another.
    """
    try:
        found = from_hub(NAME)
        rows = [
            {"split": split} | {key: row[key].strip() for key in ("en", "de")}
            for split in found
            for row in found[split]
        ]
        is_full, notice = True, ""
    except Unreachable as error:
        rows, is_full = embedded_pairs(), False
        notice = f"not the full data set, because {error}"
    got = Counter(row["split"] for row in rows)
    if is_full and got != PAIRS:
        raise DataError(f"{NAME}: expected {PAIRS}, got {dict(got)}")
    default = "the embedded default, a small grammar of this book"
    return Dataset(
        name="multi30k",
        source=f"Multi30k, huggingface.co/datasets/{NAME}" if is_full else default,
        licence="research use (captions of Flickr30k)" if is_full else "CC BY 4.0",
        is_full=is_full,
        rows=rows,
        notice=notice,
        unit="pairs",
        texts=("en", "de"),
    )


def embedded_pairs() -> list[dict[str, str]]:
    """The pairs that `train/grammar.py` generated: rows of split, en, de."""
    text = (EMBEDDED / "pairs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
