"""The exercises of the chapter on adapters: right answers, and the mistakes known here."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- largest: up to which rank an adapter has fewer numbers than its map ------------------


def _largest(out, into):
    return (out * into - 1) // (out + into)


largest = Exercise(
    correct=_largest,
    mistakes={
        "an adapter of this rank has as many numbers as the map, and fewer are asked for: "
        "the sizes where the division leaves nothing over tell": lambda out, into: (
            out * into // (out + into)
        ),
        "this is the largest rank that a matrix of this size can have: count the numbers "
        "of A and B": lambda out, into: min(out, into),
        "only one of the two matrices is counted: A has rank × in numbers, B out × "
        "rank": lambda out, into: (out * into - 1) // max(out, into),
        "half of it: A and B together have rank × (in + out) numbers": lambda out, into: (
            (out * into - 1) // (2 * (out + into))
        ),
        "one too many: fewer numbers than the map are asked for": lambda out, into: (
            _largest(out, into) + 1
        ),
        "a rank is a whole number: round it down": lambda out, into: (
            out * into / (out + into)
        ),
    },
    cases=[(576, 576), (192, 576), (1536, 576), (12, 4), (7, 5)],
)


# --- extract: the adapter in a weight that was trained as a whole -------------------------


def _cut(difference, rank):
    u, s, v = torch.linalg.svd(difference, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]


def _extract(before, after, rank):
    return _cut(after - before, rank)


def _directions(before, after, rank):
    u, _, v = torch.linalg.svd(after - before, full_matrices=False)
    return u[:, :rank] @ v[:rank]


def _smallest(before, after, rank):
    u, s, v = torch.linalg.svd(after - before, full_matrices=False)
    return u[:, -rank:] * s[-rank:] @ v[-rank:]


extract = Exercise(
    correct=_extract,
    mistakes={
        "this is the whole difference: keep its largest `rank` singular values "
        "alone": lambda before, after, rank: after - before,
        "this is the weight cut to a low rank: the difference is asked "
        "for": lambda before, after, rank: _cut(after, rank),
        "the sign is turned round: what was added is after − before": lambda b, a, rank: (
            _cut(b - a, rank)
        ),
        "the singular values are left out: each direction has its size": _directions,
        "these are the smallest singular values: torch gives the largest first": _smallest,
        "each weight is cut by itself: take the difference first": lambda b, a, rank: (
            _cut(a, rank) - _cut(b, rank)
        ),
        "one value too many is kept": lambda before, after, rank: _cut(
            after - before, rank + 1
        ),
    },
    cases=[
        (_random(6, 5, seed=0), _random(6, 5, seed=1), 2),
        (_random(4, 9, seed=2), _random(4, 9, seed=3), 1),
    ],
    tol=1e-4,
)


# --- even: sixteen even steps from a block's smallest weight to its largest ---------------


def _even(weight, block):
    x = weight.view(-1, block)
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    step = (high - low) / 15
    return (((x - low) / step).round() * step + low).view(weight.shape)


def _of_all(weight, block):
    low, high = weight.min(), weight.max()
    step = (high - low) / 15
    return ((weight - low) / step).round() * step + low


def _with(weight, block, steps=15, rounded=torch.round, back=True):
    x = weight.view(-1, block)
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    step = (high - low) / steps
    found = rounded((x - low) / step) * step
    return (found + low if back else found).view(weight.shape)


def _symmetric(weight, block):
    x = weight.view(-1, block)
    step = x.abs().amax(1, keepdim=True) / 7
    return ((x / step).round() * step).view(weight.shape)


def _columns(weight, block):
    return _even(weight.mT.contiguous(), block).mT if weight.ndim == 2 else weight


def _blocks(rows, columns, block):
    """Weights whose steps divide exactly, so that no rounding decides between values."""
    x = _random(rows * columns // block, block, seed=rows).clamp(-0.99, 0.86)
    x[:, 0], x[:, -1] = -1.0, 0.875  # sixteen values, an eighth apart
    return (x * 3.0 ** torch.arange(len(x))[:, None]).view(rows, columns)


even = Exercise(
    correct=_even,
    mistakes={
        "one smallest and one largest weight for all: each block has its own": _of_all,
        "sixteen values have fifteen steps between them": lambda w, b: _with(w, b, 16),
        "the steps are cut off, not rounded: the nearest value is asked for": lambda w, b: (
            _with(w, b, rounded=torch.floor)
        ),
        "the block's smallest weight is not added back": lambda w, b: _with(
            w, b, back=False
        ),
        "these steps lie around 0, as in the page's plain code: begin at the block's "
        "smallest weight": _symmetric,
        "the blocks run down the columns: take them as the numbers lie in memory, row by "
        "row": _columns,
    },
    cases=[(_blocks(4, 8, 4), 4), (_blocks(6, 6, 6), 6)],
)


# --- bits: how many for each weight, with sizes of blocks and of groups -----------------------


def _bits(block, group):
    return 4 + 8 / block + 32 / (block * group)


bits = Exercise(
    correct=_bits,
    mistakes={
        "the sizes of the blocks are left out": lambda block, group: 4.0,
        "without double quantisation: a block's size has 8 bits here": lambda block, group: (
            4 + 32 / block
        ),
        "the groups' own sizes are left out: 32 bits for each": lambda block, group: (
            4 + 8 / block
        ),
        "a group holds `group` blocks, so `block` × `group` weights share its 32 "
        "bits": lambda block, group: 4 + 8 / block + 32 / group,
        "a block's size has 8 bits, a group's 32": lambda block, group: (
            4 + 32 / block + 8 / (block * group)
        ),
        "these are bytes: ask for bits": lambda block, group: _bits(block, group) / 8,
    },
    cases=[(64, 256), (32, 128), (128, 16)],
    tol=1e-6,
)
