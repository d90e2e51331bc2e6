"""Whole models, composed of the parts in `attention`, `positions` and `layers`.

How a model is trained lives in `training`, how text comes out of one in `decoding`.
"""

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import MultiHeadAttention, causal_mask, join_heads, split_heads
from lib.layers import MLP, GatedMLP, LayerNorm, gelu
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
from lib.sparse import pattern, sparse_attention

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
        _check_numbers(numbers)
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
        _check_ids("ids", ids, self.embed.num_embeddings)
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


# --- Encoder and decoder ---------------------------------------------------------

PAD = 0  # the id that fills a row up: no query of another token attends to it


def padding_mask(ids: Tensor) -> Tensor:
    """True on tokens, False on padding: ids (B, T) -> bool (B, 1, 1, T), for the keys."""
    return (ids != PAD)[:, None, None]


class CoderLayer(nn.Module):
    """Self-attention, attention to a memory where `cross`, MLP: each a residual branch.

    `norm` is "post", `norm(x + branch(x))`, or "pre", `x + branch(norm(x))`; dropout acts
    on what a branch adds.

    Shapes: x (B, T, D), mask as of `MultiHeadAttention`, memory (B, Tk, D) and its mask
    -> (B, T, D), and the weights of the cross-attention, (B, H, T, Tk), or None.
    """

    def __init__(self, d_model, num_heads, hidden, norm, dropout, cross):
        super().__init__()
        self.pre = norm == "pre"
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.cross = MultiHeadAttention(d_model, num_heads) if cross else None
        self.mlp = MLP(d_model, hidden)
        self.norms = nn.ModuleList(LayerNorm(d_model) for _ in range(2 + cross))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask, memory=None, memory_mask=None):
        weights = None

        def look(x):  # at the tokens of this side
            return self.attention(x, mask=mask)[0]

        def look_across(x):  # queries of this side, keys and values of the other
            nonlocal weights
            output, weights = self.cross(x, memory, memory_mask)
            return output

        branches = [look, look_across, self.mlp] if self.cross else [look, self.mlp]
        for branch, norm in zip(branches, self.norms, strict=True):
            if self.pre:
                x = x + self.dropout(branch(norm(x)))  # (B, T, D)
            else:
                x = norm(x + self.dropout(branch(x)))  # (B, T, D)
        return x, weights


class EncoderDecoder(nn.Module):
    """The first transformer: source (B, Ts), target (B, Tt) -> logits (B, Tt, V).

    The encoder reads the source as a whole. The decoder reads the target up to each
    token, and the encoder's memory by cross-attention; the logits are those of the token
    after each. Id 0 is padding. Embeddings times √D plus the waves, as in the paper.

    Args:
        source_vocabulary, target_vocabulary: numbers of tokens, id 0 included.
        d_model: D, even; num_heads: H, a divisor of D; layers: of each of the two
            stacks; hidden: hidden units of each MLP.
        norm: "post", as in the paper, or "pre", which has one more norm at the end of
            each stack.
        dropout: on embeddings and on each branch, in training only.
        tied: one table for both embeddings and the readout; one vocabulary then.

    Raises: ValueError for numbers that do not fit and for ids out of range; TypeError
    for ids that are not whole numbers. The messages name the argument. An empty source
    or one of padding alone gives nothing to attend to: weights of 0, not an error.
    Source: Vaswani et al. (2017); equal to `torch.nn.Transformer` (`batch_first`) with
    the same weights, where that has a last norm with "pre" alone.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        d_model: int,
        num_heads: int,
        layers: int,
        hidden: int,
        *,
        norm: str = "post",
        dropout: float = 0.0,
        tied: bool = False,
    ):
        super().__init__()
        if norm not in ("post", "pre"):
            raise ValueError(f"norm: got {norm!r}, wants 'post' or 'pre'")
        numbers = {
            "source_vocabulary": source_vocabulary,
            "target_vocabulary": target_vocabulary,
            "layers": layers,
        }
        _check_numbers(numbers)
        if tied and source_vocabulary != target_vocabulary:
            raise ValueError(
                f"target_vocabulary: got {target_vocabulary}, wants "
                f"{source_vocabulary}, the source's, where the tables are tied"
            )
        sinusoidal(0, d_model)  # an odd width raises here
        self.source_embed = nn.Embedding(source_vocabulary, d_model)
        self.target_embed = (
            self.source_embed if tied else nn.Embedding(target_vocabulary, d_model)
        )
        self.readout = nn.Linear(d_model, target_vocabulary, bias=False)
        for table in (self.source_embed, self.target_embed, self.readout):
            nn.init.normal_(table.weight, std=d_model**-0.5)
        if tied:
            self.readout.weight = self.source_embed.weight
        shape = (d_model, num_heads, hidden, norm, dropout)
        self.encoder, self.decoder = (
            nn.ModuleList(CoderLayer(*shape, cross) for _ in range(layers))
            for cross in (False, True)
        )
        self.encoder_norm, self.decoder_norm = (
            LayerNorm(d_model) if norm == "pre" else nn.Identity() for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Teacher forcing: all target tokens at once, each sees those before it."""
        memory = self.encode(source)  # (B, Ts, D)
        return self.decode(target, memory, padding_mask(source))[0]

    def encode(self, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """The memory: ids (B, Ts) -> (B, Ts, D). The mask is `padding_mask(source)`."""
        x = self.embed(source, self.source_embed, "source")  # (B, Ts, D)
        mask = padding_mask(source) if mask is None else mask
        for layer in self.encoder:
            x, _ = layer(x, mask)  # (B, Ts, D)
        return self.encoder_norm(x)

    def decode(
        self, target: Tensor, memory: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, Tt, V), and each layer's cross-attention, (B, H, Tt, Ts).

        `memory` (B, Ts, D) and `mask` (B, 1, 1, Ts) are the source's; without a mask
        all of the memory counts.
        """
        hidden, weights = self._decode(target, memory, mask)
        return self.readout(hidden), weights

    def _decode(self, target, memory, mask):
        x = self.embed(target, self.target_embed, "target")  # (B, Tt, D)
        earlier = causal_mask(target.shape[1], target.device) & padding_mask(target)
        found = []
        for layer in self.decoder:
            x, weights = layer(x, earlier, memory, mask)  # (B, Tt, D)
            found.append(weights)
        return self.decoder_norm(x), found

    def step(self, source: Tensor) -> Callable[[Tensor, Tensor | None], Tensor]:
        """A step for the searches of `decoding`, which translates source (B, Ts)."""
        mask = padding_mask(source)
        memory = self.encode(source, mask)  # (B, Ts, D), once

        def step(ids: Tensor, parents: Tensor | None) -> Tensor:
            nonlocal memory, mask
            if parents is not None:
                memory, mask = memory[parents], mask[parents]
            hidden, _ = self._decode(ids, memory, mask)  # (R, T, D)
            return self.readout(hidden[:, -1])  # (R, V)

        return step

    def embed(self, ids: Tensor, table: nn.Embedding, name: str) -> Tensor:
        """ids (B, T) -> (B, T, D), the tokens' vectors with their positions added."""
        _check_ids(name, ids, table.num_embeddings)
        D = table.embedding_dim
        x = table(ids) * D**0.5  # (B, T, D)
        waves = sinusoidal(ids.shape[1], D, dtype=x.dtype).to(x.device)  # (T, D)
        return self.dropout(x + waves)


def _check_numbers(numbers: dict[str, int]) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: got {value!r}, wants a whole number from 1")
    D, heads = numbers.get("d_model", 1), numbers.get("num_heads", 1)
    if D % heads:
        raise ValueError(f"num_heads: got {heads}, wants a divisor of d_model = {D}")


def _check_ids(name: str, ids: Tensor, vocabulary: int) -> None:
    if not isinstance(ids, Tensor):
        raise TypeError(f"{name}: got {type(ids).__name__}, wants a torch.Tensor")
    if ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name}: got {ids.dtype}, wants whole numbers (int64)")
    if ids.ndim != 2:
        raise ValueError(f"{name}: got shape {tuple(ids.shape)}, wants (B, T)")
    if ids.numel() and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(
            f"{name}: got {int(ids.min())} to {int(ids.max())}, wants 0 to "
            f"{vocabulary - 1}"
        )


# --- Masked language model -------------------------------------------------------

# Which attention each layer has, in turn from the first.
ATTENTIONS = {
    "full": ("full",),
    "local": ("local",),
    "hybrid": ("hybrid",),
    "alternating": ("full", "local"),
}
NORMS = {"pre": nn.LayerNorm, "post": nn.LayerNorm, "rms": nn.RMSNorm}


class TwoWayAttention(MultiHeadAttention):
    """The maps of `MultiHeadAttention`, without biases, around any attention.

    They start by keeping the mean square of what they read.

    Shapes: x (B, T, D), turns (T, d/2) of RoPE or None, `mix` of query, key and value
    (B, H, T, d) -> the same; the result is (B, T, D).
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__(d_model, num_heads, bias=False)
        for weight in self.parameters():
            nn.init.normal_(weight, std=d_model**-0.5)

    def forward(self, x: Tensor, turns: Tensor | None, mix: Callable) -> Tensor:
        maps = (self.to_query, self.to_key, self.to_value)
        query, key, value = (split_heads(m(x), self.num_heads) for m in maps)
        if turns is not None:
            query, key = rope(query, turns), rope(key, turns)  # (B, H, T, d)
        return self.to_output(join_heads(mix(query, key, value)))  # (B, T, D)


class EncoderLayer(nn.Module):
    """`TwoWayAttention` and a gated MLP (GEGLU), wired as "pre", "post" or "rms" says.

    Shapes and arguments as those of the attention.
    """

    def __init__(self, d_model: int, num_heads: int, hidden: int, norm: str):
        super().__init__()
        self.post, kind = norm == "post", NORMS[norm]  # torch's own, faster to train
        self.attention_norm, self.mlp_norm = (kind(d_model, 1e-5) for _ in range(2))
        self.attention = TwoWayAttention(d_model, num_heads)
        self.mlp = GatedMLP(d_model, hidden, F.gelu)

    def forward(self, x: Tensor, turns: Tensor | None, mix: Callable) -> Tensor:
        if self.post:
            x = self.attention_norm(x + self.attention(x, turns, mix))  # (B, T, D)
            return self.mlp_norm(x + self.mlp(x))
        x = x + self.attention(self.attention_norm(x), turns, mix)  # (B, T, D)
        return x + self.mlp(self.mlp_norm(x))


class MaskedLanguageModel(nn.Module):
    """An encoder that fills gaps: ids (B, T) -> logits (B, T, V) for each token itself.

    Args:
        vocabulary: V, the id of [MASK] included; d_model: D; num_heads: H, a divisor
            of D; layers: how many; hidden: of each gated MLP, 2 D unless given.
        attention: of every layer, "full", "local" (a window of `window` blocks of
            `block` tokens) or "hybrid" (the window and `global_tokens`); "alternating"
            is full and local in turn.
        global_tokens: so many tokens at the start meet all others, both ways.
        positions: "rope" of `base`, or "learned" with `length` rows.
        norm: "pre" or "post" with LayerNorm, "rms" is "pre" with RMSNorm.

    `forward(ids, key_mask, at)`: `key_mask`, bool (B, T), is False on padding, which
    nobody attends to; with `at`, bool (B, T), the logits are those of its N tokens
    alone, (N, V): a readout of all is half the cost of a small model.

    The readout is the table of the embeddings, and a bias. The table starts small and a
    norm follows it, so that tokens start at scale 1 and the loss near ln V.

    Raises: ValueError for names and numbers that are not as above, ids out of range or
    more tokens than the learned table holds; TypeError for ids that are not whole
    numbers. The messages name the argument.
    Source: RoFormer's positions (Su et al., 2021), Longformer's attention (Beltagy et
    al., 2020), the block of ModernBERT (Warner et al., 2025), whose `transformers` model
    this equals, "alternating" and block 1, but for its first norm, which is left out.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int,
        num_heads: int,
        layers: int,
        *,
        attention: str = "hybrid",
        positions: str = "rope",
        base: float = 10_000.0,
        norm: str = "pre",
        block: int = 64,
        window: int = 3,
        global_tokens: int = 1,
        length: int | None = None,
        hidden: int | None = None,
    ):
        super().__init__()
        given = {"attention": attention, "positions": positions, "norm": norm}
        known = (ATTENTIONS, ("rope", "learned"), NORMS)
        for (name, value), names in zip(given.items(), known, strict=True):
            if value not in names:
                raise ValueError(f"{name}: got {value!r}, wants one of {[*names]}")
        numbers = {"vocabulary": vocabulary, "layers": layers}
        _check_numbers(numbers | {"global_tokens": global_tokens})
        pattern(0, block=block, window=window)  # wrong ones raise here
        self.window, self.globals = {"block": block, "window": window}, global_tokens
        self.kinds = [*islice(cycle(ATTENTIONS[attention]), layers)]
        self.table = Learned(length, d_model) if positions == "learned" else None
        self.embed = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.embed_norm = NORMS[norm](d_model, 1e-5)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, hidden or 2 * d_model, norm)
            for _ in range(layers)
        )
        self.frequencies = rope_frequencies(d_model // num_heads, base)  # (d/2,)
        last = nn.Identity() if norm == "post" else NORMS[norm](d_model, 1e-5)
        self.norm, self.bias = last, nn.Parameter(torch.zeros(vocabulary))  # (V,)

    def forward(
        self, ids: Tensor, key_mask: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        hidden = self.encode(ids, key_mask)  # (B, T, D)
        read = hidden if at is None else hidden[at]  # (B, T, D) or (N, D)
        return F.linear(read, self.embed.weight, self.bias)  # (B, T, V) or (N, V)

    def encode(self, ids: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """What the readout reads: ids (B, T) -> (B, T, D), normed."""
        _check_ids("ids", ids, self.embed.num_embeddings)
        T, turns, x = ids.shape[1], None, self.embed(ids)  # (B, T, D)
        if self.table is not None:
            x = x + self.table(T)
        else:
            turns = rope_turns(torch.arange(T, device=ids.device), self.frequencies)
        x = self.embed_norm(x)
        mixes = self.mixes(T, key_mask)
        for layer, kind in zip(self.layers, self.kinds, strict=True):
            x = layer(x, turns, mixes[kind])  # (B, T, D)
        return self.norm(x)

    def mixes(self, T: int, key_mask: Tensor | None) -> dict[str, Callable]:
        """The attention of each kind of layer, for T tokens."""
        mask = None if key_mask is None else key_mask[:, None, None]  # (B, 1, 1, T)
        near = partial(sparse_attention, key_mask=key_mask, **self.window)
        return {
            "full": partial(F.scaled_dot_product_attention, attn_mask=mask),
            "local": near,
            "hybrid": partial(near, global_tokens=range(min(self.globals, T))),
        }


# --- Images ----------------------------------------------------------------------


def conv_stem(widths: list[int], strides: list[int], d_model: int) -> nn.Sequential:
    """Convolutions in the place of patches: images (B, 3, h, w) -> (B, D, h/s, w/s).

    A 3×3 convolution, batch norm and ReLU for each of `widths`, then a 1×1 convolution
    to the width D; s is the product of the strides.
    Source: Xiao et al. (2021), arXiv:2106.14881.
    """
    parts, channels = [], 3
    for width, stride in zip(widths, strides, strict=True):
        parts += [
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(*parts, nn.Conv2d(channels, d_model, 1))


class ViTLayer(nn.Module):
    """One layer of an encoder, pre-norm: every token may attend to every other.

    Shapes: x (B, T, D) -> (B, T, D), and the weights (B, H, T, T).
    """

    def __init__(self, d_model: int, num_heads: int, hidden: int):
        super().__init__()
        # Torch's own norm and GELU: equal to ours, and several times faster to train.
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.mlp_norm = nn.LayerNorm(d_model)
        self.mlp = MLP(d_model, hidden, F.gelu)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mixed, weights = self.attention(self.attention_norm(x))  # (B, T, D)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), weights


class ViT(nn.Module):
    """A vision transformer: images (B, C, h, w) -> logits (B, classes).

    Args:
        patches: makes the vectors of the patches, (B, C, h, w) -> (B, D, rows, columns):
            `nn.Conv2d(C, D, 4, stride=4)` for patches of 4×4, or a `conv_stem`.
        grid: (rows, columns) of what `patches` makes; P is their product.
        d_model: D; num_heads: H, a divisor of D; layers: how many.
        classes: the number of logits.
        hidden: hidden units of the MLP, 4 D unless given.
        pool: "cls" reads the class from a learned token put before the patches, T = P + 1;
            "mean" from the mean of all tokens, T = P.

    Raises ValueError for another pool, numbers that do not fit, and images whose patches
    are not `grid`.
    Source: Dosovitskiy et al. (2021), arXiv:2010.11929; equal to `transformers`'
    `ViTModel` with the same weights, with patches and "cls".
    """

    def __init__(
        self,
        patches: nn.Module,
        grid: tuple[int, int],
        d_model: int,
        num_heads: int,
        layers: int,
        classes: int,
        *,
        hidden: int | None = None,
        pool: str = "cls",
    ):
        super().__init__()
        if pool not in ("cls", "mean"):
            raise ValueError(f"pool: got {pool!r}, wants 'cls' or 'mean'")
        for name, value in (("layers", layers), ("classes", classes)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: got {value!r}, wants a whole number from 1")
        self.grid, self.pool = tuple(grid), pool
        self.patches = patches
        has_cls = pool == "cls"
        self.cls = nn.Parameter(torch.zeros(d_model)) if has_cls else None  # (D,)
        self.places = Learned(grid[0] * grid[1] + has_cls, d_model)  # (T, D)
        self.layers = nn.ModuleList(
            ViTLayer(d_model, num_heads, hidden or 4 * d_model) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden, _ = self.encode(images)  # (B, T, D)
        read = hidden[:, 0] if self.pool == "cls" else hidden.mean(1)  # (B, D)
        return self.head(read)  # (B, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The tokens: images (B, C, h, w) -> (B, T, D), CLS first where there is one."""
        maps = self.patches(images)  # (B, D, rows, columns)
        if tuple(maps.shape[2:]) != self.grid:
            raise ValueError(
                f"images: got {tuple(maps.shape[2:])} patches, wants {self.grid}"
            )
        tokens = maps.flatten(2).mT  # (B, P, D), row by row
        if self.cls is not None:
            cls = self.cls.expand(len(tokens), 1, -1).to(tokens.dtype)  # (B, 1, D)
            tokens = torch.cat((cls, tokens), 1)  # (B, 1 + P, D)
        return tokens + self.places.weight

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images -> the normed tokens (B, T, D), and each layer's weights (B, H, T, T)."""
        x, found = self.embed(images), []
        for layer in self.layers:
            x, weights = layer(x)  # (B, T, D)
            found.append(weights)
        return self.norm(x), found
