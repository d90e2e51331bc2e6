"""Gaps in a Japanese sentence that an encoder fills.

The element of `hybrid-architecture` and of `masked-lm`, each with its own encoder.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lib import kana, weights
from lib.live.element import Live, table
from lib.models.masked import MaskedLanguageModel
from lib.models.modernbert import ModernBert
from lib.tokenizers import sentencepiece

FILES = (
    ("hybrid", "model.safetensors", ""),
    ("sentencepiece", "unigram-8000-bytes.model", ""),
    ("masked-lm", weights.TENSORS, ""),
)
GAP, START, END = "[MASK]", 1, 2  # in a text; <s> and </s>
TITLE = 32  # pieces of a title, where the training has no limit of its own


Logits = Callable[[Tensor, Tensor], Tensor]  # ids and where, (1, T) -> (gaps, V)


def model(checkpoint: str = "hybrid") -> tuple[Logits, dict]:
    """A shipped encoder in float32, and what is to be known of it and of its texts.

    For the browser: its sizes; how many pieces a title and a body have; whether a
    short title is filled up, or an article begins and ends in <s> and </s>.
    Checkpoints: "hybrid", or one of `train.masked_lm`.
    """
    card = weights.card(checkpoint)["config"]
    state = {k: v.float() for k, v in weights.tensors(checkpoint).items()}
    if checkpoint == "hybrid":
        found = MaskedLanguageModel(**card["model"]).eval()
        names = ("num_heads", "base", "block", "window", "global_tokens")
        layout = {"title": card["title"], "body": card["body"], "filled": True}
    else:
        found = ModernBert(**card["model"]).eval()
        state["decoder.weight"] = state["model.embeddings.tok_embeddings.weight"]
        names = ("num_heads", "window", "local_base", "global_base")
        body = card["length"] - TITLE - 3  # <s>, and </s> after both
        layout = {"title": TITLE, "body": body, "filled": False}
    found.load_state_dict(state)
    config = {name: card["model"][name] for name in names}
    data = {"config": config, "mask": card["mask"], "start": START, "end": END}
    return lambda ids, at: found(ids, None, at), data | layout


def encoded(pieces, layout: dict, title: str, body: str) -> list[int]:
    """The ids of a title and of a body with its gaps, laid out as in training."""
    head, ids = pieces.encode(title)[: layout["title"]], []
    for number, part in enumerate(body.split(GAP)):
        found = pieces.encode(part)
        # A ▁ stands before a text, not before what follows a gap.
        if number and found and pieces.id_to_piece(found[0]) == sentencepiece.SPACE:
            found = found[1:]
        ids += [layout["mask"]] * bool(number) + found
    ids = ids[: layout["body"]]
    if layout["filled"]:
        return head + [layout["end"]] * (layout["title"] - len(head)) + ids
    return [layout["start"], *head, *[layout["end"]] * bool(head), *ids, layout["end"]]


@torch.no_grad()
def fill(examples: list[tuple[str, str, str]], checkpoint: str = "hybrid") -> Live:
    """The element, and its story: the five likeliest pieces of each gap.

    `examples` are (title, body with gaps, reading and meaning); `checkpoint` as in
    `model`. Raises ValueError for an example without a gap.
    """
    logits, layout = model(checkpoint)
    pieces = sentencepiece.load(weights.path(*FILES[1][:2]))
    rows = []
    for title, body, meaning in examples:
        if GAP not in body:
            raise ValueError(f"examples: {body!r} has no {GAP}")
        ids = torch.tensor([encoded(pieces, layout, title, body)])  # (1, T)
        for row in logits(ids, ids == layout["mask"]).softmax(-1):  # (gaps, V)
            best = zip(*(found.tolist() for found in row.topk(5)), strict=True)
            told = [f"{kana.gloss(pieces.id_to_piece(i))} {p:.0%}" for p, i in best]
            rows.append((body, meaning, ", ".join(told)))
    story = table(("sentence", "reading and meaning", "likeliest pieces"), rows)
    data = {"name": "Gaps are filled", "examples": examples, "readings": kana.WORDS}
    data |= {"sounds": kana.SOUNDS, "small": kana.SMALL}
    files = (checkpoint, weights.TENSORS, ""), FILES[1]
    return Live("fill", files, data | layout, story)
