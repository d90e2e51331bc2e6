"""The parts of a block that act on each token alone: norms, MLP, residual wiring.

Attention lives in `attention`; whole models are composed in the chapters.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from lib import checks

WIRINGS = ("none", "post", "pre", "rms")


def _check_norm(features: int, eps: float) -> None:
    checks.whole("features", features)
    if not eps > 0:
        raise ValueError(f"eps: got {eps!r}, wants a number above 0")


def _check_width(x: torch.Tensor, features: int) -> None:
    if x.ndim == 0 or x.shape[-1] != features:
        raise ValueError(
            f"x: got the shape {tuple(x.shape)}, wants a last axis of {features} "
            "features"
        )


class LayerNorm(nn.Module):
    """Normalise each token over its features, then scale by γ and shift by β.

    `y = γ (x − μ) / √(σ² + ε) + β`, where μ and σ² (the biased variance) are those of
    the token's own D features. They are computed again on every call, in training and
    at inference alike; only γ (`weight`) and β (`bias`) are learned. The names are
    those of `torch.nn.LayerNorm`, so its state dict loads here. Half precision is
    computed in float32 and rounded once, as in torch: 256² is no float16.

    Args: `features`, the width D of the last axis; `eps`, in squared units of x.
    Shapes: (..., D) -> (..., D). Raises ValueError for a width other than D, a width
    below 1, or `eps` that is not positive.
    Source: Ba, Kiros and Hinton (2016), arXiv:1607.06450.
    """

    def __init__(self, features: int, eps: float = 1e-5):
        super().__init__()
        _check_norm(features, eps)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))  # γ (D,)
        self.bias = nn.Parameter(torch.zeros(features))  # β (D,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _check_width(x, self.weight.shape[0])
        wide = _wide(x)  # (..., D)
        centred = wide - wide.mean(-1, keepdim=True)  # (..., D)
        variance = centred.square().mean(-1, keepdim=True)  # (..., 1), biased
        y = self.weight * centred * torch.rsqrt(variance + self.eps) + self.bias
        return y.to(torch.result_type(x, self.weight))


class RMSNorm(nn.Module):
    """Divide each token by the root of the mean square of its features; scale by γ.

    `y = γ x / √(mean(x²) + ε)`: no mean is subtracted and there is no shift. The
    parameter has the name of `torch.nn.RMSNorm`'s. Half precision as `LayerNorm`.

    Args: `features`, the width D of the last axis; `eps`, in squared units of x (where
    `torch.nn.RMSNorm` is given no eps it takes the machine epsilon of x's type).
    Shapes: (..., D) -> (..., D). Raises ValueError as `LayerNorm` does.
    Source: Zhang and Sennrich (2019), arXiv:1910.07467.
    """

    def __init__(self, features: int, eps: float = 1e-5):
        super().__init__()
        _check_norm(features, eps)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))  # γ (D,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _check_width(x, self.weight.shape[0])
        wide = _wide(x)  # (..., D)
        mean_square = wide.square().mean(-1, keepdim=True)  # (..., 1)
        y = self.weight * wide * torch.rsqrt(mean_square + self.eps)
        return y.to(torch.result_type(x, self.weight))


def _wide(x: torch.Tensor) -> torch.Tensor:
    """x in float32 at least: sums and squares of half precision overflow or round."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Residual(nn.Module):
    """`x + branch(x)`: the wiring without a norm. Source: He et al. (2016)."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class PostNorm(nn.Module):
    """`norm(x + branch(x))`: the wiring of the first transformer (Vaswani 2017)."""

    def __init__(self, branch: nn.Module, norm: nn.Module):
        super().__init__()
        self.branch, self.norm = branch, norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.branch(x))


class PreNorm(nn.Module):
    """`x + branch(norm(x))`: the stream itself is never normalised (Xiong 2020)."""

    def __init__(self, branch: nn.Module, norm: nn.Module):
        super().__init__()
        self.branch, self.norm = branch, norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(self.norm(x))


def gelu(x: torch.Tensor) -> torch.Tensor:
    """`x Φ(x)`, each number times the normal distribution's share below it.

    Shapes: any, kept. Equal to `torch.nn.functional.gelu`.
    Source: Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """
    wide = _wide(x)
    return (wide * (1 + torch.erf(wide / 2**0.5)) / 2).to(x.dtype)


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """GELU with `tanh` in the place of the normal distribution's integral.

    Within 5e-4 of `gelu` everywhere. GPT-2 was trained with this form
    (`gelu_new` in `transformers`, `approximate="tanh"` in torch).
    Shapes: any, kept. Source: Hendrycks and Gimpel (2016), section 2.
    """
    wide = _wide(x)
    inner = (2 / math.pi) ** 0.5 * (wide + 0.044715 * wide**3)
    return (wide * (1 + torch.tanh(inner)) / 2).to(x.dtype)


class MLP(nn.Module):
    """Two linear maps with an activation between them: (..., D) -> (..., D).

    `down(activation(up(x)))`, for each token alone. Weights are drawn so that a
    branch's output has about the mean square of its input: He's variance 2/D before
    the activation, 1/hidden after it; biases start at zero.

    Args: `d_model`, the width D; `hidden`, the number of hidden units; `activation`,
    a function of each number (ReLU unless given). Raises ValueError for a width below
    1 and for an x of another width.
    Source: Vaswani et al. (2017), section 3.3; He et al. (2015), arXiv:1502.01852.
    """

    def __init__(
        self,
        d_model: int,
        hidden: int,
        activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
    ):
        super().__init__()
        checks.sizes({"d_model": d_model, "hidden": hidden})
        self.activation = activation
        self.up = nn.Linear(d_model, hidden)
        self.down = nn.Linear(hidden, d_model)
        nn.init.normal_(self.up.weight, std=(2 / d_model) ** 0.5)
        nn.init.normal_(self.down.weight, std=(1 / hidden) ** 0.5)
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _check_width(x, self.up.in_features)
        return self.down(self.activation(self.up(x)))


class GatedMLP(nn.Module):
    """A hidden layer of products, `down(activation(gate(x)) * up(x))`, for each token.

    With SiLU it is SwiGLU (Llama), with GELU GEGLU, with ReLU ReGLU, with a sigmoid
    the first GLU. It has three matrices and no biases, so that two thirds of an MLP's
    hidden units make about as many parameters. The start keeps the mean square of the
    input, about, for SiLU and GELU.

    Args: as `MLP`, but the activation is SiLU unless given.
    Shapes: (..., D) -> (..., D). Raises ValueError as `MLP` does.
    Source: Shazeer (2020), arXiv:2002.05202.
    """

    def __init__(
        self,
        d_model: int,
        hidden: int,
        activation: Callable[[torch.Tensor], torch.Tensor] = nn.functional.silu,
    ):
        super().__init__()
        checks.sizes({"d_model": d_model, "hidden": hidden})
        self.activation = activation
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)
        for layer in (self.gate, self.up):
            nn.init.normal_(layer.weight, std=(1 / d_model) ** 0.5)
        # The mean square of SiLU or GELU of a standard normal number is about 0.4.
        nn.init.normal_(self.down.weight, std=(2.5 / hidden) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _check_width(x, self.up.in_features)
        return self.down(self.activation(self.gate(x)) * self.up(x))


def residual_block(wiring: str, d_model: int, hidden: int) -> nn.Module:
    """One residual MLP block in one of `WIRINGS`: (..., D) -> (..., D).

    "none" has no norm, "post" and "pre" have LayerNorm after the sum or before the
    branch, "rms" is "pre" with RMSNorm. Raises ValueError for another name.
    """
    branch = MLP(d_model, hidden)
    if wiring == "none":
        return Residual(branch)
    if wiring == "post":
        return PostNorm(branch, LayerNorm(d_model))
    if wiring == "pre":
        return PreNorm(branch, LayerNorm(d_model))
    if wiring == "rms":
        return PreNorm(branch, RMSNorm(d_model))
    raise ValueError(f"wiring: got {wiring!r}, wants one of {', '.join(WIRINGS)}")


class DeepMLP(nn.Module):
    """A stack of residual MLP blocks between a linear stem and a linear readout.

    The two pre-norm wirings end in one more norm, as is usual: their stream grows with
    depth and something must bring it back to scale before the readout.

    Shapes: (..., inputs) -> (..., classes), the logits. `depth` counts blocks.
    Raises ValueError for an unknown wiring.
    """

    def __init__(
        self,
        wiring: str,
        depth: int,
        *,
        inputs: int = 64,
        d_model: int = 64,
        hidden: int = 128,
        classes: int = 10,
    ):
        super().__init__()
        self.stem = nn.Linear(inputs, d_model)
        self.blocks = nn.ModuleList(
            residual_block(wiring, d_model, hidden) for _ in range(depth)
        )
        last = {"pre": LayerNorm, "rms": RMSNorm}.get(wiring)
        self.last_norm = last(d_model) if last else nn.Identity()
        self.readout = nn.Linear(d_model, classes)
        for layer in (self.stem, self.readout):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(x)  # (..., D)
        for block in self.blocks:
            hidden = block(hidden)  # (..., D)
        return self.readout(self.last_norm(hidden))  # (..., classes)
