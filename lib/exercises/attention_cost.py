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


# --- mask: causal, with tokens in the cache ---------------------------------------------


def _mask(past: int, new: int) -> Tensor:
    return torch.ones(new, past + new, dtype=torch.bool).tril(past)


mask = Exercise(
    correct=_mask,
    mistakes={
        "the first new token meets the first key only, as with is_causal=True: it stands "
        "at position `past`, so shift the diagonal by `past`": (
            lambda past, new: torch.ones(new, past + new, dtype=torch.bool).tril()
        ),
        "the tokens of the cache are missing: there are past + new keys": (
            lambda past, new: torch.ones(new, new, dtype=torch.bool).tril()
        ),
        "the new tokens see one another's future: they need the triangle, too": (
            lambda past, new: torch.ones(new, past + new, dtype=torch.bool)
        ),
        "a new token does not meet itself: the diagonal is one too low": (
            lambda past, new: torch.ones(new, past + new, dtype=torch.bool).tril(
                past - 1
            )
        ),
        "a new token meets the next one, too: the diagonal is one too high": (
            lambda past, new: torch.ones(new, past + new, dtype=torch.bool).tril(
                past + 1
            )
        ),
        "the mask is inverted: True means that a query may attend": (
            lambda past, new: ~_mask(past, new)
        ),
    },
    cases=[(3, 4), (5, 1), (0, 3)],
)


# --- share: (B, G, T, d) -> (B, H, T, d) ------------------------------------------------


def _share(key: Tensor, H: int) -> Tensor:
    return key.repeat_interleave(H // key.shape[1], 1)


share = Exercise(
    correct=_share,
    mistakes={
        "the key heads are dealt out in turn: neighbouring query heads share one, so it "
        "is 0 0 1 1, not 0 1 0 1": (
            lambda key, H: key.repeat(1, H // key.shape[1], 1, 1)
        ),
        "the tokens are repeated: the heads are the axis 1": (
            lambda key, H: key.repeat_interleave(H // key.shape[1], 2)
        ),
        "each head is repeated H times: H / G query heads share one": (
            lambda key, H: key.repeat_interleave(H, 1)
        ),
        "every query head reads key head 0: that is MQA, not groups": (
            lambda key, H: key[:, :1].repeat(1, H, 1, 1)
        ),
        "a group has an axis of its own, (B, G, H/G, T, d): join the two axes": (
            lambda key, H: key[:, :, None].repeat(1, 1, H // key.shape[1], 1, 1)
        ),
    },
    cases=[(_random(2, 2, 3, 4, seed=1), 6), (_random(1, 3, 5, 2, seed=2), 6)],
)


# --- cache_bytes: of one text -----------------------------------------------------------


def _cache_bytes(tokens, layers, heads, kv_heads, head_dim, each):
    return 2 * layers * kv_heads * head_dim * tokens * each


cache_bytes = Exercise(
    correct=_cache_bytes,
    mistakes={
        "that is the keys alone, or the values: both are kept": (
            lambda *a: _cache_bytes(*a) // 2
        ),
        "the query heads keep nothing: it is the key and value heads that count": (
            lambda tokens, layers, heads, kv_heads, head_dim, each: _cache_bytes(
                tokens, layers, heads, heads, head_dim, each
            )
        ),
        "that is one layer's cache: each layer has its own": (
            lambda *a: _cache_bytes(*a) // a[1]
        ),
        "those are numbers, not bytes: each number has `each` bytes": (
            lambda *a: _cache_bytes(*a) // a[5]
        ),
        "those are bits: `each` is given in bytes": lambda *a: 8 * _cache_bytes(*a),
        "that is one token's share: the cache holds all of them": (
            lambda *a: _cache_bytes(*a) // a[0]
        ),
        "it does not grow with the square of the tokens: a key is kept once, not once "
        "for each query": lambda *a: _cache_bytes(*a) * a[0],
    },
    cases=[(4096, 32, 24, 6, 128, 2), (100, 3, 5, 5, 7, 4)],
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
