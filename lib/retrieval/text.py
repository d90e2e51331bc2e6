"""From text to what is searched: terms, and passages of about equal length.

Latin words lose their plural *s*; a run of Japanese or Chinese becomes its pairs of
neighbouring characters, since these scripts put no space between words.
"""

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from lib.retrieval.book import Section

CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
RUN = re.compile(rf"[{CJK}]+|\d+(?:[.,]\d+)+|[^\W_{CJK}]+")
# Words that nearly every passage and every question has.
STOP = frozenset(
    re.split(
        r"\s+",
        """a about all an and are as at be been but by can could did do does done for from had
    has have how i if in into is it its many may me more most much must my no nor not of on
    one only or our out over s shall should so some such t than that the their them then
    there these they this those to was we were what when where which who whom whose why will
    with would you your""",
    )
)
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")


@dataclass(frozen=True)
class Passage:
    """A piece of a section: `place` is the section's, `number` counts from 0 in it."""

    place: str
    number: int
    heading: str
    text: str

    @property
    def whole(self) -> str:
        """What is searched: the heading, then the text."""
        return f"{self.heading}\n{self.text}"


def terms(text: str) -> list[str]:
    """The terms of a text in their order, repeats included; stop words are left out.

    "The 7,367 articles of 東京都" -> 7,367 · article · 東京 · 京都. Numbers keep their
    commas and points. Forms of one character are made one (NFKC), letters small.
    """
    found = []
    for run in RUN.findall(unicodedata.normalize("NFKC", text).lower()):
        if re.match(f"[{CJK}]", run):
            found += bigrams(run)
        elif run not in STOP:
            found.append(singular(run))
    return found


def bigrams(run: str) -> list[str]:
    """Neighbouring pairs of characters; a lone character stands for itself."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


def singular(word: str) -> str:
    """A word without its plural: queries -> query, heads -> head, loss -> loss.

    The three rules of Harman's S-stemmer (1991); words of up to three letters stay.
    """
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


def chunk(sections: Iterable[Section], words: int = 120) -> list[Passage]:
    """Each section as passages of about equal length, at most `words` words where it can.

    Cut between sentences; a sentence that is longer is a passage by itself. The heading
    is the chapter's title and the section's. No passage reaches over two sections.

    Raises:
        ValueError: `words` is below 1, or there is no section.
    """
    if words < 1:
        raise ValueError(f"words: got {words}, wants at least 1")
    found = []
    for section in sections:
        heading = " · ".join(dict.fromkeys((section.chapter, section.title)))
        parts = packed(sentences(section.text), words)
        found += [Passage(section.place, i, heading, p) for i, p in enumerate(parts)]
    if not found:
        raise ValueError("sections: got none, wants at least one")
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a text; what stands on a line of its own is one, too."""
    return [part.strip() for part in SENTENCE.split(text) if part and part.strip()]


def packed(sentences: list[str], words: int) -> list[str]:
    """Sentences in groups of up to `words` words, the groups about equally long."""
    lengths = [len(s.split()) for s in sentences]
    total = sum(lengths)
    groups = max(1, math.ceil(total / words))
    target, found, held, size = total / groups, [], [], 0
    for sentence, length in zip(sentences, lengths, strict=True):
        late = size + length > words or size + length / 2 > target
        if held and late:
            found.append(" ".join(held))
            held, size = [], 0
        held.append(sentence)
        size += length
    return [*found, " ".join(held)]
