"""Does the model write, or recite? The record of `language/pretraining`'s question.

    python -m train.memorisation            # about 5 CPU-minutes; needs the checkpoint

For each of `SAMPLES` texts of `LENGTH` characters: the longest piece of it that also stands
in the training text, letter for letter. Three kinds of texts: drawn from the shipped model
of `train/pretraining.py` at temperature 1; drawn from a 5-gram model of the same training
text, which knows four characters back; passages of the *validation* text, by the same
author, which nobody copied. A model that recites has longer pieces than real new text.

Training text is what the run was trained on, without the watched fiftieth. To be tested on
the page: medians with bootstrap intervals, and two Mann–Whitney tests (the model against
each of the others) with Holm's correction.
"""

import random
from collections import Counter, defaultdict

import torch

from lib import decoding, training, weights
from lib.data.shakespeare import tiny_shakespeare
from lib.models.pretraining import language_model
from train import pretraining as study

NAME = "pretraining-memorisation"
SAMPLES, LENGTH, ORDER, BATCH = 240, 256, 5, 40


def longest(sample: str, text: str) -> str:
    """The longest piece of `sample` that stands in `text`, the first of several.

    Two ends move forwards only: the end as long as the piece is found, else the start.
    So there are at most two searches for each character.
    """
    best, start = "", 0
    for end in range(1, len(sample) + 1):
        while start < end and sample[start:end] not in text:
            start += 1
        if end - start > len(best):
            best = sample[start:end]
    return best


def n_gram_counts(text: str, order: int = ORDER) -> dict[str, tuple[str, list[int]]]:
    """What follows each `order − 1` characters: the characters and their counts."""
    found = defaultdict(Counter)
    for i in range(len(text) - order + 1):
        found[text[i : i + order - 1]][text[i + order - 1]] += 1
    return {k: ("".join(c), [*c.values()]) for k, c in found.items()}


def n_gram_texts(text: str, count: int, length: int, seed: int = 0) -> list[str]:
    """Texts of an n-gram model: each begins where a line of the text begins."""
    rng, follow = random.Random(seed), n_gram_counts(text)
    starts = [i + 1 for i, c in enumerate(text[: -2 * ORDER]) if c == "\n"]
    found = []
    for _ in range(count):
        at = rng.choice(starts)
        written = text[at : at + ORDER - 1]
        while len(written) < length:
            # The last characters of the text are followed by none.
            letters, shares = follow.get(written[1 - ORDER :], ("\n", [1]))
            written += rng.choices(letters, shares)[0]
        found.append(written)
    return found


def model_texts(model, vocabulary: str, count: int, length: int) -> list[str]:
    """Texts of the model, drawn at temperature 1 from a line's end on, which is cut off."""
    found, drawn = [], torch.Generator().manual_seed(0)
    while len(found) < count:
        size = min(BATCH, count - len(found))
        prompt = torch.full((size, 1), vocabulary.index("\n"))
        ids = decoding.sample(decoding.cached(model), prompt, length, generator=drawn)
        found += ["".join(vocabulary[i] for i in row) for row in ids[:, 1:].tolist()]
    return found


def passages(text: str, count: int, length: int, seed: int = 0) -> list[str]:
    """Passages that begin after a line's end; none is drawn twice."""
    ends = [
        i + 1 for i, c in enumerate(text) if c == "\n" and i + 1 + length < len(text)
    ]
    starts = random.Random(seed).sample(ends, count)
    return [text[i : i + length] for i in starts]


def main(argv: list[str] | None = None) -> None:
    training.arguments(__doc__, "memorisation", argv=argv)
    corpus = tiny_shakespeare()
    name = study.NAME if corpus.is_full else f"{study.NAME}-embedded"
    card = weights.card(name)
    vocabulary, ids = study.encode(corpus.rows[0]["content"])
    if vocabulary != card["config"]["vocabulary"]:
        raise ValueError("the checkpoint is of another text")
    parts = study.split(ids, choose=False)
    text, new = (
        "".join(vocabulary[i] for i in parts[k].tolist()) for k in ("train", "judged")
    )
    model = language_model(len(vocabulary), **card["config"]["model"])
    model.load_state_dict(weights.tensors(name))
    texts = {
        "model": model_texts(model.eval(), vocabulary, SAMPLES, LENGTH),
        "5-gram": n_gram_texts(text, SAMPLES, LENGTH),
        "validation text": passages(new, SAMPLES, LENGTH),
    }
    pieces = {
        kind: [longest(one, text) for one in some] for kind, some in texts.items()
    }
    lengths = {kind: [len(piece) for piece in some] for kind, some in pieces.items()}
    trace = {
        "lengths": lengths,
        "longest": {kind: max(some, key=len) for kind, some in pieces.items()},
        "of": card["config"]["shipped"],
        "sha256": card["files"]["model.safetensors"],
    }
    middle = {kind: sorted(some)[len(some) // 2] for kind, some in lengths.items()}
    made = {
        "config": {"samples": SAMPLES, "length": LENGTH, "order": ORDER},
        "data": {
            "name": corpus.name,
            "source": corpus.source,
            "licence": corpus.licence,
            "is_full": corpus.is_full,
            "split": "pieces are looked for in what the model was trained on",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.memorisation",
        "metrics": {"median length of the longest shared piece": middle},
        "licence": f"MIT; the pieces are of {corpus.name}, {corpus.licence}",
    }
    target = NAME if corpus.is_full else f"{NAME}-embedded"
    print(weights.save(target, made, None, trace), middle)


if __name__ == "__main__":
    main()
