"""AdamW and Muon, and which parameters each takes. The loop lives in `training`."""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer


def orthogonal(matrix: Tensor) -> Tensor:
    """U Vᵀ of the matrix U S Vᵀ, roughly: most singular values end at 0.7 to 1.2.

    Five rounds of Newton–Schulz, each of which takes every singular value s to
    a s + b s³ + c s⁵ by matrix products alone, with the numbers of Jordan et al., 2024
    ("Muon"). In bfloat16 on a GPU; many CPUs are slow in it and keep the matrix's type.

    Half precision is computed in float32 on a CPU. Shapes: (…, A, B) -> (…, A, B).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = torch.promote_types(matrix.dtype, torch.float32)
    x = matrix.bfloat16() if matrix.is_cuda else matrix.to(wide)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the smaller products
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.mT  # (…, A, A)
        x = a * x + (b * square + c * square @ square) @ x  # (…, A, B)
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(Optimizer):
    """Steps along the orthogonalised momentum of each matrix. Jordan et al., 2024.

    A step is lr · √max(1, A/B) · `orthogonal`; a convolution (A, …) counts as a matrix
    (A, B). The same as `torch.optim.Muon`, which takes matrices only and computes in
    bfloat16, some twenty times slower on a CPU without bfloat16 products.

    Raises:
        ValueError: a parameter has fewer than two axes.
    """

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, settings)
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise ValueError(f"params: expected matrices, got shape {(*p.shape,)}")

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike = defaultdict(list)  # one computation for all of a shape
            for p in group["params"]:
                if p.grad is not None:
                    if p not in self.state:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    mean = self.state[p]["momentum"]
                    mean.lerp_(p.grad, 1 - group["momentum"])
                    ahead = p.grad.lerp(mean, group["momentum"])  # Nesterov's
                    alike[p.shape].append((p, ahead.flatten(1)))
            for pairs in alike.values():
                updates = orthogonal(torch.stack([ahead for _, ahead in pairs]))
                size = math.sqrt(max(1, updates.shape[1] / updates.shape[2]))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-group["lr"] * size)


def adamw(
    params: nn.Module | Iterable[nn.Parameter],
    rate: float = 1e-3,
    *,
    decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.95),
) -> AdamW:
    """AdamW whose weight decay spares vectors: biases and the gains of norms.

    Loshchilov and Hutter, 2019. A step shrinks a weight by the share rate · decay.
    """
    params = list(params.parameters() if isinstance(params, nn.Module) else params)
    matrices = {"params": [p for p in params if p.ndim >= 2], "weight_decay": decay}
    vectors = {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}
    return AdamW([matrices, vectors], lr=rate, betas=betas, fused=True)


def muon(
    model: nn.Module,
    *ends: nn.Module,
    rate: float = 0.02,
    decay: float = 0.0,
    adamw_rate: float = 1e-3,
    adamw_decay: float = 0.05,
) -> list[Optimizer]:
    """`Muon` for the weights of linear maps and convolutions, AdamW for the rest.

    The rest is embeddings, norms, biases, bare parameters and the modules `ends`, such
    as `model.head`: the paper leaves a network's input and output to AdamW.

    Raises:
        ValueError: no weight is left for Muon.
    """
    spared = {p for end in ends for p in end.parameters()}
    spared |= {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    hidden = {m.weight for m in model.modules() if isinstance(m, kinds)} - spared
    if not hidden:
        raise ValueError("model: expected weights of linear maps, got none for Muon")
    matrices = [p for p in model.parameters() if p in hidden]
    others = [p for p in model.parameters() if p not in hidden]
    return [
        Muon(matrices, lr=rate, weight_decay=decay),
        adamw(others, adamw_rate, decay=adamw_decay),
    ]
