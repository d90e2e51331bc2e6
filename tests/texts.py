"""Texts drawn from fixed seeds, for tests that compare two tokenizers.

Six scripts, marks that combine, emoji with joiners and skin tones, all of Unicode's
spaces, code, and bytes that mean nothing.
"""

import random
import sys
import unicodedata
from collections.abc import Callable

SPACES = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()]
SPACES += ["\u180e", "\u200b", "\u2060", "\ufeff"]  # they once were, or look like it
ODD = [
    "\0",
    "\x7f",
    "\u00ad",
    "\ufffd",
    "\ufffe",
    "\U0010ffff",
    "▁",
    "Ġ",
    "<|endoftext|>",
    "<unk>",
    "<s>",
    "<0x0A>",
]
SCRIPTS = {
    "Latin": ((0x41, 0x5B), (0x61, 0x7B), (0x61, 0x7B), (0xC0, 0x180)),
    "Cyrillic": ((0x410, 0x450), (0x430, 0x450), (0x400, 0x460)),
    "Devanagari": ((0x904, 0x93A), (0x93E, 0x94E), (0x966, 0x970)),
    "Japanese": (
        (0x3041, 0x3097),
        (0x30A1, 0x30FB),
        (0x4E00, 0x4E80),
        (0x3001, 0x3003),
    ),
    "Korean": ((0xAC00, 0xAE00), (0xD600, 0xD7A4), (0x1100, 0x1113)),
    "Arabic": ((0x621, 0x63B), (0x641, 0x64B), (0x64B, 0x653), (0x660, 0x66A)),
}
FACES = [chr(c) for c in (*range(0x1F466, 0x1F46A), 0x1F469, 0x1F680, 0x2764, 0x1F44D)]
TONES = [chr(c) for c in range(0x1F3FB, 0x1F400)]
CODE = [
    *("def ", "return ", "for", " in ", "if", "not", "None", "self", "i", "x", "_x"),
    *("=", " == ", "+=", "->", "(", ")", "[", "]", "{", "}", ":", ";", ",", ".", "()"),
    *("\n", "\n    ", "\n        ", "\t", " ", " ", "  ", "'s", "'re", "don't", "I'LL"),
    *("0", "1", "42", "3.14", "0xFF", '"', "'", "# ", "//", "\\n", "\r\n", "==="),
]


def _script(draw: random.Random, name: str) -> str:
    ranges = SCRIPTS[name]
    words = []
    for _ in range(draw.randint(1, 8)):
        letters = [chr(draw.randrange(*draw.choice(ranges))) for _ in range(6)]
        few = letters[: draw.randint(1, 6)]  # few different ones: pairs repeat
        words.append("".join(draw.choices(few, k=draw.randint(1, 9))))
    return draw.choice(["", " ", " "]).join(words + draw.choices(words, k=3))


def _marks(draw: random.Random) -> str:
    marks = [*map(chr, range(0x300, 0x340)), *map(chr, range(0x5B0, 0x5BE)), "\u3099"]
    return "".join(
        draw.choice("eaoAnかはй ") + "".join(draw.choices(marks, k=draw.randint(0, 3)))
        for _ in range(draw.randint(1, 20))
    )


def _emoji(draw: random.Random) -> str:
    def one():
        people = [draw.choice(FACES) + draw.choice(["", *TONES]) for _ in range(3)]
        family = "\u200d".join(people[: draw.randint(1, 3)])
        return family + draw.choice(["", "\ufe0f", "\u200d", " ", " 🇯🇵", "a"])

    return "".join(one() for _ in range(draw.randint(1, 8)))


def _spaces(draw: random.Random) -> str:
    return "".join(
        "".join(draw.choices(SPACES, k=draw.randint(0, 4)))
        + draw.choice(["a", "1", "…"])
        for _ in range(draw.randint(1, 12))
    )


def _code(draw: random.Random) -> str:
    return "".join(draw.choices(CODE, k=draw.randint(1, 40)))


def _bytes(draw: random.Random) -> str:
    return draw.randbytes(draw.randint(0, 60)).decode(errors="replace")


def _runs(draw: random.Random) -> str:
    return "".join(draw.choices("aab もも", k=draw.randint(0, 60)))


def _odd(draw: random.Random) -> str:
    return "".join(draw.choices([*ODD, "a", " ", "も", "한"], k=draw.randint(0, 12)))


def _any(draw: random.Random) -> str:
    """Characters from anywhere in Unicode 3.2: of newer ones libraries know more or less."""
    found = []
    while len(found) < 12:
        character = chr(draw.randrange(0x30000))
        if unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs", "Co"):
            found.append(character)
    return "".join(found)


KINDS: list[Callable[[random.Random], str]] = [
    *(lambda draw, name=name: _script(draw, name) for name in SCRIPTS),
    *(_marks, _emoji, _spaces, _code, _bytes, _runs, _odd, _any),
]


def drawn(number: int, seed: int) -> list[str]:
    """So many texts, every kind equally often; each tenth mixes two kinds."""
    draw = random.Random(seed)
    found = []
    for n in range(number):
        text = KINDS[n % len(KINDS)](draw)
        if n % 10 == 9:
            text += draw.choice(KINDS)(draw)
        found.append(text)
    return found
