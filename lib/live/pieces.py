"""A text cut by vocabularies of several sizes: the element of `sentencepiece-livedoor`."""

import html

from lib import weights
from lib.live.element import Live
from lib.tokenizers import sentencepiece

SIZES = (4_000, 8_000, 16_000, 32_000)
FILES = tuple(("sentencepiece", f"unigram-{n}-bytes.model", "") for n in SIZES)


def pieces(text: str, reading: str) -> Live:
    """The element, and its story: the pieces of `text` under each vocabulary.

    Raises ValueError for an empty text.
    """
    if not text.strip():
        raise ValueError("text: got nothing but spaces, wants a sentence")
    rows = []
    for size, (checkpoint, file, _) in zip(SIZES, FILES, strict=True):
        processor = sentencepiece.load(weights.path(checkpoint, file))
        found = sentencepiece.pieces(processor, text)
        rows.append((f"{size:,}", str(len(found)), " ".join(found)))
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    story = (
        f"<p>{html.escape(text)} ({html.escape(reading)}):</p>\n<table><thead><tr>"
        "<th>vocabulary</th><th>tokens</th><th>pieces</th></tr></thead>"
        f"<tbody>{cells}</tbody></table>"
    )
    data = {"name": "A text is cut into pieces", "sizes": SIZES, "text": text}
    return Live("pieces", FILES, data, story)
