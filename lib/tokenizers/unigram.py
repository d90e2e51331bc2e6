"""Unigram tokenization: each piece has a probability, the best cut of a text wins.

A model is a dict, piece: natural logarithm of its probability; `tree` makes of it what the
functions read. A text comes normalised, with ▁ for spaces (`marked`). Scores add up in
float32, as in `sentencepiece`, so that ties fall alike. Source: Kudo (2018).
"""

import heapq
import math
import random
import re
from array import array
from collections.abc import Iterable, Mapping
from itertools import pairwise

SPACE = "▁"  # U+2581
PENALTY = 10.0  # an unknown character is that much worse than the worst piece
LARGE, SHRUNK = 10_000, 512  # n-best: open paths, and how many of too many stay

Edges = list[list[tuple[int, float]]]  # at each place: the pieces that end there


def marked(text: str) -> str:
    """▁ for each space, and one before the text; an empty text stays empty."""
    return SPACE + text.replace(" ", SPACE) if text else ""


def words(text: str) -> list[str]:
    """The words of a text, each with its ▁: no piece of a model crosses them."""
    return re.findall(f"{SPACE}[^{SPACE}]*", marked(text))


def tree(scores: Mapping[str, float]) -> dict:
    """Pieces by their characters: {"a": {"": score of a, "b": {"": score of ab}}}.

    Under "" at the root stands the score of an unknown character.

    Raises:
        ValueError: no pieces, or an empty one.
    """
    if not scores or "" in scores:
        raise ValueError("scores: expected pieces, none of them empty")
    root = {"": _float32(min(scores.values()) - PENALTY)}
    for piece, score in scores.items():
        node = root
        for character in piece:
            node = node.setdefault(character, {})
        node[""] = _float32(score)
    return root


_cell = array("f", [0.0])


def _float32(x: float) -> float:
    _cell[0] = x
    return _cell[0]


def lattice(text: str, tree: dict) -> Edges:
    """All pieces in `text`: for each end, the (start, score) of those that end there.

    Where no piece of one character starts, the character is an unknown one.
    """
    edges = [[] for _ in range(len(text) + 1)]
    for start in range(len(text)):
        node = tree
        for end in range(start, len(text)):
            node = node.get(text[end])
            if node is None:
                break
            if "" in node:
                edges[end + 1].append((start, node[""]))
        if not edges[start + 1] or edges[start + 1][-1][0] != start:
            edges[start + 1].append((start, tree[""]))
    return edges


# --- The best cuts --------------------------------------------------------------------


def viterbi(edges: Edges) -> tuple[array, list[int]]:
    """For each end: the score of the best cut up to it, and where its last piece starts.

    Of equal cuts, the one whose last piece is longest.
    """
    best, back = array("f", [0.0]), [0]
    for arriving in edges[1:]:
        top, origin = -math.inf, 0
        for start, score in arriving:
            total = _float32(best[start] + score)
            if total > top:
                top, origin = total, start
        best.append(top)
        back.append(origin)
    return best, back


def best_cut(edges: Edges) -> list[int]:
    """Where the best cut cuts, from 0 to the length of the text."""
    _, back = viterbi(edges)
    cuts = [len(back) - 1]
    while cuts[-1]:
        cuts.append(back[cuts[-1]])
    return cuts[::-1]


def encode(text: str, tree: dict) -> list[str]:
    """The pieces of the most probable cut; unknown characters side by side are one."""
    return _pieces(text, best_cut(lattice(text, tree)), tree)


def is_unknown(piece: str, tree: dict) -> bool:
    """Whether a piece is none of the model, but unknown characters."""
    for character in piece:
        tree = tree.get(character, {})
    return "" not in tree


def _pieces(text: str, cuts: list[int], tree: dict) -> list[str]:
    """The pieces between the cuts; unknown ones side by side become one."""
    found, joins = [], False
    for start, end in pairwise(cuts):
        piece = text[start:end]
        unknown = is_unknown(piece, tree)
        if joins and unknown:
            found[-1] += piece
        else:
            found.append(piece)
        joins = unknown
    return found


def byte_fallback(pieces: Iterable[str], tree: dict) -> list[str]:
    """The same pieces, an unknown one as its bytes: 鰆 becomes <0xE9> <0xB0> <0x86>."""
    found = []
    for piece in pieces:
        unknown = is_unknown(piece, tree)
        found += map("<0x{:02X}>".format, piece.encode()) if unknown else [piece]
    return found


def n_best(text: str, tree: dict, n: int) -> list[tuple[list[str], float]]:
    """The `n` best cuts with their scores, best first; fewer where there are no more.

    A* from the end of the text: Viterbi says exactly what the way to the start is worth.
    Past 10,000 open paths only the 512 best stay, as in `sentencepiece`.

    Raises:
        ValueError: `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    edges = lattice(text, tree)
    best, _ = viterbi(edges)
    agenda, found = [_Open(best[-1], 0.0, (len(text), None))], []
    while agenda and len(found) < n:
        top = heapq.heappop(agenda)
        start, rest = top.cuts
        if start is None:
            cuts = []
            while rest:
                cuts.append(rest[0])
                rest = rest[1]
            found.append((_pieces(text, cuts, tree), top.promise))
        elif start == 0:
            heapq.heappush(agenda, _Open(top.score, top.score, (None, top.cuts)))
        else:
            for origin, score in edges[start]:
                promise = _float32(_float32(best[origin] + score) + top.score)
                total = _float32(score + top.score)
                heapq.heappush(agenda, _Open(promise, total, (origin, top.cuts)))
        if len(agenda) >= LARGE:
            agenda = [heapq.heappop(agenda) for _ in range(min(SHRUNK, 10 * n))]
    return found


class _Open:
    """A cut of the end of a text, and the score of the best whole cut that has it.

    Compared by that alone: equal ones leave the heap as they leave C++'s.
    """

    __slots__ = ("cuts", "promise", "score")

    def __init__(self, promise: float, score: float, cuts: tuple) -> None:
        self.promise, self.score, self.cuts = promise, score, cuts

    def __lt__(self, other: "_Open") -> bool:
        return self.promise > other.promise


# --- All cuts -------------------------------------------------------------------------


def _log_sum(terms: Iterable[float]) -> float:
    terms = list(terms)
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms))


def forward(edges: Edges) -> list[float]:
    """For each end, the logarithm of the summed probability of all cuts up to it."""
    alpha = [0.0]
    for arriving in edges[1:]:
        alpha.append(_log_sum(alpha[start] + score for start, score in arriving))
    return alpha


def backward(edges: Edges) -> list[float]:
    """For each start, the same of all cuts from it to the end."""
    beta, terms = [0.0] * len(edges), [[] for _ in edges]
    for end in range(len(edges) - 1, -1, -1):
        if terms[end]:
            beta[end] = _log_sum(terms[end])
        for start, score in edges[end]:
            terms[start].append(beta[end] + score)
    return beta


def expected(text: str, tree: dict) -> tuple[dict[str, float], float]:
    """How often each piece is expected in a cut of `text`; the log-probability of `text`.

    Over all cuts, each with its probability. Unknown characters are not counted.
    """
    edges = lattice(text, tree)
    alpha, beta = forward(edges), backward(edges)
    counts: dict[str, float] = {}
    for end, arriving in enumerate(edges):
        for start, score in arriving:
            if score != tree[""]:
                share = math.exp(alpha[start] + score + beta[end] - alpha[-1])
                piece = text[start:end]
                counts[piece] = counts.get(piece, 0.0) + share
    return counts, alpha[-1]


def sample(text: str, tree: dict, draw: random.Random, alpha: float = 1.0) -> list[str]:
    """A cut drawn with its probability, each to the power `alpha` and normalised.

    0 draws all cuts alike, a large `alpha` the best one: α in Kudo (2018).
    """
    edges = [[(a, alpha * s) for a, s in arriving] for arriving in lattice(text, tree)]
    before, cuts = forward(edges), [len(text)]
    while cuts[-1]:
        arriving = edges[cuts[-1]]
        shares = [math.exp(before[a] + s - before[cuts[-1]]) for a, s in arriving]
        cuts.append(draw.choices(arriving, shares)[0][0])
    return _pieces(text, cuts[::-1], tree)
