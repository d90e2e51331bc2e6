"""The exercises of the attention-cost chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- join: two outputs over different keys -----------------------------------------------


def _join(output_1, log_1, output_2, log_2):
    both = torch.logaddexp(log_1, log_2)
    return output_1 * (log_1 - both).exp() + output_2 * (log_2 - both).exp()


def _plain_exponentials(output_1, log_1, output_2, log_2):
    first, second = log_1.exp(), log_2.exp()
    return (output_1 * first + output_2 * second) / (first + second)


def _not_divided(output_1, log_1, output_2, log_2):
    top = torch.maximum(log_1, log_2)
    return output_1 * (log_1 - top).exp() + output_2 * (log_2 - top).exp()


def _logs_as_weights(output_1, log_1, output_2, log_2):
    return (output_1 * log_1 + output_2 * log_2) / (log_1 + log_2)


def _join_cases() -> list[tuple]:
    def case(shift, seed):
        logs = [_random(2, 5, 1, seed=seed + i) + shift for i in (1, 2)]
        outputs = [_random(2, 5, 4, seed=seed + i) for i in (3, 4)]
        return outputs[0], logs[0], outputs[1], logs[1]

    return [case(3, 0), case(1000, 10)]


join = Exercise(
    correct=_join,
    mistakes={
        "both halves count alike: the one with the larger sum has to weigh more": (
            lambda output_1, log_1, output_2, log_2: (output_1 + output_2) / 2
        ),
        "exp(1000) is inf, and inf / inf is nan: take the larger logarithm out of "
        "both first": _plain_exponentials,
        "the shares do not sum to 1: divide by the sum of both, not by the larger "
        "one": _not_divided,
        "the logarithms are used as weights: it is the sums, their exponentials, that "
        "weigh": _logs_as_weights,
        "the shares are swapped: each output goes with its own sum": (
            lambda output_1, log_1, output_2, log_2: _join(
                output_1, log_2, output_2, log_1
            )
        ),
        "the outputs are added: they are averages already, each over its own "
        "keys": lambda output_1, log_1, output_2, log_2: output_1 + output_2,
    },
    cases=_join_cases(),
    tol=1e-3,  # float32 has steps of 6e-5 at a logarithm of 1,000
)


# --- mask: causal, with tokens in the cache and a window ---------------------------------


def _mask(past: int, new: int, window: int, high: int = 0, low: int = 0) -> Tensor:
    """`high` and `low` move the two borders of the band."""
    ones = torch.ones(new, past + new, dtype=torch.bool)
    return ones.tril(past + high) & ones.triu(past - window + 1 + low)


mask = Exercise(
    correct=_mask,
    mistakes={
        "the window is missing: a query meets its own key and the `window` − 1 before "
        "it": lambda past, new, window: _mask(past, new, past + new + window),
        "one key too many: the token itself is one of the `window` keys": (
            lambda past, new, window: _mask(past, new, window, low=-1)
        ),
        "one key too few: the token itself and `window` − 1 before it": (
            lambda past, new, window: _mask(past, new, window, low=1)
        ),
        "the first new token meets the first key only, as with is_causal=True: it stands "
        "at position `past`, so shift both borders by `past`": (
            lambda past, new, window: _mask(past, new, window, -past, -past)
        ),
        "the lower border counts from the first key: it moves with the query, and the "
        "first query stands at `past`": (
            lambda past, new, window: _mask(past, new, window, low=-past)
        ),
        "the tokens of the cache are missing: there are past + new keys": (
            lambda past, new, window: _mask(0, new, window)
        ),
        "later tokens are seen, too: the window looks back only": (
            lambda past, new, window: _mask(past, new, window, high=window - 1)
        ),
        "a new token does not meet itself: the upper diagonal is one too low": (
            lambda past, new, window: _mask(past, new, window, high=-1)
        ),
        "the mask is inverted: True means that a query may attend": (
            lambda past, new, window: ~_mask(past, new, window)
        ),
    },
    cases=[(3, 4, 2), (5, 1, 3), (0, 3, 2), (2, 3, 9)],
)


# --- gradient: of copies (B, H, T, d) back to the keys (B, G, T, d) -----------------------


def _gradient(to_copies: Tensor, G: int) -> Tensor:
    return to_copies.unflatten(1, (G, -1)).sum(2)


gradient = Exercise(
    correct=_gradient,
    mistakes={
        "the copies of a key are averaged: a key that is used several times gets the sum "
        "of the gradients": lambda to_copies, G: to_copies.unflatten(1, (G, -1)).mean(
            2
        ),
        "the heads are dealt out in turn: neighbouring query heads share a key, so it is "
        "0 0 1 1, not 0 1 0 1": (
            lambda to_copies, G: to_copies.unflatten(1, (-1, G)).sum(1)
        ),
        "only the first copy of each key counts: all copies are the same key": (
            lambda to_copies, G: to_copies.unflatten(1, (G, -1))[:, :, 0]
        ),
        "the group still has an axis of its own: add up along it": (
            lambda to_copies, G: to_copies.unflatten(1, (G, -1))
        ),
        "the groups are added up, not the copies of a group: (G, H/G), and the sum runs "
        "over H/G": lambda to_copies, G: to_copies.unflatten(1, (G, -1)).sum(1),
        "all heads are added up, as if there were one group: that is MQA": (
            lambda to_copies, G: to_copies.sum(1, keepdim=True).repeat(1, G, 1, 1)
        ),
        "nothing is added up: the copies of a key are one key": (
            lambda to_copies, G: to_copies
        ),
    },
    cases=[(_random(2, 6, 3, 4, seed=1), 2), (_random(1, 6, 5, 2, seed=2), 3)],
)


# --- cache_bytes: of one text, where some layers have a window ----------------------------


def _cache_bytes(tokens, layers, full, window, kv_heads, head_dim, each):
    kept = full * tokens + (layers - full) * min(tokens, window)  # of all layers
    return 2 * kept * kv_heads * head_dim * each


def _of(kept):
    """`kept` counts the tokens of all layers."""
    return lambda tokens, layers, full, window, *sizes: _cache_bytes(
        kept(tokens, layers, full, window), 1, 1, 0, *sizes
    )


cache_bytes = Exercise(
    correct=_cache_bytes,
    mistakes={
        "that is the keys alone, or the values: both are kept": (
            lambda *case: _cache_bytes(*case) // 2
        ),
        "every layer keeps all tokens in yours: those with a window keep the last ones": (
            _of(lambda T, layers, full, window: layers * T)
        ),
        "every layer has a window in yours: `full` of them keep all tokens": (
            _of(lambda T, layers, full, window: layers * min(T, window))
        ),
        "a text shorter than the window fills only a part of it": _of(
            lambda T, layers, full, window: full * T + (layers - full) * window
        ),
        "the full layers are counted twice: `layers` is the number of all layers": _of(
            lambda T, layers, full, window: full * T + layers * min(T, window)
        ),
        "the two kinds are swapped: `full` layers keep all tokens": _of(
            lambda T, layers, full, window: (layers - full) * T + full * min(T, window)
        ),
        "the layers with a window keep nothing in yours: they keep its tokens": _of(
            lambda T, layers, full, window: full * T
        ),
        "those are numbers, not bytes: each number has `each` bytes": (
            lambda *case: _cache_bytes(*case) // case[-1]
        ),
        "those are bits: `each` is given in bytes": lambda *case: (
            8 * _cache_bytes(*case)
        ),
    },
    cases=[(4096, 32, 8, 1024, 6, 128, 2), (100, 3, 1, 256, 5, 7, 4)],
)


# --- texts: how many share the reading of the weights -----------------------------------

texts = Exercise(
    correct=300,
    mistakes={
        "a weight of 16 bits is 2 bytes, so it takes 2 × 300 operations to balance; "
        "but each text makes two with it, a product and an addition": 600,
        "each text makes two operations with a weight, but the weight has two bytes, "
        "too": 150,
        "that counts bits, not bytes: a weight of 16 bits has 2 bytes": 2400,
        "one text makes 2 operations for the 2 bytes of a weight, one for each byte: "
        "the processor could do 300": 1,
        "that takes weights of 32 bits": 1200,
        "one too many: at 300 the two take equally long": 301,
    },
)
