"""From a frozen image encoder into a frozen language model: a small VLM.

A connector turns the encoder's vectors into the vectors of a few tokens; these stand in
the places of a prompt that are kept for the picture. It alone is trained.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import DynamicCache

from lib.attention import MultiHeadAttention
from lib.checks import sizes, whole
from lib.layers import MLP
from lib.pretrained import dinov2

IMAGE = "<image>"  # in a prompt: here stands the picture
PICTURE, PAD = -1, -2  # ids of a picture's place, and of no token; both below any id
SIDE, GRID = 112, 4  # pixels of a picture; rows and columns of its vectors


# --- Pictures --------------------------------------------------------------------


def pixels(image: Image.Image) -> np.ndarray:
    """A picture as the encoder wants it: uint8 (SIDE, SIDE, 3).

    Raises ValueError for another mode than RGB, or another size: how to cut or stretch
    a picture is a choice of whoever asks.
    """
    if image.mode != "RGB":
        raise ValueError(
            f"image: got the mode {image.mode}, wants RGB: image.convert('RGB')"
        )
    if image.size != (SIDE, SIDE):
        raise ValueError(
            f"image: got {image.width}×{image.height} pixels, wants {SIDE}×{SIDE}: "
            f"PIL.ImageOps.fit(image, ({SIDE}, {SIDE}))"
        )
    return np.asarray(image)


@torch.no_grad()
def features(encoder: nn.Module, pictures: np.ndarray, batch: int = 25) -> Tensor:
    """uint8 (n, SIDE, SIDE, 3) -> (n, P, F): P = GRID², row by row, the encoder frozen.

    The last layer's patches, normed, as means of squares of patches; CLS is left out.
    Raises ValueError for pictures of another shape.
    """
    if pictures.ndim != 4 or pictures.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(
            f"pictures: got {pictures.shape}, wants (n, {SIDE}, {SIDE}, 3)"
        )
    found = []
    for at in range(0, len(pictures), batch):
        x = encoder(dinov2.pixels(pictures[at : at + batch])).last_hidden_state
        x = x[:, 1:]  # (b, 64, F)
        side = round(x.shape[1] ** 0.5)
        maps = x.mT.unflatten(-1, (side, side))  # (b, F, 8, 8)
        found.append(pooled(maps, GRID))  # (b, P, F)
    return torch.cat(found)


def pooled(maps: Tensor, grid: int) -> Tensor:
    """(b, F, rows, columns) -> (b, grid², F): the means of equal squares."""
    maps = nn.functional.adaptive_avg_pool2d(maps, grid)  # (b, F, grid, grid)
    return maps.flatten(2).mT


# --- Connectors ------------------------------------------------------------------


class Linear(nn.Module):
    """One linear map for each of `tokens` squares: (B, P, F) -> (B, tokens, D).

    The P vectors are a square grid; they are averaged to `tokens` squares first. The
    result is multiplied by `scale`, about the size of the language model's word vectors.
    Raises ValueError where `tokens` or P is no square number.
    Source: LLaVA's first connector, Liu et al. (2023), arXiv:2304.08485.
    """

    def __init__(
        self, features: int, d_model: int, tokens: int = 4, scale: float = 1.0
    ):
        super().__init__()
        sizes({"features": features, "d_model": d_model, "tokens": tokens})
        self.grid, self.scale = _root("tokens", tokens), scale
        self.map = nn.Linear(features, d_model)

    def forward(self, x: Tensor) -> Tensor:
        side = _root("x: its vectors", x.shape[1])
        squares = pooled(x.mT.unflatten(-1, (side, side)), self.grid)  # (B, M, F)
        return self.scale * self.map(squares)  # (B, M, D)


class TwoLayers(Linear):
    """As `Linear`, but an MLP of `hidden` units, with GELU, in the place of the map.

    Source: LLaVA-1.5's connector, Liu et al. (2024), arXiv:2310.03744.
    """

    def __init__(
        self,
        features: int,
        d_model: int,
        tokens: int = 4,
        scale: float = 1.0,
        hidden: int = 512,
    ):
        super().__init__(features, d_model, tokens, scale)
        self.map = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, d_model)
        )


class Resampler(nn.Module):
    """Learned queries attend to the picture: (B, P, F) -> (B, tokens, D) for any P.

    The vectors are mapped to `width`; the `tokens` queries, the same for each picture,
    attend to them; then an MLP, and a map to D.

    Raises ValueError for numbers that do not fit.
    Source: the Perceiver resampler of Flamingo (Alayrac et al., 2022, arXiv:2204.14198),
    without the queries among the keys, and one layer of BLIP-2's Q-Former.
    """

    def __init__(
        self,
        features: int,
        d_model: int,
        tokens: int = 4,
        scale: float = 1.0,
        width: int = 192,
        num_heads: int = 3,
    ):
        super().__init__()
        sizes({"features": features, "tokens": tokens})
        self.scale = scale
        self.queries = nn.Parameter(torch.randn(tokens, width))  # (M, W)
        self.enter = nn.Linear(features, width)
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, num_heads)
        self.mlp = MLP(width, 2 * width, nn.functional.gelu)
        self.map = nn.Linear(width, d_model)

    def forward(self, x: Tensor) -> Tensor:
        context = self.norm(self.enter(x))  # (B, P, W)
        queries = self.queries.expand(len(x), -1, -1)  # (B, M, W)
        mixed, _ = self.attention(queries, context)  # (B, M, W)
        queries = queries + mixed
        queries = queries + self.mlp(self.mlp_norm(queries))
        return self.scale * self.map(queries)  # (B, M, D)


class Blind(nn.Module):
    """The control that sees no picture: `tokens` learned vectors, always the same."""

    def __init__(
        self, features: int, d_model: int, tokens: int = 4, scale: float = 1.0
    ):
        super().__init__()
        self.scale = scale
        self.vectors = nn.Parameter(torch.randn(tokens, d_model))  # (M, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.vectors.expand(len(x), -1, -1)  # (B, M, D)


def ridge(x: Tensor, y: Tensor, penalty: float) -> nn.Linear:
    """The linear map with the least squares, found in one step: x (N, F) to y (N, D).

    It minimises `mean |x W + b − y|² + penalty |W|²`; b is not penalised. Computed in
    float64. Raises ValueError for other shapes, or a penalty that is not above 0.
    Source: Hoerl and Kennard (1970); equal to scikit-learn's Ridge with alpha N·penalty.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not len(x):
        raise ValueError(
            f"x, y: got {tuple(x.shape)} and {tuple(y.shape)}, wants (N, F) and (N, D)"
        )
    if not penalty > 0:
        raise ValueError(f"penalty: got {penalty!r}, wants a number above 0")
    x, y, dtype = x.double(), y.double(), x.dtype
    centre, middle = x.mean(0), y.mean(0)  # (F,), (D,)
    square = (x - centre).mT @ (x - centre) / len(x)  # (F, F)
    cross = (x - centre).mT @ (y - middle) / len(x)  # (F, D)
    square.diagonal().add_(penalty)
    weight = torch.linalg.solve(square, cross)  # (F, D)
    found = nn.Linear(*weight.shape, dtype=dtype)
    with torch.no_grad():
        found.weight.copy_(weight.mT)
        found.bias.copy_(middle - centre @ weight)
    return found


def _root(name: str, number: int) -> int:
    root = round(number**0.5)
    if root**2 != number:
        raise ValueError(f"{name}: got {number}, wants a square number: 1, 4, 16, …")
    return root


# --- Into the language model -----------------------------------------------------


def prompt_ids(tokenizer: Any, prompt: str, tokens: int) -> list[int]:
    """A prompt's ids, with `tokens` places in the place of `<image>`, each `PICTURE`.

    Raises ValueError where the prompt does not hold the image token exactly once.
    """
    whole("tokens", tokens)
    if (got := prompt.count(IMAGE)) != 1:
        raise ValueError(
            f"prompt: got {got} image tokens, wants {IMAGE} once, in {prompt!r:.80}"
        )
    before, after = (tokenizer(part).input_ids for part in prompt.split(IMAGE))
    return [*before, *[PICTURE] * tokens, *after]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as (B, T), with `PAD` on the left: the last place is a token of each."""
    longest = max(map(len, rows))
    return torch.tensor([[*[PAD] * (longest - len(row)), *row] for row in rows])


class Before(NamedTuple):
    """Keys and values of N beginnings of a prompt, and what of them is real.

    They do not depend on a picture that comes after them, so one pass serves all
    pictures and all steps of a training.
    """

    keys: Tensor  # (L, N, H, T, d), L layers of the language model
    values: Tensor
    real: Tensor  # (N, T), False on padding

    def cache(self, which: Tensor) -> DynamicCache:
        """Of beginnings (B,), as the language model takes it."""
        pairs = zip(self.keys[:, which], self.values[:, which], strict=True)
        return DynamicCache(ddp_cache_data=[*pairs])


@torch.no_grad()
def read_before(language: nn.Module, ids: Tensor) -> Before:
    """Let the language model read beginnings (N, T), padded on the left, without picture."""
    real = ids != PAD  # (N, T)
    out = language.model(
        input_ids=ids.clamp(min=0),
        attention_mask=real.long(),
        position_ids=_places(real),
        use_cache=True,
    )
    layers = [(layer.keys, layer.values) for layer in out.past_key_values.layers]
    keys, values = (torch.stack(x) for x in zip(*layers, strict=True))
    return Before(keys, values, real)


def next_logits(
    language: nn.Module,
    ids: Tensor,
    vectors: Tensor,
    before: Before | None = None,
    which: Tensor | None = None,
    last: int = 1,
    words: Tensor | None = None,
) -> Tensor:
    """What the language model says after the `last` tokens: (B, last, V).

    The gradients of the logits reach `vectors`.

    Args:
        language: a causal model of `transformers` (Llama's kind), frozen by the caller.
        ids: (B, T), `PICTURE` at M places of each row, `PAD` on the left.
        vectors: (B, M, D), which stand at these places.
        before: what stands before `ids`, already read; of row b its `which[b]`.
        words: (W,) ids, where the logits of no others are wanted: (B, last, W).

    Raises ValueError where the places are not M in each row, or are more, with the
    rest of the prompt, than the model's context holds.
    """
    M, context = vectors.shape[1], language.config.max_position_embeddings
    at = ids == PICTURE  # (B, T)
    if (wrong := at.sum(1) != M).any():
        got = int(at.sum(1)[wrong][0])
        raise ValueError(f"ids: got {got} places for a picture of {M} tokens")
    real = ids != PAD  # (B, T)
    if before is not None:
        real = torch.cat((before.real[which], real), 1)  # (B, T + that of before)
    if (longest := int(real.sum(1).max())) > context:
        raise ValueError(
            f"vectors: {M} image tokens make a prompt of {longest}, the context is "
            f"{context} tokens"
        )
    x = language.get_input_embeddings()(ids.clamp(min=0))  # (B, T, D)
    x = x.masked_scatter(at[..., None], vectors.to(x.dtype))
    out = language.model(
        inputs_embeds=x,
        attention_mask=real.long(),
        position_ids=_places(real)[:, -ids.shape[1] :],
        past_key_values=before and before.cache(which),
        use_cache=before is not None,
    )
    hidden = out.last_hidden_state[:, -last:]  # (B, last, D)
    if words is None:
        return language.lm_head(hidden)  # (B, last, V)
    return hidden @ language.lm_head.weight[words].mT  # (B, last, W)


def _places(real: Tensor) -> Tensor:
    """The position of each token, counted without the padding before it."""
    return (real.cumsum(1) - 1).clamp(min=0)


class SmallVLM(nn.Module):
    """Image encoder, connector and language model, of which only the connector learns.

    `logits(images, prompts)` gives the language model's next token, (B, V), for PIL
    pictures of SIDE×SIDE pixels, RGB, and prompts with `<image>` in them; `features` of
    pictures that were encoded before may stand in the place of the pictures.
    Raises ValueError as `pixels`, `prompt_ids` and `next_logits` do.
    """

    def __init__(self, encoder: nn.Module, connector: nn.Module, language: Any):
        super().__init__()
        self.encoder, self.connector = encoder, connector
        self.language, self.tokenizer = language.model, language.tokenizer
        for frozen in (self.encoder, self.language):
            frozen.requires_grad_(False).eval()

    def logits(
        self, images: Sequence[Image.Image] | Tensor, prompts: Sequence[str]
    ) -> Tensor:
        x = images
        if not isinstance(images, Tensor):
            x = features(self.encoder, np.stack([pixels(one) for one in images]))
        vectors = self.connector(x)  # (B, M, D)
        M = vectors.shape[1]
        ids = padded([prompt_ids(self.tokenizer, p, M) for p in prompts])  # (B, T)
        return next_logits(self.language, ids, vectors)[:, 0]  # (B, V)
