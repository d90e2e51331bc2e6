"""Short answers: what a chat model is taught in the chapter on adapters, and its score.

The items of `lib.data.tasks` as questions in a chat, each with one word as its answer.
What is forgotten meanwhile is measured in `lib.forgetting`.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.tasks import TASKS, task
from lib.forgetting import asked, padded

QUESTIONS = {
    "antonyms": "What is the opposite of “{input}”?",
    "past tense": "What is the past tense of “{input}”?",
    "sentiment": "Is this review positive or negative? {input}",
    "topic": "Is this about food, music, sports or weather? {input}",
}
END = "<|im_end|>"
TESTED, TUNED = 10, 6  # items of each task to test, and to stop and choose by
Row = tuple[list[int], list[int]]


def split() -> dict[str, list[tuple[str, str, str]]]:
    """(task, question, answer) of "train", "dev" and "test": the same for everyone.

    Ten items of each task to test, six to tune by, the others to train on.
    """
    found: dict[str, list] = {"test": [], "dev": [], "train": []}
    for name in TASKS:
        rows = [
            (name, QUESTIONS[name].format(input=r["input"]), r["label"])
            for r in task(name)
        ]
        random.Random(0).shuffle(rows)
        found["test"] += rows[:TESTED]
        found["dev"] += rows[TESTED : TESTED + TUNED]
        found["train"] += rows[TESTED + TUNED :]
    return found


def rows(encode: Callable[[str], list[int]], items: Sequence[tuple]) -> list[Row]:
    """(prompt, answer) ids of items; an answer ends with the token that ends a turn."""
    return [(encode(asked(q)), encode(f"{label}{END}")) for _, q, label in items]


def batch(
    train: Sequence[Row], size: int, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Ids and labels (B, T) of a step: drawn from (seed, step) alone."""
    return padded(random.Random(f"{seed} {step}").sample(list(train), size))


def loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean nats for a token of the answers; ids, labels (B, T) -> ().

    Raises ValueError where no label is left: a mean of nothing.
    """
    if not (labels[:, 1:] >= 0).any():
        raise ValueError(
            "labels: all are masked, and the loss would be a mean of nothing"
        )
    logits = model(ids).logits[:, :-1]  # (B, T − 1, V)
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


@torch.no_grad()
def score(model: Any, rows: Sequence[Row], size: int = 8) -> dict[str, list[float]]:
    """For each row the nats of its answer, and whether the likeliest answer is this one.

    The likeliest token at each place after the right ones before: all right exactly where
    greedy decoding writes the answer and ends the turn.
    """
    nats, exact = [0.0] * len(rows), [0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
    for at in (order[i : i + size] for i in range(0, len(order), size)):
        ids, labels = padded([rows[i] for i in at])
        logits = model(ids).logits[:, :-1]  # (B, T − 1, V)
        for i, row, mask in zip(at, logits, labels[:, 1:] >= 0, strict=True):
            answer, told = torch.tensor(rows[i][1]), row[mask]  # (tokens,), (tokens, V)
            nats[i] = round(F.cross_entropy(told, answer, reduction="sum").item(), 5)
            exact[i] = int((told.argmax(-1) == answer).all())
    return {"nats": nats, "exact": exact}
