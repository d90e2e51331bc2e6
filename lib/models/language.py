"""A causal language model with the positions open.

How it is trained lives in `lib.training`, how text comes out of it in `lib.decoding`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import join_heads, split_heads
from lib.checks import ids_in_range, sizes
from lib.layers import MLP, LayerNorm, gelu
from lib.positions import (
    SCHEMES,
    Learned,
    Shaw,
    T5Bias,
    alibi,
    alibi_slopes,
    distances,
    rope,
    rope_frequencies,
    rope_turns,
    sinusoidal,
)

# What `scale` is, and what it is unless given: the amplitude of the waves, the standard
# deviation of a table's start (that of the tokens is 1), the base of the rotations.
SCALES = {"sinusoidal": 1.0, "learned": 1.0, "shaw": 0.3, "rope": 10_000.0}


class Places(NamedTuple):
    """Where the tokens of one pass stand, as the attention of each layer needs it."""

    distance: Tensor  # (Tq, Tk), key position − query position
    bias: Tensor  # (Tq, Tk) or (1 or B, 1 or H, Tq, Tk), −∞: not this key
    turns: Tensor | None  # (Tq, d/2), the rotations of RoPE


# Keys and values (B, H, T, d) of the tokens read so far, of each attention. It starts
# empty; a forward pass fills it.
Cache = dict[nn.Module, tuple[Tensor, Tensor]]


class SelfAttention(nn.Module):
    """Causal attention in heads, with room for relative positions.

    RoPE turns query and key, Shaw's vectors meet the query, every other scheme is in
    the bias. The maps have the names of `MultiHeadAttention`'s, whose output this is
    where there is no bias but the causal one.

    Shapes: x (B, T, D), `places` of the same tokens -> (B, T, D). With a `cache` the
    keys are those of the tokens before as well, and x's own are added to it.
    """

    def __init__(self, d_model: int, num_heads: int, shaw: Shaw | None = None):
        super().__init__()
        self.num_heads, self.shaw = num_heads, shaw
        self.to_query = nn.Linear(d_model, d_model, bias=False)
        self.to_key = nn.Linear(d_model, d_model, bias=False)
        self.to_value = nn.Linear(d_model, d_model, bias=False)
        self.to_output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, places: Places, cache: Cache | None = None) -> Tensor:
        query = split_heads(self.to_query(x), self.num_heads)  # (B, H, T, d)
        key = split_heads(self.to_key(x), self.num_heads)  # (B, H, T, d)
        value = split_heads(self.to_value(x), self.num_heads)  # (B, H, T, d)
        if places.turns is not None:
            query, key = rope(query, places.turns), rope(key, places.turns)
        if cache is not None:
            if self in cache:
                key = torch.cat((cache[self][0], key), 2)  # (B, H, Tk, d)
                value = torch.cat((cache[self][1], value), 2)  # (B, H, Tk, d)
            cache[self] = key, value
        bias = places.bias.to(query.dtype)  # (Tq, Tk) or (1 or B, 1 or H, …)
        if self.shaw is not None:
            bias = bias + self.shaw(query, places.distance)  # (B, H, Tq, Tk)
        # `attention` with a bias, by torch's kernel, which wants two axes or all four
        # to be several times faster on long text.
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.to_output(join_heads(output))  # (B, T, D)


class Block(nn.Module):
    """One layer, pre-norm: attention, then the MLP, each added to the stream."""

    def __init__(self, attention: SelfAttention, d_model: int, hidden: int):
        super().__init__()
        self.attention_norm, self.attention = LayerNorm(d_model), attention
        self.mlp_norm, self.mlp = LayerNorm(d_model), MLP(d_model, hidden, gelu)

    def forward(self, x: Tensor, places: Places, cache: Cache | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), places, cache)  # (B, T, D)
        return x + self.mlp(self.mlp_norm(x))  # (B, T, D)


class LanguageModel(nn.Module):
    """A causal transformer: ids (B, T) -> logits (B, T, V) for the token after each.

    Args:
        vocabulary: V, the number of tokens.
        d_model: D, the width; num_heads: H, a divisor of D; layers: how many blocks.
        positions: one of `positions.SCHEMES`.
        length: the trained length. The learned table ends there and needs it; T5's
            last bucket begins there (128 unless given, at least 32). Others ignore it.
        hidden: hidden units of the MLP, 4 D unless given.
        scale: the size of the scheme, as `SCALES` says; other schemes have none.

    `forward(ids, cache, mask)`: with a cache, an empty dict at first, the model reads
    `ids` after the tokens that are in it, and adds them; logits are those of the new
    tokens only. `mask` (B, Tk), over past and new tokens, is False on padding before the
    text: nobody attends to it, and positions are counted behind it.

    `frequencies`, where the scheme is RoPE, may be set to others (`interpolated`). A
    sequence of no tokens gives logits of shape (B, 0, V).

    Raises: ValueError for a scheme that is not known, numbers that do not fit, ids out
    of range, or more tokens than a learned table holds; TypeError for ids that are not
    whole numbers. The messages name the argument.
    Source: the shape of GPT-2 (Radford et al., 2019), with the positions open.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int,
        num_heads: int,
        layers: int,
        *,
        positions: str = "rope",
        length: int | None = None,
        hidden: int | None = None,
        scale: float | None = None,
    ):
        super().__init__()
        if positions not in SCHEMES:
            raise ValueError(
                f"positions: got {positions!r}, wants one of {', '.join(SCHEMES)}"
            )
        numbers = {"vocabulary": vocabulary, "d_model": d_model, "layers": layers}
        numbers |= {"num_heads": num_heads, "length": 128 if length is None else length}
        sizes(numbers)
        if positions == "learned" and length is None:
            raise ValueError("length: got None, wants the rows of the learned table")
        scale = SCALES.get(positions, 1.0) if scale is None else scale
        head_dim = d_model // num_heads
        self.positions, self.num_heads, self.scale = positions, num_heads, scale
        self.embed = nn.Embedding(vocabulary, d_model)
        if positions == "learned":
            self.table = Learned(length, d_model, scale)
        if positions == "t5":
            far = max(numbers["length"], 32)  # 16 distances have buckets of their own
            self.t5 = T5Bias(num_heads, bidirectional=False, far=far)
        if positions == "rope":
            self.frequencies = rope_frequencies(head_dim, scale)  # (d/2,)
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            shaw = Shaw(32, head_dim, scale) if positions == "shaw" else None
            attention = SelfAttention(d_model, num_heads, shaw)
            self.blocks.append(Block(attention, d_model, hidden or 4 * d_model))
        self.norm = LayerNorm(d_model)
        self.readout = nn.Linear(d_model, vocabulary, bias=False)
        nn.init.normal_(self.readout.weight, std=0.02)  # the loss starts near ln V

    @property
    def limit(self) -> int | None:
        """The longest sequence it can read; None where nothing ends."""
        return len(self.table.weight) if self.positions == "learned" else None

    def forward(
        self, ids: Tensor, cache: Cache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        past = next(iter(cache.values()))[0].shape[2] if cache else 0
        ids_in_range("ids", ids, self.embed.num_embeddings)
        tokens = past + ids.shape[1]
        if self.limit is not None and tokens > self.limit:
            raise ValueError(
                f"ids: got {tokens} tokens, the learned table holds {self.limit}"
            )
        keys = torch.arange(tokens, device=ids.device)  # (Tk,)
        places = self.places(keys[past:], keys)
        at = keys[past:]  # (Tq,)
        if mask is not None:
            at = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:]  # (B, Tq)
            # Padding reads itself, since a row without any key has no softmax.
            away = ~mask[:, None, None] & (places.distance != 0)  # (B, 1, Tq, Tk)
            places = places._replace(bias=places.bias.masked_fill(away, -torch.inf))
        hidden = self.embed(ids)  # (B, T, D)
        if self.positions == "sinusoidal":
            D = hidden.shape[-1]
            hidden = hidden + self.scale * sinusoidal(at, D, dtype=hidden.dtype)
        if self.positions == "learned":
            hidden = hidden + self.table(at)
        for block in self.blocks:
            hidden = block(hidden, places, cache)  # (B, T, D)
        return self.readout(self.norm(hidden))  # (B, T, V)

    def places(self, queries: Tensor, keys: Tensor) -> Places:
        """What the layers have to know of positions (Tq,) and (Tk,)."""
        distance = distances(queries, keys)  # (Tq, Tk)
        bias = torch.zeros(distance.shape, device=distance.device)  # (Tq, Tk)
        if self.positions == "t5":
            bias = self.t5(distance)[None]  # (1, H, Tq, Tk)
        if self.positions == "alibi":
            slopes = alibi_slopes(self.num_heads).to(distance.device)
            bias = alibi(distance, slopes)[None]  # (1, H, Tq, Tk)
        bias = bias.masked_fill(distance > 0, float("-inf"))
        rotates = self.positions == "rope"
        turns = rope_turns(queries, self.frequencies) if rotates else None
        return Places(distance, bias, turns)
