"""Japanese word vectors: those of the spaCy model ja_ginza, read without spaCy.

They come from chiVe, says the package's meta.json, cut down as `prune_vectors` of spaCy
does it: the 20,000 most frequent words have a vector of their own, and every other word
has the row of a near one.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lib.pretrained.origin import PretrainedError, kept, required, verified
from lib.pretrained.vectors import Vectors

PACKAGE, VERSION = "ja_ginza", "ja-ginza==5.3.0"
VOCAB = "ja_ginza-5.3.0/vocab"
SHA256 = {
    "vectors": "8c16f062e90069d86fc58df57af9c9c948aae9b0033684332c99538fbdcff4bf",
    "key2row": "dee5b86de2f94dac1f48db1115ad21a94755e370debb78b5cc46dbcf3950cad0",
    "strings.json": "b3ed16035cd82356d54c68b5c933f30a3ec931d67abb853a2bf2c6433f6c7b80",
}
# The words of the file that spaCy numbers itself (`spacy.symbols`), not by a hash.
SYMBOLS = {64: "ID", 74: "POS", 76: "DEP", 85: "ADP", 86: "ADV", 101: "X", 383: "ORG"}
SYMBOLS |= {385: "LOC", 401: "agent", 404: "attr", 405: "aux", 407: "cc", 415: "det"}
SYMBOLS |= {427: "nn", 434: "obj", 440: "poss", 443: "prep", 449: "root"}
WRAP = 2**64 - 1  # arithmetic of 64 bits
BYTES = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # of msgpack's unsigned integers


def ginza() -> Vectors:
    """480,443 Japanese words on 20,000 vectors of 300 numbers, frequent words first.

    From the package `ja-ginza`. The first call finds the words of its rows and keeps the
    result in ``pooch.os_cache("glass-box")``, verified on every later call. The keys are
    words as SudachiPy cuts and normalises them: mostly dictionary forms.

    Raises:
        PretrainedError: the package is not installed, or a file of it is another.
    Source: Manabe et al. (2019), the chiVe vectors; Megagon Labs, ja_ginza 5.3.0.
    """
    vocab = required(PACKAGE, "ja_ginza", VERSION) / VOCAB

    def convert(folder: Path) -> None:
        files = [verified(vocab / file, SHA256[file]) for file in SHA256]
        vectors, words, rows = _read(*files)
        tensors = {"vectors": torch.from_numpy(vectors), "rows": torch.tensor(rows)}
        save_file(tensors, folder / "vectors.safetensors")
        (folder / "words.json").write_text(json.dumps(words), "utf8")

    folder = kept("ginza", SHA256["key2row"], convert)
    tensors = load_file(folder / "vectors.safetensors")
    words = json.loads((folder / "words.json").read_text("utf8"))
    rows = dict(zip(words, tensors["rows"].tolist(), strict=True))
    source = "chiVe's vectors as the package ja-ginza 5.3.0 has them"
    licence = "MIT (chiVe: Apache-2.0)"
    own = words[: len(tensors["vectors"])]
    return Vectors(own, rows, tensors["vectors"], "ja_ginza", source, licence)


def _read(vectors: Path, keys: Path, strings: Path) -> tuple:
    """The vectors, all words, and the row of each: the file's order."""
    array = np.load(vectors, allow_pickle=False)
    names = {
        murmur(word.encode()): word for word in json.loads(strings.read_text("utf8"))
    }
    rows = _integers(keys.read_bytes())
    names |= SYMBOLS
    words = [names[key] for key in rows]
    if list(rows.values())[: len(array)] != list(range(len(array))):
        raise PretrainedError(f"{keys}: a vector's own word does not stand first")
    return array, words, list(rows.values())


def murmur(data: bytes, seed: int = 1) -> int:
    """MurmurHash64A, by which spaCy turns a string into a number (Appleby, 2008)."""
    m = 0xC6A4A7935BD1E995
    h = seed ^ (len(data) * m & WRAP)
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        k = int.from_bytes(data[at : at + 8], "little") * m & WRAP
        h = (h ^ ((k ^ k >> 47) * m & WRAP)) * m & WRAP
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & WRAP
    h = (h ^ h >> 47) * m & WRAP
    return h ^ h >> 47


def _integers(data: bytes) -> dict[int, int]:
    """A msgpack map whose keys and values are unsigned integers, and nothing else."""
    if data[0] != 0xDF:  # the mark of a map with a length of 32 bits
        raise PretrainedError(f"key2row: expected a msgpack map, got {data[0]:#x}")
    found, at = [], 5
    while at < len(data):
        size = BYTES.get(data[at], 0)
        found.append(
            int.from_bytes(data[at + 1 : at + 1 + size], "big") if size else data[at]
        )
        at += 1 + size
    return dict(zip(found[::2], found[1::2], strict=True))
