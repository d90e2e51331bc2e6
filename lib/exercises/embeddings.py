"""The exercises of the embeddings chapter: right answers, and the wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise

A = 0.001  # of the weights of tokens, and what keeps a quotient finite


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- pool: a weighted mean over the tokens ----------------------------------------------


def _weighed(weigh, divide=None):
    def pool(hidden, mask, ids, share):
        weight = weigh(mask, share, ids)  # (B, T)
        total = (divide or (lambda mask, weight: weight.sum(1)))(mask, weight)
        return (weight[..., None] * hidden).sum(1) / total[:, None]

    return pool


def _weight(mask, share, ids):
    return mask * A / (A + share[ids])


def _pool_cases() -> list[tuple]:
    cases = []
    for seed, (B, T, D, V) in enumerate([(2, 5, 3, 7), (3, 4, 4, 6)]):
        g = torch.Generator().manual_seed(seed)
        ids = torch.randint(V, (B, T), generator=g)
        share = torch.rand(V, generator=g) / 100 + 1e-4
        mask = (torch.arange(T) < torch.tensor([T, 2, 3])[:B, None]).long()
        cases.append((_random(B, T, D, seed=seed + 9), mask, ids, share))
    return cases


_pool = _weighed(_weight)

pool = Exercise(
    correct=_pool,
    mistakes={
        "this is the page's mean: weigh each token by a / (a + its share)": _weighed(
            lambda mask, share, ids: mask.double()
        ),
        "padding counts: its weight has to be 0": _weighed(
            lambda mask, share, ids: A / (A + share[ids])
        ),
        "padding counts in what divides: add up the weights of the real tokens "
        "alone": lambda hidden, mask, ids, share: (
            (_weight(mask, share, ids)[..., None] * hidden).sum(1)
            / (A / (A + share[ids])).sum(1, keepdim=True)
        ),
        "what divides is the number of tokens: divide by the sum of the "
        "weights": _weighed(_weight, lambda mask, weight: mask.sum(1)),
        "what divides is T, padding included: divide by the sum of the "
        "weights": _weighed(
            _weight, lambda mask, weight: torch.tensor([mask.shape[1]])
        ),
        "the sum is not divided: divide by the sum of the weights": _weighed(
            _weight, lambda mask, weight: torch.ones(1)
        ),
        "the weights are upside down: a frequent token gets the smaller one, "
        "a / (a + p)": _weighed(
            lambda mask, share, ids: mask * share[ids] / (A + share[ids])
        ),
        "the weight is a / p: the a below the line is missing": _weighed(
            lambda mask, share, ids: mask * A / share[ids]
        ),
        "a / a + p is 1 + p: the sum below the line needs brackets": _weighed(
            lambda mask, share, ids: mask * (1 + share[ids])
        ),
        "the result has length 1: leave it as it is": lambda *case: F.normalize(
            _pool(*case), dim=-1
        ),
    },
    cases=_pool_cases(),
)


# --- flatten: all but the top -----------------------------------------------------------


def _axes(vectors: Tensor) -> Tensor:
    return torch.linalg.svd(vectors, full_matrices=False)[2]


def _without(x: Tensor, axes: Tensor) -> Tensor:
    return x - x @ axes.T @ axes


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(0)


def _flatten(vectors, k):
    x = _centred(vectors)
    return _without(x, _axes(x)[:k])


flatten = Exercise(
    correct=_flatten,
    mistakes={
        "the vectors are centred, and no direction is removed": (
            lambda v, k: _centred(v)
        ),
        "the mean is not taken away first": lambda v, k: _without(v, _axes(v)[:k]),
        "the directions are those of the vectors before centring": lambda v, k: (
            _without(_centred(v), _axes(v)[:k])
        ),
        "the directions are right, but the mean is still in the vectors": lambda v, k: (
            _without(v, _axes(_centred(v))[:k])
        ),
        "one number, the mean of all, is taken away: take away the mean vector": (
            lambda v, k: _without(v - v.mean(), _axes(v - v.mean())[:k])
        ),
        "the mean is added again at the end": lambda v, k: _flatten(v, k) + v.mean(0),
        "this keeps the part along the k directions: take it away": lambda v, k: (
            _centred(v) - _flatten(v, k)
        ),
        "the last k directions are removed: those of the largest spread come first": (
            lambda v, k: _without(_centred(v), _axes(_centred(v))[-k:])
        ),
        "one direction alone is removed, the k-th: remove the first k": lambda v, k: (
            _without(_centred(v), _axes(_centred(v))[k - 1 : k])
        ),
        "these are the k coordinates along the directions, (N, k): return vectors "
        "(N, D)": lambda v, k: _centred(v) @ _axes(_centred(v))[:k].T,
        "each vector is centred over its own numbers: take away the mean "
        "vector": lambda v, k: _without(
            v - v.mean(1, keepdim=True), _axes(v - v.mean(1, keepdim=True))[:k]
        ),
        "the columns of the third result are taken: its rows are the "
        "directions": lambda v, k: _without(_centred(v), _axes(_centred(v)).T[:k]),
    },
    cases=[(_random(9, 5, seed=1) + 2, 2), (_random(12, 6, seed=2) * 3 - 1, 1)],
)


# --- product: analogies by multiplying --------------------------------------------------


def _cosines(vectors, a, b, c):
    unit = F.normalize(vectors, dim=-1)
    return (unit @ unit[[a, b, c]].T).unbind(-1)  # (V,) each


def _scored(score):
    return lambda vectors, a, b, c: score(*_cosines(vectors, a, b, c))


def _half(x: Tensor) -> Tensor:
    return (x + 1) / 2


def _plain(vectors, a, b, c):
    unit = F.normalize(vectors, dim=-1)
    return unit @ F.normalize(unit[b] - unit[a] + unit[c], dim=-1)


_product = _scored(lambda a, b, c: _half(b) * _half(c) / (_half(a) + A))

product = Exercise(
    correct=_product,
    mistakes={
        "this is the page's score, the cosine with b − a + c: multiply the three "
        "cosines": _plain,
        "the cosines are added, not multiplied": _scored(
            lambda a, b, c: _half(b) + _half(c) - _half(a)
        ),
        "the cosines are not moved to (cos + 1) / 2: a product of two negative ones "
        "is positive": _scored(lambda a, b, c: b * c / (a + A)),
        "the rows are not brought to length 1: these are dot products": lambda v, a, b, c: (
            _half(v @ v[b]) * _half(v @ v[c]) / (_half(v @ v[a]) + A)
        ),
        "a and b have changed places: b and c stand above the line": _scored(
            lambda a, b, c: _half(a) * _half(c) / (_half(b) + A)
        ),
        "a and c have changed places: b and c stand above the line": _scored(
            lambda a, b, c: _half(b) * _half(a) / (_half(c) + A)
        ),
        "the .001 below the line is missing": _scored(
            lambda a, b, c: _half(b) * _half(c) / _half(a)
        ),
        "the cosines are only moved by 1: halve them, too": _scored(
            lambda a, b, c: (b + 1) * (c + 1) / (a + 1 + A)
        ),
        "one half is added, not both halved: (cos + 1) / 2 needs brackets": _scored(
            lambda a, b, c: (b + 0.5) * (c + 0.5) / (a + 0.5 + A)
        ),
        "the .001 is added to the quotient: it stands below the line": _scored(
            lambda a, b, c: _half(b) * _half(c) / _half(a) + A
        ),
        "a, b and c are left out, as on the page: return the score of every word": (
            lambda v, a, b, c: _product(v, a, b, c).index_fill(
                0, torch.tensor([a, b, c]), -2
            )
        ),
        "this is the row of the best word: return the scores of all words": (
            lambda *case: _product(*case).argmax()
        ),
        "all three are multiplied: the one with a divides": _scored(
            lambda a, b, c: _half(a) * _half(b) * _half(c)
        ),
    },
    cases=[(_random(8, 4, seed=3) * 2, 0, 3, 5), (_random(7, 5, seed=4), 6, 2, 1)],
    tol=1e-6,
)


# --- csls: cosines without hubs ---------------------------------------------------------


def _csls(queries, texts, k):
    cosines = queries @ texts.T
    return 2 * cosines - _near(cosines, k, 1)[:, None] - _near(cosines, k, 0)


def _near(cosines: Tensor, k: int, dim: int) -> Tensor:
    return cosines.topk(k, dim=dim).values.mean(dim)


def _with(score):
    def csls(queries, texts, k):
        cosines = queries @ texts.T  # (N, M)
        return score(cosines, _near(cosines, k, 1)[:, None], _near(cosines, k, 0), k)

    return csls


csls = Exercise(
    correct=_csls,
    mistakes={
        "these are the cosines alone: take r(x) and r(y) away from twice the "
        "cosine": _with(lambda s, x, y, k: s),
        "the cosine counts once here: twice, since two means are taken away": _with(
            lambda s, x, y, k: s - x - y
        ),
        "only r(x), of the query, is taken away; that changes no order within a "
        "row": _with(lambda s, x, y, k: 2 * s - x),
        "only r(y), of the text, is taken away": _with(lambda s, x, y, k: 2 * s - y),
        "r is taken away with half its weight: 2 cos − r(x) − r(y)": _with(
            lambda s, x, y, k: 2 * s - (x + y) / 2
        ),
        "r is added: a hub's score has to become smaller": _with(
            lambda s, x, y, k: 2 * s + x + y
        ),
        "r is the mean over all of the other side: take the k nearest": _with(
            lambda s, x, y, k: 2 * s - s.mean(1, keepdim=True) - s.mean(0)
        ),
        "r is the largest cosine: take the mean of the k largest": _with(
            lambda s, x, y, k: 2 * s - s.amax(1, keepdim=True) - s.amax(0)
        ),
        "r is the k-th largest cosine: take the mean of the k largest": _with(
            lambda s, x, y, k: (
                2 * s - s.topk(k, dim=1).values[:, -1:] - s.topk(k, dim=0).values[-1]
            )
        ),
        "r is the sum of the k largest: take their mean": _with(
            lambda s, x, y, k: 2 * s - k * x - k * y
        ),
        "r is the mean of the k smallest: take the k largest": _with(
            lambda s, x, y, k: 2 * s + _near(-s, k, 1)[:, None] + _near(-s, k, 0)
        ),
        "r(x) lies along the texts, as r(y) does: give it a second axis, so that it "
        "belongs to its row": lambda q, t, k: (
            2 * q @ t.T - _near(q @ t.T, k, 1) - _near(q @ t.T, k, 0)
        ),
        "r is taken within one side, queries with queries: the nearest are on the "
        "other side": lambda q, t, k: (
            2 * q @ t.T - _near(q @ q.T, k, 1)[:, None] - _near(t @ t.T, k, 0)
        ),
        "r(x) stands along the texts and r(y) along the queries: a query's r belongs "
        "to its row": lambda q, t, k: (
            2 * q @ t.T - _near(q @ t.T, k, 1) - _near(q @ t.T, k, 0)[:, None]
        ),
    },
    cases=[
        (
            F.normalize(_random(5, 4, seed=5), dim=-1),
            F.normalize(_random(5, 4, seed=6), dim=-1),
            2,
        ),
        (
            F.normalize(_random(6, 3, seed=7), dim=-1),
            F.normalize(_random(6, 3, seed=8), dim=-1),
            3,
        ),
    ],
)
