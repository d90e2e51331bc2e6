"""Static word vectors: one vector for each word, whatever stands around it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Vectors:
    """Words with a vector each; the display is one line: name, size, source, licence.

    `vectors` is (N, D). `words` names its rows, the most frequent word first. `rows` has
    the row of every word: there can be more words than rows, and then some words share a
    row with the word that `words` names.
    """

    words: list[str]
    rows: dict[str, int]
    vectors: Tensor
    name: str
    source: str
    licence: str

    def __getitem__(self, word: str) -> Tensor:
        """The vector of `word`, (D,); KeyError if it has none."""
        if word not in self.rows:
            raise KeyError(f"{self.name}: no vector for {word!r}")
        return self.vectors[self.rows[word]]

    def __contains__(self, word: str) -> bool:
        return word in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        size = f"{len(self.rows):,} words, {len(self.vectors):,} vectors"
        size = f"{self.name}: {size} of {self.vectors.shape[1]} numbers"
        return f"{size} · {self.source} · {self.licence}"
