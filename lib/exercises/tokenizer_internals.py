"""The exercises of BPE and Unigram: right answers, and the wrong ones we name."""

import codecs
import math

from lib.exercise import Exercise
from lib.tokenizers import presplit

# --- longest: WordPiece, the longest match from the left ----------------------------


def _longest(word, pieces, mark="##", shown="##", ends=None):
    found, i = [], 0
    while i < len(word):
        places = range(len(word), i, -1) if ends is None else ends(i, len(word))
        for j in places:
            if (mark if i else "") + word[i:j] in pieces:
                found.append((shown if i else "") + word[i:j])
                i = j
                break
        else:
            return ["[UNK]"]
    return found


def _rest_unknown(word, pieces):
    for end in range(len(word), -1, -1):
        known = _longest(word[:end], pieces)
        if known != ["[UNK]"]:
            return [*known, "[UNK]"] if end < len(word) else known
    return ["[UNK]"]


def _skips(word, pieces):
    found, i = [], 0
    while i < len(word):
        for j in range(len(word), i, -1):
            if ("##" if i else "") + word[i:j] in pieces:
                found.append(("##" if i else "") + word[i:j])
                i = j
                break
        else:
            i += 1
    return found


def _either(word, pieces):
    return _longest(word, {*pieces, *("##" + x for x in pieces if x[:2] != "##")})


def _shortest(word, pieces):
    return _longest(word, pieces, ends=lambda i, end: range(i + 1, end + 1))


_PIECES = {"slow", "s", "low", "er", "new", "n", "e", "l", "o", "w"}
_PIECES |= {"##l", "##o", "##w", "##low", "##er", "##e", "##r", "##ew", "##es", "##est"}

longest = Exercise(
    correct=_longest,
    mistakes={
        "inside a word the pieces are looked up without ##": lambda w, p: _longest(
            w, p, mark="", shown=""
        ),
        "the pieces inside a word have lost their ## in the result": lambda w, p: (
            _longest(w, p, shown="")
        ),
        "only the rest is unknown: the whole word becomes one [UNK]": _rest_unknown,
        "a letter that fits nowhere is skipped: the whole word becomes one "
        "[UNK]": _skips,
        "the shortest piece is taken: it is the longest": _shortest,
        "inside a word the pieces are looked up without ##, which comes only "
        "afterwards": lambda w, p: _longest(w, p, mark=""),
        "inside a word a piece without ## is taken, too": _either,
        "a word that does not fit is left out: it becomes one [UNK]": lambda w, p: [
            piece for piece in _longest(w, p) if piece != "[UNK]"
        ],
    },
    cases=[
        (word, _PIECES) for word in ("slower", "newest", "lowly", "slow", "wer", "lown")
    ],
)


# --- ways: how many cuts a text has -------------------------------------------------


def _ways(text, pieces, start=1):
    ways = [start] + [0] * len(text)
    for j in range(1, len(text) + 1):
        ways[j] = sum(ways[i] for i in range(j) if text[i:j] in pieces)
    return ways[-1]


def _arcs(text, pieces):
    ends = range(1, len(text) + 1)
    return sum(text[i:j] in pieces for j in ends for i in range(j))


def _fewest(text, pieces):
    fewest = [0] + [math.inf] * len(text)
    for j in range(1, len(text) + 1):
        known = [fewest[i] + 1 for i in range(j) if text[i:j] in pieces]
        fewest[j] = min(known, default=math.inf)
    return int(fewest[-1]) if fewest[-1] < math.inf else 0


ways = Exercise(
    correct=_ways,
    mistakes={
        "the pieces that stand in the text are counted: count the paths": _arcs,
        "there is never a way: at the start, before any letter, there is "
        "one": lambda text, pieces: 0,
        "whether there is a cut is told, not how many": lambda text, pieces: int(
            _ways(text, pieces) > 0
        ),
        "the pieces of the shortest cut are counted: count the cuts": _fewest,
    },
    cases=[
        ("slower", {*"slower", "low", "er", "lower"}),
        ("すもももももももものうち", {*"すものうち", "もも", "すもも", "うち"}),
        ("a" * 40, {"a", "aa", "aaa"}),
        ("slowest", {*"slower", "low"}),
    ],
)


# --- stream: text from tokens that arrive one by one --------------------------------


def _stream(parts):
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(part) for part in parts]


def _waits(parts):
    waiting, found = b"", []
    for part in parts:
        waiting += part
        whole = waiting.decode(errors="ignore").encode() == waiting
        found.append(waiting.decode() if whole else "")
        waiting = b"" if whole else waiting
    return found


def _so_far(parts):
    return [b"".join(parts[: n + 1]).decode(errors="ignore") for n in range(len(parts))]


stream = Exercise(
    correct=_stream,
    mistakes={
        "each part is decoded by itself, so a character that is cut comes as "
        "�": lambda parts: [part.decode(errors="replace") for part in parts],
        "the bytes of an unfinished character are dropped: they belong to the next "
        "part": lambda parts: [part.decode(errors="ignore") for part in parts],
        "the whole text so far comes each time: only what is new should": _so_far,
        "all text comes at the end: a character should come as soon as it is "
        "whole": lambda parts: (
            [""] * (len(parts) - 1) + [b"".join(parts).decode(errors="ignore")]
        ),
        "nothing is shown until a part ends with a whole character: show what is "
        "whole": _waits,
        "what is unfinished at the end comes as �: leave it out": lambda parts: list(
            presplit.stream(parts)
        ),
    },
    cases=[
        ([b"a ", b"\xe6\x97", b"\xa5", b"\xe6\x9c\xac!"],),
        ([b"\xf0", b"\x9f", b"\x8d", b"\xa3", b" "],),
        ([b"\xe3\x81\x99\xe3", b"\x82\x82", b"x\xc3", b"\xa9"],),
        ([b"\xe6\x97\xa5", b"\xe6\x9c"],),
    ],
)


# --- entropy: how undecided a model is about the cut --------------------------------


def _chances(text, logs):
    if not text:
        return [((), 1.0)]
    return [
        ((text[:end], *rest), math.exp(logs[text[:end]]) * chance)
        for end in range(1, len(text) + 1)
        if text[:end] in logs
        for rest, chance in _chances(text[end:], logs)
    ]


def _entropy(text, logs):
    found = [chance for _, chance in _chances(text, logs)]
    total = sum(found)
    return -sum(chance / total * math.log(chance / total) for chance in found)


def _of_arcs(text, logs):
    shares, total = {}, sum(chance for _, chance in _chances(text, logs))
    for cut, chance in _chances(text, logs):
        at = 0
        for piece in cut:
            place = at, at + len(piece)
            shares[place] = shares.get(place, 0.0) + chance / total
            at += len(piece)
    return -sum(share * math.log(share) for share in shares.values())


def _log_not_divided(text, logs):
    found = [chance for _, chance in _chances(text, logs)]
    return -sum(chance / sum(found) * math.log(chance) for chance in found)


def _not_divided(text, logs):
    return -sum(chance * math.log(chance) for _, chance in _chances(text, logs))


_LOGS = {
    piece: math.log(share)
    for piece, share in {
        **dict.fromkeys("lowern", 0.1),
        "low": 0.12,
        "lower": 0.02,
        "er": 0.11,
        "new": 0.15,
    }.items()
}

entropy = Exercise(
    correct=_entropy,
    mistakes={
        "the shares of the arcs are no distribution: they do not add up to 1": _of_arcs,
        "all cuts count alike, as if they were equally likely": lambda text, logs: (
            math.log(len(_chances(text, logs)))
        ),
        "the probabilities are not divided by their sum, the probability of the "
        "text": _not_divided,
        "the logarithm, too, needs each probability divided by their "
        "sum": _log_not_divided,
        "this is in bits: take the natural logarithm": lambda text, logs: (
            _entropy(text, logs) / math.log(2)
        ),
        "the sign is turned around": lambda text, logs: -_entropy(text, logs),
    },
    cases=[(text, _LOGS) for text in ("lower", "newer", "lowernewer")],
)
