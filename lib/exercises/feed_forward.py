"""The exercises of the feed-forward chapter: right answers, and the wrong ones we name."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- gelu: the exact form ---------------------------------------------------------------

gelu = Exercise(
    correct=lambda x: F.gelu(x),
    mistakes={
        "this is the tanh form: near, but not the integral itself; use torch.erf": (
            lambda x: F.gelu(x, approximate="tanh")
        ),
        "this is the sigmoid form, x σ(1.702 x): near, but not the integral itself": (
            lambda x: x * torch.sigmoid(1.702 * x)
        ),
        "this is SiLU, x σ(x): the share below x is Φ(x), not the sigmoid": F.silu,
        "this is ReLU: it gates with 0 or 1, GELU with Φ(x)": torch.relu,
        "this is Φ(x) alone: multiply it by x": lambda x: (
            (1 + torch.erf(x / 2**0.5)) / 2
        ),
        "the √2 is missing inside erf: Φ(x) = (1 + erf(x / √2)) / 2": (
            lambda x: x * (1 + torch.erf(x)) / 2
        ),
        "the half is missing: Φ(x) = (1 + erf(x / √2)) / 2": (
            lambda x: x * (1 + torch.erf(x / 2**0.5))
        ),
    },
    cases=[(torch.linspace(-4, 4, 33),)],
)

# --- mlp: two maps and an activation ----------------------------------------------------


def _mlp(x, w_up, b_up, w_down, b_down):
    return F.gelu(x @ w_up.mT + b_up) @ w_down.mT + b_down


_mlp_case = (
    _random(2, 5, 4, seed=0),  # x (B, T, D)
    _random(6, 4, seed=1),
    _random(6, seed=2),
    _random(4, 6, seed=3),
    _random(4, seed=4),
)

mlp = Exercise(
    correct=_mlp,
    mistakes={
        "the activation is forgotten: two linear maps in a row are one linear map": (
            lambda x, wu, bu, wd, bd: (x @ wu.mT + bu) @ wd.mT + bd
        ),
        "the activation stands at the end: it belongs between the two maps": (
            lambda x, wu, bu, wd, bd: F.gelu((x @ wu.mT + bu) @ wd.mT + bd)
        ),
        "the activation stands at the end as well: one is enough, between the maps": (
            lambda x, wu, bu, wd, bd: F.gelu(_mlp(x, wu, bu, wd, bd))
        ),
        "this is ReLU: the exercise wants GELU": lambda x, wu, bu, wd, bd: (
            torch.relu(x @ wu.mT + bu) @ wd.mT + bd
        ),
        "both biases are missing": lambda x, wu, bu, wd, bd: F.gelu(x @ wu.mT) @ wd.mT,
        "the bias of the first map is missing": lambda x, wu, bu, wd, bd: (
            F.gelu(x @ wu.mT) @ wd.mT + bd
        ),
        "the bias of the second map is missing": lambda x, wu, bu, wd, bd: (
            F.gelu(x @ wu.mT + bu) @ wd.mT
        ),
        "it mixes the tokens: the MLP reads one token, not their mean": (
            lambda x, *w: _mlp(x.mean(-2, keepdim=True).expand_as(x), *w)
        ),
        "it mixes the tokens: a softmax over them is attention's; here each hidden "
        "number passes through GELU alone": lambda x, wu, bu, wd, bd: (
            (x @ wu.mT + bu).softmax(-2) @ wd.mT + bd
        ),
        "x is added: the residual connection stands outside the MLP": (
            lambda x, *w: x + _mlp(x, *w)
        ),
    },
    cases=[_mlp_case],
)

# --- gated: a product of two branches ---------------------------------------------------


def _gated(x, w_gate, w_up, w_down):
    return (F.silu(x @ w_gate.mT) * (x @ w_up.mT)) @ w_down.mT


gated = Exercise(
    correct=_gated,
    mistakes={
        "the gate is on the wrong branch: SiLU belongs on x W_gateᵀ, not on x W_upᵀ": (
            lambda x, g, u, d: (x @ g.mT * F.silu(x @ u.mT)) @ d.mT
        ),
        "SiLU acts on the product: it belongs on the gate alone": (
            lambda x, g, u, d: F.silu(x @ g.mT * (x @ u.mT)) @ d.mT
        ),
        "SiLU acts on both branches: it belongs on the gate alone": (
            lambda x, g, u, d: (F.silu(x @ g.mT) * F.silu(x @ u.mT)) @ d.mT
        ),
        "the activation is forgotten: this is the bilinear form": (
            lambda x, g, u, d: (x @ g.mT * (x @ u.mT)) @ d.mT
        ),
        "the branches are added: a gate multiplies": lambda x, g, u, d: (
            (F.silu(x @ g.mT) + x @ u.mT) @ d.mT
        ),
        "the gate is a plain sigmoid, the first GLU: the exercise wants SiLU": (
            lambda x, g, u, d: (torch.sigmoid(x @ g.mT) * (x @ u.mT)) @ d.mT
        ),
        "the up branch is missing: without it this is an MLP with SiLU": (
            lambda x, g, u, d: F.silu(x @ g.mT) @ d.mT
        ),
    },
    cases=[
        (
            _mlp_case[0],
            _random(6, 4, seed=5),
            _random(6, 4, seed=6),
            _random(4, 6, seed=7),
        )
    ],
)

# --- block: attention and MLP on one stream ---------------------------------------------


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _mix(x: Tensor) -> Tensor:  # stands for attention: each token and the one before
    return 0.7 * torch.sin(x) + 0.5 * x.roll(1, -2)


def _alone(x: Tensor) -> Tensor:  # stands for the MLP
    return torch.relu(2 * x - 0.5) + 0.3


def _pre(x, attend, mlp, norm_1, norm_2):
    x = x + attend(norm_1(x))
    return x + mlp(norm_2(x))


def _post(x, attend, mlp, norm_1, norm_2):
    return norm_2((h := norm_1(x + attend(x))) + mlp(h))


def _parallel(x, attend, mlp, norm_1, norm_2):
    return x + attend(norm_1(x)) + mlp(norm_2(x))


def _kept_norm(x, attend, mlp, norm_1, norm_2):
    x = norm_1(x)
    x = norm_2(x + attend(x))
    return x + mlp(x)


block = Exercise(
    correct=_pre,
    mistakes={
        "the norms stand after the sums: this is Post-LN. Pre-LN norms what a branch "
        "reads, and leaves the stream alone": _post,
        "the two branches run side by side: the MLP must read the stream after "
        "attention has written to it": _parallel,
        "the stream itself is normalised: add each branch to the x that was there "
        "before the norm": _kept_norm,
        "both residual connections are missing": lambda x, a, m, n1, n2: m(
            n2(a(n1(x)))
        ),
        "the residual connection around attention is missing": lambda x, a, m, n1, n2: (
            (h := a(n1(x))) + m(n2(h))
        ),
        "the residual connection around the MLP is missing": lambda x, a, m, n1, n2: m(
            n2(x + a(n1(x)))
        ),
        "the norms are missing": lambda x, a, m, n1, n2: (h := x + a(x)) + m(h),
        "the second norm is missing": lambda x, a, m, n1, n2: (
            (h := x + a(n1(x))) + m(h)
        ),
        "the MLP comes first: the usual order is attention, then MLP": (
            lambda x, a, m, n1, n2: _pre(x, m, a, n2, n1)
        ),
        "the branch's output is normalised: Pre-LN norms what the branch reads": (
            lambda x, a, m, n1, n2: (h := x + n1(a(x))) + n2(m(h))
        ),
    },
    cases=[
        (
            3 * _random(2, 5, 4, seed=8) + 1,
            _mix,
            _alone,
            _norm,
            lambda x: 1.5 * _norm(x) - 0.2,
        )
    ],
)

# --- parameters: where they are ---------------------------------------------------------

_D, _HIDDEN = 4096, 11008

parameters = Exercise(
    correct=3 * _D * _HIDDEN,
    mistakes={
        "that is two matrices: a gated MLP has three, and 11,008 is the hidden width as "
        "it stands, no 2/3 comes to it": 2 * _D * _HIDDEN,
        "biases are counted: this MLP has none": 3 * _D * _HIDDEN + 2 * _HIDDEN + _D,
        "one matrix: a gated MLP has three": _D * _HIDDEN,
        "this is the plain MLP of four times the width: the hidden width is given": (
            8 * _D * _D
        ),
        "one layer is asked for, not all 32": 32 * 3 * _D * _HIDDEN,
        "attention's four matrices are counted as well": (
            3 * _D * _HIDDEN + 4 * _D * _D
        ),
    },
)
