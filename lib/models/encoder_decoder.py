"""The first transformer: an encoder reads the source, a decoder writes the target."""

from collections.abc import Callable

from torch import Tensor, nn

from lib.attention import MultiHeadAttention, causal_mask
from lib.checks import ids_in_range, sizes
from lib.layers import MLP, LayerNorm
from lib.positions import sinusoidal

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
        sizes(numbers)
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
        ids_in_range(name, ids, table.num_embeddings)
        D = table.embedding_dim
        x = table(ids) * D**0.5  # (B, T, D)
        waves = sinusoidal(ids.shape[1], D, dtype=x.dtype).to(x.device)  # (T, D)
        return self.dropout(x + waves)
