"""Vectors from a model of this package: of a text, and of a word in its sentence."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.pretrained.origin import Pretrained

BATCH = 32  # sentences that go through a model together


def sentence_vectors(found: Pretrained, texts: Sequence[str], length: int) -> Tensor:
    """Each text's last hidden states, averaged over its tokens, at length one: (N, D).

    The first and the last token, which the tokenizer adds, count as the others do;
    padding does not. A text is cut after `length` tokens.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts: expected a list of strings, got the string {texts!r}")
    parts = []
    for start in range(0, len(texts), BATCH):
        batch = found.tokenizer(
            list(texts[start : start + BATCH]),
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        with torch.no_grad():
            hidden = found.model(**batch).last_hidden_state  # (B, T, D)
        mask = batch["attention_mask"][..., None]  # (B, T, 1)
        mean = (hidden * mask).sum(1) / mask.sum(1)  # (B, D)
        parts.append(F.normalize(mean, dim=-1))
    return torch.cat(parts)


def token_states(
    found: Pretrained, sentence: str
) -> tuple[Tensor, list[tuple[int, int]]]:
    """What every layer makes of one sentence: (layers + 1, T, D), and where tokens stand.

    The first is the embedding. The last of a Llama, such as SmolLM2, has been through
    its final norm. A token stands at the characters ``sentence[start:end]``; one that
    the tokenizer adds stands at (0, 0).
    """
    states, spans, _ = _states(found, [sentence])
    return states[:, 0], spans[0]


def word_states(
    found: Pretrained, sentences: Sequence[str], spans: Sequence[tuple[int, int]]
) -> Tensor:
    """One word of each sentence, as every layer has it: (layers + 1, N, D).

    A word is the characters ``sentence[start:end]`` of its span. Its vector is the mean
    over the tokens that share a character with it. Padding changes nothing.

    Raises:
        ValueError: there is not one span for each sentence, or no token in a span.
    """
    if len(sentences) != len(spans):
        raise ValueError(f"{len(sentences)} sentences, but {len(spans)} spans")
    parts = []
    for at in range(0, len(sentences), BATCH):
        batch = list(sentences[at : at + BATCH])
        states, tokens, mask = _states(found, batch)
        inside = torch.zeros(mask.shape, dtype=torch.bool)  # (B, T)
        for row, (start, end) in enumerate(spans[at : at + BATCH]):
            for column, (first, last) in enumerate(tokens[row]):
                inside[row, column] = max(first, start) < min(last, end)
            if not inside[row].any():
                raise ValueError(f"no token at {(start, end)} of {batch[row]!r}")
        share = inside / inside.sum(-1, keepdim=True)  # (B, T)
        parts.append(torch.einsum("lbtd,bt->lbd", states, share))
    return torch.cat(parts, dim=1)


def _states(
    found: Pretrained, sentences: list[str]
) -> tuple[Tensor, list[list[tuple[int, int]]], Tensor]:
    """States (layers + 1, B, T, D), the characters of each token, the mask (B, T)."""
    batch = found.tokenizer(
        sentences,
        padding=True,
        padding_side="right",
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    spans = [[tuple(span) for span in row] for row in batch["offset_mapping"].tolist()]
    mask = batch["attention_mask"]
    with torch.no_grad():
        out = found.model(
            input_ids=batch["input_ids"], attention_mask=mask, output_hidden_states=True
        )
    return torch.stack(out.hidden_states), spans, mask
