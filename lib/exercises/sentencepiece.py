"""The exercises of the SentencePiece chapter: right answers, and the wrong ones named."""

import math
import re
from collections import Counter
from itertools import groupby

from lib.exercise import Exercise

# --- decode: pieces back to text --------------------------------------------------------

_BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _characters(match: re.Match) -> str:
    return bytes.fromhex("".join(_BYTE.findall(match[0]))).decode()


def _one_by_one(match: re.Match) -> str:
    return "".join(chr(int(byte, 16)) for byte in _BYTE.findall(match[0]))


def _joined(pieces: list[str], glue: str = "") -> str:
    """The pieces with `glue` between them, runs of byte pieces made characters."""
    runs = groupby(pieces, lambda piece: bool(_BYTE.fullmatch(piece)))
    parts = [["".join(run)] if is_byte else list(run) for is_byte, run in runs]
    return _BYTES.sub(_characters, glue.join(part for run in parts for part in run))


def _decode(pieces: list[str]) -> str:
    return _joined(pieces).replace("▁", " ").removeprefix(" ")


decode = Exercise(
    correct=_decode,
    mistakes={
        "you join with spaces: a space in the text is a ▁ in a piece, and between two "
        "pieces there is nothing": lambda p: (
            _joined(p, " ").replace("▁", " ").removeprefix(" ")
        ),
        "the ▁ is still there: it stands for a space": _joined,
        "you delete the ▁: inside a text it stands for a space": lambda p: _joined(
            p
        ).replace("▁", ""),
        "the ▁ that the tokenizer put before the first word has become a space": (
            lambda p: _joined(p).replace("▁", " ")
        ),
        "byte pieces are left as they are written: join their bytes, then decode UTF-8": (
            lambda p: "".join(p).replace("▁", " ").removeprefix(" ")
        ),
        "each byte piece became a character of its own: three bytes together are one "
        "Japanese character in UTF-8": lambda p: (
            _BYTES.sub(_one_by_one, "".join(p)).replace("▁", " ").removeprefix(" ")
        ),
    },
    cases=[
        (["▁", "私", "は", "猫", "が", "好き", "。"],),
        (["▁G", "AL", "AXY", "▁S", "II", "を", "発売"],),
        (
            [
                "▁",
                "賛",
                "<0xE8>",
                "<0xB3>",
                "<0x9B>",
                "<0xE5>",
                "<0x90>",
                "<0x8C>",
                "▁OK",
            ],
        ),
    ],
)

# --- rate: tokens per character over many lines -----------------------------------------


def _ratio(numerator, denominator):
    """A ratio of two sums over the lines."""

    def rate(encoded, texts):
        return sum(map(numerator, encoded, texts)) / sum(
            map(denominator, encoded, texts)
        )

    return rate


def _tokens(pieces, text):
    return len(pieces)


def _length(pieces, text):
    return len(text)


tokens_per_character = Exercise(
    correct=_ratio(_tokens, _length),
    mistakes={
        "you divide by bytes: len(text.encode()) counts three for most Japanese "
        "characters": _ratio(_tokens, lambda p, t: len(t.encode())),
        "this is characters per token, the other way round": _ratio(_length, _tokens),
        "this is the mean of the lines' rates: a line of three characters counts as much "
        "as one of three hundred. Divide one sum by the other": lambda e, t: (
            sum(len(p) / len(x) for p, x in zip(e, t, strict=True)) / len(t)
        ),
        "the ▁ that stands alone is left out: it is a token that a model has to read": (
            _ratio(lambda p, t: sum(x != "▁" for x in p), _length)
        ),
        "you count different tokens: each token counts, however often it is there": (
            lambda e, t: len({x for p in e for x in p}) / sum(map(len, t))
        ),
        "you count the characters of the pieces, which hold ▁ as well": _ratio(
            _tokens, lambda p, t: len("".join(p))
        ),
        "a line end is counted for each line: it is no character of the text": _ratio(
            _tokens, lambda p, t: len(t) + 1
        ),
        "the lines are joined with a line end: it is no character of the text": (
            lambda e, t: sum(map(len, e)) / len("\n".join(t))
        ),
    },
    cases=[
        (
            [
                ["▁", "その", "ソフトウェア", "は", "ソフト", "で", "は", "ない"],
                ["▁", "速", "い"],
                ["▁OK", "▁", "です", "。"],
            ],
            ["そのソフトウェアはソフトではない", "速い", "OK です。"],
        ),
        ([["▁", "自", "然"], ["▁自然"]], ["自然", "自然"]),
        ([["▁", "<0xE9>", "<0xB0>", "<0xAF>", "を"], ["▁OK"]], ["鰯を", "OK"]),
    ],
)

# --- unknown_rate: characters that end in <unk> -----------------------------------------


def _hidden(pieces, vocabulary):
    return [p for p in pieces if p not in vocabulary]


def _bare(pieces):
    return "".join(pieces).replace("▁", "")


unknown_rate = Exercise(
    correct=lambda p, v: len(_bare(_hidden(p, v))) / len(_bare(p)),
    mistakes={
        "you count tokens: one <unk> can hide several characters": lambda p, v: (
            len(_hidden(p, v)) / len(p)
        ),
        "above the line you count tokens, below it characters: one <unk> can hide "
        "several characters": lambda p, v: len(_hidden(p, v)) / len(_bare(p)),
        "below the line you count tokens, above it characters": lambda p, v: (
            len(_bare(_hidden(p, v))) / len(p)
        ),
        "▁ is counted as a character of the text: it is not one": lambda p, v: (
            len("".join(_hidden(p, v))) / len("".join(p))
        ),
        "▁ is counted as a character above the line: it is not one": lambda p, v: (
            len("".join(_hidden(p, v))) / len(_bare(p))
        ),
        "only the first ▁ is left out: none of them is a character of the text": (
            lambda p, v: (
                len("".join(_hidden(p, v)).replace("▁", "", 1))
                / len("".join(p).replace("▁", "", 1))
            )
        ),
        "the ▁ before the text is left out, and the others are counted: none is a "
        "character of the text": lambda p, v: (
            len("".join(_hidden(p, v)).removeprefix("▁"))
            / len("".join(p).removeprefix("▁"))
        ),
        "a ▁ is left out where it stands alone, and counted inside a piece: it is no "
        "character there either": lambda p, v: (
            sum(len(x) for x in _hidden(p, v) if x != "▁")
            / sum(len(x) for x in p if x != "▁")
        ),
        "a piece is looked up without its ▁: the vocabulary holds pieces as they "
        "stand": lambda p, v: (
            sum(len(_bare(x)) for x in p if _bare(x) not in v) / len(_bare(p))
        ),
        "these are bytes: three for most Japanese characters, one for a letter": (
            lambda p, v: len(_bare(_hidden(p, v)).encode()) / len(_bare(p).encode())
        ),
        "this is the known rate, one minus the answer": lambda p, v: (
            1 - len(_bare(_hidden(p, v))) / len(_bare(p))
        ),
        "each unknown character counts once here: count how often they stand": (
            lambda p, v: len(set(_bare(_hidden(p, v)))) / len(_bare(p))
        ),
        "a piece is unknown as a whole: that its characters are known one by one does "
        "not help": lambda p, v: (
            sum(c not in v for c in _bare(_hidden(p, v))) / len(_bare(p))
        ),
    },
    cases=[
        (
            ["▁", "鰯鱈", "と", "鰯", "を", "食べ", "た", "鮪と"],
            set("▁とをた") | {"食べ"},
        ),
        (["▁", "酒と", "鰯", "鰯", "を"], set("▁酒とを")),
        (
            ["を", "▁鮪", "と", "▁鰯x", "▁お酒", "OK", "た", "と"],
            set("▁をとた鮪") | {"▁お酒"},
        ),
    ],
)

# --- score: the unigram score of a segmentation -----------------------------------------

_LOGS = {
    "すもも": -9.5,
    "も": -4.25,
    "もも": -8.0,
    "の": -3.0,
    "うち": -7.5,
    "す": -5.5,
}
_PROBABLE = {"a": math.log(0.5), "b": math.log(0.25), "ab": math.log(0.25)}

score = Exercise(
    correct=lambda pieces, logs: sum(logs[p] for p in pieces),
    mistakes={
        "you multiply the scores: they are logarithms, and the logarithm of a product is "
        "a sum": lambda pieces, logs: math.prod(logs[p] for p in pieces),
        "this is the probability itself: the score is its logarithm": lambda p, logs: (
            math.exp(sum(logs[x] for x in p))
        ),
        "you add probabilities: pieces follow each other, so probabilities multiply": (
            lambda pieces, logs: math.log(sum(math.exp(logs[p]) for p in pieces))
        ),
        "you divide by the number of pieces: then many short pieces cost nothing": (
            lambda pieces, logs: sum(logs[p] for p in pieces) / len(pieces)
        ),
        "a piece that comes twice counts twice": lambda pieces, logs: sum(
            logs[p] for p in set(pieces)
        ),
        "this is minus the score: a likelier segmentation has the higher score": (
            lambda pieces, logs: -sum(logs[p] for p in pieces)
        ),
    },
    cases=[
        (["すもも", "も", "もも", "も", "もも", "の", "うち"], _LOGS),
        (["ab", "a", "b"], _PROBABLE),
    ],
)

# --- smallest_vocabulary: what coverage and byte fallback cost ---------------------------


def _needed(counts: Counter, coverage: float) -> int:
    total, so_far = counts.total(), 0
    for number, (_, count) in enumerate(counts.most_common()):
        if so_far / total >= coverage:
            return number
        so_far += count
    return len(counts)


_NEWS = Counter({"の": 50, "い": 25, "る": 15, "語": 5, "賛": 3, "鰯": 1, "鱈": 1})
_AS_READ = Counter({"賛": 3, "鰯": 1, "い": 25, "語": 5, "の": 50, "鱈": 1, "る": 15})


def _in_order(counts: Counter, coverage: float) -> int:
    rest = list(counts.values())
    return next(n for n in range(99) if sum(rest[:n]) >= coverage * sum(rest))


smallest_vocabulary = Exercise(
    correct=lambda c, cov, fall: _needed(c, cov) + 3 + 256 * fall,
    mistakes={
        "coverage is a share of the running text, not of the list of different "
        "characters: add up the counts, most frequent first": lambda c, cov, fall: (
            math.ceil(cov * len(c)) + 3 + 256 * fall
        ),
        "three places are taken before the first character: <unk>, <s> and </s>": (
            lambda c, cov, fall: _needed(c, cov) + 256 * fall
        ),
        "byte fallback needs its 256 byte pieces": lambda c, cov, fall: (
            _needed(c, cov) + 3
        ),
        "the 256 byte pieces are there only with byte fallback": lambda c, cov, fall: (
            _needed(c, cov) + 3 + 256
        ),
        "you begin with the rarest characters": lambda c, cov, fall: (
            _needed(Counter({k: 1 / n for k, n in c.items()}), cov) + 3 + 256 * fall
        ),
        "you take the characters as they come in the text: the most frequent come "
        "first": lambda c, cov, fall: _in_order(c, cov) + 3 + 256 * fall,
        "one character too many: stop as soon as the share is reached": (
            lambda c, cov, fall: min(_needed(c, cov) + 1, len(c)) + 3 + 256 * fall
        ),
    },
    cases=[
        (_NEWS, 0.9, False),
        (_NEWS, 0.95, True),
        (_NEWS, 0.6, True),
        (_NEWS, 1.0, False),
        (_AS_READ, 0.7, False),
    ],
)
