"""Learning a unigram model: seeds, expectation–maximisation, pruning.

As `sentencepiece` does it, in pure Python, with differences: a repeated substring of a word
may become a piece whatever scripts it mixes, and where the word ends; all characters of the
text stay; sums are float64; it starts from fewer substrings. Source: Kudo (2018), and
``unigram_model_trainer.cc``.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from heapq import nlargest
from itertools import pairwise, repeat

from lib.tokenizers.unigram import best_cut, expected, lattice, n_best, tree

LONGEST = 16  # characters of a piece
SEEDS = (
    100_000  # substrings that it starts from: a tenth of sentencepiece's, for memory
)
ROUNDS = 2  # EM steps between two prunings
KEPT = 0.75  # share of the pieces that a pruning keeps
SPARE = 1.1  # pruning stops above the size asked for: the last cut goes by score
RARE = 0.5  # a piece expected less often is dropped
END = "\0"  # between two words


def train(
    counts: Mapping[str, int], vocab_size: int, most_seeds: int = SEEDS
) -> dict[str, float]:
    """A model of so many pieces, the most probable first, from counted words.

    A word starts with its ▁ (`unigram.words`), or is a whole line of a language without
    spaces (`unigram.marked`).

    Raises:
        ValueError: no words; `vocab_size` is below the number of characters, or the text
            has too few repeated substrings for it.
    """
    characters = letters(counts)
    if not characters:
        raise ValueError("counts: expected at least one word, got none")
    if vocab_size < len(characters):
        raise ValueError(
            f"vocab_size: expected at least the {len(characters)} characters,"
            f" got {vocab_size}"
        )
    scores = seeds(counts, most_seeds)
    while True:
        for _ in range(ROUNDS):
            scores = maximised(expectations(counts, scores)[0])
        if len(scores) <= SPARE * vocab_size:
            return finished(scores, vocab_size)
        size = max(int(SPARE * vocab_size), int(KEPT * len(scores)))
        scores = pruned(counts, scores, size)


def letters(counts: Mapping[str, int]) -> Counter[str]:
    """How often each character stands in the counted words."""
    found: Counter[str] = Counter()
    for word, n in counts.items():
        for character in word:
            found[character] += n
    return found


# --- Where it starts ------------------------------------------------------------------


def seeds(counts: Mapping[str, int], most: int = SEEDS) -> dict[str, float]:
    """All characters, and the repeated substrings that cover most of the text.

    A score is the logarithm of frequency times length, normalised.
    """
    cover = {piece: n * len(piece) for piece, n in repeated(counts, most).items()}
    kept = sorted(cover, key=lambda piece: (-cover[piece], piece))[:most]
    cover = letters(counts) | {piece: cover[piece] for piece in kept}
    total = math.log(sum(cover.values()))
    return {piece: math.log(n) - total for piece, n in cover.items()}


def repeated(counts: Mapping[str, int], most: int = SEEDS) -> dict[str, int]:
    """Substrings of 2 to 16 characters that stand in the words at least twice.

    One that the same character always follows is left out: the longer one stands for both
    (`sentencepiece` finds these in a suffix array). Length by length, only where the
    substring one shorter is repeated; of more than twice `most`, those that cover most.
    """
    text, weights = "".join(word + END for word in counts), array("q")
    for word, n in counts.items():
        weights.extend(repeat(n, len(word) + 1))
    found, places = {}, range(len(text))
    for length in range(2, LONGEST + 1):
        every: Counter[str] = Counter()
        for i in places:
            every[text[i : i + length]] += weights[i]
        level = {s: n for s, n in every.items() if n > 1 and END not in s}
        for piece, n in level.items():
            if found.get(piece[:-1]) == n:
                del found[piece[:-1]]
        places = array("i", (i for i in places if text[i : i + length] in level))
        found |= level
        found = dict(nlargest(2 * most, found.items(), lambda x: x[1] * len(x[0])))
    return found


# --- Expectation and maximisation -----------------------------------------------------


def expectations(
    counts: Mapping[str, int], scores: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """How often each piece is expected in the words; their summed log-probability."""
    read, total, likelihood = tree(scores), dict.fromkeys(scores, 0.0), 0.0
    for word, n in counts.items():
        found, probability = expected(word, read)
        likelihood += n * probability
        for piece, times in found.items():
            total[piece] += n * times
    return total, likelihood


def maximised(expected: Mapping[str, float]) -> dict[str, float]:
    """New scores: the digamma function of each count, less that of their sum.

    The logarithm would give the maximum of the likelihood; exp(digamma(x)) is about
    x − ½, so rare pieces lose more than frequent ones: a prior for few pieces. One that is
    expected less than half a time is dropped; a character counts as half a time.
    """
    kept = {
        piece: max(n, RARE)
        for piece, n in expected.items()
        if n >= RARE or len(piece) == 1
    }
    total = digamma(sum(kept.values()))
    return {piece: digamma(n) - total for piece, n in kept.items()}


def digamma(x: float) -> float:
    """The derivative of log Γ, for x > 0: by recurrence to 7, then its series."""
    result = 0.0
    while x < 7:
        result -= 1 / x
        x += 1
    x -= 0.5
    y = 1 / x**2
    series = 1 / 24 - y * (7 / 960 - y * (31 / 8064 - y * 127 / 30720))
    return result + math.log(x) + y * series


# --- Pruning --------------------------------------------------------------------------


def pruned(
    counts: Mapping[str, int], scores: Mapping[str, float], size: int
) -> dict[str, float]:
    """The `size` pieces without which the words would lose most probability.

    Without a piece, each place where the best cut has it would take the piece's own second
    best cut. One that no best cut has goes; a character stays.
    """
    read = tree(scores)
    uses = Counter()
    for word, n in counts.items():
        for start, end in pairwise(best_cut(lattice(word, read))):
            uses[word[start:end]] += n
    total, losses = sum(uses.values()), {}
    for piece in scores:
        if len(piece) == 1:
            losses[piece] = math.inf
        elif uses[piece]:
            (first, _), (second, _) = n_best(piece, read, 2)
            if len(first) == 1:  # else its parts replace it already
                n, rest = uses[piece], total + uses[piece] * (len(second) - 1)
                instead = sum(math.log((uses[part] + n) / rest) for part in second)
                losses[piece] = n * (math.log(n / total) - instead)
    kept = sorted(losses, key=lambda piece: (-losses[piece], piece))[:size]
    return {piece: scores[piece] for piece in kept}


def finished(scores: Mapping[str, float], vocab_size: int) -> dict[str, float]:
    """All characters, and the most probable other pieces, as many as asked for.

    Raises:
        ValueError: there are too few.
    """
    if len(scores) < vocab_size:
        raise ValueError(
            f"vocab_size: the text has pieces for {len(scores)} at most,"
            f" got {vocab_size}"
        )
    order = sorted(scores, key=lambda piece: (len(piece) > 1, -scores[piece], piece))
    kept = sorted(order[:vocab_size], key=lambda piece: (-scores[piece], piece))
    return {piece: scores[piece] for piece in kept}
