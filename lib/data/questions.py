"""Questions with known places, written for this book: what a search has to find.

Ninety-nine English ones that a section of the book answers, twenty that none does, and
thirty Japanese ones about the articles that stand in for Livedoor.
"""

import json

from lib.data.origin import EMBEDDED, Dataset

KINDS = ("book", "nowhere", "articles")


def questions(kind: str) -> Dataset:
    """The questions of one of `KINDS`: rows of question, place, answers.

    *book*: `place` is "notebooks/block/rope#check-it", a section of a page; `answers` are
    short texts that are accepted, none where the answer is no matter of a few words.
    *nowhere*: `place` is None, the book does not answer. *articles*: Japanese, `place`
    is the url of an embedded article. Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, wants one of {', '.join(KINDS)}")
    lines = (EMBEDDED / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return Dataset(
        name=kind,
        source="written for this book",
        licence="CC BY 4.0",
        is_full=True,
        rows=[row for row in rows if _kind(row) == kind],
        unit="questions",
        texts=("question",),
    )


def _kind(row: dict) -> str:
    if row["language"] == "ja":
        return "articles"
    return "book" if row["place"] else "nowhere"
