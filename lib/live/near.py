"""A word's neighbours in two tables of vectors: the element of `tokens/embeddings`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import weights
from lib.live.element import Live, table

FILES = (("embeddings", "model.safetensors", ""), ("embeddings", "words.txt", ""))
TOLD = 5  # neighbours in the story


def model() -> tuple[list[str], dict[str, Tensor]]:
    """The words, and the shipped tables of their vectors (V, d) in float32."""
    words = weights.path(*FILES[1][:2]).read_text("utf8").split("\n")
    tables = weights.tensors("embeddings")  # in an order of chance
    return words, {name: tables[name].float() for name in sorted(tables)}


def cosines(vectors: Tensor, at: int) -> Tensor:
    """The cosine of row `at` of (V, d) with each row: (V,)."""
    unit = F.normalize(vectors, dim=-1)  # (V, d)
    return unit @ unit[at]


def near(asked: list[str]) -> Live:
    """The element, and its story: the nearest words of those asked, by table.

    Raises ValueError for no word, and for one without a vector.
    """
    words, tables = model()
    if not asked or (unknown := set(asked) - set(words)):
        wrong = sorted(unknown) if asked else "none"
        raise ValueError(f"asked: got {wrong}, wants some of the {len(words):,} words")
    rows = []
    for word in asked:
        at, row = words.index(word), [word]
        for vectors in tables.values():
            found = cosines(vectors, at)  # (V,)
            found[at] = -torch.inf
            best = zip(*(x.tolist() for x in found.topk(TOLD)), strict=True)
            row.append(", ".join(f"{words[i]} {cosine:.2f}" for cosine, i in best))
        rows.append(row)
    data = {"name": "Neighbours of a word", "asked": asked}
    return Live("near", FILES, data, table(("word", *tables), rows))
