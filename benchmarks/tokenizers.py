"""Our tokenizers against the textbook and against the field's: speed, growth, likelihood.

It makes `weights.trace("bench-tokenizers")`. Process time, one thread. A part that is
finished is kept under _build/bench, so that a run may be stopped and started again.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer, models, trainers

from lib import runtime, training, weights
from lib.data.livedoor import livedoor
from lib.data.shakespeare import tiny_shakespeare
from lib.tokenizers import bpe, em, presplit, sentencepiece, unigram

FOLDER = Path("_build/bench/tokenizers")
MEGABYTE, VOCABULARY = 1_000_000, 1_000
SIZES = (0.1, 0.3, 1, 3, 10)  # MB
SEEDS = 10_000  # of the unigram models that are timed: as many for each size
RUNS = 5  # of ours; the textbook runs once, in their middle
PIECES = 4_000  # of a unigram model


def cut(text: str, size: float) -> str:
    """The first `size` bytes, no character cut."""
    return text.encode()[: int(size)].decode(errors="ignore")


def japanese() -> str:
    articles = livedoor()
    if not articles.is_full:
        raise SystemExit("bench: the Livedoor corpus is needed, HUB=<folder>")
    return "\n".join(line for a in articles for line in sentencepiece.clean(a))


def english() -> str:
    text = tiny_shakespeare()
    if not text.is_full:
        raise SystemExit("bench: tiny Shakespeare is needed, HUB=<folder>")
    return text.rows[0]["content"]


def whole(text: str) -> list[str]:
    """The lines of a text as words, in visible bytes."""
    return [presplit.visible(line.encode()) for line in text.splitlines()]


# --- Against the textbook -------------------------------------------------------------


def timed(call: Callable, *arguments):
    start = time.process_time()
    found = call(*arguments)
    return time.process_time() - start, found


def ours(words: Iterable[str]):
    return bpe.train(Counter(words), VOCABULARY, presplit.CHARACTERS)


def textbook(words: Iterable[str]):
    return bpe.textbook(words, VOCABULARY, presplit.CHARACTERS)


def counted(words: Iterable[str]):
    """The textbook, but each different word is read once, with its count."""
    counts = Counter(words)
    vocabulary, merges = bpe.alphabet(counts, presplit.CHARACTERS), []
    texts = [([vocabulary[c] for c in word], n) for word, n in counts.items()]
    while len(vocabulary) < VOCABULARY:
        pairs = Counter()
        for ids, n in texts:
            for pair in pairwise(ids):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        new, tokens = len(vocabulary), list(vocabulary)
        texts = [(bpe.replaced(ids, best, new), n) for ids, n in texts]
        merges.append((tokens[best[0]], tokens[best[1]]))
        vocabulary["".join(merges[-1])] = new
    return vocabulary, merges


def theirs(words: Iterable[str]):
    """`tokenizers`, in Rust."""
    model = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=presplit.CHARACTERS,
        show_progress=False,
    )
    model.train_from_iterator(words, trainer)
    found = json.loads(model.to_str())["model"]
    return found["vocab"], [tuple(pair) for pair in found["merges"]]


def against(words: list[str], slowly: Callable = textbook) -> dict:
    """Seconds of each, if their merges are the same; the ratio with its range.

    `tokenizers` is left out where all of the text is one word: there its own time is
    quadratic.
    """
    before = [timed(ours, words) for _ in range(RUNS // 2)]
    slow, wanted = timed(slowly, words)
    after = [timed(ours, words) for _ in range(RUNS - RUNS // 2)]
    spent = [seconds for seconds, _ in before + after]
    rust, reference = timed(theirs, words) if len(words) > 1 else (None, wanted)
    assert all(found == wanted == reference for _, found in before + after)
    ratios = [slow / statistics.median(spent), slow / max(spent), slow / min(spent)]
    return {
        "words": len(words),
        "different": len(set(words)),
        "merges": len(wanted[1]),
        "ours_s": round(statistics.median(spent), 3),
        "textbook_s": round(slow, 1),
        "tokenizers_s": rust and round(rust, 3),
        "ratio": [round(ratio, 1) for ratio in ratios],
    }


# --- Growth ---------------------------------------------------------------------------

CHILD = """
import json, sys, time
from collections import Counter
from lib.tokenizers import bpe, em, presplit, unigram
what, file, size, seeds = sys.argv[1:]
text = open(file, encoding="utf8", newline="").read()
start = time.process_time()
if what.startswith("BPE"):
    if what == "BPE, lines":
        counts = Counter(presplit.visible(x.encode()) for x in text.splitlines())
    else:
        counts = Counter(presplit.byte_words(text))
    if what != "BPE, encoding":
        del text
    vocabulary, merges = bpe.train(counts, int(size), presplit.CHARACTERS)
    if what == "BPE, encoding":
        start = time.process_time()
        bpe.encode(text, vocabulary, bpe.ranks(merges))
else:
    counts = Counter(unigram.marked(x) for x in text.splitlines() if x)
    del text
    em.train(counts, int(size), int(seeds))
spent = time.process_time() - start
# Not getrusage: that keeps the peak of the process that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([spent, int(status["VmHWM"].split()[0]) * 1024 / 1e6]))
"""


def grown(what: str, text: str, vocabulary: int) -> dict:
    """CPU seconds, and the peak of a whole process in MB of 10⁶ bytes."""
    with tempfile.NamedTemporaryFile("w", encoding="utf8", newline="") as file:
        file.write(text)
        file.flush()
        arguments = [what, file.name, str(vocabulary), str(SEEDS)]
        command = [sys.executable, "-c", CHILD, *arguments]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = json.loads(said.stdout)
    return {"seconds": round(seconds, 2), "mb": round(peak)}


def slope(sizes: Iterable[float], seconds: Iterable[float]) -> float:
    """Of log time against log size, by least squares: 1 is linear."""
    x, y = [[math.log(value) for value in column] for column in (sizes, seconds)]
    return round(statistics.linear_regression(x, y).slope, 2)


def growth(what: str, text: str, sizes: Iterable[float], vocabulary: int) -> dict:
    rows = []
    for size in sizes:
        part = cut(text, size * MEGABYTE)
        key = f"{what}, {size:g} MB"
        rows.append(kept(key, lambda part=part: grown(what, part, vocabulary)))
    seconds, peaks = ([row[key] for row in rows] for key in ("seconds", "mb"))
    return {
        "mb_of_text": list(sizes),
        "seconds": seconds,
        "peak_mb": peaks,
        "slope": slope(sizes, seconds),
    }


# --- Unigram against sentencepiece ----------------------------------------------------


def judged(model: dict[str, float], lines: Iterable[str]) -> dict:
    """Tokens and nats per character of held-out lines, under one model."""
    tree, tokens, characters, nats = unigram.tree(model), 0, 0, 0.0
    for line in filter(None, map(sentencepiece.normalise, lines)):
        text = unigram.marked(line)
        tokens += len(unigram.encode(text, tree))
        nats -= unigram.forward(unigram.lattice(text, tree))[-1]
        characters += len(text)
    return {
        "tokens_per_character": round(tokens / characters, 4),
        "nats_per_character": round(nats / characters, 4),
    }


def unigrams(text: str) -> dict:
    """Both trainers on the same lines; every tenth line is held out."""
    lines = list(dict.fromkeys(text.splitlines()))
    train = [line for n, line in enumerate(lines) if n % 10]
    normal = map(sentencepiece.normalise, train)
    counts = Counter(word for line in normal for word in unigram.words(line))
    spent, model = timed(em.train, counts, PIECES)
    more = sentencepiece.META_PIECES
    c, proto = timed(
        lambda: sentencepiece.train(train, "unigram", PIECES + more, coverage=1.0)
    )
    peer = dict(sentencepiece.vocabulary(sentencepiece.load(proto))[more:])
    return {
        "pieces": [len(model), len(peer)],
        "shared": round(len(model.keys() & peer.keys()) / len(model), 3),
        "seconds": [round(spent, 1), round(c, 1)],
        "ours": judged(model, lines[::10]),
        "sentencepiece": judged(peer, lines[::10]),
    }


# --- The record -----------------------------------------------------------------------


def kept(key: str, job: Callable):
    found = training.kept(FOLDER, key.replace(" ", "-").replace(",", ""), job)
    print(key, json.dumps(found), flush=True)
    return found


def main() -> None:
    texts = {"English": english(), "Japanese": japanese()}
    first = {name: cut(text, MEGABYTE) for name, text in texts.items()}
    parts = presplit.byte_words(first["English"])
    rows = {
        "English, one text": lambda: against(
            [presplit.visible(first["English"].encode())]
        ),
        "Japanese, one text": lambda: against(
            [presplit.visible(first["Japanese"].encode())]
        ),
        "English, lines": lambda: against(whole(first["English"])),
        "Japanese, lines": lambda: against(whole(first["Japanese"])),
        "English, GPT-2's words": lambda: against(parts),
        "English, GPT-2's words, each once": lambda: against(parts, counted),
    }
    growing = {
        "BPE, lines": (SIZES, VOCABULARY),
        "BPE, words": (SIZES, VOCABULARY),
        "BPE, encoding": (SIZES, VOCABULARY),
        "Unigram, whole lines": (SIZES, PIECES),
    }
    found = {
        "rows": {name: kept(name, job) for name, job in rows.items()},
        "growth": {
            what: growth(what, texts["Japanese"], *options)
            for what, options in growing.items()
        },
        "unigram": {
            name: kept(f"unigram, {name}", lambda text=text: unigrams(text))
            for name, text in first.items()
        },
    }
    card = {
        "config": {
            "bytes": MEGABYTE,
            "vocabulary": VOCABULARY,
            "unigram_pieces": PIECES,
            "unigram_seeds": SEEDS,
            "cpu": runtime.processor(),
            "python": sys.version.split()[0],
        },
        "data": "tiny Shakespeare (public domain); Livedoor News Corpus (CC BY-ND 2.1 JP)",
        "command": "make bench PART=tokenizers",
        "metrics": {
            f"BPE training, textbook / ours: {name}": row["ratio"][0]
            for name, row in found["rows"].items()
        },
        "licence": "MIT",
    }
    print(weights.save("bench-tokenizers", card, trace=found))


if __name__ == "__main__":
    main()
