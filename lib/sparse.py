"""Attention in blocks: a sliding window, two-way global tokens, random blocks.

Time and memory are linear in the length: no matrix of T × T scores exists, except the
one that `pattern` draws. Dense attention lives in `attention`.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks
from lib.attention import attention

PERIODS = 4  # windows' worth of text whose keys are held at once


def sparse_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    block: int = 64,
    window: int = 3,
    global_tokens: Sequence[int] | Tensor = (),
    random: Tensor | None = None,
    causal: bool = False,
    distance: int | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """Attention in which a block of queries meets few blocks of keys, each key once.

    A query meets the keys of its own block, of the `window // 2` blocks on each side,
    of the global tokens and of its random blocks. A global token meets every key.

    Args:
        query, key, value: (B, H, T, d), of one floating dtype; T may be any length.
        block: tokens of a block. window: how many blocks, an odd number.
        global_tokens: positions, each once, in any order.
        random: whole numbers (blocks of the sequence, n), the n blocks that each block
            of queries meets besides; one that it meets anyway adds nothing.
        causal: no query meets a later key, whatever the pattern says.
        distance: in a window alone, without global tokens and random blocks, keys are
            met up to so many places away only: a block of `distance` tokens and a
            window of 3 make a band that is equally wide around every query.
        key_mask: bool (B, T), False for padding: a key that nobody meets.

    Returns:
        (B, H, T, d). A query that meets no key has output and gradients of 0. A masked
        key may hold anything, NaN included; a masked value is multiplied by 0, as in
        torch: NaN or infinity there reaches the queries that have it in their blocks.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.

    Source: the block form of BigBird, Zaheer et al. (2020), arXiv:2007.14062, section
    "Implementation details"; global tokens as in Beltagy et al. (2020), Longformer,
    arXiv:2004.05150. Equal to dense attention under `pattern`.
    """
    _check(query, key, value, key_mask)
    B, H, T, d = query.shape
    reach = _reach(block, window)
    order = _places(global_tokens, T)
    places = torch.tensor(order, dtype=torch.long, device=query.device)  # (G,)
    _distance(distance, order, random)
    random = _random(random, T, block, query.device)  # (blocks, n)
    spots = torch.arange(T, device=query.device)
    if T == 0:
        return torch.zeros_like(query)
    real = torch.ones(1, T, dtype=torch.bool, device=query.device)
    if key_mask is not None:
        real = key_mask  # (1 or B, T)
        key = torch.where(real[:, None, :, None], key, 0.0)  # 0 · NaN is NaN
    # A global key is met as such, by everyone, and so not once more in a window.
    near = real.index_fill(-1, places, False)[:, None, :, None]  # (1 or B, 1, T, 1)
    texts = [key, value, near]
    world = [x.index_select(-2, places) for x in (key, value, real[:, None, :, None])]
    placed = causal or distance is not None
    if placed:  # where each key stands
        texts.append(spots[None, None, :, None])
        world.append(places[None, None, :, None])
    blocks = [_blocks(x, reach, block) for x in texts]
    far = _far(random, reach)  # numbers in a list of `blocks`
    # Queries that are global are answered below; whole blocks of them at the start,
    # a title or CLS, are left out here.
    whole = sum(place == i for i, place in enumerate(order))
    ahead = min(whole, T - 1) // block
    found = ahead * [query.new_zeros(B * H, block, d)]
    rest = query[:, :, ahead * block :] if ahead else query
    for part in rest.split(PERIODS * window * block, -2):
        first = len(found)
        part = _padded(part, -part.shape[-2] % block).unflatten(-2, (-1, block))
        n = part.shape[2]  # blocks of queries
        stop = first + n
        pieces = (x[first : stop + 2 * reach] for x in blocks)
        pieces = [_piece(*x, window) for x in zip(pieces, world, strict=True)]
        found += n * [None]
        for shift in range(min(window, n)):
            rows = slice(first + shift, stop, window)
            keys, values, mask, *at = (
                _tiles(piece, shift * block, window * block + len(places), x, far[rows])
                for piece, x in zip(pieces, blocks, strict=True)
            )  # (…, m, K, e)
            mask = mask.mT  # (1 or B, 1, m, 1, K)
            if placed:
                own = torch.arange(first * block, stop * block, device=places.device)
                own, other = own.view(n, block, 1)[shift::window], at[0].mT
                mask = mask & (other <= own) if causal else mask
                if distance is not None:
                    mask = mask & ((other - own).abs() <= distance)
            output = _attend(part[:, :, shift::window], keys, values, mask)
            found[rows] = output.unbind(1)
    found[-1] = found[-1][:, : T - (len(found) - 1) * block]
    output = torch.cat(found, 1).view(query.shape)
    if len(places):
        mask = real[:, None, None]  # (1 or B, 1, 1, T)
        if causal:
            mask = mask & (spots <= places[:, None])
        mask = None if mask.all() else mask
        rows = _met(query.index_select(-2, places), key, value, mask)  # (B, H, G, d)
        output.index_copy_(-2, places, rows)
    return output


def pattern(
    T: int,
    *,
    block: int = 64,
    window: int = 3,
    global_tokens: Sequence[int] | Tensor = (),
    random: Tensor | None = None,
    causal: bool = False,
    distance: int | None = None,
) -> Tensor:
    """What `sparse_attention` computes, as a dense mask: bool (T, T), True = meets.

    To be drawn and compared with; arguments and errors as there.
    """
    reach = _reach(block, window)
    places = _places(global_tokens, T)
    _distance(distance, places, random)
    random = _random(random, T, block, torch.device("cpu"))
    row = torch.arange(T) // block  # (T,), the block of each token
    mask = (row[:, None] - row).abs() <= reach  # (T, T)
    if distance is not None:
        spots = torch.arange(T)
        mask &= (spots[:, None] - spots).abs() <= distance
    mask |= (random[row][..., None] == row).any(1)
    mask[:, places] = mask[places] = True
    return mask.tril() if causal else mask


def random_blocks(T: int, n: int, *, block: int = 64, seed: int = 0) -> Tensor:
    """`n` different blocks for each block of a sequence, by `seed`: (blocks, n).

    Raises ValueError where the sequence has fewer than `n` blocks.
    """
    blocks = -(-T // block)
    if not 0 <= n <= blocks:
        raise ValueError(f"n: got {n}, wants 0 to {blocks}, the blocks of {T} tokens")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(blocks, blocks, generator=generator).argsort(-1)[:, :n]


def _blocks(x: Tensor, reach: int, block: int) -> list[Tensor]:
    """(…, T, e) -> its blocks, `reach` empty ones around them, one more at the end."""
    blocks = list(torch.split(x, block, -2))
    blocks[-1] = _padded(blocks[-1], -x.shape[-2] % block)
    empty = torch.zeros_like(blocks[-1])  # False in a mask: nobody meets it
    return reach * [empty] + blocks + (reach + 1) * [empty]


def _piece(blocks: list[Tensor], world: Tensor, window: int) -> Tensor:
    """Blocks in a row, and the global tokens after every `window` of them.

    Any `window` blocks · block + G tokens in it that start with a block are what one
    block of queries meets: `window` neighbours and each global token once.

    Shapes: blocks of (…, block, e), (…, G, e) -> (…, tokens, e).
    """
    parts = []
    for i in range(0, len(blocks), window):
        parts += [*blocks[i : i + window], world]
    return torch.cat(parts, -2)


def _tiles(piece: Tensor, start: int, K: int, blocks: list[Tensor], far) -> Tensor:
    """What every `window`-th block of queries meets: (…, tokens, e) -> (…, m, K, e).

    Without random blocks a view: stretches of K tokens that touch and do not overlap.
    """
    m = len(far)
    near = piece.narrow(-2, start, m * K)
    if far[0]:
        parts = []
        for tile, row in zip(near.split(K, -2), far, strict=True):
            parts += [tile, *(blocks[i] for i in row)]
        near = torch.cat(parts, -2)
    return near.unflatten(-2, (m, -1))


def _far(random: Tensor, reach: int) -> list[list[int]]:
    """Where the random blocks stand in `_blocks`; one met before is the empty last."""
    if not random.numel():
        return len(random) * [[]]
    own = torch.arange(len(random), device=random.device)[:, None]
    again = (random - own).abs() <= reach  # (blocks, n)
    again |= (random[:, :, None] == random[:, None]).tril(-1).any(-1)
    return (random + reach).masked_fill(again, -1).tolist()


def _padded(x: Tensor, after: int) -> Tensor:
    """Zeros after the tokens of (…, T, e); without any, x itself and no copy."""
    return F.pad(x, (0, 0, 0, after)) if after else x


def _attend(own: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """(B, H, m, block, d) and its keys (B, H, m, K, d): (B · H, m, block, d)."""
    B, H = own.shape[:2]
    if mask.all():
        mask = None
    elif len(mask) == 1:
        mask = mask[0]  # (1, m, 1 or block, K)
    else:
        mask = mask.expand(B, H, -1, -1, -1).flatten(0, 1)  # (B · H, m, 1 or block, K)
    return _met(*(x.flatten(0, 1) for x in (own, keys, values)), mask)


def _met(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """`attention` by torch's kernel, unless something is not finite.

    The kernel adds −∞ to the scores of masked keys, which leaves NaN where a later key
    has NaN or infinity.
    """
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    if mask is not None and output.sum().isnan():
        output, _ = attention(query, key, value, mask)
    return output


def _reach(block: int, window: int) -> int:
    checks.sizes({"block": block, "window": window})
    if window % 2 == 0:
        raise ValueError(f"window: got {window} blocks, wants an odd number")
    return window // 2


def _distance(distance: int | None, places: list[int], random) -> None:
    if distance is not None:
        checks.whole("distance", distance, 0)
        if places or random is not None:
            raise ValueError(
                "distance: goes with a window alone, without global_tokens and random"
            )


def _places(tokens: Sequence[int] | Tensor, T: int) -> list[int]:
    """Positions in rising order."""
    places = torch.as_tensor(tokens)
    places = places.long() if not places.numel() else places
    if places.is_floating_point() or places.dtype == torch.bool or places.ndim != 1:
        raise TypeError(f"global_tokens: got {tokens!r:.60}, wants positions")
    order = sorted(places.tolist())
    if order and (order[0] < 0 or order[-1] >= T):
        raise ValueError(
            f"global_tokens: got {order[0]} to {order[-1]}, wants 0 to {T - 1}"
        )
    twice = [place for place, following in pairwise(order) if place == following]
    if twice:
        raise ValueError(f"global_tokens: {twice[0]} stands there twice")
    return order


def _random(random: Tensor | None, T: int, block: int, device) -> Tensor:
    blocks = -(-T // block)
    if random is None:
        return torch.zeros(blocks, 0, dtype=torch.long, device=device)
    if random.is_floating_point() or random.ndim != 2 or len(random) != blocks:
        raise ValueError(
            f"random: got {tuple(random.shape)} {random.dtype}, wants whole numbers "
            f"({blocks}, n), a row for each block of {T} tokens"
        )
    if random.numel() and not 0 <= random.min() <= random.max() < blocks:
        raise ValueError(f"random: wants numbers of blocks, 0 to {blocks - 1}")
    return random.to(device)


def _check(query, key, value, key_mask) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        checks.floating(name, x, query)
        if x.shape != query.shape or x.ndim != 4 or not x.shape[-1]:
            raise ValueError(
                f"{name}: got shape {tuple(x.shape)}, wants (B, H, T, d), as query has"
            )
    B, _, T, _ = query.shape
    if key_mask is not None:
        if key_mask.dtype != torch.bool:
            raise TypeError(f"key_mask: got {key_mask.dtype}, wants bool, True = real")
        if key_mask.shape != (B, T):
            raise ValueError(
                f"key_mask: got shape {tuple(key_mask.shape)}, wants ({B}, {T})"
            )
