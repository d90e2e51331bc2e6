"""Two towers that meet: a picture and its text as neighbours in one space.

The losses, their exact forms for large batches, and a small model of 32×32 scenes.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lib.checks import ids_in_range, sizes, whole
from lib.models.masked import EncoderLayer
from lib.models.vision import ViT
from lib.positions import rope_frequencies, rope_turns

LARGEST = 100.0  # no scale is above it, says CLIP
PAD = 0  # the id of the places after a text


# --- Losses ----------------------------------------------------------------------


def softmax_loss(
    pictures: Tensor, texts: Tensor, scale: Tensor, rows: int | None = None
) -> Tensor:
    """Each picture picks its text out of the batch, each text its picture: CLIP's loss.

    The mean of two cross-entropies, along the rows and along the columns of
    `scale · pictures @ textsᵀ`, whose diagonal is right. A batch of one has a loss of 0
    and no gradient: there is nothing to tell apart.

    Args:
        pictures, texts: (B, D), the vectors of pair i in row i, of length one.
        scale: one over the temperature, a tensor of no axes.
        rows: of the (B, B) scores so many rows exist at a time, in the backward pass
            too: the same loss and gradients in less memory. None: all at once.

    Returns: the loss in nats, no axes. Raises ValueError for shapes that are not equal
    and `rows` below 1.
    Source: Radford et al. (2021), arXiv:2103.00020; equal to `transformers`' CLIPModel.
    """
    _check(pictures, texts, rows)
    right = scale * (pictures * texts).sum(-1)  # (B,), the diagonal

    def part(some: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        scores = scale * some @ texts.mT  # (rows, B)
        return scores.logsumexp(1), scores.logsumexp(0)  # (rows,), (B,)

    found = _by_rows(part, rows, pictures, texts, scale)
    by_row = torch.cat([row for row, _ in found])  # (B,)
    by_column = torch.stack([column for _, column in found]).logsumexp(0)  # (B,)
    return ((by_row - right).mean() + (by_column - right).mean()) / 2


def sigmoid_loss(
    pictures: Tensor,
    texts: Tensor,
    scale: Tensor,
    bias: Tensor,
    rows: int | None = None,
) -> Tensor:
    """Each of the B² pairs is asked: do you belong together? SigLIP's loss.

    The sum of `−log σ(± (scale · score + bias))`, plus on the diagonal, over the B
    texts of a picture; the mean over pictures. No pair asks what the others score.

    Args: as `softmax_loss`; `bias`, a tensor of no axes, is far below 0 at the start,
    since all pairs but one of each row do not belong together.
    Source: Zhai et al. (2023), arXiv:2303.15343; equal to `transformers`' SiglipModel.
    """
    _check(pictures, texts, rows)
    right = scale * (pictures * texts).sum(-1) + bias  # (B,), the diagonal

    def part(some: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return F.logsigmoid(-(scale * some @ texts.mT + bias)).sum()  # of (rows, B)

    wrong = sum(_by_rows(part, rows, pictures, texts, scale, bias))
    # log σ(x) − log σ(−x) = x puts the diagonal right.
    return -(wrong + right.sum()) / len(pictures)


def _by_rows(
    part: Callable, rows: int | None, pictures: Tensor, *others: Tensor
) -> list:
    """`part` of so many pictures at a time; for the backward pass it is made anew."""
    if rows is None:
        return [part(pictures, *others)]
    return [
        checkpoint(part, some, *others, use_reentrant=False)
        for some in pictures.split(rows)
    ]


def _check(pictures: Tensor, texts: Tensor, rows: int | None) -> None:
    if pictures.ndim != 2 or pictures.shape != texts.shape or not len(pictures):
        raise ValueError(
            f"pictures, texts: got {tuple(pictures.shape)} and {tuple(texts.shape)}, "
            "wants (B, D) both"
        )
    if rows is not None:
        whole("rows", rows)


def backward_in_pieces(
    encoders: Sequence[Callable[[Tensor], Tensor]],
    inputs: Sequence[Tensor],
    loss: Callable[..., Tensor],
    size: int,
) -> Tensor:
    """The gradients of a whole batch, of which `size` items pass through at a time.

    Gradient accumulation is not enough: an item's loss is about all others. So all
    vectors are made first, without a graph; the loss says which way each should move;
    then each piece is encoded again and moved that way.

    Args:
        encoders: one for each of `inputs` (B, ...), giving (B, D); without dropout.
        loss: of all their vectors, `loss(pictures, texts)`.

    Returns the loss; gradients are added to `.grad` of whatever the encoders and the
    loss learn. Raises ValueError for a size below 1.
    Source: Gao et al. (2021), arXiv:2101.06983 (GradCache).
    """
    whole("size", size)
    with torch.no_grad():
        made = [
            torch.cat([encode(part) for part in x.split(size)])
            for encode, x in zip(encoders, inputs, strict=True)
        ]
    vectors = [x.requires_grad_() for x in made]  # (B, D) each
    found = loss(*vectors)
    found.backward()
    for encode, x, whole_batch in zip(encoders, inputs, vectors, strict=True):
        for part, way in zip(x.split(size), whole_batch.grad.split(size), strict=True):
            encode(part).backward(way)
    return found.detach()


class Scale(nn.Module):
    """One over the temperature: learned as its logarithm, and kept from 1 to 100.

    It is put back after a step too far, so that it can return; a clamp of what the loss
    reads would leave it without a gradient.

    `forward()` gives a tensor of no axes. Raises ValueError for a start outside.
    """

    def __init__(self, start: float = 10.0):
        super().__init__()
        if not 1 <= start <= LARGEST:
            raise ValueError(f"start: got {start}, wants 1 to {LARGEST:.0f}")
        self.logarithm = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        with torch.no_grad():
            self.logarithm.clamp_(0.0, math.log(LARGEST))
        return self.logarithm.exp()


# --- Towers ----------------------------------------------------------------------


class Words:
    """A small vocabulary for captions: English by words, Japanese where the script changes.

    `words(texts)` gives ids (B, T), padded with `PAD`; a word that is not there is 1.
    """

    def __init__(self, texts: Iterable[str]):
        found = sorted({word for text in texts for word in self.split(text)})
        self.ids = {word: i for i, word in enumerate(found, start=2)}

    def __len__(self) -> int:
        return len(self.ids) + 2

    @staticmethod
    def split(text: str) -> list[str]:
        runs = (
            r"[a-z]+|[ぁ-ゖ]+|[ァ-ヺー]+|[一-鿿]+|[^\s]"  # kana and kanji of one kind
        )
        return re.findall(runs, text.lower())

    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows = [[self.ids.get(w, 1) for w in self.split(text)] for text in texts]
        rows = [torch.tensor(row or [1]) for row in rows]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


class TextTower(nn.Module):
    """An encoder of texts: ids (B, T), `PAD` after the end -> vectors (B, width).

    Layers of the masked language model with RoPE, the mean of the tokens, a linear map.

    Args: `vocabulary`, the ids; `width` of the vectors; the rest as in a ViT.
    Raises ValueError for numbers that do not fit and ids out of range.
    """

    def __init__(
        self, vocabulary: int, d_model: int, num_heads: int, layers: int, width: int
    ):
        super().__init__()
        numbers = {"vocabulary": vocabulary, "layers": layers, "width": width}
        sizes(numbers | {"d_model": d_model, "num_heads": num_heads})
        self.embed = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, 2 * d_model, "pre") for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, width)
        self.frequencies = rope_frequencies(d_model // num_heads)  # (d/2,)

    def forward(self, ids: Tensor) -> Tensor:
        ids_in_range("ids", ids, self.embed.num_embeddings)
        real = ids != PAD  # (B, T)
        turns = rope_turns(
            torch.arange(ids.shape[1], device=ids.device), self.frequencies
        )  # (T, d/2)

        def mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            mask = real[:, None, None]  # (B, 1, 1, T)
            return F.scaled_dot_product_attention(query, key, value, mask)

        x = self.embed(ids)  # (B, T, D)
        for layer in self.layers:
            x = layer(x, turns, mix)  # (B, T, D)
        x = self.norm(x).masked_fill(~real[..., None], 0.0).sum(1)  # (B, D)
        return self.head(x / real.sum(1, keepdim=True))  # (B, width)


class TwoTowers(nn.Module):
    """Pictures and texts as vectors of length one, and what compares them.

    Args:
        pictures, texts: the towers, (B, ...) -> (B, width).
        loss: "softmax" or "sigmoid"; the second has a bias too.

    `forward(pictures, ids)` gives the loss of a batch of pairs, no axes.
    Raises ValueError for another loss.
    """

    def __init__(self, pictures: nn.Module, texts: nn.Module, loss: str = "softmax"):
        super().__init__()
        if loss not in ("softmax", "sigmoid"):
            raise ValueError(f"loss: got {loss!r}, wants 'softmax' or 'sigmoid'")
        self.pictures, self.texts, self.scale = pictures, texts, Scale()
        self.bias = nn.Parameter(torch.tensor(-10.0)) if loss == "sigmoid" else None

    def see(self, pictures: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, width), of length one."""
        return F.normalize(self.pictures(pictures), dim=-1)

    def read(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, width), of length one."""
        return F.normalize(self.texts(ids), dim=-1)

    def forward(self, pictures: Tensor, ids: Tensor) -> Tensor:
        return self.compare(self.see(pictures), self.read(ids))

    def compare(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """The loss of the vectors of a batch, (B, width) both."""
        if self.bias is None:
            return softmax_loss(pictures, texts, self.scale())
        return sigmoid_loss(pictures, texts, self.scale(), self.bias)


def small_towers(
    vocabulary: int,
    loss: str = "softmax",
    *,
    d_model: int = 64,
    num_heads: int = 4,
    layers: tuple[int, int] = (4, 2),
    width: int = 64,
) -> TwoTowers:
    """For scenes of 32×32 pixels: a ViT behind convolutions, and a `TextTower`.

    Three convolutions, each halving the sides, make 4×4 tokens. There is no batch norm,
    by which a picture's vector would depend on the batch.
    """
    stem = nn.Sequential(
        nn.Conv2d(3, d_model // 2, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(d_model // 2, d_model, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(d_model, d_model, 3, 2, 1),
    )
    eyes, reads = layers
    vit = ViT(stem, (4, 4), d_model, num_heads, eyes, width, hidden=2 * d_model)
    return TwoTowers(vit, TextTower(vocabulary, d_model, num_heads, reads, width), loss)


# --- What is measured ------------------------------------------------------------


def ranks(scores: Tensor, same: Tensor) -> Tensor:
    """How many wrong ones stand before the best right one: (N, M) -> whole numbers (N,).

    `same`, bool (N, M), says what is right: two texts may be the same. Recall at k is
    the share of ranks below k. A tie counts as before.
    """
    best = scores.masked_fill(~same, float("-inf")).amax(1, keepdim=True)  # (N, 1)
    return ((scores >= best) & ~same).sum(1)


def gap(pictures: Tensor, texts: Tensor) -> float:
    """The distance between the means of two sets of vectors, (N, D) each.

    Vectors of length one fill the space from 0, where both are everywhere, to 2.
    Source: Liang et al. (2022), arXiv:2203.02053.
    """
    return (pictures.mean(0) - texts.mean(0)).norm().item()
