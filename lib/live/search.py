"""The book's passages for a question, by BM25: the element of `adapt/rag`."""

from lib.live.element import Live, table
from lib.retrieval import book, text
from lib.retrieval.bm25 import BM25

FILES = ((*book.SHIPPED, ""),)
WORDS, K1, B = 120, 1.5, 0.75
TOLD, SHOWN = 3, 8  # passages in the story, and in the browser


class Text(Live):
    """A live element whose file is a text and no model."""

    def _repr_html_(self) -> str:
        return super()._repr_html_().replace("Weights of rag-text", "Text of this book")


def search(asked: list[str]) -> Live:
    """The element, and its story: the best passages of each question, with their terms.

    Raises ValueError for no question, and for one without a term that the book has.
    """
    if not asked:
        raise ValueError("asked: got no question, wants at least one")
    passages = text.chunk(book.shipped(), WORDS)
    searcher = BM25([text.terms(p.whole) for p in passages], K1, B)
    rows = []
    for question in asked:
        query = text.terms(question)
        hits = searcher.search(query, TOLD)
        if not hits:
            raise ValueError(f"asked: the book has no term of {question!r}")
        for i, score in hits:
            parts = [p for p in searcher.explain(query, i) if p.score]
            won = ", ".join(f"{p.term} {p.score:.2f}" for p in parts)
            rows.append((question, passages[i].heading, f"{score:.2f}", won))
    data = {"name": "Ask the book", "ask": "Load the book's text", "asked": asked}
    data |= {
        "stop": sorted(text.STOP),
        "words": WORDS,
        "k1": K1,
        "b": B,
        "shown": SHOWN,
    }
    story = table(("question", "passage", "score", "terms that won"), rows)
    return Text("search", FILES, data, story)
