"""The language model as `language/pretraining` trains it: small data, many passes.

`LanguageModel` with three parts exchanged: attention whose queries and keys are
normalised, an MLP with a squared ReLU, dropout on every branch. Each is the form that
is fast on a CPU in bfloat16; how it is trained lives in `train/pretraining.py`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import join_heads, split_heads
from lib.layers import MLP
from lib.models.language import Cache, LanguageModel, Places, SelfAttention
from lib.positions import rope

GAIN = 1.2  # what the scores are multiplied by at first, beyond 1/√d


class _ReluSquared(torch.autograd.Function):
    """Its slope is 2 max(x, 0): two passes over the numbers where autograd takes five."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


def relu_squared(x: Tensor) -> Tensor:
    """`max(x, 0)²`. Shapes: any, kept. Source: So et al. (2021), arXiv:2109.08668."""
    return _ReluSquared.apply(x)


def dropped(x: Tensor, share: float, training: bool) -> Tensor:
    """`x` with a share of its numbers set to 0 and the others enlarged, in training.

    One random byte decides on each number, so the share is a whole number of 256ths;
    on a CPU this is some ten times faster than `F.dropout`.

    Shapes: any, kept. Source: Srivastava et al. (2014).
    """
    if not training or not (out := round(256 * share)):
        return x
    if x.is_cuda:
        return F.dropout(x, out / 256)
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
    return x * (byte >= out).to(x.dtype).mul_(256 / (256 - out))


class DroppedEmbedding(nn.Embedding):
    """Ids (B, T) -> (B, T, D), a share of the numbers set to 0 in training."""

    def __init__(self, vocabulary: int, d_model: int, share: float):
        super().__init__(vocabulary, d_model)
        self.share = share

    def forward(self, ids: Tensor) -> Tensor:
        return dropped(super().forward(ids), self.share, self.training)


class NormedAttention(SelfAttention):
    """`SelfAttention` whose queries and keys have mean 0 and variance 1 in each head.

    A learned number of each head says how sharp its attention may be, since scores
    cannot grow with the length of queries and keys.

    Shapes, cache and names as `SelfAttention`, and `gain` (H,).
    Source: Henry et al. (2020), arXiv:2010.04245; layer norm in the place of the unit
    length, as in Dehghani et al. (2023), arXiv:2302.05442.
    """

    def __init__(self, d_model: int, num_heads: int, share: float):
        super().__init__(d_model, num_heads)
        self.share = share
        self.gain = nn.Parameter(torch.full((num_heads,), GAIN))

    def forward(self, x: Tensor, places: Places, cache: Cache | None = None) -> Tensor:
        query = split_heads(self.to_query(x), self.num_heads)  # (B, H, T, d)
        key = split_heads(self.to_key(x), self.num_heads)  # (B, H, T, d)
        value = split_heads(self.to_value(x), self.num_heads)  # (B, H, T, d)
        both, d = torch.stack((query, key)), query.shape[-1]  # (2, B, H, T, d)
        both = F.layer_norm(both.to(x.dtype), (d,))  # each of length √d, about
        if places.turns is not None:
            both = rope(both, places.turns)
        query, key = both.to(value.dtype)
        query = query * (self.gain / d**0.5).to(query.dtype)[:, None, None]
        if cache is not None:
            if self in cache:
                key = torch.cat((cache[self][0], key), 2)  # (B, H, Tk, d)
                value = torch.cat((cache[self][1], value), 2)  # (B, H, Tk, d)
            cache[self] = key, value
        bias = places.bias.to(query.dtype)  # (Tq, Tk) or (B, 1, Tq, Tk)
        if query.dtype == torch.bfloat16 and not query.is_cuda:
            output = in_halves(query, key, value, bias)  # (B, H, Tq, d)
        else:
            output = F.scaled_dot_product_attention(query, key, value, bias, scale=1.0)
        output = self.to_output(join_heads(output)).to(x.dtype)  # (B, T, D)
        return dropped(output, self.share, self.training)


def in_halves(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """`softmax(Q Kᵀ + bias) V`, causal: the first half of the queries, then the second.

    Each half meets only the keys up to its last: a quarter less to compute than with a
    mask alone. On a CPU with bfloat16 products this is faster than torch's fused
    attention, whose backward pass has none; in float32 it is the slower of the two.

    Shapes: query (B, H, Tq, d), key and value (B, H, Tk, d), bias (..., Tq, Tk), −∞
    where a key may not be read, which includes all keys after the query's own.
    """
    Tq, Tk = query.shape[-2], key.shape[-2]
    outputs = []
    for first, last in ((0, Tq // 2), (Tq // 2, Tq)):
        keys = Tk - Tq + last  # nobody in this half reads a later one
        scores = query[:, :, first:last] @ key[:, :, :keys].mT  # (B, H, Tq/2, keys)
        scores = scores + bias[..., first:last, :keys]
        outputs.append(scores.softmax(-1) @ value[:, :, :keys])  # (B, H, Tq/2, d)
    return torch.cat(outputs, 2)


class DroppedMLP(MLP):
    """`MLP` with a squared ReLU, of whose output a share is set to 0 in training.

    The start is smaller than `MLP`'s: a squared number of variance 1 has the mean
    square 3/2, and the branch shall begin smaller than the stream that it is added to.
    """

    def __init__(self, d_model: int, hidden: int, share: float):
        super().__init__(d_model, hidden, relu_squared)
        self.share = share
        nn.init.normal_(self.up.weight, std=d_model**-0.5)
        nn.init.normal_(self.down.weight, std=0.5 * hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return dropped(super().forward(x).to(x.dtype), self.share, self.training)


def language_model(
    vocabulary: int,
    d_model: int,
    num_heads: int,
    layers: int,
    *,
    dropout: float = 0.0,
    embedding_dropout: float = 0.0,
) -> LanguageModel:
    """A `LanguageModel` with RoPE whose parts are those of this file.

    Args: the sizes as in `LanguageModel`; `dropout`, the share of each branch that is
    set to 0 in training, and `embedding_dropout`, that of the embeddings.
    Raises: ValueError as `LanguageModel`, and for a share outside [0, 1).
    """
    for name, share in (("dropout", dropout), ("embedding_dropout", embedding_dropout)):
        if not 0 <= share < 1:
            raise ValueError(f"{name}: got {share!r}, wants a number from 0 to below 1")
    model = LanguageModel(vocabulary, d_model, num_heads, layers, positions="rope")
    model.embed = DroppedEmbedding(vocabulary, d_model, embedding_dropout)
    model.norm = nn.LayerNorm(d_model)  # `LayerNorm`, with a backward pass of its own
    for block in model.blocks:
        block.attention_norm, block.mlp_norm = (nn.LayerNorm(d_model) for _ in "ab")
        block.attention = NormedAttention(d_model, num_heads, dropout)
        block.mlp = DroppedMLP(d_model, 4 * d_model, dropout)
    return model
