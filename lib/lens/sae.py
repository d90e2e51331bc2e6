"""Sparse autoencoders: a state as a sum of a few directions out of many.

TopK, and the codes of the same number of entries that it has to beat: the main
components, and directions by lot. What splicing a code into a model costs is measured
here, too; the training is `train/sae.py`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checks
from lib.lens import hooks

Rebuild = Callable[[Tensor], Tensor]  # states (..., D) -> the same shape


class TopK(nn.Module):
    """x ≈ b + Σ values · directions, with the k largest of `features` values.

    values = TopK(ReLU(W (x − b) + c)); the directions have length 1. States come in and
    go out as they are; inside they are divided by `scale`, and moved by `centre`.

    Args:
        width: D; features: M; k: entries of a code, unless a call asks for others.
        scale, centre: of the states, by which b starts at 0 and x at size 1.

    Raises ValueError for sizes that are none, or k above M.
    Source: Gao et al. (2024), arXiv:2406.04093, section 2.3, without its auxiliary loss.
    """

    def __init__(
        self,
        width: int,
        features: int,
        k: int,
        scale: float = 1.0,
        centre: Tensor | None = None,
    ):
        super().__init__()
        checks.sizes({"width": width, "features": features, "k": k})
        if k > features:
            raise ValueError(f"k: got {k}, wants at most {features} features")
        self.k = k
        self.directions = nn.Parameter(torch.randn(features, width))  # (M, D)
        with torch.no_grad():
            self.directions.copy_(F.normalize(self.directions, dim=1))
        self.weight = nn.Parameter(self.directions.detach().clone())  # (M, D)
        self.bias = nn.Parameter(torch.zeros(features))  # c
        self.origin = nn.Parameter(torch.zeros(width))  # b
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("centre", torch.zeros(width) if centre is None else centre)

    def encode(self, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
        """States (..., D) -> values and numbers of their largest k features, (..., k).

        Fewer than k are on where fewer are above 0; the others have the value 0.
        """
        x = (x - self.centre) / self.scale - self.origin
        found = (
            F.linear(x, self.weight, self.bias).relu().topk(k or self.k, sorted=False)
        )
        return found.values, found.indices

    def decode(self, values: Tensor, indices: Tensor) -> Tensor:
        """Values and numbers of features (..., k) -> states (..., D)."""
        rows = F.normalize(self.directions, dim=1)
        k = indices.shape[-1]
        x = F.embedding_bag(
            indices.reshape(-1, k),
            rows,
            per_sample_weights=values.reshape(-1, k),
            mode="sum",
        )
        x = x.reshape(*indices.shape[:-1], -1)  # (..., D)
        return (x + self.origin) * self.scale + self.centre

    def forward(self, x: Tensor, k: int | None = None) -> Tensor:
        return self.decode(*self.encode(x, k))


def unexplained(x: Tensor, rebuilt: Tensor, centre: Tensor) -> Tensor:
    """The share of variance around `centre` that a code leaves; 0 is all rebuilt."""
    return (x - rebuilt).square().sum() / (x - centre).square().sum()


# --- Other codes of k entries ----------------------------------------------------


def components(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) of states (N, D), and their main directions as rows (D, D).

    Raises ValueError for fewer than two states.
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x: got shape {tuple(x.shape)}, wants (N, D), N at least 2")
    centre = x.double().mean(0)
    off = x.double() - centre
    vectors = torch.linalg.eigh(off.mT @ off).eigenvectors  # rising
    return centre.to(x), vectors.flip(1).mT.to(x)


def by_lot(width: int, seed: int = 0) -> Tensor:
    """Orthonormal directions by lot, as rows: (D, D)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator)).Q.mT


def first(centre: Tensor, rows: Tensor, k: int) -> Rebuild:
    """A code of the first k of orthonormal rows (D, D), the same for every state."""
    _at_most(k, rows)
    return lambda x: (x - centre) @ rows[:k].mT @ rows[:k] + centre


def largest(centre: Tensor, rows: Tensor, k: int) -> Rebuild:
    """A code of each state's own k largest of orthonormal rows (D, D)."""
    _at_most(k, rows)

    def rebuild(x: Tensor) -> Tensor:
        values = (x - centre) @ rows.mT  # (..., D)
        at = values.abs().topk(k, sorted=False).indices
        kept = torch.zeros_like(values).scatter(-1, at, values.gather(-1, at))
        return kept @ rows + centre

    return rebuild


# --- What a code costs the model -------------------------------------------------


@torch.no_grad()
def spliced_loss(
    model: nn.Module, layer: str, ids: Tensor, rebuild: Rebuild | None
) -> Tensor:
    """The loss of each text, nats a token, (B,): with a layer's states rebuilt.

    ids (B, T). The first place keeps its state, since the model rests its attention
    there; None leaves all states as they are. `layer` is a pattern of `hooks.matching`.
    """
    edits = {}
    if rebuild is not None:
        edits[layer] = lambda x: torch.cat((x[:, :1], rebuild(x[:, 1:])), 1)
    with hooks.replacing(model, edits):
        logits = model(ids, use_cache=False).logits[:, :-1]  # (B, T − 1, V)
    loss = F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")  # (B, T − 1)
    return loss[:, 1:].mean(1)


def recovered(spliced: Tensor, whole: Tensor, mean: Tensor) -> Tensor:
    """The share of the loss that a code keeps: 1 as the model, 0 as the mean state.

    (mean − spliced) / (mean − whole), from the losses of the same texts, (B,) each, whose
    means are taken first. Below 0 is worse than the mean state at every place.
    """
    return (mean.mean() - spliced.mean()) / (mean.mean() - whole.mean())


def _at_most(k: int, rows: Tensor) -> None:
    checks.whole("k", k)
    if k > len(rows):
        raise ValueError(f"k: got {k}, wants at most {len(rows)} directions")
