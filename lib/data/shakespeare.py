"""Tiny Shakespeare, or this book's own English prose."""

import hashlib
from pathlib import Path

from lib.data.origin import EMBEDDED, DataError, Dataset, Unreachable, fetch_file

DIGEST = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
ORIGIN = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare"
)
FILE = "tinyshakespeare.txt"  # at the origin: input.txt


def tiny_shakespeare() -> Dataset:
    """Parts of Shakespeare's plays in one text: one row of title, content.

    1,115,394 characters, 65 different ones, as the character models of the field use
    them: the first 90 % to train, the rest to validate. Where the file cannot be
    reached, the book's own English prose stands in; `is_full` is then False and
    `notice` says why.

    Raises:
        DataError: the file is there and is another.
    """
    try:
        text, notice = fetch_file(FILE, ORIGIN, read, "input.txt")
        source, is_full = f"{ORIGIN}/input.txt", True
    except Unreachable as error:
        text = (EMBEDDED / "prose.txt").read_text(encoding="utf-8")
        source, is_full = "the embedded default, this book's own prose", False
        notice = f"not the full text, because {error}"
    return Dataset(
        name="tiny-shakespeare",
        source=source,
        licence="public domain" if is_full else "CC BY 4.0",
        is_full=is_full,
        rows=[{"title": "tiny Shakespeare", "content": text}],
        notice=notice,
        unit="text",
    )


def read(path: Path) -> str:
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != DIGEST:
        raise DataError(f"expected sha256 {DIGEST}, got {digest}")
    return content.decode()
