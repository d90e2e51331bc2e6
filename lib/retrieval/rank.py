"""Rankings joined, and put into a new order by a language model."""

from collections.abc import Sequence
from typing import Any

import torch

from lib import prompts

ASK = "\n\nQuestion about this text:"  # stands between a passage and the question


def fuse(rankings: Sequence[Sequence[int]], k: int = 60) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: each ranking gives an item 1 / (k + its rank from 1).

    Rankings are lists of items, best first, of any lengths; scores are not needed, so
    they need no common scale. Best first; of equals the one that was met first.

    Raises:
        ValueError: no ranking, an item twice in one, or k below 0.
    Source: Cormack, Clarke and Büttcher (2009).
    """
    if not len(rankings) or k < 0:
        raise ValueError(f"rankings, k: got {len(rankings)} and {k}; wants ≥ 1 and ≥ 0")
    total: dict[int, float] = {}
    for ranking in rankings:
        if len(set(ranking)) < len(ranking):
            raise ValueError("rankings: an item stands twice in one of them")
        for rank, item in enumerate(ranking, 1):
            total[item] = total.get(item, 0.0) + 1 / (k + rank)
    return sorted(total.items(), key=lambda pair: -pair[1])


@torch.no_grad()
def question_logs(
    model: Any, encode: Any, passage: str, questions: Sequence[str]
) -> list[float]:
    """log P(question | passage) for each question: the sum over its tokens, in nats.

    The passage is read once; each question goes on from its keys and values.

    Raises ValueError for no question, and for an empty one.
    Source: Ponte and Croft (1998); Sachan et al. (2022), arXiv:2204.07496.
    """
    if not questions or not all(question.strip() for question in questions):
        raise ValueError("questions: got none or an empty one, wants texts")
    *start, last = encode(passage + ASK)
    past = prompts.copies(prompts.remember(model, start), len(questions))
    rows = [[last, *encode(f" {question}")] for question in questions]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [last] * (longest - len(row)) for row in rows])  # (N, T)
    logs = model(ids, past_key_values=past).logits.log_softmax(-1)  # (N, T, V)
    said = logs[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]  # (N, T − 1)
    return [float(x[: len(row) - 1].sum()) for x, row in zip(said, rows, strict=True)]
