"""Prompts with examples, and how likely a model finds each label after them.

Built in `language/in-context`. A template (`lib.data.tasks.FORMATS`) ends with its label;
a *question* is an item up to the label, and the label's first token holds the space
before it. Models are those of `transformers` that keep a `DynamicCache`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

ROWS = 32  # read at once: each holds a copy of the demonstrations' keys and values
CONTENT_FREE = ("N/A", "[MASK]", "")  # inputs that say nothing; Zhao et al. (2021)


# --- Text --------------------------------------------------------------------------


def question(template: str, text: str) -> str:
    """An item up to its label: "hot ->". Raises ValueError for another template."""
    start, label, rest = template.partition("{label}")
    if "{input}" not in start or not label or rest:
        raise ValueError(
            f"template: got {template!r}, wants {{input}} and, at its end, {{label}}"
        )
    return start.rstrip().replace("{input}", text)


def demonstrations(template: str, rows: Sequence[tuple[str, str]]) -> str:
    """Answered items, each with a line's end: (input, label) pairs -> text.

    Templates of several lines have an empty line between the items.
    """
    gap = "\n\n" if "\n" in template else "\n"
    return "".join(f"{question(template, x)} {label}{gap}" for x, label in rows)


# --- Scores ------------------------------------------------------------------------


@torch.no_grad()
def remember(model: Any, ids: Sequence[int]) -> DynamicCache:
    """The keys and values of a prompt, computed once. No ids: an empty cache."""
    if not len(ids):
        return DynamicCache()
    return model(torch.tensor([[*ids]]), use_cache=True, logits_to_keep=1)[1]


def copies(past: DynamicCache, B: int) -> DynamicCache:
    """A cache of its own for B rows, each with the same past."""
    found = DynamicCache()
    for i, layer in enumerate(past.layers):
        key, value = (x.expand(B, -1, -1, -1) for x in (layer.keys, layer.values))
        found.update(key, value, i)  # (B, H, T, d)
    return found


@torch.no_grad()
def next_logs(model: Any, past: DynamicCache, rows: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of the token after the past and each row: (N, V).

    Short rows are padded at their end, which a causal model has not read when it
    answers. Raises ValueError for an empty row and for more tokens than the model reads.
    """
    if not all(len(row) for row in rows) or not len(rows):
        raise ValueError("rows: got an empty one, wants at least one token in each")
    total, limit = (
        past.get_seq_length() + max(map(len, rows)),
        model.config.max_position_embeddings,
    )
    if total > limit:
        raise ValueError(f"rows: {total} tokens in all, the model reads {limit}")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = torch.empty(len(rows), model.config.vocab_size)
    for at in (order[i : i + ROWS] for i in range(0, len(order), ROWS)):
        ends = torch.tensor([len(rows[i]) - 1 for i in at])  # (B,)
        ids = torch.zeros(len(at), int(ends.max()) + 1, dtype=torch.long)
        for row, i in zip(ids, at, strict=True):
            row[: len(rows[i])] = torch.tensor(rows[i])
        hidden = model.model(ids, past_key_values=copies(past, len(at)))[0]  # (B, T, D)
        logits = model.lm_head(hidden[torch.arange(len(at)), ends])  # (B, V)
        found[at] = logits.log_softmax(-1)
    return found


def label_logs(
    model: Any,
    past: DynamicCache,
    questions: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
) -> Tensor:
    """log P(label | past, question), the sum over the label's tokens: (N, L).

    Each different beginning of a label is read once for all labels that share it, so
    labels of one token cost a single pass. Raises as `next_logs`, and ValueError for a
    label without tokens.
    """
    if not all(len(label) for label in labels) or not len(labels):
        raise ValueError("labels: got an empty one, wants at least one token in each")
    total = torch.zeros(len(questions), len(labels))
    for known in {tuple(label[:i]) for label in labels for i in range(len(label))}:
        logs = next_logs(model, past, [[*q, *known] for q in questions])  # (N, V)
        for j, label in enumerate(labels):
            if len(label) > len(known) and tuple(label[: len(known)]) == known:
                total[:, j] += logs[:, label[len(known)]]
    return total


def calibrated(logs: Tensor, free: Tensor) -> Tensor:
    """Log-probabilities of labels, (N, L), less those after content-free inputs (M, L).

    Source: Zhao et al. (2021), arXiv:2102.09690: the mean of the M distributions over
    the labels, and W = diag of one over it, b = 0.
    """
    return logs - free.softmax(-1).mean(0).log()
