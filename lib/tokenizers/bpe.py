"""Byte-pair encoding: merges learned from counted words, and words encoded by merges.

A word is a string of characters; for bytes, `presplit.visible` writes them so. The merges
are those of `tokenizers`, in pure Python. Sources: Gage (1994), Sennrich et al. (2016).
"""

import heapq
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise, repeat

from lib.tokenizers import presplit

END, GONE = -1, -2  # ids: between two words; where a token became part of another
Pair = tuple[int, int]


def alphabet(words: Iterable[str], more: Iterable[str] = ()) -> dict[str, int]:
    """The first ids of a vocabulary: all characters, in the order of code points."""
    return {c: n for n, c in enumerate(sorted({*more}.union(*words)))}


# --- The textbook ---------------------------------------------------------------------


def textbook(
    words: Iterable[str], vocab_size: int, more: Iterable[str] = ()
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """What `train` gives, by counting all pairs again after each merge.

    Short, and slow: each merge reads the whole text, as in ``minbpe``.
    """
    words = list(words)
    vocabulary, merges = alphabet(words, more), []
    texts = [[vocabulary[c] for c in word] for word in words]
    while len(vocabulary) < vocab_size:
        pairs = Counter(chain.from_iterable(map(pairwise, texts)))
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        texts = [replaced(ids, best, len(vocabulary)) for ids in texts]
        tokens = list(vocabulary)
        merges.append((tokens[best[0]], tokens[best[1]]))
        vocabulary["".join(merges[-1])] = len(vocabulary)
    return vocabulary, merges


def replaced(ids: list[int], pair: Pair, new: int) -> list[int]:
    """`ids` with `new` in each place of `pair`, from left to right."""
    found, i, last, (a, b) = [], 0, len(ids) - 1, pair
    while i <= last:
        if ids[i] == a and i < last and ids[i + 1] == b:
            found.append(new)
            i += 2
        else:
            found.append(ids[i])
            i += 1
    return found


# --- Training -------------------------------------------------------------------------


def train(
    counts: Mapping[str, int], vocab_size: int, more: Iterable[str] = ()
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary (token: id) and the merges, in order, of counted words.

    Each step merges the pair with the largest count; of equal ones, that of the smallest
    ids. `more` are characters that the vocabulary holds in any case. Where the text has
    no pair left, the vocabulary stays smaller than asked for. As
    ``tokenizers.trainers.BpeTrainer``.

    Raises:
        ValueError: no words; `vocab_size` is below the number of characters.
    """
    if not counts:
        raise ValueError("counts: expected at least one word, got none")
    vocabulary, merges = alphabet(counts, more), []
    if vocab_size < len(vocabulary):
        raise ValueError(
            f"vocab_size: expected at least the {len(vocabulary)} characters,"
            f" got {vocab_size}"
        )
    text = Text(counts, vocabulary)
    tokens, pairs = list(vocabulary), text.pairs
    heap = [(-pairs[pair], pair, places) for pair, places in text.places().items()]
    heapq.heapify(heap)
    while heap and len(tokens) < vocab_size:
        count, pair, places = heapq.heappop(heap)
        if -count != pairs[pair]:  # merges beside it changed its count
            heapq.heappush(heap, (-pairs[pair], pair, places))
            continue
        if not count:
            break
        for formed, where in text.merge(pair, places):
            heapq.heappush(heap, (-pairs[formed], formed, where))
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        tokens.append("".join(merges[-1]))
    return {token: n for n, token in enumerate(tokens)}, merges


class Text:
    """Counted words in flat arrays, where a merge visits only the places of its pair.

    A token's id stands where the token starts; `first`, where it ends, says where it
    starts. So both neighbours of a token are found, and nothing is moved.
    """

    def __init__(
        self, counts: Mapping[str, int], vocabulary: Mapping[str, int]
    ) -> None:
        self.ids, self.weights = [END], array("q", [0])
        for word, n in counts.items():
            self.ids.extend(map(vocabulary.__getitem__, word))
            self.ids.append(END)
            self.weights.extend(repeat(n, len(word) + 1))
        self.first = array("i", range(len(self.ids)))
        self.lengths = [1] * len(vocabulary)  # of each token, in characters
        self.pairs: Counter[Pair] = Counter()

    def places(self) -> dict[Pair, array]:
        """Where each pair starts; `pairs` is filled."""
        found = defaultdict(partial(array, "i"))
        for i, pair in enumerate(pairwise(self.ids)):
            found[pair].append(i)
        found = {pair: places for pair, places in found.items() if END not in pair}
        for pair, places in found.items():
            self.pairs[pair] = self._count(places)
        return found

    def merge(self, pair: Pair, places: Iterable[int]) -> Iterator[tuple[Pair, array]]:
        """Give the pair at its places the next id; the pairs formed, where they start."""
        ids, first, (a, b), new = self.ids, self.first, pair, len(self.lengths)
        width = self.lengths[a]
        both = width + self.lengths[b]
        self.lengths.append(both)
        before, after = (defaultdict(partial(array, "i")) for _ in range(2))
        for i in places:
            if ids[i] == a and ids[i + width] == b:
                ids[i], ids[i + width], first[i + both - 1] = new, GONE, i
                left = first[i - 1]
                before[ids[left]].append(left)
                after[ids[i + both]].append(i)
        changes = [((x, a), (x, new), at) for x, at in before.items() if x != END]
        changes += [((b, y), (new, y), at) for y, at in after.items() if y != END]
        for old, formed, at in changes:
            count = self._count(at)
            self.pairs[old] -= count
            self.pairs[formed] += count
        return ((formed, at) for _, formed, at in changes)

    def _count(self, places: Iterable[int]) -> int:
        return sum(map(self.weights.__getitem__, places))


# --- Encoding -------------------------------------------------------------------------


def ranks(merges: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The number of each merge: the lower, the earlier it is made."""
    return {pair: n for n, pair in enumerate(merges)}


def merged(word: Iterable[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a word: while a pair has a rank, the lowest is merged, leftmost first.

    `word` is a string, or the tokens to start from. Linear but for a logarithm: a heap
    holds the pairs that have a rank. As ``tokenizers.models.BPE``.
    """
    tokens = list(word)
    following = [*range(1, len(tokens)), None]
    before = [None, *range(len(tokens) - 1)]
    heap = [(ranks[p], i) for i, p in enumerate(pairwise(tokens)) if p in ranks]
    heapq.heapify(heap)
    while heap:
        rank, i = heapq.heappop(heap)
        j = following[i]
        if j is None or ranks.get((tokens[i], tokens[j])) != rank:
            continue  # one of the two has become part of another token
        tokens[i], tokens[j] = tokens[i] + tokens[j], ""
        following[i] = k = following[j]
        if k is not None:
            before[k] = i
        for left, right in ((before[i], i), (i, k)):
            if left is not None and right is not None:
                rank = ranks.get((tokens[left], tokens[right]))
                if rank is not None:
                    heapq.heappush(heap, (rank, left))
    return [token for token in tokens if token]


def encode(
    text: str,
    vocabulary: Mapping[str, int],
    ranks: Mapping[tuple[str, str], int],
    words: Callable[[str], list[str]] = presplit.byte_words,
    special: Mapping[str, int] | None = None,
) -> list[int]:
    """The ids of a text: cut to words, each word merged.

    `special` are the special tokens that may be read as such, with their ids; of two that
    start at one place, the longer is read. What is not named there is text like any
    other, so that no user can write a special token: ``tiktoken`` with
    ``disallowed_special=()``. (`tokenizers` always reads them.)

    Raises:
        ValueError: a character is not in the vocabulary (`tokenizers` drops it and says
            nothing); a lone surrogate in a text that becomes bytes.
    """
    special, known, ids = special or {}, {}, []
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    for part in re.split(f"({pattern})", text) if special else [text]:
        if part in special:
            ids.append(special[part])
            continue
        for word in words(part):
            if word not in known:
                known[word] = _ids(merged(word, ranks), vocabulary)
            ids += known[word]
    return ids


def _ids(tokens: list[str], vocabulary: Mapping[str, int]) -> list[int]:
    for token in tokens:
        if token not in vocabulary:
            raise ValueError(f"text: {token!r} is not in the vocabulary")
    return [vocabulary[token] for token in tokens]


def decode(ids: Iterable[int], tokens: Sequence[str] | Mapping[int, str]) -> str:
    """The text of ids of visible bytes; what is no UTF-8 becomes �.

    `tokens` gives the token of an id. One by one: `presplit.stream`.
    """
    return presplit.decode(b"".join(presplit.raw(tokens[i]) for i in ids))
