"""Word vectors from text: counts of neighbours, PPMI, SVD, skip-gram with negatives.

Vectors that others trained are in `pretrained`. A corpus is a list of lines, each a list
of words; a pair of neighbours never crosses the end of a line.
"""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.checks import whole


def vocabulary(lines: Sequence[Sequence[str]], least: int = 1) -> dict[str, int]:
    """Word -> its number of occurrences, the most frequent first, rarer ones left out.

    Words as frequent as each other stand in the order of their first occurrence.

    Raises:
        TypeError: a line is a text and not a list of words.
        ValueError: `least` is no whole number from 1, or no word occurs so often.
    """
    whole("least", least)
    if any(isinstance(line, str) for line in lines):
        raise TypeError("lines: wants a list of words for each line, got a text")
    counts = Counter(word for line in lines for word in line)
    kept = {word: count for word, count in counts.most_common() if count >= least}
    if not kept:
        raise ValueError(f"lines: got no word that occurs {least} times or more")
    return kept


def neighbours(
    lines: Sequence[Sequence[str]], vocabulary: Sequence[str], window: int
) -> Tensor:
    """Pairs (2, N) of the ids of words at most `window` places apart, the earlier first.

    A word outside the vocabulary is dropped before places are counted, as word2vec does
    it. A line of one word has no pairs; a corpus without pairs gives the shape (2, 0).

    Raises:
        ValueError: `window` is no whole number from 1.
    """
    whole("window", window)
    index = {word: i for i, word in enumerate(vocabulary)}
    gap = [-1] * window  # so that no pair crosses the end of a line
    flat = [
        i for line in lines for i in [*(index[w] for w in line if w in index), *gap]
    ]
    flat = torch.tensor(flat, dtype=torch.long)
    found = [torch.empty(2, 0, dtype=torch.long)]
    for apart in range(1, window + 1):
        pair = torch.stack([flat[:-apart], flat[apart:]])  # (2, ·)
        found.append(pair[:, (pair >= 0).all(0)])
    return torch.cat(found, 1)


def cooccurrences(pairs: Tensor, V: int) -> Tensor:
    """Counts (V, V) of pairs (2, N), in both directions: symmetric, float64."""
    counts = torch.bincount(pairs[0] * V + pairs[1], minlength=V * V).view(V, V)
    return (counts + counts.T).double()


def pmi(counts: Tensor, power: float = 1.0) -> Tensor:
    """Pointwise mutual information (V, V) of counts, in nats: −∞ where a count is 0.

    ln P(w, c) / (P(w) P(c)), rows w, columns c. With `power` below 1 the contexts'
    probabilities are raised to it and normalised again, so that rare ones weigh less.
    Church and Hanks, 1990; Levy, Goldberg and Dagan, 2015.
    """
    rows, columns = counts.sum(1, keepdim=True), counts.sum(0) ** power
    expected = rows * columns / columns.sum()  # (V, V)
    found = torch.log(counts / expected)
    return found.masked_fill(counts == 0, float("-inf"))


def ppmi(counts: Tensor, power: float = 1.0, shift: float = 0.0) -> Tensor:
    """Positive PMI (V, V): `pmi` less `shift`, and 0 where that is negative."""
    return (pmi(counts, power) - shift).clamp(min=0)


def factors(matrix: Tensor, d: int) -> Tensor:
    """Vectors (V, d) of a matrix (V, V): left singular vectors times √ of the values.

    Raises:
        ValueError: `d` is no whole number from 1 to V.
    """
    whole("d", d)
    if d > len(matrix):
        raise ValueError(f"d: got {d}, wants at most the {len(matrix)} words")
    left, values, _ = torch.svd_lowrank(matrix, min(d + 20, len(matrix)), niter=4)
    return left[:, :d] * values[:d].sqrt()


def negatives(
    chances: Tensor, positive: Tensor, k: int, generator: torch.Generator | None = None
) -> Tensor:
    """k drawn words (N, k) for each of the positive ones (N,), by `chances` (V,).

    A drawn word may be the positive one, as in the objective that word2vec's authors
    write down, and as Levy and Goldberg (2014) analyse it.

    Raises:
        ValueError: there is one word alone, which leaves nothing to tell it from; or a
            chance is negative, or all are 0.
    """
    whole("k", k)
    if len(chances) < 2:
        raise ValueError(f"chances: got {len(chances)} word, wants at least 2 to draw")
    if (chances < 0).any() or not chances.sum() > 0:
        raise ValueError("chances: wants none below 0, and one above")
    sums = chances.double().cumsum(0)
    drawn = torch.rand(len(positive), k, dtype=torch.double, generator=generator)
    return torch.searchsorted(sums, drawn * sums[-1]).clamp(max=len(chances) - 1)


def sgns(
    pairs: Tensor,
    frequency: Tensor,
    d: int = 64,
    k: int = 5,
    power: float = 0.75,
    sample: float | None = None,
    epochs: int = 5,
    rate: float = 0.01,
    batch: int = 16_384,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Skip-gram with negative sampling on pairs (2, N), both directions: words (V, d).

    `frequency` (V,) counts the words. With `sample`, a word of share f stays in a pair
    with probability √(sample / f). Adam, whose rate falls to 0. In float64 the vectors
    are the same on every processor but for the last digits. Mikolov et al., 2013.

    Raises:
        ValueError: there are no pairs; or as `negatives` does.
    """
    if not pairs.numel():
        raise ValueError("pairs: got none; no line has two words of the vocabulary")
    g = torch.Generator().manual_seed(seed)
    share = frequency.double() / frequency.sum()  # (V,)
    pairs = torch.cat([pairs, pairs.flip(0)], 1)  # each word asks for the other
    if sample is not None:
        keep = (sample / share).sqrt().clamp(max=1)  # (V,)
        stays = torch.rand(pairs.shape[1], generator=g) < keep[pairs].prod(0)
        pairs = pairs[:, stays]
    start = torch.randn(len(share), d, generator=g).to(dtype) / 10
    words, contexts = start.requires_grad_(), torch.zeros(len(share), d, dtype=dtype)
    contexts.requires_grad_()
    optimiser = torch.optim.Adam([words, contexts], lr=rate)
    batch = min(batch, pairs.shape[1])
    steps = epochs * (pairs.shape[1] // batch)
    for step in range(steps):
        at = step * batch % (pairs.shape[1] // batch * batch)
        if at == 0:
            order = torch.randperm(pairs.shape[1], generator=g)
        word, context = pairs[:, order[at : at + batch]]
        drawn = negatives(share**power, context, k, g)
        loss = sgns_loss(words[word], contexts[context], contexts[drawn])
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return words.detach()


def sgns_loss(word: Tensor, context: Tensor, drawn: Tensor) -> Tensor:
    """Mean of −ln σ(w·c) − Σ ln σ(−w·n): (N, d), (N, d), (N, k, d) -> a number."""
    true = (word * context).sum(-1)  # (N,)
    false = (drawn @ word[..., None])[..., 0]  # (N, k)
    return -(F.logsigmoid(true) + F.logsigmoid(-false).sum(-1)).mean()


def nearest(vectors: Tensor, words: Sequence[str], word: str, k: int = 5) -> list[str]:
    """The k words nearest to `word` by cosine, without itself.

    Raises:
        KeyError: `word` is not in the vocabulary.
    """
    if word not in words:
        raise KeyError(f"{word!r} is not in the vocabulary of {len(words):,} words")
    at = [*words].index(word)
    unit = F.normalize(vectors, dim=-1)  # (V, d)
    order = (unit @ unit[at]).argsort(descending=True, stable=True).tolist()
    return [words[i] for i in order if i != at][:k]
