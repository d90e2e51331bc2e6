"""What is measured on attention maps: where a head's weight goes.

A map is a tensor of weights (..., Tq, Tk), row = query, column = key; each measure gives
one number for each map. `share` is nearly all of them: the weight on the keys that are
wanted. The functions after it say which keys a behaviour wants.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lib import checks


def entropy(weights: Tensor) -> Tensor:
    """−Σ w ln w of a row, in nats, as the mean over the queries: (..., Tq, Tk) -> (...).

    0 where each query attends to one key, ln Tk where it attends to all alike.
    """
    return torch.special.entr(_maps(weights)).sum(-1).mean(-1)


def distance(weights: Tensor) -> Tensor:
    """How many tokens away a query attends, on average: (..., T, T) -> (...)."""
    T = _maps(weights).shape[-1]
    at = torch.arange(T, device=weights.device)
    return (weights * (at[:, None] - at).abs()).sum(-1).mean(-1)


def share(weights: Tensor, wanted: Tensor) -> Tensor:
    """The weight on the wanted keys, as the mean over the queries that want any.

    Args:
        weights: (..., Tq, Tk).
        wanted: bool (Tk,), the same keys for every query, or (..., Tq, Tk).

    Returns:
        (...), from 0 to 1.

    Raises:
        TypeError: `wanted` is not bool.
        ValueError: its shape does not fit, or no query wants a key.
    """
    _maps(weights)
    if wanted.dtype != torch.bool:
        raise TypeError(f"wanted: got {wanted.dtype}, wants bool")
    try:
        wanted = wanted.expand_as(weights)
    except RuntimeError:
        raise ValueError(
            f"wanted: got shape {tuple(wanted.shape)}, wants one that fits "
            f"{tuple(weights.shape)}"
        ) from None
    asks = wanted.any(-1)  # (..., Tq)
    if not asks.any(-1).all():
        raise ValueError("wanted: no query wants a key, so there is no mean")
    got = (weights * wanted).sum(-1)  # (..., Tq)
    return (got * asks).sum(-1) / asks.sum(-1)


# --- Which keys a behaviour wants ------------------------------------------------


def at_offset(T: int, offset: int) -> Tensor:
    """The key so many tokens behind the query (−1: the previous one): bool (T, T)."""
    checks.whole("T", T)
    at = torch.arange(T)
    return at - at[:, None] == offset


def same_token(ids: Tensor) -> Tensor:
    """Other places that hold the query's own token: ids (..., T) -> bool (..., T, T)."""
    alike = ids[..., :, None] == ids[..., None, :]
    return alike & ~torch.eye(ids.shape[-1], dtype=torch.bool, device=ids.device)


def after_same(ids: Tensor) -> Tensor:
    """The token after each earlier copy of the query's token, as induction heads want.

    ids (..., T) -> bool (..., T, T): True where `ids[key − 1] == ids[query]`, key ≤ query.
    Source: Olsson et al. (2022), arXiv:2209.11895.
    """
    alike = ids[..., :, None] == ids[..., None, :]  # (..., T, T)
    behind = torch.zeros_like(alike)
    behind[..., 1:] = alike[..., :-1]
    # A key after the query would be the query's own place, one further.
    return behind & torch.ones_like(alike).tril()


def repeated(tokens: Tensor, B: int, period: int, generator: torch.Generator) -> Tensor:
    """B sequences of `period` different tokens drawn from `tokens` (N,), twice: (B, 2P).

    Nothing but the first half predicts the second. Raises ValueError for a period above
    N, the number of tokens to draw from.
    """
    checks.whole("B", B)
    checks.whole("period", period)
    if period > len(tokens):
        raise ValueError(f"period: got {period}, wants at most {len(tokens)}")
    order = torch.rand(B, len(tokens), generator=generator).topk(period).indices
    return tokens[order].repeat(1, 2)  # (B, 2 P)


# --- Words -----------------------------------------------------------------------


def by_word(weights: Tensor, words: list[int | None]) -> Tensor:
    """A map between words from one between tokens: (..., T, T) -> (..., W, W).

    `words[t]` is the word of token t, from 0, or None for a special token. Weights *to*
    the tokens of a word are added, those *from* its tokens averaged, so a row still sums
    to 1, less what special tokens get. Source: Clark et al. (2019), arXiv:1906.04341.

    Raises ValueError for a list of another length and for a word without a token.
    """
    T = _maps(weights).shape[-1]
    if len(words) != T:
        raise ValueError(f"words: got {len(words)} entries, wants one a token, {T}")
    there = {word for word in words if word is not None}
    if there != set(range(len(there))) or not there:
        raise ValueError(f"words: got {sorted(there)}, wants every word from 0")
    belongs = torch.zeros(T, len(there), dtype=weights.dtype, device=weights.device)
    for token, word in enumerate(words):
        if word is not None:
            belongs[token, word] = 1.0  # (T, W)
    return (belongs / belongs.sum(0)).mT @ weights @ belongs


def agreement(maps: Tensor, pairs: Iterable[tuple[int, int]]) -> Tensor:
    """The share of pairs (from, to) where `to` is what `from` attends to most.

    The word itself does not count as an answer. maps (..., W, W) -> (...).
    Raises ValueError without a pair and for a word that is not there.
    Source: Clark et al. (2019), section 4.2.
    """
    rows, right = _pairs(pairs, _maps(maps).shape[-1])
    own = torch.eye(maps.shape[-1], dtype=torch.bool, device=maps.device)
    most = maps.masked_fill(own, -1.0).argmax(-1)  # (..., W)
    return (most[..., rows] == right.to(maps.device)).double().mean(-1)


def _pairs(pairs: Iterable[tuple[int, int]], W: int) -> tuple[Tensor, Tensor]:
    pairs = [tuple(pair) for pair in pairs]
    if not pairs:
        raise ValueError("pairs: got none, wants at least one (from, to)")
    if wrong := [p for p in pairs if not all(0 <= word < W for word in p)]:
        raise ValueError(f"pairs: {wrong[0]} is not among the words 0 to {W - 1}")
    rows, right = zip(*pairs, strict=True)
    return torch.tensor(rows), torch.tensor(right)


def _maps(weights: Tensor) -> Tensor:
    if weights.ndim < 2 or 0 in weights.shape[-2:]:
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}, wants (..., Tq, Tk), not empty"
        )
    return weights
