"""Answers to the exercises of `adapt/rag`, as learners write them; see `learners`."""

import itertools
import math
from collections import Counter

import numpy as np


def plus_in_one_line(tf, df, length, mean, N):
    share = tf / (tf + 1.5 * (1 - 0.75 + 0.75 * length / mean))
    return (share + 1) * np.log((N + 1) / df) if tf > 0 else 0


def plus_by_branches(tf, df, length, mean, N):
    idf = math.log(N + 1) - math.log(df)
    total = 0.0
    if tf > 0:
        total += idf
        total += idf * tf / (tf + 0.375 + 1.125 * length / mean)
    return total


def plus_always(tf, df, length, mean, N):
    norm = 1.5 * (0.25 + 0.75 * length / mean)
    return math.log((N + 1) / df) * (tf / (tf + norm) + 1)


def plus_of_the_page(tf, df, length, mean, N):
    if not tf:
        return 0.0
    norm = 1.5 * (0.25 + 0.75 * length / mean)
    idf = math.log(1 + (N - df + 0.5) / (df + 0.5))
    return idf * (tf / (tf + norm) + 1)


def fused_by_counter(rankings, weights):
    total = Counter()
    for ranking, weight in zip(rankings, weights, strict=True):
        total.update({x: weight / (60 + i) for i, x in enumerate(ranking, 1)})
    return [x for x, _ in total.most_common()]


def fused_by_items(rankings, weights):
    seen = list(dict.fromkeys(itertools.chain(*rankings)))
    score = [
        sum(
            w / (61 + r.index(x))
            for r, w in zip(rankings, weights, strict=True)
            if x in r
        )
        for x in seen
    ]
    return [
        x
        for _, _, x in sorted(
            (-s, i, x) for i, (s, x) in enumerate(zip(score, seen, strict=True))
        )
    ]


def fused_without_weights(rankings, weights):
    return fused_by_counter(rankings, [1 for _ in weights])


def fused_plain(rankings, weights):
    total = Counter()
    for ranking, weight in zip(rankings, weights, strict=True):
        total.update({x: weight / i for i, x in enumerate(ranking, 1)})
    return [x for x, _ in total.most_common()]


def found_by_sets(found, right, k):
    shares = []
    for places, wanted in zip(found, right, strict=True):
        first = []
        for place in places:
            if place not in first and len(first) < k:
                first.append(place)
        if len(wanted):
            shares.append(len({*first} & {*wanted}) / len({*wanted}))
    return np.mean(shares)


def found_by_ranks(found, right, k):
    total, count = 0, 0
    for places, wanted in zip(found, right, strict=True):
        if not wanted:
            continue
        order = {p: i for i, p in enumerate(dict.fromkeys(places))}
        total += np.mean([order.get(p, k) < k for p in wanted])
        count += 1
    return total / count


def found_at_all(found, right, k):
    pairs = [(f, r) for f, r in zip(found, right, strict=True) if r]
    hit = [any(p in r for p in list(dict.fromkeys(f))[:k]) for f, r in pairs]
    return sum(hit) / len(hit)


def found_with_repeats(found, right, k):
    pairs = [(f, r) for f, r in zip(found, right, strict=True) if r]
    return sum(sum(p in f[:k] for p in r) / len(r) for f, r in pairs) / len(pairs)


def found_over_all(found, right, k):
    shares = []
    for places, wanted in zip(found, right, strict=True):
        first = list(dict.fromkeys(places))[:k]
        shares.append(sum(p in first for p in wanted) / max(1, len(wanted)))
    return sum(shares) / len(shares)


def windows_by_sums(lengths, size, overlap):
    sums = [0, *itertools.accumulate(lengths)]
    spans, start = [], 0
    while not spans or spans[-1][1] < len(lengths):
        fits = [e for e in range(start + 1, len(sums)) if sums[e] - sums[start] <= size]
        end = max([start + 1, *fits])
        spans.append([start, end])
        start = max(end - overlap, start + 1)
    return spans


def windows_by_recursion(lengths, size, overlap, start=0):
    end, total = start + 1, lengths[start]
    while end < len(lengths) and total + lengths[end] <= size:
        total += lengths[end]
        end += 1
    if end == len(lengths):
        return [(start, end)]
    step = max(start + 1, end - overlap)
    return [(start, end), *windows_by_recursion(lengths, size, overlap, step)]


def windows_apart(lengths, size, overlap):
    return windows_by_sums(lengths, size, 0)


def windows_to_the_last(lengths, size, overlap):
    spans, start = [], 0
    while start < len(lengths):
        end = start + 1
        while end < len(lengths) and sum(lengths[start : end + 1]) <= size:
            end += 1
        spans.append([start, end])
        start = max(end - overlap, start + 1)
    return spans


def windows_below(lengths, size, overlap):
    return windows_by_sums(lengths, size - 1, overlap)


RIGHT = [
    ("rag", "plus", "one line", plus_in_one_line),
    ("rag", "plus", "branches", plus_by_branches),
    ("rag", "weighted", "a counter", fused_by_counter),
    ("rag", "weighted", "item by item", fused_by_items),
    ("rag", "found", "sets", found_by_sets),
    ("rag", "found", "ranks", found_by_ranks),
    ("rag", "windows", "sums", windows_by_sums),
    ("rag", "windows", "recursion", windows_by_recursion),
]

WRONG = [
    ("rag", "plus", "δ for all", plus_always, "gets δ, too"),
    ("rag", "plus", "the page's idf", plus_of_the_page, "the idf is the page's"),
    (
        "rag",
        "plus",
        "δ outside",
        lambda tf, df, length, mean, N: (
            plus_by_branches(tf, df, length, mean, N)
            - math.log((N + 1) / df) * (tf > 0)
            + (tf > 0)
        ),
        "outside the product",
    ),
    ("rag", "weighted", "no weights", fused_without_weights, "weights are not used"),
    ("rag", "weighted", "no constant", fused_plain, "60 is missing"),
    (
        "rag",
        "weighted",
        "the worst first",
        lambda rankings, weights: fused_by_items(rankings, weights)[::-1],
        "worst comes first",
    ),
    ("rag", "found", "at all", found_at_all, "with one of its places"),
    ("rag", "found", "repeats", found_with_repeats, "count each place once"),
    ("rag", "found", "those without", found_over_all, "without a right place"),
    ("rag", "windows", "apart", windows_apart, "do not overlap"),
    ("rag", "windows", "to the last", windows_to_the_last, "wholly inside"),
    ("rag", "windows", "below", windows_below, "as long as `size`"),
]
