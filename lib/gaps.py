"""Hidden tokens of a text: which are chosen, what stands in their place, who fills them.

The models that fill them live in `models`; here is what they are trained and judged on.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.checks import whole

KEPT, RANDOM = 0.1, 0.1  # of the chosen tokens; the others become [MASK]
CONTROL = 3  # <unk>, <s>, </s>: never chosen, never drawn


def chosen(ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Which tokens a model shall predict: bool, the shape of `ids`.

    Each is chosen with probability `share`, whatever happens to the others, but never
    a control token (ids 0 to 2).

    Raises ValueError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: got {share!r}, wants a number from 0 to 1")
    return (torch.rand(ids.shape, generator=generator) < share) & (ids >= CONTROL)


def corrupted(ids: Tensor, at: Tensor, mask: int, generator: torch.Generator) -> Tensor:
    """What the model reads: of the tokens `at`, 80 % are `mask`, 10 % random, 10 % kept.

    The random ones are any ids from 3 to `mask` − 1, each as likely as the others.

    Shapes: ids and at (...), the result as they. Source: Devlin et al. (2019), section
    3.1 and appendix A.1.
    """
    whole("mask", mask, CONTROL + 1)
    fate = torch.rand(ids.shape, generator=generator)
    drawn = torch.randint(CONTROL, mask, ids.shape, generator=generator)
    seen = torch.where(at & (fate >= KEPT), mask, ids)
    return torch.where(at & (fate >= KEPT) & (fate < KEPT + RANDOM), drawn, seen)


def hidden_loss(model, seen: Tensor, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (nats) of the tokens `at`: its sum, and how many they are."""
    return F.cross_entropy(model(seen, None, at), ids[at], reduction="sum"), at.sum()


@dataclass(frozen=True)
class Exam:
    """Texts whose gaps are the same for everybody who fills them.

    ids, seen (N, T): the texts, and what a model reads, [MASK] at every gap. at, real
    (N, T), bool: the gaps, and what is no padding. article (N,): whose text a row is.
    """

    ids: Tensor
    seen: Tensor
    at: Tensor
    real: Tensor
    article: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> Tensor:
        """The hidden tokens, (M,)."""
        return self.ids[self.at]

    @property
    def owner(self) -> Tensor:
        """The article of each gap, (M,)."""
        return self.article[:, None].expand_as(self.at)[self.at]

    def first(self, number: int) -> "Exam":
        """The first rows alone."""
        parts = (self.ids, self.seen, self.at, self.real, self.article)
        return Exam(*(part[:number] for part in parts))


def exam(
    articles: list[Tensor],
    length: int,
    mask: int,
    *,
    share: float = 0.15,
    stretches: int = 1,
    seed: int = 2_026,
    masks: int | None = None,
) -> Exam:
    """Some stretches of each article, at places and with gaps that the seed decides.

    With `masks`, another seed, the same stretches have other gaps.

    An article of fewer tokens than `length` is taken whole and filled up with `mask`.
    Here every gap is [MASK], as in use: a random or kept token would test something else.

    Args: articles, ids (n,) each; length, T of a row; share, the probability of a gap.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, owners = [], []
    for number, article in enumerate(articles):
        for _ in range(stretches):
            room = max(len(article) - length, 0) + 1
            first = int(torch.randint(room, (), generator=generator))
            row = article[first : first + length]
            rows.append(F.pad(row, (0, length - len(row)), value=-1))
            owners.append(number)
    ids = torch.stack(rows)  # (N, T)
    if masks is not None:
        generator.manual_seed(masks)
    real = ids >= 0
    at = chosen(ids, share, generator)  # padding, −1, is not chosen
    ids = ids.masked_fill(~real, mask)
    return Exam(ids, ids.masked_fill(at, mask), at, real, torch.tensor(owners))


@torch.no_grad()
def filled(model, exam: Exam, rows: int = 32) -> tuple[Tensor, Tensor]:
    """What a model makes of each gap: its loss in nats, and the rank of what stood there.

    A rank of 0 is the model's first choice. Returns (M,) and (M,).
    """
    losses, ranks = [], []
    parts = (exam.ids, exam.seen, exam.at, exam.real)
    for ids, seen, at, real in zip(*(part.split(rows) for part in parts), strict=True):
        logits = model(seen, None if real.all() else real, at).float()  # (m, V)
        loss, rank = judged(logits.log_softmax(-1), ids[at])
        losses.append(loss)
        ranks.append(rank)
    return torch.cat(losses), torch.cat(ranks)


def judged(log_shares: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and ranks (M,) of `targets` (M,) by log-probabilities (M, V).

    Where another token is exactly as likely, the target ranks behind it.
    """
    own = log_shares.gather(-1, targets[:, None])  # (M, 1)
    return -own[:, 0], (log_shares >= own).sum(-1) - 1
