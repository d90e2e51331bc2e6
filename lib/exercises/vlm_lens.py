"""The exercises of the chapter on inner features: right answers and known errors."""

import re

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- layers: the modules that some patterns match in full ----------------------------


def _layers(names, patterns, match=re.fullmatch):
    return [name for name in names if any(match(p, name) for p in patterns)]


def _by_pattern(names, patterns):
    found = [name for p in patterns for name in names if re.fullmatch(p, name)]
    return list(dict.fromkeys(found))


_NAMES = ["embed", "layers.0", "layers.0.mlp", "layers.1", "layers.1.mlp"]
_NAMES += ["layers.10", "norm", "old.layers.1", "head"]

layers = Exercise(
    correct=_layers,
    mistakes={
        "the pattern may end before the name does: `match` asks for the beginning "
        "alone": lambda n, p: _layers(n, p, re.match),
        "the pattern may stand anywhere in the name: `search` asks for a part "
        "alone": lambda n, p: _layers(n, p, re.search),
        "the names stand in the order of the patterns: keep that of the "
        "model": _by_pattern,
        "a name that two patterns match stands twice": lambda n, p: [
            name for name in n for one in p if re.fullmatch(one, name)
        ],
        "the names stand in the order of the patterns, and some twice: go through the "
        "model's names": lambda n, p: [
            name for one in p for name in n if re.fullmatch(one, name)
        ],
        "the patterns are compared as plain texts: they are regular "
        "expressions": lambda n, p: [name for name in n if name in p],
        "all patterns have to match: one is enough": lambda n, p: [
            name for name in n if all(re.fullmatch(one, name) for one in p)
        ],
    },
    cases=[
        (_NAMES, ["head", r"layers\.\d", r".*\.1"]),
        (_NAMES, [r"norm|embed", r".*mlp", r"layers\.1.*"]),
    ],
)


# --- grid: cosines with one patch, in the picture's grid -----------------------------


def _grid(tokens, columns, row, column, cls=1, unit=True):
    patches = tokens[cls:] if cls else tokens[:-1]
    if unit:
        patches = patches / patches.norm(dim=-1, keepdim=True)
    cosines = patches @ patches[row * columns + column]
    return cosines.unflatten(0, (-1, columns))


def _distances(tokens, columns, row, column):
    patches = tokens[1:]
    far = (patches - patches[row * columns + column]).norm(dim=-1)
    return far.unflatten(0, (-1, columns))


grid = Exercise(
    correct=_grid,
    mistakes={
        "CLS is still there: the first token is no patch, and all patches stand one "
        "place too late": lambda t, n, r, c: _grid(t, n, r, c, cls=0),
        "CLS counts where you pick: patch 0 is the second token": lambda t, n, r, c: (
            torch.cosine_similarity(t[1:], t[[r * n + c]], dim=-1).unflatten(0, (-1, n))
        ),
        "the lengths are not divided out: these are products, not "
        "cosines": lambda t, n, r, c: _grid(t, n, r, c, unit=False),
        "row and column have changed places: the patch is at row · columns + "
        "column": lambda t, n, r, c: _grid(t, n, 0, c * n + r),
        "these are distances: a cosine is 1 for the patch itself": _distances,
        "the grid is turned: patches run along the rows": lambda t, n, r, c: (
            _grid(t, n, r, c).T
        ),
        "these are cosines in one row: make it the picture's grid": lambda t, n, r, c: (
            _grid(t, n, r, c).flatten()
        ),
        "the cosines are those with CLS: take the patch that was "
        "picked": lambda t, n, r, c: torch.cosine_similarity(
            t[1:], t[:1], dim=-1
        ).unflatten(0, (-1, n)),
    },
    cases=[(_random(13, 5, seed=0), 4, 1, 2), (_random(10, 6, seed=1), 3, 0, 1)],
)


# --- pooled: the mean over the picture's tokens --------------------------------------


def _pooled(hidden, ids, image, own=True):
    mask = (ids == image if own else ids != image).unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1)


_IDS = torch.tensor([[1, 9, 9, 9, 4, 5], [9, 9, 2, 3, 3, 6]])

pooled = Exercise(
    correct=_pooled,
    mistakes={
        "the mean runs over all tokens: the words are in it": lambda h, i, k: h.mean(1),
        "the sum is divided by all tokens: divide by the number of the picture's": (
            lambda h, i, k: (h * (i == k).unsqueeze(-1)).mean(1)
        ),
        "these are the words' tokens: take those whose id is `image`": lambda h, i, k: (
            _pooled(h, i, k, own=False)
        ),
        "the prompts are mixed: each has a mean of its own, over its own tokens": (
            lambda h, i, k: h[i == k].mean(0).expand(len(h), -1)
        ),
        "all rows are divided by one number: each prompt has its own number of "
        "tokens": lambda h, i, k: (
            (h * (i == k).unsqueeze(-1)).sum(1) * len(h) / (i == k).sum()
        ),
        "this is a sum: a mean divides by the number of tokens": lambda h, i, k: (
            h * (i == k).unsqueeze(-1)
        ).sum(1),
        "this is the maximum: take the mean": lambda h, i, k: h.masked_fill(
            (i != k).unsqueeze(-1), -torch.inf
        ).amax(1),
    },
    cases=[
        (_random(2, 6, 3, seed=2), _IDS, 9),
        (_random(2, 6, 4, seed=3), _IDS.flip(1) + 3, 12),
    ],
)


# --- leak: the share of the held-out rows whose picture is in the fit ----------------


def _leak(owner, test):
    return torch.isin(owner[test], owner[~test]).double().mean()


def _of_pictures(owner, test):
    held = owner[test].unique()
    return torch.isin(held, owner[~test]).double().mean()


leak = Exercise(
    correct=_leak,
    mistakes={
        "pictures are counted: the share is one of held-out rows": _of_pictures,
        "the other way round: this is the share of the fitted rows whose picture is held "
        "out, too": lambda o, t: _leak(o, ~t),
        "all rows are asked: only those held out can leak": lambda o, t: (
            torch.isin(o, o[~t]).double().mean()
        ),
        "the rows that leak are divided by all rows: divide by those held "
        "out": lambda o, t: torch.isin(o[t], o[~t]).sum() / len(o),
        "this is the share that does not leak": lambda o, t: 1 - _leak(o, t),
        "this is a number of rows: return a share": lambda o, t: torch.isin(
            o[t], o[~t]
        ).sum(),
        "this is the share of rows that are held out": lambda o, t: t.double().mean(),
    },
    cases=[
        (
            torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 3]),
            torch.tensor([1, 0, 0, 1, 1, 1, 0, 1, 1, 0]).bool(),
        ),
        (
            torch.tensor([5, 7, 5, 8, 7, 9, 5]),
            torch.tensor([0, 1, 1, 1, 0, 1, 1]).bool(),
        ),
    ],
)
