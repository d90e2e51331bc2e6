"""A vision transformer, on patches or behind a stem of convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import MultiHeadAttention
from lib.checks import sizes
from lib.layers import MLP
from lib.positions import Learned


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
        sizes({"layers": layers, "classes": classes})
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
