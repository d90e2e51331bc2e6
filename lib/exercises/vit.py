"""The exercises of the chapter on vision transformers: right answers and known errors."""

import itertools

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- patches: (B, C, h, w) -> (B, P, C · p · p) --------------------------------------


def _patches(images, p):
    cut = images.unfold(2, p, p).unfold(3, p, p)  # (B, C, rows, columns, p, p)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _channels_last(images, p):
    cut = images.unfold(2, p, p).unfold(3, p, p)
    return cut.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def _by_columns(images, p):
    cut = images.unfold(2, p, p).unfold(3, p, p)
    return cut.permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(1, 2)


def _reshaped(images, p):
    B, C = images.shape[:2]
    return images.reshape(B, -1, C * p * p)


patches = Exercise(
    correct=_patches,
    mistakes={
        "the numbers of a patch are in the order row, column, channel: a convolution's "
        "weights want channel, row, column": _channels_last,
        "the patches go down the columns: row by row is the order of the "
        "places": _by_columns,
        "this is a reshape: it cuts rows of pixels in pieces, so a 'patch' is a strip of "
        "one row and not a square": _reshaped,
    },
    cases=[(_random(2, 3, 8, 8), 4), (_random(1, 1, 6, 4, seed=1), 2)],
)


# --- tokens: how many, and the entries of one layer's weights ------------------------


def _tokens(height, width, p):
    return (height // p) * (width // p) + 1


tokens = Exercise(
    correct=_tokens,
    mistakes={
        "CLS is missing: it is a token too": lambda h, w, p: (h // p) * (w // p),
        "one division too few: a patch takes p pixels down and p across": lambda h, w, p: (
            h * w // p + 1
        ),
        "these are the numbers in a patch, not the patches": lambda h, w, p: p * p + 1,
        "a patch that is cut short counts: pixels beyond the last whole patch are left "
        "out": lambda h, w, p: -(-h // p) * -(-w // p) + 1,
        "the pixels are divided, not the sides: patches that are cut short do not join "
        "to whole ones": lambda h, w, p: h * w // p**2 + 1,
    },
    cases=[(32, 32, 4), (224, 224, 16), (48, 32, 8), (30, 45, 8)],
)


# --- rollout: the CLS row over the patches -------------------------------------------


def _roll(weights, *, residual=True, first_right=True, sum_layers=False):
    eye = torch.eye(weights[0].shape[-1])
    reached = eye
    for layer in weights:
        mean = layer.mean(0)
        mean = (mean + eye) / 2 if residual else mean
        if sum_layers:
            reached = reached + mean
        else:
            reached = mean @ reached if first_right else reached @ mean
    return reached


_WEIGHTS = [_random(2, 5, 5, seed=s).mul(2).softmax(-1) for s in (3, 4, 5)]

rollout = Exercise(
    correct=_roll,
    mistakes={
        "the residual connection is missing: half of each layer's matrix is the "
        "identity": lambda w: _roll(w, residual=False),
        "the mean and the identity are added and not halved: each row has to sum to "
        "1": lambda w: _roll(w) * 2 ** len(w),
        "the heads are summed: take their mean": lambda w: _roll(
            [len(layer) * layer for layer in w]
        ),
        "the layers stand in the wrong order: a later layer multiplies from the "
        "left": lambda w: _roll(w, first_right=False),
        "the layers are added: paths through layers multiply": lambda w: _roll(
            w, sum_layers=True
        ),
        "this is the last layer alone: its tokens are mixtures already": lambda w: w[
            -1
        ].mean(0),
    },
    cases=[(_WEIGHTS,), (_WEIGHTS[:2],)],
)


# --- ece: expected calibration error -------------------------------------------------


def _every_bin(confidence, right, bins):
    filled = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)).unique()
    return _ece(confidence, right, bins, weighted=False) * len(filled) / bins


def _without_one(confidence, right, bins):
    below = confidence < 1
    found = _ece(confidence[below], right[below], bins)
    return found * below.sum() / len(below)


def _ece(confidence, right, bins, *, weighted=True, signed=False, worst=False):
    total, edges = 0.0, torch.linspace(0, 1, bins + 1)
    gaps = []
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = confidence[inside].mean() - right[inside].float().mean()
            share = inside.float().mean() if weighted else 1.0
            total += share * (gap if signed else gap.abs())
            gaps.append(gap.abs())
    if worst:
        return max(gaps)
    return torch.as_tensor(total if weighted else total / len(gaps))


_CONFIDENCE = torch.rand(400, generator=torch.Generator().manual_seed(6))
_CONFIDENCE[(_CONFIDENCE > 0.4) & (_CONFIDENCE < 0.5)] += 0.1  # bins with nothing in
_CONFIDENCE[:9] = 1  # the end of the last bin
# Too sure and not sure enough in turn, so that two bins in one show.
_RIGHT = torch.rand(400, generator=torch.Generator().manual_seed(7)) < (
    0.9 - 0.8 * ((10 * _CONFIDENCE).long() % 2)
)
_RIGHT[:3] = False

ece = Exercise(
    correct=_ece,
    mistakes={
        "each bin counts alike: weigh it by its share of the images": lambda c, r, b: (
            _ece(c, r, b, weighted=False)
        ),
        "this is the mean over all bins, also the empty ones: weigh each bin by its share "
        "of the images": _every_bin,
        "an image of confidence 1 falls into no bin: the last bin ends at 1 and holds "
        "it": _without_one,
        "gaps of opposite sign cancel: take each bin's absolute value": lambda c, r, b: (
            _ece(c, r, b, signed=True)
        ),
        "this is the worst bin's gap: take the mean over the images": lambda c, r, b: (
            _ece(c, r, b, worst=True)
        ),
    },
    cases=[(_CONFIDENCE, _RIGHT, 10), (_CONFIDENCE, _RIGHT, 15)],
)
