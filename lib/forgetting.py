"""What a model loses while it learns something else: one small suite for every chapter.

Three things that a language model could do before: the loss on prose that nothing was
trained on, the choice between a right and a wrong next word, and the answers that it gave
to open questions. `at_gain` compares ways to learn where they have learnt as much.

A model is anything called with ids (B, T) whose output has `logits` (B, T, V).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.choices import choices
from lib.data.origin import EMBEDDED

ROWS = 16  # sequences that go through a model together
LONG = 128  # tokens of a piece of prose
QUESTIONS = (
    "Why do leaves fall in autumn?",
    "Describe a market on a Saturday morning.",
    "How do I make a cup of tea?",
    "What is a library for?",
    "Tell me something about the moon.",
    "Give me advice for a first day at work.",
)


class Suite(NamedTuple):
    """What is measured before and after, as ids.

    Args:
        prose: pieces of text, (N, T).
        choices: (beginning, right word, wrong word), lists of ids.
        spoken: (prompt, answer): what the model itself answered before.
    """

    prose: Tensor
    choices: list[tuple[list[int], list[int], list[int]]] = ()
    spoken: list[tuple[list[int], list[int]]] = ()


def prose(encode: Callable[[str], list[int]], pieces: int, long: int = LONG) -> Tensor:
    """The last pieces of this book's own prose, (pieces, long).

    For rehearsal take the first half of `all_prose`, which has none of them. Raises
    ValueError: more than half of the text is asked for.
    """
    every = all_prose(encode, long)
    if not 1 <= pieces <= len(every) // 2:
        raise ValueError(f"pieces: got {pieces}, wants 1 to {len(every) // 2}")
    return every[-pieces:]


def all_prose(encode: Callable[[str], list[int]], long: int = LONG) -> Tensor:
    """This book's own prose in pieces, (n, long); what is over is left out."""
    ids = encode((EMBEDDED / "prose.txt").read_text(encoding="utf-8"))
    return torch.tensor(ids[: len(ids) // long * long]).view(-1, long)


def suite(
    found: Any, pieces: int = 12, questions: Sequence[str] = QUESTIONS, long: int = 32
) -> Suite:
    """The suite for a chat model of `lib.pretrained`, as it is now.

    Answers to the open questions are the model's likeliest ones, `long` tokens at most:
    build the suite before anything is trained. Raises ValueError where the first tokens
    of a right and a wrong word are the same.
    """

    def encode(text: str) -> list[int]:
        return found.tokenizer.encode(text, add_special_tokens=False)

    rows = [(encode(r["text"]), *(encode(f" {r[k]}") for k in ("right", "wrong")))
            for r in choices()]  # fmt: skip
    for row, (_, right, wrong) in zip(choices(), rows, strict=True):
        if right[0] == wrong[0]:
            raise ValueError(f"choices: one first token for both words of {row}")
    spoken = []
    for question in questions:
        prompt = encode(asked(question))
        ids = torch.tensor([prompt])
        said = found.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=long,
            do_sample=False,
            pad_token_id=0,
        )
        spoken.append((prompt, said[0, len(prompt) :].tolist()))
    return Suite(prose(encode, pieces), rows, spoken)


def asked(question: str) -> str:
    """A question in the chat template of SmolLM2, without its system message."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


@torch.no_grad()
def measured(model: Any, suite: Suite) -> dict[str, list[float]]:
    """The suite's numbers, one for each of its items, so that tests can pair them.

    "prose": nats for a token, by piece; "choices": log P(right) − log P(wrong) of the
    words' first tokens; "spoken": nats for a token of each answer.
    """
    found = {"prose": [], "choices": [], "spoken": []}
    for ids in suite.prose.split(ROWS // 4):
        logits = model(ids).logits[:, :-1]  # (B, T − 1, V)
        nats = F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")  # (B, T − 1)
        found["prose"] += nats.mean(1).tolist()
    starts = [start for start, _, _ in suite.choices]
    words = [(right[0], wrong[0]) for _, right, wrong in suite.choices]
    for (right, wrong), logs in zip(words, next_logs(model, starts), strict=True):
        found["choices"].append((logs[right] - logs[wrong]).item())
    for logs in answer_logs(model, suite.spoken):
        found["spoken"].append(-logs.mean().item())
    return {name: [round(x, 5) for x in values] for name, values in found.items()}


@torch.no_grad()
def next_logs(model: Any, rows: Sequence[list[int]]) -> list[Tensor]:
    """Logits of the token after each row, up to a constant its log-probabilities: (V,)."""
    found = []
    for at in range(0, len(rows), ROWS):
        some = rows[at : at + ROWS]
        ids, _ = padded([(row, [0]) for row in some])  # (B, T), one token too long
        ends = torch.tensor([len(row) - 1 for row in some])  # (B,)
        found += [*model(ids[:, :-1]).logits[torch.arange(len(some)), ends]]
    return found


@torch.no_grad()
def answer_logs(
    model: Any, rows: Sequence[tuple[list[int], list[int]]]
) -> list[Tensor]:
    """log P of each token of an answer after its prompt: (prompt, answer) -> (tokens,).

    Short rows are padded at their end, which a causal model has not read there.
    """
    found: list[Any] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    for at in (order[i : i + ROWS] for i in range(0, len(order), ROWS)):
        ids, labels = padded([rows[i] for i in at])  # (B, T) each
        logits = model(ids).logits[:, :-1]  # (B, T − 1, V)
        asked_for = labels[:, 1:] >= 0  # (B, T − 1)
        for i, row, mask in zip(at, logits, asked_for, strict=True):
            answer = torch.tensor(rows[i][1])[:, None]  # (tokens, 1)
            found[i] = row[mask].log_softmax(-1).gather(-1, answer)[:, 0]
    return found


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Ids and labels (B, T) of (prompt, answer) rows; −100 where nothing is asked for.

    Raises ValueError for an empty prompt or answer: all labels would be masked.
    """
    if not all(len(p) and len(a) for p, a in rows) or not len(rows):
        raise ValueError("rows: got an empty prompt or answer, wants tokens in both")
    T = max(len(p) + len(a) for p, a in rows)
    ids, labels = (
        torch.zeros(len(rows), T, dtype=torch.long),
        torch.full((len(rows), T), -100),
    )
    for i, (prompt, answer) in enumerate(rows):
        full = torch.tensor([*prompt, *answer])
        ids[i, : len(full)] = full
        labels[i, len(prompt) : len(full)] = full[len(prompt) :]
    return ids, labels


def summary(found: dict[str, list[float]]) -> dict[str, float]:
    """Means: nats of prose and of former answers, and the share of right choices."""
    right = [x > 0 for x in found["choices"]]
    means = {k: found[k] for k in ("prose", "spoken") if found[k]}
    means |= {"choices": right} if right else {}
    return {name: sum(values) / len(values) for name, values in means.items()}


def at_gain(path: Sequence[tuple[float, float]], wanted: float) -> float:
    """What was forgotten when so much was first gained: straight lines between looks.

    `path` holds (gained, forgotten) in the order of training. nan where the gain is never
    reached. Raises ValueError for an empty path.
    """
    if not len(path):
        raise ValueError("path: got no look, wants at least one")
    last = None
    for gained, forgotten in path:
        if gained >= wanted:
            if last is None or gained == last[0]:
                return float(forgotten)
            share = (wanted - last[0]) / (gained - last[0])
            return float(last[1] + share * (forgotten - last[1]))
        last = gained, forgotten
    return float("nan")
