"""Lenses: what an inner state would say if it were the last one.

A *logit lens* reads a state by the model's own last norm and readout; a translator in
front of it carries the state to the last layer's terms first.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checks

Read = Callable[[Tensor], Tensor]  # states (N, ..., D) -> logits (N, V)


def readout(model: nn.Module) -> Read:
    """The last norm and the readout of a model of `transformers`' Llama kind.

    Raises ValueError for a model whose parts are not called `model.norm`, `lm_head`.
    """
    norm = getattr(getattr(model, "model", None), "norm", None)
    head = getattr(model, "lm_head", None)
    if norm is None or head is None:
        raise ValueError(
            f"model: {type(model).__name__} has no model.norm and lm_head; give "
            "your own function of states"
        )
    return lambda states: head(norm(states))


def divergence(told: Tensor, final: Tensor) -> Tensor:
    """KL(final ‖ told) in nats, from logits (N, V) each: (N,)."""
    told, final = told.log_softmax(-1), final.log_softmax(-1)
    return F.kl_div(told, final, reduction="none", log_target=True).sum(-1)


def linear_map(states: Tensor, last: Tensor, penalty: float = 0.01) -> nn.Linear:
    """The affine map from states (N, D) to the last layer's (N, D), by least squares.

    The penalty is a share of the mean variance, and holds the map near the identity: no
    data, no change.

    Raises ValueError for shapes that differ and for fewer than two rows.
    Source: Yom Din et al. (2023), arXiv:2303.09435; here with a bias.
    """
    if states.ndim != 2 or states.shape != last.shape or len(states) < 2:
        raise ValueError(
            f"states, last: got {tuple(states.shape)} and {tuple(last.shape)}, wants "
            "(N, D) both, N at least 2"
        )
    X, Y = states.double(), last.double()
    centre, goal = X.mean(0), Y.mean(0)  # (D,)
    X = X - centre
    gram = X.mT @ X  # (D, D)
    strength = penalty * gram.trace() / len(gram)
    gram.diagonal().add_(strength)
    change = torch.linalg.solve(gram, X.mT @ (Y - goal - X))  # (D, D), to the identity
    change.diagonal().add_(1.0)
    found = nn.Linear(len(gram), len(gram), device=states.device)
    with torch.no_grad():
        found.weight.copy_(change.mT)
        found.bias.copy_(goal - centre @ change)
    return found.requires_grad_(False)


def tuned(
    states: Tensor,
    final: Tensor,
    read: Read,
    *,
    steps: int = 100,
    rate: float = 1e-2,
    start: nn.Linear | None = None,
) -> nn.Linear:
    """A tuned lens: the affine map whose reading is nearest to the model's own answer.

    From the identity, or `start`, by Adam on the mean KL of all N items, the rate
    falling to 0. The model's readout stays as it is.

    Args:
        states: (N, ..., D), what one layer put out.
        final: logits (N, V) of the whole model.
        read: last norm and readout.

    Raises ValueError for another number of answers.
    Source: Belrose et al. (2023), arXiv:2303.08112.
    """
    checks.whole("steps", steps)
    if len(states) != len(final):
        raise ValueError(
            f"final: got {len(final)} answers, wants one a state, {len(states)}"
        )
    D = states.shape[-1]
    if start is None:
        start = nn.Linear(D, D)
        with torch.no_grad():
            start.weight.copy_(torch.eye(D))
            start.bias.zero_()
    found = copy.deepcopy(start).requires_grad_(True)
    optimiser = torch.optim.Adam(found.parameters(), rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    with torch.enable_grad():
        for _ in range(steps):
            loss = divergence(read(found(states)), final).mean()
            optimiser.zero_grad()
            loss.backward(inputs=[*found.parameters()])
            optimiser.step()
            falling.step()
    return found.requires_grad_(False)
