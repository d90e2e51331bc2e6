"""A ModernBERT-style encoder that fills gaps, in the shapes and names of `transformers`.

Most layers look at a few neighbours, every third at the whole text. The encoder of
`language/hybrid-architecture`, whose attention and wiring are options, is `masked`.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import join_heads
from lib.checks import ids_in_range, sizes, whole
from lib.positions import rope_frequencies, rope_turns
from lib.sparse import sparse_attention

SHORT = 32  # windows: in a shorter text all scores are faster than blocks of them
EVERY = 3  # layers 0, 3, 6, … look at the whole text
EPS = 1e-5


def norm(d_model: int) -> nn.LayerNorm:
    """Layer norm without a bias, as torch computes it: (..., D) -> (..., D)."""
    return nn.LayerNorm(d_model, EPS, bias=False)


class Embeddings(nn.Module):
    """A row for each token, then a norm: ids (B, T) -> (B, T, D)."""

    def __init__(self, vocabulary: int, d_model: int):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.tok_embeddings.weight, std=0.02)
        self.norm = norm(d_model)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.tok_embeddings(ids))


class _Turned(torch.autograd.Function):
    """`rope_half` in four passes over the numbers; its slope turns the other way."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        first, second = x.chunk(2, -1)  # (..., T, d/2) each
        output = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        one, two = output.chunk(2, -1)
        torch.mul(first, cos, out=one).addcmul_(second, sin, value=-1)
        torch.mul(second, cos, out=two).addcmul_(first, sin)
        return output

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        cos, sin = ctx.saved_tensors
        return _Turned.apply(grad, cos, -sin), None, None


class Attention(nn.Module):
    """Queries, keys and values by one matrix, RoPE, an attention `mix`, one matrix more.

    Shapes: x (B, T, D), turns (T, d/2), `mix` of query, key and value (B, H, T, d) ->
    the same; the result is (B, T, D).
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.Wqkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.Wo = nn.Linear(d_model, d_model, bias=False)
        for layer in (self.Wqkv, self.Wo):
            nn.init.normal_(layer.weight, std=d_model**-0.5)

    def forward(self, x: Tensor, turns: Tensor, mix: Callable) -> Tensor:
        three = self.Wqkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, H, d)
        three = three.permute(2, 0, 3, 1, 4)  # (3, B, H, T, d)
        cos, sin = turns.real.to(x.dtype), turns.imag.to(x.dtype)  # (T, d/2)
        query, key = _Turned.apply(three[:2], cos, sin)  # (B, H, T, d) each
        return self.Wo(join_heads(mix(query, key, three[2])))  # (B, T, D)


class GEGLU(nn.Module):
    """`Wo(gelu(a) · b)`, a and b the halves of `Wi(x)`: (..., D) -> (..., D).

    `lib.layers.GatedMLP` with GELU, its first two matrices one below the other.
    """

    def __init__(self, d_model: int, hidden: int):
        super().__init__()
        self.Wi = nn.Linear(d_model, 2 * hidden, bias=False)
        self.Wo = nn.Linear(hidden, d_model, bias=False)
        nn.init.normal_(self.Wi.weight, std=d_model**-0.5)
        nn.init.normal_(self.Wo.weight, std=(2.5 / hidden) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.Wi(x).chunk(2, -1)  # (..., hidden) each
        return self.Wo(F.gelu(gate) * up)


class Layer(nn.Module):
    """Attention and GEGLU, each behind a norm and added; the first norm may be absent."""

    def __init__(self, d_model: int, num_heads: int, hidden: int, first: bool):
        super().__init__()
        # The embeddings end in a norm: in layer 0 a second one would change nothing.
        self.attn_norm = nn.Identity() if first else norm(d_model)
        self.attn = Attention(d_model, num_heads)
        self.mlp_norm = norm(d_model)
        self.mlp = GEGLU(d_model, hidden)

    def forward(self, x: Tensor, turns: Tensor, mix: Callable) -> Tensor:
        x = x + self.attn(self.attn_norm(x), turns, mix)  # (B, T, D)
        return x + self.mlp(self.mlp_norm(x))


class Encoder(nn.Module):
    """ids (B, T) -> (B, T, D), normed: what `transformers.ModernBertModel` computes.

    Args:
        vocabulary: V; d_model: D; num_heads: H, a divisor of D with d = D/H even;
            layers: how many; hidden: units of each GEGLU.
        window: in layers other than 0, 3, 6, … a token meets those at most so many
            places away, on each side (`local_attention // 2` of `transformers`).
        global_base, local_base: of RoPE's angles in the two kinds of layers.

    `forward(ids, key_mask)`: `key_mask`, bool (B, T), is False on padding, which nobody
    meets. What stands at padding in the result has no meaning.

    Raises: ValueError for numbers that are not as above and ids out of range, TypeError
    for ids that are not whole numbers; the messages name the argument.
    Source: Warner et al. (2025), arXiv:2412.13663.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int,
        num_heads: int,
        layers: int,
        hidden: int,
        *,
        window: int = 64,
        global_base: float = 160_000.0,
        local_base: float = 10_000.0,
    ):
        super().__init__()
        numbers = {"vocabulary": vocabulary, "layers": layers, "hidden": hidden}
        sizes(numbers | {"d_model": d_model, "num_heads": num_heads})
        whole("window", window, 0)
        self.window = window
        self.kinds = ["local" if i % EVERY else "global" for i in range(layers)]
        bases = {"global": global_base, "local": local_base}
        self.frequencies = {
            kind: rope_frequencies(d_model // num_heads, base)  # (d/2,)
            for kind, base in bases.items()
        }
        self.embeddings = Embeddings(vocabulary, d_model)
        self.layers = nn.ModuleList(
            Layer(d_model, num_heads, hidden, first=i == 0) for i in range(layers)
        )
        self.final_norm = norm(d_model)

    def forward(self, ids: Tensor, key_mask: Tensor | None = None) -> Tensor:
        ids_in_range("ids", ids, self.embeddings.tok_embeddings.num_embeddings)
        x = self.embeddings(ids)  # (B, T, D)
        places = torch.arange(ids.shape[1], device=ids.device)
        turns = {k: rope_turns(places, f) for k, f in self.frequencies.items()}
        mixes = self.mixes(places, key_mask)
        for layer, kind in zip(self.layers, self.kinds, strict=True):
            x = layer(x, turns[kind], mixes[kind])  # (B, T, D)
        return self.final_norm(x)

    def mixes(self, places: Tensor, key_mask: Tensor | None) -> dict[str, Callable]:
        """The attention of each kind of layer, for tokens at `places` (T,)."""
        real = None if key_mask is None else key_mask[:, None, None]  # (B, 1, 1, T)
        kernel = F.scaled_dot_product_attention
        if self.window and len(places) > SHORT * self.window:
            near = partial(
                sparse_attention,
                block=self.window,
                window=3,
                distance=self.window,
                key_mask=key_mask,
            )
        else:
            band = (places[:, None] - places).abs() <= self.window  # (T, T)
            near = partial(kernel, attn_mask=band if real is None else band & real)
        return {"global": partial(kernel, attn_mask=real), "local": near}


class Head(nn.Module):
    """A linear map, GELU and a norm, between the encoder and the readout."""

    def __init__(self, d_model: int):
        super().__init__()
        self.dense = nn.Linear(d_model, d_model, bias=False)
        nn.init.normal_(self.dense.weight, std=d_model**-0.5)
        self.norm = norm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x)))


class ModernBert(nn.Module):
    """`Encoder`, then logits of each token itself: `ModernBertForMaskedLM`.

    The readout's weight is the table of the embeddings; its bias is its own.

    `forward(ids, key_mask, at)` gives (B, T, V), or with `at`, bool (B, T), those of its
    N tokens alone, (N, V): a readout of all is half the cost of a small model.

    Arguments and errors as `Encoder`.
    """

    def __init__(self, vocabulary: int, d_model: int, *sizes: int, **settings):
        super().__init__()
        self.model = Encoder(vocabulary, d_model, *sizes, **settings)
        self.head = Head(d_model)
        self.decoder = nn.Linear(d_model, vocabulary)
        self.decoder.weight = self.model.embeddings.tok_embeddings.weight  # tied
        nn.init.zeros_(self.decoder.bias)

    def forward(
        self, ids: Tensor, key_mask: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        hidden = self.model(ids, key_mask)  # (B, T, D)
        read = hidden if at is None else hidden[at]  # (B, T, D) or (N, D)
        return self.decoder(self.head(read))  # (B, T, V) or (N, V)
