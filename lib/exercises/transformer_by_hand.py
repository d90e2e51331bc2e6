"""The exercises of the transformer-by-hand chapter: right answers, and wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- two_ahead: what the decoder reads, and the two words that each place names -------------

two_ahead = Exercise(
    correct=lambda ids: [ids[:, :-2], ids[:, 1:-1], ids[:, 2:]],
    mistakes={
        "the three differ in length: the last two places have no word two ahead, so the "
        "decoder does not read them": lambda ids: [ids[:, :-1], ids[:, 1:], ids[:, 2:]],
        "the decoder reads all tokens, and the last two places have no two words to "
        "name": lambda ids: [ids, ids[:, 1:], ids[:, 2:]],
        "the next word and the one after it are swapped": lambda ids: [
            ids[:, :-2],
            ids[:, 2:],
            ids[:, 1:-1],
        ],
        "nothing is shifted for the next word: each place names the word that it "
        "reads": lambda ids: [ids[:, :-2], ids[:, :-2], ids[:, 1:-1]],
        "time runs backwards: a place reads a word and names those before "
        "it": lambda ids: [ids[:, 2:], ids[:, 1:-1], ids[:, :-2]],
        "the shift runs over the batch: sentences are rows, tokens are "
        "columns": lambda ids: [ids[:-2], ids[1:-1], ids[2:]],
        "the last two places name words from the start: rolled tokens wrap around, and "
        "those places have no two words to name": lambda ids: [
            ids,
            ids.roll(-1, 1),
            ids.roll(-2, 1),
        ],
        "only the word two ahead is named: the next one comes first": lambda ids: [
            ids[:, :-2],
            ids[:, 2:],
        ],
        "only the next word is named, as in the page's own shift": lambda ids: [
            ids[:, :-1],
            ids[:, 1:],
        ],
        "the last place is missing: the end mark is named as well, two "
        "ahead": lambda ids: [ids[:, :-3], ids[:, 1:-2], ids[:, 2:-1]],
    },
    cases=[(torch.arange(1, 21).reshape(4, 5),), (torch.arange(2, 20).reshape(3, 6),)],
)


# --- packed_mask: several sentences in one row ----------------------------------------------


def _causal(sentence):
    T = sentence.shape[1]
    return torch.ones(T, T, dtype=torch.bool).tril()


def _words(sentence):
    return (sentence != 0)[:, None, None]


def _same(sentence):
    return (sentence[:, :, None] == sentence[:, None, :])[:, None]


def _packed(sentence):
    return _causal(sentence) & _same(sentence) & _words(sentence)


packed_mask = Exercise(
    correct=_packed,
    mistakes={
        "a token may still attend to the sentences before its own, and to padding: a "
        "causal mask alone does not know where sentences end": lambda s: _causal(
            s
        ).expand(len(s), 1, -1, -1),
        "padding attends to itself: it attends to nothing": lambda s: (
            _packed(s) | torch.eye(s.shape[1], dtype=torch.bool)
        ),
        "yours is to be added to scores, 0 or −∞: a boolean mask is asked for": lambda s: (
            torch.zeros(_packed(s).shape).masked_fill(~_packed(s), -torch.inf)
        ),
        "a token may still attend to the sentences before its own": lambda s: (
            _causal(s) & _words(s)
        ),
        "a token may still attend to sentences with a lower number: compare with "
        "==": lambda s: (
            _causal(s) & (s[:, :, None] >= s[:, None, :])[:, None] & _words(s)
        ),
        "padding attends to padding, since 0 == 0: take it out as a key": lambda s: (
            _causal(s) & _same(s)
        ),
        "later words of the sentence may be attended to: the mask has to be "
        "causal": lambda s: _same(s) & _words(s),
        "True has to mean “may attend”: yours is the other way round": lambda s: (
            ~_packed(s)
        ),
        "this is the triangle of what comes later: row = query, column = key, so keep "
        "what is at or below the diagonal": lambda s: (
            _causal(s).mT & _same(s) & _words(s)
        ),
        "no token may attend to itself: the diagonal is missing": lambda s: (
            _causal(s).tril(-1) & _same(s) & _words(s)
        ),
        "either will do in yours: all conditions have to hold, so join them "
        "with &": lambda s: (_causal(s) | _same(s)) & _words(s),
        "the axis of the heads is missing: (B, 1, T, T) is asked for": lambda s: (
            _packed(s)[:, 0]
        ),
    },
    cases=[
        (torch.tensor([[1, 1, 1, 2, 2], [1, 1, 2, 0, 0]]),),
        (torch.tensor([[1, 2, 3, 0], [1, 1, 1, 1], [7, 7, 4, 4]]),),
        (torch.tensor([[0, 0, 5, 5], [0, 3, 3, 1]]),),  # padding at the start
    ],
)


# --- scores_backward: dx and dW of S = x W xᵀ ----------------------------------------------


def _dx(x, W, dS):
    return dS @ x @ W.mT + dS.mT @ x @ W


def _dW(x, dS):
    return x.mT @ dS @ x


def _wrong_x(make):
    """A mistake in dx alone."""
    return lambda x, W, dS: [make(x, W, dS), _dW(x, dS)]


def _wrong_W(make):
    """A mistake in dW alone."""
    return lambda x, W, dS: [_dx(x, W, dS), make(x, W, dS)]


scores_backward = Exercise(
    correct=lambda x, W, dS: [_dx(x, W, dS), _dW(x, dS)],
    mistakes={
        "the two are swapped: return dx first": lambda x, W, dS: [
            _dW(x, dS),
            _dx(x, W, dS),
        ],
        "x is used twice, and the gradient of its second use, on the right, is "
        "missing": _wrong_x(lambda x, W, dS: dS @ x @ W.mT),
        "x is used twice, and the gradient of its first use, on the left, is "
        "missing": _wrong_x(lambda x, W, dS: dS.mT @ x @ W),
        "in the second use of x a row of it makes a column of S: dS has to be transposed "
        "there": _wrong_x(lambda x, W, dS: dS @ x @ W.mT + dS @ x @ W),
        "the gradient of the second use is that of xᵀ: transpose it": _wrong_x(
            lambda x, W, dS: dS @ x @ W.mT + (x @ W).mT @ dS
        ),
        "in the first use of x the product is x (W xᵀ): W has to be transposed in its "
        "gradient": _wrong_x(lambda x, W, dS: dS @ x @ W + dS.mT @ x @ W),
        "in dx the two W have changed places: transposed in the first use, as it is in "
        "the second": _wrong_x(lambda x, W, dS: dS @ x @ W + dS.mT @ x @ W.mT),
        "in dx nothing is transposed": _wrong_x(
            lambda x, W, dS: dS @ x @ W + dS @ x @ W
        ),
        "dx is one way, doubled: the two ways are equal only where W and dS are "
        "symmetric": _wrong_x(lambda x, W, dS: 2 * dS @ x @ W.mT),
        "dx is the mean of the two ways: they add up": _wrong_x(
            lambda x, W, dS: _dx(x, W, dS) / 2
        ),
        "dx is right; dW is transposed": _wrong_W(lambda x, W, dS: x.mT @ dS.mT @ x),
        "dx is right; in dW x and its transpose have changed places": _wrong_W(
            lambda x, W, dS: x @ dS @ x.mT
        ),
        "dx is right; in dW nothing is transposed": _wrong_W(
            lambda x, W, dS: x @ dS @ x
        ),
        "dx is right; dW has only one x in it: W stands between two": _wrong_W(
            lambda x, W, dS: x.mT @ dS
        ),
    },
    cases=[(_random(4, 4, seed=0), _random(4, 4, seed=1), _random(4, 4, seed=2))],
)


# --- rms_backward: through RMSNorm ----------------------------------------------------------


def _beside(square):
    return (square + 1e-5).sqrt()


def _rms(R, size=_beside):
    return size(R.square().mean(-1, keepdim=True))


def _rms_backward(dN, R, mean=False, spread=True, axis=-1, divide=True, size=_beside):
    N = R / _rms(R, size)
    found = dN - dN.mean(-1, keepdim=True) if mean else dN
    if spread:
        found = found - N * (dN * N).mean(axis, keepdim=True)
    return found / _rms(R, size) if divide else found


def _layer_norm_backward(dN, R):
    deviation = _beside(R.var(-1, keepdim=True, unbiased=False))
    N = (R - R.mean(-1, keepdim=True)) / deviation
    means = dN.mean(-1, keepdim=True) + N * (dN * N).mean(-1, keepdim=True)
    return (dN - means) / deviation


rms_backward = Exercise(
    correct=_rms_backward,
    mistakes={
        "this is LayerNorm's rule: RMSNorm takes no mean away": _layer_norm_backward,
        "the term mean(dN) does not belong here: no mean was taken away": lambda dN, R: (
            _rms_backward(dN, R, mean=True)
        ),
        "ρ is taken as a fixed number: it moves with the row, so the term "
        "N · mean(dN · N) is missing": lambda dN, R: _rms_backward(dN, R, spread=False),
        "the mean runs over the tokens: a row is normalised alone, over its "
        "features": lambda dN, R: _rms_backward(dN, R, axis=0),
        "the division by ρ is missing": lambda dN, R: _rms_backward(
            dN, R, divide=False
        ),
        "ε is missing: it stands beside the mean square": lambda dN, R: _rms_backward(
            dN, R, size=torch.sqrt
        ),
        "ε stands outside the root: it is √(mean(r²) + ε), not √mean(r²) + ε": (
            lambda dN, R: _rms_backward(dN, R, size=lambda square: square.sqrt() + 1e-5)
        ),
        "R stands where N belongs: the term is N · mean(dN · N)": lambda dN, R: (
            (dN - R * (dN * R).mean(-1, keepdim=True)) / _rms(R)
        ),
        "the N before the mean is missing: the term is N · mean(dN · N)": lambda dN, R: (
            (dN - (dN * R / _rms(R)).mean(-1, keepdim=True)) / _rms(R)
        ),
        "the N inside the mean is missing: the term is N · mean(dN · N)": lambda dN, R: (
            (dN - R / _rms(R) * dN.mean(-1, keepdim=True)) / _rms(R)
        ),
        "you multiply by ρ: divide by it": lambda dN, R: (
            _rms_backward(dN, R) * _rms(R) ** 2
        ),
        "N is R / ρ, and yours has R in one of its two places": lambda dN, R: (
            (dN - R / _rms(R) * (dN * R).mean(-1, keepdim=True)) / _rms(R)
        ),
        "this is a sum: the term is a mean over the features": lambda dN, R: (
            (dN - R / _rms(R) * (dN * R / _rms(R)).sum(-1, keepdim=True)) / _rms(R)
        ),
        "the sign is wrong: the term is taken away": lambda dN, R: (
            (dN + R / _rms(R) * (dN * R / _rms(R)).mean(-1, keepdim=True)) / _rms(R)
        ),
        "this is the forward pass once more: the gradient dN is not in it": lambda dN, R: (
            R / _rms(R)
        ),
    },
    cases=[
        (_random(3, 5, seed=3), 2 * _random(3, 5, seed=4) + 1),
        (_random(3, 5, seed=5), 3e-3 * _random(3, 5, seed=6)),  # a mean square near ε
    ],
)
