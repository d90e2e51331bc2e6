"""An encoder that fills gaps, with full, local and hybrid attention."""

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import MultiHeadAttention, join_heads, split_heads
from lib.checks import ids_in_range, sizes
from lib.layers import GatedMLP
from lib.positions import Learned, rope, rope_frequencies, rope_turns
from lib.sparse import pattern, sparse_attention

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
        sizes(numbers | {"global_tokens": global_tokens})
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
        ids_in_range("ids", ids, self.embed.num_embeddings)
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
