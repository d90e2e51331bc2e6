"""English sentences of this book with three plain relations between their words."""

import json
from collections.abc import Iterable

from lib.data.origin import EMBEDDED, Dataset

# Each pair is (head, dependent), as indices into the sentence's words.
RELATIONS = {
    "subject-verb": ("verb", "subject"),
    "adjective-noun": ("noun", "adjective"),
    "preposition-object": ("preposition", "object"),
}
CLOSES = {".", ",", "?", "!"}  # written without a space before it


def relations() -> Dataset:
    """137 sentences written and annotated for this book: rows of words, text, spans, …

    "words", punctuation marks among them; "text", the sentence as one writes it;
    "spans", where each word begins and ends in it; "relations", name -> list of pairs
    (head, dependent), as `RELATIONS` says. The verb is the finite one; in a relative
    clause its subject is the pronoun (*the girl that sings*: *that*). Adjectives stand
    before their noun; ordinals count as adjectives, numerals and possessives do not.
    Every instance of the three in a sentence is annotated.
    """
    lines = (EMBEDDED / "relations.jsonl").read_text(encoding="utf-8").splitlines()
    return Dataset(
        name="relations",
        source="written and annotated for this book",
        licence="CC BY 4.0",
        is_full=True,
        rows=[_placed(json.loads(line)) for line in lines],
        unit="sentences",
        texts=("text",),
    )


def word_of(
    offsets: Iterable[tuple[int, int]], spans: list[tuple[int, int]]
) -> list[int | None]:
    """The word of each token, None for a special token: for `lens.measures.by_word`.

    `offsets` are a tokenizer's, from which character to which; a token belongs to the
    word of its last character, since some begin with the space before.
    """
    found = []
    for start, end in offsets:
        at = [i for i, (a, b) in enumerate(spans) if end > start and a < end <= b]
        found.append(at[0] if at else None)
    return found


def _placed(row: dict) -> dict:
    """The row with its text, and where the words are in it."""
    text, spans = "", []
    for word in row["words"]:
        text += " " if text and word not in CLOSES else ""
        spans.append((len(text), len(text) + len(word)))
        text += word
    return {**row, "text": text, "spans": spans}
