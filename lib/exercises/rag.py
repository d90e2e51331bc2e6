"""The exercises of the retrieval chapter: right answers, and the wrong ones we name."""

import math

from lib.exercise import Exercise

# --- plus: BM25 that never forgets a match ------------------------------------------------


def _plus(tf, df, length, mean, N, k1=1.5, b=0.75, delta=1.0):
    if not tf:
        return 0.0
    norm = k1 * (1 - b + b * length / mean)
    return math.log((N + 1) / df) * (tf / (tf + norm) + delta)


def _norm(length, mean, k1=1.5, b=0.75):
    return k1 * (1 - b + b * length / mean)


plus = Exercise(
    correct=_plus,
    mistakes={
        "this is the page's score: δ is missing": lambda tf, df, length, mean, N: _plus(
            tf, df, length, mean, N, delta=0.0
        ),
        "δ is added outside the product: it belongs to the part that the idf "
        "multiplies": lambda tf, df, length, mean, N: (
            _plus(tf, df, length, mean, N, delta=0.0) + 1 if tf else 0.0
        ),
        "a document without the term gets δ, too: it has no match to be remembered": (
            lambda tf, df, length, mean, N: (
                math.log((N + 1) / df) * (tf / (tf + _norm(length, mean)) + 1)
            )
        ),
        "the idf is the page's: here it is ln((N + 1) / df)": (
            lambda tf, df, length, mean, N: (
                math.log(1 + (N - df + 0.5) / (df + 0.5))
                * (tf / (tf + _norm(length, mean)) + 1)
                if tf
                else 0.0
            )
        ),
        "the length is divided the wrong way: length / mean, so that a long document "
        "has the larger divisor": lambda tf, df, length, mean, N: _plus(
            tf, df, mean, length, N
        ),
        "the length is left out of the divisor": lambda tf, df, length, mean, N: _plus(
            tf, df, mean, mean, N
        ),
        "δ stands in the divisor": lambda tf, df, length, mean, N: (
            math.log((N + 1) / df) * tf / (tf + _norm(length, mean) + 1)
        ),
    },
    cases=[(2, 3, 100, 80, 50), (0, 3, 100, 80, 50), (1, 40, 900, 80, 50)],
)

# --- weighted: fusion in which one ranking counts more ------------------------------------


def _weighted(rankings, weights, k=60, missing=None, start=1, stretch=False):
    total = {}
    items = dict.fromkeys(item for ranking in rankings for item in ranking)
    for ranking, weight in zip(rankings, weights, strict=True):
        for item in items:
            if item in ranking:
                rank = ranking.index(item) + start
                part = 1 / (k + weight * rank) if stretch else weight / (k + rank)
                total[item] = total.get(item, 0) + part
            elif missing:
                part = weight / (k + len(ranking) + 1)
                total[item] = total.get(item, 0) + part
    return sorted(items, key=lambda item: -total[item])


weighted = Exercise(
    correct=_weighted,
    mistakes={
        "the weights are not used": lambda r, w: _weighted(r, [1] * len(w)),
        "an item that a ranking lacks gets a rank behind its last: it gets nothing "
        "from it": lambda r, w: _weighted(r, w, missing=True),
        "the constant 60 is missing: the first of a ranking counts nearly alone": (
            lambda r, w: _weighted(r, w, k=0)
        ),
        "the weight multiplies the rank: a heavy ranking then counts less": (
            lambda r, w: _weighted(r, w, stretch=True)
        ),
        "the worst comes first: sort by the sums, the largest first": (
            lambda r, w: _weighted(r, w)[::-1]
        ),
        "one ranking is taken as it is: the others have to add to it": (
            lambda r, w: r[w.index(max(w))]
        ),
    },
    cases=[
        ([[1, 2, 3], [3, 4, 1]], [1.0, 3.0]),
        ([["a", "b"], ["c"], ["b", "c", "a"]], [1.0, 1.0, 0.25]),
        ([[*range(1, 31)], [99, *range(30, 0, -1)]], [1.0, 0.5]),
        ([[7, 5], [5, 6], [6]], [3.0, 1.0, 1.0]),
    ],
)

# --- found: recall where a question has several right places ------------------------------


def _found(found, right, k, every=False, divide=None, unique=True, any_=False):
    shares = []
    for places, wanted in zip(found, right, strict=True):
        if not wanted:
            if every:
                shares.append(0.0)
            continue
        first = (list(dict.fromkeys(places)) if unique else list(places))[:k]
        hits = sum(place in first for place in wanted)
        below = k if divide == "k" else len(wanted)
        shares.append(float(hits > 0) if any_ else hits / below)
    return sum(shares) / len(shares)


def _pooled(found, right, k):
    hits = total = 0
    for places, wanted in zip(found, right, strict=True):
        first = list(dict.fromkeys(places))[:k]
        hits += sum(place in first for place in wanted)
        total += len(wanted)
    return hits / total


found = Exercise(
    correct=_found,
    mistakes={
        "a question counts as found with one of its places: the share of its places is "
        "asked for": lambda f, r, k: _found(f, r, k, any_=True),
        "this is precision: hits are divided by k, not by the right places": (
            lambda f, r, k: _found(f, r, k, divide="k")
        ),
        "questions without a right place count as missed: nothing can be recalled "
        "there": lambda f, r, k: _found(f, r, k, every=True),
        "passages of one place fill several of the k: count each place once": (
            lambda f, r, k: _found(f, r, k, unique=False)
        ),
        "all places are pooled: each question should count the same": _pooled,
    },
    cases=[
        (
            [["a", "a", "b", "c"], ["d", "e", "f", "g"], ["a", "b", "c", "d"], ["h"]],
            [["b", "c"], ["g"], [], ["h"]],
            2,
        ),
        ([["a", "b", "b", "c"], ["x", "y", "z", "w"]], [["a", "c", "q"], ["y"]], 3),
    ],
)

# --- windows: passages that overlap -------------------------------------------------------


def _windows(lengths, size, overlap, least=True, tail=True, words=False):
    spans, start = [], 0
    while start < len(lengths):
        end, total = start, 0
        while end < len(lengths) and (end == start or total + lengths[end] <= size):
            total += lengths[end]
            end += 1
        spans.append([start, end])
        if end == len(lengths) and tail:
            break
        back = end - overlap
        start = max(back, start + 1) if least else (back if back > start else end)
    return spans


windows = Exercise(
    correct=_windows,
    mistakes={
        "the windows do not overlap": lambda n, size, o: _windows(n, size, 0),
        "a last window stands wholly inside the one before it": (
            lambda n, size, o: _windows(n, size, o, tail=False)
        ),
        "where the overlap is as long as the window you skip to its end: step on by "
        "one sentence": lambda n, size, o: _windows(n, size, o, least=False),
        "a window may be as long as `size`, not only shorter": (
            lambda n, size, o: _windows(n, size - 1, o)
        ),
        "ends are the last sentence itself: give the place after it, as slices do": (
            lambda n, size, o: [[a, b - 1] for a, b in _windows(n, size, o)]
        ),
    },
    cases=[
        ([4, 3, 3, 5, 2, 2], 10, 1),
        ([12, 3, 4, 9, 9, 1], 10, 2),
        ([5, 5, 5, 5], 10, 1),
        ([2, 2, 2], 10, 1),
    ],
)
