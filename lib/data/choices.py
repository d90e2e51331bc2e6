"""Beginnings of sentences with a right and a wrong next word: what a language model can do."""

from lib.data.origin import EMBEDDED, Dataset
from lib.data.written import written_rows

KINDS = ("agreement", "fact", "sense")


def choices() -> Dataset:
    """60 beginnings written for this book, 20 of each kind: rows of kind, text, right, wrong.

    Agreement of a verb with its subject, often with another noun between; facts that
    schoolchildren know; and what makes sense. The words stand after a space. None is
    among the items of `lib.data.tasks`.
    """
    fields = {"choice": {"kind", "text", "right", "wrong"}}
    return Dataset(
        name="choices",
        source="written for this book",
        licence="CC BY 4.0",
        is_full=True,
        rows=written_rows(EMBEDDED / "choices.jsonl", fields),
        unit="beginnings",
        texts=("text",),
    )
