"""The questions of `adapt/rag`: each stands by a section that is there."""

from collections import Counter

import pytest

from lib.data.livedoor import embedded_articles
from lib.data.questions import KINDS, questions
from lib.retrieval import book, text

SECTIONS = {section.place: section for section in book.read()}
BOOK = list(questions("book"))


def test_how_many():
    assert [len(questions(kind)) for kind in KINDS] == [99, 20, 30]
    everything = [row["question"] for kind in KINDS for row in questions(kind)]
    assert len(set(everything)) == len(everything)
    with pytest.raises(ValueError, match="kind: got 'all'"):
        questions("all")


@pytest.mark.parametrize("row", BOOK, ids=lambda row: row["place"])
def test_each_has_its_section(row):
    """A section that moved or was renamed is noticed, and an answer that has gone."""
    section = SECTIONS[row["place"]]
    assert text.terms(row["question"])
    if row["answers"]:
        said = " ".join(f"{section.title} {section.text}".lower().split())
        assert any(answer.lower() in said for answer in row["answers"]), said


def test_the_shipped_text_has_each_section():
    """Where this fails, `python -m train.rag --only text` takes the text anew."""
    shipped = {section.place for section in book.shipped()}
    assert not [row["place"] for row in BOOK if row["place"] not in shipped]


def test_all_parts_of_the_book_are_asked():
    pages = Counter(row["place"].split("#")[0] for row in BOOK)
    assert len(pages) >= 24 and max(pages.values()) <= 8
    assert sum(bool(row["answers"]) for row in BOOK) >= 60


def test_japanese_questions_have_their_article():
    articles = {article["url"]: article for article in embedded_articles()}
    for row in questions("articles"):
        assert articles[row["place"]]["title"] == row["title"]
        assert text.terms(row["question"])


def test_what_the_book_does_not_answer():
    assert {row["place"] for row in questions("nowhere")} == {None}
