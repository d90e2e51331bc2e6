"""Attention in blocks: a sliding window, two-way global tokens, random blocks.

Time and memory are linear in the length: no matrix of T × T scores exists, except the
one that `pattern` draws. Dense attention lives in `attention`.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 4  # blocks of queries computed at once: their keys stay in the cache


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
        key_mask: bool (B, T), False for padding: a key that nobody meets.

    Returns:
        (B, H, T, d). A query that meets no key has output and gradients of 0.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.

    Source: the block form of BigBird, Zaheer et al. (2020), arXiv:2007.14062, section
    "Implementation details"; global tokens as in Beltagy et al. (2020), Longformer,
    arXiv:2004.05150. Equal to dense attention under `pattern`.
    """
    _check(query, key, value, key_mask)
    T = query.shape[2]
    reach = _reach(block, window)
    places = _places(global_tokens, T, query.device)  # (G,)
    random = _random(random, T, block, query.device)  # (blocks, n)
    if T == 0:
        return torch.zeros_like(query)
    real = torch.ones(1, T, dtype=torch.bool, device=query.device)
    real = real if key_mask is None else key_mask  # (1 or B, T)
    # A global key is met as such, by everyone, and so not once more in a window.
    near = real.index_fill(-1, places, False)[:, None, :, None]  # (1 or B, 1, T, 1)
    three = (key, value, near)
    world = [x.index_select(-2, places) for x in (key, value, real[:, None, :, None])]
    far = [_gathered(x, random, block) for x in three]  # (…, blocks, n · block, …)
    far[2] = far[2] & _new(random, reach, block)
    met = [_met(*x, reach, block) for x in zip(three, world, far, strict=True)]
    seen = list(met[2])  # (1 or B, 1, n, K, 1), of the n blocks of each piece
    tokens = [x.shape[2] * block for x in seen[:-1]]
    queries = query.split([*tokens, T - sum(tokens)], -2)
    parts, first = [], 0
    for part, keys, values, mask in zip(queries, met[0], met[1], seen, strict=True):
        n, mask = keys.shape[2], mask.mT  # (1 or B, 1, n, 1, K)
        if causal:
            at = _positions(first, n, reach, block, places, random)  # (n, K)
            own = torch.arange(first * block, (first + n) * block, device=at.device)
            mask = mask & (at[:, None] <= own.view(n, block, 1))
        parts.append(_attend(part, keys, values, mask, block))
        first += n
    output = torch.cat(parts, -2)  # (B, H, T, d)
    if len(places):
        mask = real[:, None, None]  # (1 or B, 1, 1, T)
        if causal:
            mask = mask & (torch.arange(T, device=places.device) <= places[:, None])
        rows = F.scaled_dot_product_attention(
            query.index_select(-2, places),
            key,
            value,
            attn_mask=None if mask.all() else mask,
        )  # (B, H, G, d)
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
) -> Tensor:
    """What `sparse_attention` computes, as a dense mask: bool (T, T), True = meets.

    To be drawn and compared with; arguments and errors as there.
    """
    reach = _reach(block, window)
    places = _places(global_tokens, T, torch.device("cpu"))
    random = _random(random, T, block, torch.device("cpu"))
    row = torch.arange(T) // block  # (T,), the block of each token
    mask = (row[:, None] - row).abs() <= reach  # (T, T)
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


def _met(x, world, far, reach, block) -> Iterator[Tensor]:
    """What the blocks meet, some blocks at a time: (…, T, e) -> (…, n, K, e).

    The window, then the global tokens, then the random blocks. Beyond the ends of the
    sequence stand zeros, which are False in the mask. All is split from tensors made
    of the whole text once: for every slice of a tensor autograd writes zeros as large
    as the tensor, and as much for every write into `output[...]`.
    """
    T, K, side = x.shape[-2], (2 * reach + 1) * block, reach * block
    inner = max(T // block - 2 * reach, 0)  # blocks whose windows lie in the text
    head, before = (2 * side, 0) if inner else (0, side)
    spots = torch.arange(T, device=x.device)
    spots = torch.cat((spots[:head], spots[inner * block :]))
    start, end = x.index_select(-2, spots).split((head, T - inner * block), -2)
    blocks = -(-T // block) - inner - (reach if inner else 0)  # at the end
    after = (blocks + 2 * reach) * block - before - end.shape[-2]
    regions = [_padded(start, side if inner else 0, 0), x, _padded(end, before, after)]
    regions = [region for region in regions if region.shape[-2] >= K]
    windows = [region.unfold(-2, K, block).mT for region in regions]  # views
    windows = [piece for view in windows for piece in view.split(CHUNK, 2)]
    sizes = [piece.shape[2] for piece in windows]
    for n, near, away in zip(sizes, windows, far.split(sizes, 2), strict=True):
        all_see = world[:, :, None].expand(-1, -1, n, -1, -1)  # (…, n, G, e)
        met = [part for part in (near, all_see, away) if part.shape[-2]]
        yield torch.cat(met, -2) if met[1:] else near


def _padded(x: Tensor, before: int, after: int) -> Tensor:
    """Zeros around the tokens of (…, T, e); without any, x itself and no copy."""
    return F.pad(x, (0, 0, before, after)) if before or after else x


def _gathered(x: Tensor, random: Tensor, block: int) -> Tensor:
    """The tokens of each row's random blocks: (…, T, e) -> (…, blocks, n · block, e)."""
    if not random.numel():
        return x.new_zeros(*x.shape[:2], len(random), 0, x.shape[-1])
    blocks = _padded(x, 0, -x.shape[-2] % block).unflatten(-2, (-1, block))
    found = blocks.index_select(2, random.flatten()).unflatten(2, random.shape)
    return found.flatten(-3, -2)


def _new(random: Tensor, reach: int, block: int) -> Tensor:
    """Which random blocks are neither in the window nor met before: as tokens."""
    own = torch.arange(len(random), device=random.device)[:, None]
    new = (random - own).abs() > reach  # (blocks, n)
    same = random[:, :, None] == random[:, None]  # (blocks, n, n)
    new &= ~same.tril(-1).any(-1)
    return new.repeat_interleave(block, -1)[..., None]  # (blocks, n · block, 1)


def _positions(first, n, reach, block, places, random) -> Tensor:
    """Where the keys stand that n blocks meet, in the order of `met`: (n, K)."""
    rows = torch.arange(first, first + n, device=places.device)
    tokens = torch.arange(block, device=places.device)
    shifts = torch.arange((2 * reach + 1) * block, device=places.device)
    near = (rows[:, None] - reach) * block + shifts
    far = (random[first : first + n, :, None] * block + tokens).flatten(1)
    return torch.cat((near, places.expand(n, -1), far), -1)


def _attend(part: Tensor, keys: Tensor, values: Tensor, mask: Tensor, block: int):
    """Blocks of queries (B, H, t, d), each with its keys (B, H, n, K, d): (B, H, t, d)."""
    B, H, t, d = part.shape
    n = keys.shape[2]
    blocks = _padded(part, 0, n * block - t).unflatten(-2, (n, block)).flatten(0, 1)
    if mask.all():
        mask = None
    elif len(mask) == 1:
        mask = mask[0]  # (1, n, 1 or block, K)
    else:
        mask = mask.expand(B, H, -1, -1, -1).flatten(0, 1)  # (B · H, n, 1 or block, K)
    output = F.scaled_dot_product_attention(
        blocks, keys.flatten(0, 1), values.flatten(0, 1), attn_mask=mask
    )  # (B · H, n, block, d)
    return output.view(B, H, n * block, d)[:, :, :t]


def _reach(block: int, window: int) -> int:
    for name, value in (("block", block), ("window", window)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: got {value!r}, wants a whole number from 1")
    if window % 2 == 0:
        raise ValueError(f"window: got {window} blocks, wants an odd number")
    return window // 2


def _places(tokens: Sequence[int] | Tensor, T: int, device: torch.device) -> Tensor:
    places = torch.as_tensor(tokens, device=device)
    places = places.long() if not places.numel() else places
    if places.is_floating_point() or places.dtype == torch.bool or places.ndim != 1:
        raise TypeError(f"global_tokens: got {tokens!r:.60}, wants positions")
    if places.numel() and not 0 <= places.min() <= places.max() < T:
        raise ValueError(
            f"global_tokens: got {int(places.min())} to {int(places.max())}, wants 0 to "
            f"{T - 1}"
        )
    twice = places[(places[:, None] == places).sum(-1) > 1]
    if len(twice):
        raise ValueError(f"global_tokens: {int(twice[0])} stands there twice")
    return places.long()


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
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{name}: got {x!r:.60}, wants a floating tensor")
        if x.shape != query.shape or x.ndim != 4 or not x.shape[-1]:
            raise ValueError(
                f"{name}: got shape {tuple(x.shape)}, wants (B, H, T, d), as query has"
            )
        if x.dtype != query.dtype:
            raise TypeError(f"{name}: got {x.dtype}, wants {query.dtype}, as query has")
    B, _, T, _ = query.shape
    if key_mask is not None:
        if key_mask.dtype != torch.bool:
            raise TypeError(f"key_mask: got {key_mask.dtype}, wants bool, True = real")
        if key_mask.shape != (B, T):
            raise ValueError(
                f"key_mask: got shape {tuple(key_mask.shape)}, wants ({B}, {T})"
            )
