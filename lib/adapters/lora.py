"""Adapters that add a matrix of low rank to a linear map, and can be merged into it.

How they are put into a model is in `adapter`, how they are kept in `files`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.adapters.adapter import Adapter, adapters, check_width


class LoRA(Adapter):
    """W x + (alpha / rank) B A x, with A (rank, in) and B (out, rank).

    A starts as `nn.Linear` does, B at zero: at first nothing changes. Rank and alpha as
    in `peft`; no dropout.

    Raises ValueError: a rank below 1 or above the smaller width, an alpha not above 0.
    Source: Hu et al. (2022), arXiv:2106.09685.
    """

    def __init__(self, base: nn.Module, rank: int = 8, alpha: float = 16.0):
        check_width("rank", rank, base)
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha: got {alpha!r}, wants a number above 0")
        super().__init__(base)
        self.rank, self.alpha = rank, alpha
        like = {"dtype": self.dtype, "device": base.weight.device}
        self.A = nn.Parameter(torch.empty(rank, base.in_features, **like))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, **like))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.before = None  # the weight without the adapter, while it is merged

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)  # (..., out)
        if self.before is not None:
            return y
        low = x.to(self.dtype) @ self.A.mT  # (..., rank)
        return (y + self.scale * (low @ self.B.mT)).to(y.dtype)

    def weight(self) -> Tensor:
        """The one matrix (out, in) that does the same, in the adapter's dtype."""
        return self.base.weight.to(self.dtype) + self.scale * (self.B @ self.A)


class RsLoRA(LoRA):
    """LoRA with alpha / √rank in the place of alpha / rank.

    Source: Kalajdzievski (2023), arXiv:2312.03732.
    """

    @property
    def scale(self) -> float:
        return self.alpha / math.sqrt(self.rank)


class DoRA(LoRA):
    """LoRA for the direction of each output's row, and a trained length `magnitude` (out,).

    The length of the row that LoRA makes counts as a constant in the gradient, as in
    section 4.3 of the paper and in `peft`.

    Source: Liu et al. (2024), arXiv:2402.09353.
    """

    def __init__(self, base: nn.Module, rank: int = 8, alpha: float = 16.0):
        super().__init__(base, rank, alpha)
        length = base.weight.detach().to(self.dtype).norm(dim=1)  # (out,)
        self.magnitude = nn.Parameter(length)

    def forward(self, x: Tensor) -> Tensor:
        if self.before is not None:
            return self.base(x)
        with torch.no_grad():
            length = super().weight().norm(dim=1)  # (out,)
        y = F.linear(x, self.base.weight)  # (..., out)
        low = x.to(self.dtype) @ self.A.mT  # (..., rank)
        found = (self.magnitude / length) * (y + self.scale * (low @ self.B.mT))
        found = found if self.base.bias is None else found + self.base.bias
        return found.to(y.dtype)

    def weight(self) -> Tensor:
        row = super().weight()  # (out, in)
        return (self.magnitude / row.norm(dim=1))[:, None] * row


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Put what each adapter of a model adds into its weight, in the weight's own dtype.

    The weights without it are kept, so that `unmerge` gives them back bit for bit. Raises
    ValueError, with nothing changed, where there is no adapter; for one that is no matrix;
    for a base in 4 bits, which has no room for it; and for a weight that another module
    holds, too, and which would change there.
    """
    found = _mergeable(model)
    for one in found:
        weight = one.weight().to(one.base.weight.dtype)
        one.before, one.base.weight.data = one.base.weight.data, weight


def unmerge(model: nn.Module) -> None:
    """Give all merged weights back as they were before."""
    for one in adapters(model).values():
        if getattr(one, "before", None) is not None:
            one.base.weight.data, one.before = one.before, None


def _mergeable(model: nn.Module) -> list[LoRA]:
    every = adapters(model)
    if not every:
        raise ValueError("model: it has no adapter to merge")
    held = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
    for name, one in every.items():
        if not isinstance(one, LoRA):
            raise ValueError(
                f"{name}: a {type(one).__name__} adds no matrix to the weight, and "
                "cannot be merged"
            )
        if not isinstance(one.base, nn.Linear):
            raise ValueError(
                f"{name}: the base is in few bits, and what is added is finer than its "
                "steps: bring it back to full precision first (lib.adapters.fourbit.opened)"
            )
        if held.count(id(one.base.weight)) > 1:
            raise ValueError(
                f"{name}: another module holds the same weight, and would change, too"
            )
    return [one for one in every.values() if one.before is None]
