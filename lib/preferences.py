"""Learning from preferences and rewards: the losses, and what they are judged by.

A *sequence* is a prompt with an answer after it; `answer` (B, T) is True on the answer's
tokens. Log-probabilities of answers are sums over their tokens, never means: only the sum
is the logarithm of a probability.
"""

from collections.abc import Callable
from math import comb

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checks, decoding


def log_probabilities(model: nn.Module, ids: Tensor, mask: Tensor | None = None):
    """Log-probability of each token but the first: (B, T) -> (B, T − 1).

    `mask` (B, T) is False on padding *before* the text; what is said there means nothing.
    """
    logits = model(ids[:, :-1], mask=None if mask is None else mask[:, :-1])
    return -F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")


def of_answers(each: Tensor, answer: Tensor) -> Tensor:
    """Log-probability of each answer, summed: (B, T − 1), mask (B, T) -> (B,).

    Raises ValueError where a sequence has no token of an answer (its loss would be that
    of nothing), or begins with one, before which there is nothing to read.
    """
    if answer.shape != (len(each), each.shape[1] + 1):
        raise ValueError(
            f"answer: got shape {tuple(answer.shape)}, wants "
            f"{(len(each), each.shape[1] + 1)}, one more token than log-probabilities"
        )
    if empty := (~answer.any(1)).nonzero()[:, 0].tolist():
        raise ValueError(f"answer: sequences {empty} have no token of an answer")
    if first := answer[:, 0].nonzero()[:, 0].tolist():
        raise ValueError(f"answer: sequences {first} begin with it, before any prompt")
    return each.masked_fill(~answer[:, 1:], 0.0).sum(1)


# --- From pairs --------------------------------------------------------------------


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Loss of each pair of rewards: −log σ(chosen − rejected). Shapes: equal, kept.

    Source: Bradley and Terry (1952); as a reward model's loss Ouyang et al. (2022),
    arXiv:2203.02155.
    """
    finite(chosen=chosen, rejected=rejected)
    return -F.logsigmoid(chosen - rejected)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Direct preference optimisation: the loss of each pair, and its margin.

    −log σ(margin); the margin is the difference of the two implicit rewards
    β (log π(answer) − log π_reference(answer)).

    Args: log-probabilities of whole answers, summed, (B,) each; `beta`, above 0: what a
        nat away from the reference costs.
    Raises: ValueError for another beta, shapes that differ, numbers not finite.
    Source: Rafailov et al. (2023), arXiv:2305.18290, equation 7.
    """
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta: got {beta!r}, wants a number above 0")
    given = {"chosen": chosen, "rejected": rejected}
    given |= {"reference_chosen": reference_chosen}
    given |= {"reference_rejected": reference_rejected}
    if len(shapes := {tuple(x.shape) for x in given.values()}) > 1:
        raise ValueError(f"{', '.join(given)}: got the shapes {sorted(shapes)}")
    finite(**given)
    margin = beta * (chosen - reference_chosen) - beta * (rejected - reference_rejected)
    return -F.logsigmoid(margin), margin


def different(chosen: Tensor, rejected: Tensor) -> None:
    """Raises ValueError naming the pairs of answers (B, T) that are one and the same.

    Such a pair has no gradient, and counts as wrong in every accuracy.
    """
    if chosen.shape != rejected.shape:
        return
    if same := (chosen == rejected).all(1).nonzero()[:, 0].tolist():
        raise ValueError(f"chosen, rejected: pairs {same} have two equal answers")


# --- From rewards ------------------------------------------------------------------


def group_advantages(rewards: Tensor, scaled: bool = True) -> Tensor:
    """How much better than its group each answer is: (P, G) -> (P, G).

    Reward minus the mean of the prompt's G answers; divided by their standard deviation
    if `scaled` (GRPO). Where all G have one reward, all advantages are 0: such a prompt
    teaches nothing.

    Raises ValueError for fewer than two answers, or rewards that are not finite.
    Source: Shao et al. (2024), arXiv:2402.03300, section 4.1; without the division Liu et
    al. (2025), arXiv:2503.20783.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards: got shape {tuple(rewards.shape)}, wants (prompts, answers ≥ 2)"
        )
    finite(rewards=rewards)
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + 1e-6) if scaled else centred


def left_out(rewards: Tensor) -> Tensor:
    """Reward minus the mean of the group's *other* answers: (P, G) -> (P, G).

    A baseline that does not hang on the answer itself leaves the gradient unbiased.
    Source: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!".
    """
    G = rewards.shape[1]
    return group_advantages(rewards, scaled=False) * G / (G - 1)


def reinforce(each: Tensor, answer: Tensor, advantages: Tensor) -> Tensor:
    """REINFORCE: −advantage · log π(answer), the mean of the sequences.

    Its value means nothing; its gradient is that of the expected reward.

    Args: `each` (B, T − 1) of `log_probabilities`; `answer` (B, T); `advantages` (B,).
    Source: Williams (1992).
    """
    finite(advantages=advantages)
    return -(advantages * of_answers(each, answer)).mean()


def clipped(
    each: Tensor,
    before: Tensor,
    answer: Tensor,
    advantages: Tensor,
    epsilon: float = 0.2,
) -> Tensor:
    """PPO's clipped objective, as a loss: mean over tokens in an answer, then answers.

    The ratio of a token's probability now and when it was drawn (`before`) counts up to
    1 ± epsilon: once the policy has moved that far in the wanted direction, the token
    pulls no more.

    Args: as `reinforce`; `before` (B, T − 1) without gradient.
    Raises: ValueError for an epsilon outside (0, 1), or what is not finite.
    Source: Schulman et al. (2017), arXiv:1707.06347, equation 7.
    """
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon: got {epsilon!r}, wants a number between 0 and 1")
    finite(advantages=advantages)
    of_answers(each, answer)  # refuses masks that do not fit
    ratio = (each - before).exp()  # (B, T − 1)
    held = ratio.clamp(1 - epsilon, 1 + epsilon)
    gain = torch.minimum(ratio * advantages[:, None], held * advantages[:, None])
    tokens = answer[:, 1:]
    return -((gain * tokens).sum(1) / tokens.sum(1)).mean()


def divergences(now: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Three estimates of KL(π ‖ π_reference) from samples of π, each of its shape.

    k1 = log π − log π_ref: unbiased, and may be negative. k2 = k1² / 2: biased, small
    scatter. k3 = e^(−k1) − 1 + k1: unbiased and never negative.

    Args: log-probabilities of what was drawn from π, under π and under the reference.
    Source: Schulman (2020), "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    finite(now=now, reference=reference)
    k1 = now - reference
    return {"k1": k1, "k2": k1.square() / 2, "k3": torch.expm1(-k1) + k1}


def finite(**several: Tensor) -> None:
    """Raises ValueError naming the first of several tensors that holds NaN or infinity."""
    for name, values in several.items():
        if not values.isfinite().all():
            at = (~values.isfinite()).nonzero()[0].tolist()
            raise ValueError(f"{name}: not finite at {at}: {values[tuple(at)].item()}")


# --- Answers that a model draws ----------------------------------------------------


@torch.no_grad()
def drawn(
    model: nn.Module,
    prompts: list[list[int]],
    group: int,
    new_tokens: int,
    *,
    eos: list[int],
    pad: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`group` answers to each prompt, at temperature 1.

    Returns ids (P · G, T) with padding on both sides, the mask (P · G, T) that is False
    on the padding before the prompts, and `answer` (P · G, T), True from the first token
    of an answer to the one that ends it. Answers to one prompt are neighbours.
    """
    checks.sizes({"group": group, "new_tokens": new_tokens})
    ids, mask = decoding.pad_left(prompts)
    ids, mask = (x.repeat_interleave(group, 0) for x in (ids, mask))  # (P · G, T)
    step = decoding.cached(model, mask)
    found = decoding.sample(
        step, ids, new_tokens, eos=eos, pad=pad, generator=generator
    )
    new = found[:, ids.shape[1] :]  # (P · G, N)
    ends = torch.isin(new, torch.tensor(eos)).long().cumsum(1)  # 0 before the first end
    answer = (ends - torch.isin(new, torch.tensor(eos)).long()) == 0
    return (
        found,
        F.pad(mask, (0, new.shape[1]), value=True),
        F.pad(answer, (ids.shape[1], 0), value=False),
    )


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that of k answers at least one is right, from n of which `right` were.

    1 − C(n − right, k) / C(n, k): without bias, where 1 − (1 − right / n)^k has one.
    Raises ValueError unless 0 ≤ right ≤ n and 1 ≤ k ≤ n.
    Source: Chen et al. (2021), arXiv:2107.03374.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"n, right, k: got {n}, {right}, {k}")
    return 1 - comb(n - right, k) / comb(n, k)


Reward = Callable[[str, str], float]  # of a prompt and an answer
