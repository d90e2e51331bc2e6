"""Before BPE: text to words, words to bytes, bytes to visible characters, and back.

GPT-2's two steps. Its pattern cuts the text where no token may cross; each byte of a
word then becomes one of 256 visible characters, so that BPE meets strings only.
"""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import regex

# A contraction; a run of letters, of digits or of other signs, each with one space
# before it; white space, of which the last is left for the word that follows.
GPT2 = regex.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def split(text: str) -> list[str]:
    """Cut `text` as GPT-2 does; the parts together are the text.

    What is a letter, Unicode says: of its newest signs two libraries may know different
    ones. Source: Radford et al. (2019), the pattern of their ``encoder.py``.
    """
    return GPT2.findall(text)


def _byte_characters() -> list[str]:
    """The 188 bytes that are visible in Latin-1 stand for themselves; others move up."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (byte for byte in range(256) if byte not in visible)
    moved = {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [moved.get(byte, chr(byte)) for byte in range(256)]


CHARACTERS = _byte_characters()  # of byte 0, 1, 2 …
_TO_CHARACTERS = dict(enumerate(CHARACTERS))
_TO_BYTES = {ord(character): byte for byte, character in enumerate(CHARACTERS)}


def visible(data: bytes) -> str:
    """One visible character for each byte: a space is Ġ, a line end Ċ."""
    return data.decode("latin-1").translate(_TO_CHARACTERS)


def raw(characters: str) -> bytes:
    """The bytes that `visible` made `characters` of.

    Raises:
        ValueError: a character is none of the 256.
    """
    try:
        return characters.translate(_TO_BYTES).encode("latin-1")
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        raise ValueError(f"characters: {wrong!r} stands for no byte") from None


def byte_words(text: str) -> list[str]:
    """The words of `text` in visible bytes: what GPT-2's merges work on.

    Raises:
        ValueError: a lone surrogate, which UTF-8 cannot write.
    """
    try:
        return [visible(word.encode()) for word in split(text)]
    except UnicodeEncodeError:
        at = re.search("[\ud800-\udfff]", text).start()
        raise ValueError(f"text: {text[at]!r} at {at} is a lone surrogate") from None


def count(
    texts: Iterable[str], words: Callable[[str], list[str]] = byte_words
) -> Counter[str]:
    """How often each word stands in the texts.

    `words` cuts a text; ``lambda text: [text]`` leaves it whole.
    """
    return Counter(word for text in texts for word in words(text))


def decode(data: bytes) -> str:
    """The text of UTF-8 bytes; each part that is no UTF-8 becomes a � (U+FFFD)."""
    return data.decode(errors="replace")


def stream(parts: Iterable[bytes]) -> Iterator[str]:
    """The text that each part completes, for tokens that arrive one by one.

    Bytes of an unfinished character wait for the next part; what still waits at the
    end comes as �. Joined, the texts are `decode` of all bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for part in parts:
        yield decoder.decode(part)
    if rest := decoder.decode(b"", final=True):
        yield rest
