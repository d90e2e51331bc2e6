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

# --- certainty: the share of the best cut among all ---------------------------------------


def _cuts(text: str, logs: dict) -> list[list[str]]:
    if not text:
        return [[]]
    ends = [end for end in range(1, len(text) + 1) if text[:end] in logs]
    return [[text[:end], *rest] for end in ends for rest in _cuts(text[end:], logs)]


def _scores(text, logs):
    return [sum(logs[piece] for piece in cut) for cut in _cuts(text, logs)]


def _chances(text, logs, base=math.e):
    return [base**score for score in _scores(text, logs)]


def _chance_of(choose):
    """The share of one cut, chosen by its pieces."""

    def share(text, logs):
        chances = _chances(text, logs)
        found = _cuts(text, logs)
        return chances[found.index(min(found, key=choose))] / sum(chances)

    return share


def _added(text, logs):
    sums = [sum(math.exp(logs[piece]) for piece in cut) for cut in _cuts(text, logs)]
    return max(sums) / sum(sums)


_PLUMS = {"す": 0.1, "も": 0.3, "もも": 0.3, "すもも": 0.2, "の": 0.05, "うち": 0.05}
_LETTERS = {"a": 0.3, "b": 0.3, "ab": 0.25, "aba": 0.01, "ba": 0.14}


def _logs(chances: dict) -> dict:
    return {piece: math.log(chance) for piece, chance in chances.items()}


certainty = Exercise(
    correct=lambda text, logs: max(_chances(text, logs)) / sum(_chances(text, logs)),
    mistakes={
        "you divide scores: they are logarithms, and shares are made of probabilities": (
            lambda text, logs: max(_scores(text, logs)) / sum(_scores(text, logs))
        ),
        "this is the probability of the best cut alone: divide it by the sum over all "
        "cuts": lambda text, logs: max(_chances(text, logs)),
        "all cuts count the same here: each counts with its probability": (
            lambda text, logs: 1 / len(_cuts(text, logs))
        ),
        "you divide by the other cuts: the best one belongs to the sum, too": (
            lambda text, logs: (
                max(_chances(text, logs))
                / (sum(_chances(text, logs)) - max(_chances(text, logs)))
            )
        ),
        "you take powers of 2: these logarithms are natural, so take `math.exp`": (
            lambda text, logs: (
                max(_chances(text, logs, 2)) / sum(_chances(text, logs, 2))
            )
        ),
        "this is the share of the other cuts": lambda text, logs: (
            1 - max(_chances(text, logs)) / sum(_chances(text, logs))
        ),
        "this is the logarithm of the share": lambda text, logs: math.log(
            max(_chances(text, logs)) / sum(_chances(text, logs))
        ),
        "you take the cut with the fewest pieces: the best is the one with the highest "
        "score": _chance_of(len),
        "you take the first cut that is found: the best is the one with the highest "
        "score": _chance_of(lambda cut: 0),
        "you add the probabilities of a cut's pieces: pieces follow each other, so they "
        "multiply": _added,
        "this is the second best cut": lambda text, logs: (
            sorted(_chances(text, logs))[-2] / sum(_chances(text, logs))
        ),
        "this is the least likely cut": lambda text, logs: (
            min(_chances(text, logs)) / sum(_chances(text, logs))
        ),
    },
    cases=[
        ("すもももももも", _logs(_PLUMS)),
        ("ababa", _logs(_LETTERS)),
        ("aba", _logs(_LETTERS)),
    ],
)

# --- coverage: what share of the text fits into a vocabulary -------------------------------

_NEWS = Counter({"の": 50, "い": 25, "る": 15, "語": 5, "賛": 3, "鰯": 1, "鱈": 1})
_AS_READ = Counter({"賛": 3, "鰯": 1, "い": 25, "語": 5, "の": 50, "鱈": 1, "る": 15})


def _room(size: int, taken: int) -> int:
    return max(0, size - taken)


def _covered(counts: Counter, room: int) -> float:
    return sum(sorted(counts.values(), reverse=True)[:room]) / counts.total()


def _fits(share):
    """The coverage, where `share` says what so many characters cover."""
    return lambda counts, size, fall: share(counts, _room(size, 3 + 256 * fall))


coverage = Exercise(
    correct=_fits(_covered),
    mistakes={
        "coverage is a share of the running text, not of the list of different "
        "characters: add up the counts": _fits(lambda c, n: min(n, len(c)) / len(c)),
        "three entries are taken before the first character: <unk>, <s> and </s>": (
            lambda c, size, fall: _covered(c, _room(size, 256 * fall))
        ),
        "byte fallback needs its 256 byte pieces": lambda c, size, fall: _covered(
            c, _room(size, 3)
        ),
        "the 256 byte pieces are there only with byte fallback": lambda c, size, fall: (
            _covered(c, _room(size, 3 + 256))
        ),
        "nothing is taken off the size here: the marks and the bytes need entries, "
        "too": lambda c, size, fall: _covered(c, size),
        "you begin with the rarest characters": _fits(
            lambda c, n: sum(sorted(c.values())[:n]) / c.total()
        ),
        "you take the characters as they come in the text: the most frequent come "
        "first": _fits(lambda c, n: sum(list(c.values())[:n]) / c.total()),
        "where no room is left, the share is 0: a slice up to a negative number counts "
        "from the end": lambda c, size, fall: (
            sum(sorted(c.values(), reverse=True)[: size - 3 - 256 * fall]) / c.total()
        ),
        "this is the share that is left out": _fits(lambda c, n: 1 - _covered(c, n)),
        "one character too few: the vocabulary may be full": _fits(
            lambda c, n: _covered(c, max(0, n - 1))
        ),
        "this is the number of characters in the text, not their share": _fits(
            lambda c, n: _covered(c, n) * c.total()
        ),
        "this is the number of different characters that fit": _fits(
            lambda c, n: min(n, len(c))
        ),
    },
    cases=[
        (_NEWS, 5, False),
        (_NEWS, 263, True),
        (_NEWS, 257, True),
        (_NEWS, 40, False),
        (_AS_READ, 7, False),
    ],
)
