"""Linear maps whose weights have four bits each: plain and NF4, block by block.

What is trained beside such a map is an adapter of `lora` or `bottleneck`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.adapters.adapter import put
from lib.checks import whole
from lib.lens.hooks import matching

FP8, FP8_LARGEST = torch.float8_e4m3fn, 448.0
GROUP = 256  # block sizes that share one number in double quantisation


def nf4() -> Tensor:
    """The sixteen values of NormalFloat4, from -1 to 1, (16,).

    Quantiles of the normal distribution, eight for each sign with 0 counted in both, as
    a share of the largest. Source: Dettmers et al. (2023), arXiv:2305.14314, appendix E;
    the outermost probability, near the mean of 1 − 1/32 and 1 − 1/30, is rounded as in
    `bitsandbytes`, from which the paper's table is.
    """
    above, below = (
        torch.special.ndtri(torch.linspace(0.9677083, 0.5, n)[:-1].double())
        for n in (9, 8)
    )  # (8,) and (7,), from the outermost to the one next to 0
    values = torch.cat((-below, torch.zeros(1), above.flip(0)))  # (16,)
    return (values / values.max()).float()


def plain() -> Tensor:
    """Whole numbers of four bits, −7 to 7, as a share of 7: (15,); one code is not used."""
    return torch.arange(-7, 8) / 7


def coded(weight: Tensor, codes: Tensor, block: int = 64) -> tuple[Tensor, Tensor]:
    """The nearest code of each number as a share of the largest of its block.

    Shapes: weight (...), codes (C,) rising -> numbers of codes (n, block) in uint8, and
    the largest absolute value of each block, (n,). The last block is filled with zeros.
    Raises ValueError: a weight that is not finite, or a block below 1.
    """
    whole("block", block)
    if not weight.isfinite().all():
        raise ValueError("weight: it holds a value that is not finite")
    flat = weight.detach().float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % block)).view(-1, block)  # (n, block)
    largest = blocks.abs().amax(1)  # (n,)
    share = blocks / largest.where(largest > 0, torch.ones(()))[:, None]
    between = (codes[1:] + codes[:-1]) / 2  # (C − 1,)
    return torch.bucketize(share, between).to(torch.uint8), largest


def decoded(
    numbers: Tensor, largest: Tensor, codes: Tensor, shape: torch.Size
) -> Tensor:
    """The weights, in float32, that `coded` stands for: (n, block), (n,), (C,) -> shape."""
    flat = (codes[numbers.long()] * largest[:, None]).flatten()
    return flat[: shape.numel()].view(shape)


class FourBit(nn.Module):
    """A linear map that keeps its weight in 4 bits and brings it back for each call.

    Args:
        base: the map in full precision; its bias stays as it is.
        codes: the values that a weight can have in its block, `nf4()` or `plain()`.
        block: weights that share one size.
        double: keep these sizes in 8 bits, too, less their mean, with one float32 for
            each 256 of them.

    Shapes: x (..., in) -> (..., out). `weight` (out, in) is made anew at each reading.
    Source: Dettmers et al. (2023), arXiv:2305.14314.
    """

    def __init__(
        self, base: nn.Linear, codes: Tensor, block: int = 64, double: bool = True
    ):
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.bias, self.dtype = base.bias, base.weight.dtype
        numbers, largest = coded(base.weight, codes, block)
        self.block = block
        pairs = F.pad(numbers.flatten(), (0, numbers.numel() % 2)).view(-1, 2)
        self.register_buffer("packed", pairs[:, 0] * 16 + pairs[:, 1])  # two in a byte
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("mean", largest.mean() if double else None)
        if double:
            rest = F.pad(largest - self.mean, (0, -len(largest) % GROUP)).view(
                -1, GROUP
            )
            scale = rest.abs().amax(1) / FP8_LARGEST  # (groups,)
            self.register_buffer("scale", scale.where(scale > 0, torch.ones(())))
            largest = (rest / self.scale[:, None]).to(FP8).flatten()[: len(largest)]
        self.register_buffer("largest", largest)
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        numbers = torch.stack((self.packed // 16, self.packed % 16), 1).flatten()
        numbers = numbers[: len(self.largest) * self.block].view(-1, self.block)
        shape = torch.Size((self.out_features, self.in_features))
        return decoded(numbers, self.sizes(), self.codes, shape).to(self.dtype)

    def sizes(self) -> Tensor:
        """The largest absolute value of each block, as it is kept: (n,)."""
        if self.mean is None:
            return self.largest
        return (
            self.largest.float()
            * self.scale.repeat_interleave(GROUP)[: len(self.largest)]
            + self.mean
        )

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self)

    def bits(self) -> float:
        """Bits for each weight, the blocks' sizes counted."""
        kept = (self.packed, self.largest)
        kept += () if self.mean is None else (self.mean, self.scale)
        number = self.in_features * self.out_features
        return sum(8 * x.numel() * x.element_size() for x in kept) / number


class _Product(torch.autograd.Function):
    """x Wᵀ + b, which brings W back once more for the gradient instead of keeping it."""

    @staticmethod
    def forward(ctx, x: Tensor, module: FourBit) -> Tensor:
        ctx.module = module
        return F.linear(x, module.weight, module.bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.module.weight, None


def quantise(
    model: nn.Module, pattern: str, codes: Tensor, block: int = 64, double: bool = True
) -> list[str]:
    """Put the linear maps that `pattern` names in 4 bits, in place; returns the names.

    Raises ValueError: a pattern that matches nothing, or something that is no `nn.Linear`.
    """
    names = matching(model, pattern)
    for name in names:
        if not isinstance(found := model.get_submodule(name), nn.Linear):
            raise ValueError(
                f"pattern: {pattern!r} also names {name}, a {type(found).__name__}: wants "
                "nn.Linear alone"
            )
    made = [FourBit(model.get_submodule(n), codes, block, double) for n in names]
    for name, module in zip(names, made, strict=True):
        put(model, name, module)
    return names


def opened(model: nn.Module) -> list[str]:
    """Bring all maps in 4 bits back to `nn.Linear`, in place; returns the names.

    What 4 bits lost stays lost.
    """
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, FourBit)]
    for name, module in found:
        into, out = module.in_features, module.out_features
        linear = nn.Linear(into, out, module.bias is not None, dtype=module.dtype)
        linear.weight.data = module.weight
        linear.bias = module.bias
        put(model, name, linear.requires_grad_(False).train(module.training))
    return [name for name, _ in found]
