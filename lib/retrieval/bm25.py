"""BM25: how well the terms of a query fit each document.

Built in `adapt/rag`; checked there, and in the tests, against `bm25s`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# How rare a term is, by the number of documents that have it (df) of all (N).
IDF: dict[str, Callable[[int, int], float]] = {
    "robertson": lambda df, N: math.log((N - df + 0.5) / (df + 0.5)),
    "lucene": lambda df, N: math.log(1 + (N - df + 0.5) / (df + 0.5)),
    "atire": lambda df, N: math.log(N / df),
    "bm25+": lambda df, N: math.log((N + 1) / df),
}


class Part(NamedTuple):
    """What one term of a query adds to one document's score."""

    term: str
    tf: int
    df: int
    idf: float
    score: float


class BM25:
    """The postings of documents, each a sequence of terms.

    score(q, d) = Σ_t∈q idf(t) · tf / (tf + k1 (1 − b + b · length / mean length))

    Args:
        documents: N sequences of terms; a document may be empty.
        k1: how slowly repeats of a term stop counting.
        b: from 0, length does not matter, to 1, all of it does.
        idf: one of `IDF`.

    Raises:
        ValueError: no document, none with a term, an unknown idf, or k1 or b out of range.
    Source: Robertson and Zaragoza (2009); the variants by Kamphuis et al. (2020).
    """

    def __init__(
        self,
        documents: Sequence[Sequence[str]],
        k1: float = 1.5,
        b: float = 0.75,
        idf: str = "lucene",
    ) -> None:
        if isinstance(documents, str) or any(isinstance(d, str) for d in documents):
            raise ValueError("documents: got a text, wants lists of terms; see `terms`")
        if not any(len(d) for d in documents):
            raise ValueError("documents: got no term at all, wants at least one")
        if idf not in IDF:
            raise ValueError(f"idf: got {idf!r}, wants one of {', '.join(IDF)}")
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1, b: got {k1}, {b}; wants k1 ≥ 0 and b of 0 to 1")
        self.N, self.k1, self.b, self.name = len(documents), k1, b, idf
        lengths = np.array([len(d) for d in documents], dtype=np.float64)  # (N,)
        self.norm = k1 * (1 - b + b * lengths / lengths.mean())  # (N,)
        postings: dict[str, dict[int, int]] = {}
        for i, document in enumerate(documents):
            for term, tf in Counter(document).items():
                postings.setdefault(term, {})[i] = tf
        self.postings = {
            term: (np.array([*rows]), np.array([*rows.values()], dtype=np.float64))
            for term, rows in postings.items()
        }

    def idf(self, term: str) -> float:
        """How rare a term is; 0 where no document has it."""
        df = len(self.postings[term][0]) if term in self.postings else 0
        return IDF[self.name](df, self.N) if df else 0.0

    def scores(self, query: Sequence[str]) -> np.ndarray:
        """The score of each document, (N,). A term that is asked twice counts twice.

        Raises ValueError for a query without terms: an empty one, or stop words alone.
        """
        asked(query)
        found = np.zeros(self.N)
        for term in query:
            if term in self.postings:
                rows, tf = self.postings[term]
                found[rows] += self.idf(term) * tf / (tf + self.norm[rows])
        return found

    def search(self, query: Sequence[str], k: int = 10) -> list[tuple[int, float]]:
        """The k best documents with their scores, best first; of equals the first.

        Only documents that share a term with the query: there may be fewer than k, and
        none for a query in another script. Raises as `scores`, and ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"k: got {k}, wants at least 1")
        scores = self.scores(query)
        rows = [self.postings[t][0] for t in query if t in self.postings]
        met = np.unique(np.concatenate(rows)) if rows else np.array([], dtype=int)
        order = met[np.argsort(-scores[met], kind="stable")][:k]
        return [(int(i), float(scores[i])) for i in order]

    def explain(self, query: Sequence[str], document: int) -> list[Part]:
        """What each term of the query adds to a document's score, the largest first."""
        if not 0 <= document < self.N:
            raise ValueError(f"document: got {document}, wants 0 to {self.N - 1}")
        found = []
        for term in dict.fromkeys(asked(query)):
            rows, counts = self.postings.get(term, (np.array([]), np.array([])))
            at = np.flatnonzero(rows == document)
            tf = counts[at[0]] if len(at) else 0.0
            idf = self.idf(term)
            score = (
                query.count(term) * idf * tf / (tf + self.norm[document]) if tf else 0
            )
            found.append(Part(term, int(tf), len(rows), idf, float(score)))
        return sorted(found, key=lambda part: -part.score)


def asked(query: Sequence[str]) -> Sequence[str]:
    """The query, if it has a term. Raises ValueError otherwise."""
    if isinstance(query, str):
        raise ValueError(f"query: got the text {query!r}, wants a list of terms")
    if not len(query):
        raise ValueError("query: no term is left; it is empty, or stop words alone")
    return query
