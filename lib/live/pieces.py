"""A text cut by several tokenizers: the element of the two chapters on tokenizers."""

import html
from collections.abc import Callable, Mapping, Sequence

from lib import weights
from lib.live.element import Live, table
from lib.tokenizers import bpe, presplit, sentencepiece

SIZES = (4_000, 8_000, 16_000, 32_000)
MODELS = {f"{n:,} entries": f"unigram-{n}-bytes.model" for n in SIZES}
FILES = tuple(("sentencepiece", file, "") for file in MODELS.values())
Merges = Sequence[tuple[str, str]]


def pieces(
    text: str, reading: str, models: Mapping[str, str | Merges] = MODELS
) -> Live:
    """The element, and its story: the pieces of `text` by each of the `models`.

    A model is the file of a SentencePiece model that the book ships, or the merges of
    a byte-level BPE in their order, as `lib.tokenizers.bpe.train` gives them: they
    travel in the page. Raises ValueError for an empty text and for no model.
    """
    if not text.strip():
        raise ValueError("text: got nothing but spaces, wants a sentence")
    if not models:
        raise ValueError("models: got none, wants at least one")
    rows = []
    for name, model in models.items():
        found = _cut(model)(text)
        rows.append((name, str(len(found)), " | ".join(found)))
    story = f"<p>{html.escape(text)} ({html.escape(reading)}):</p>\n" + table(
        ("tokenizer", "tokens", "pieces"), rows
    )
    files = [model for model in models.values() if isinstance(model, str)]
    known = {
        name: {"file": model}
        if isinstance(model, str)
        else {"merges": "\n".join(map(" ".join, model))}  # as GPT-2's merges.txt
        for name, model in models.items()
    }
    data = {"name": "A text is cut into pieces", "models": known, "text": text}
    return Live("pieces", tuple(("sentencepiece", f, "") for f in files), data, story)


def _cut(model: str | Merges) -> Callable[[str], list[str]]:
    if isinstance(model, str):
        processor = sentencepiece.load(weights.path("sentencepiece", model))
        return lambda text: sentencepiece.pieces(processor, text)
    ranks = bpe.ranks(model)
    return lambda text: [
        readable(piece)
        for word in presplit.byte_words(text)
        for piece in bpe.merged(word, ranks)
    ]


def readable(piece: str) -> str:
    """A piece of bytes as text, or as its bytes where it is no whole character."""
    raw = presplit.raw(piece)
    text = presplit.decode(raw)
    return raw.hex(" ").upper() if "\ufffd" in text else text.replace(" ", "␣")
