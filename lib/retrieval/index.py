"""The vectors of passages, kept in a file: made once, made anew where a passage changed.

A file says which model made it. Each vector is kept under the hash of its text, so a
change of one page costs the vectors of that page's new passages, and no others.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

Embed = Callable[[Sequence[str]], np.ndarray]


class StaleIndex(Exception):
    """An index is not the one that is asked for: the message says what differs."""


def refresh(path: Path, texts: Sequence[str], model: str, embed: Embed) -> np.ndarray:
    """The unit vectors of texts, (N, D), from the file where it has them.

    What is missing is computed by `embed`, and the file then holds these texts and no
    others. It is complete before it takes the old one's place. A file that cannot be
    read, or that another model made, is made anew.

    Raises:
        ValueError: there is no text, or `embed` gives another number of vectors.
    """
    if not len(texts):
        raise ValueError("texts: got none, wants at least one")
    try:
        keys, vectors = _read(path, model)
    except StaleIndex:
        keys, vectors = [], np.zeros((0, 0), dtype=np.float32)
    have = {key: row for key, row in zip(keys, vectors, strict=True)}
    wanted = [key_of(text) for text in texts]
    new = {
        key: text for key, text in zip(wanted, texts, strict=True) if key not in have
    }
    if new:
        made = np.asarray(embed([*new.values()]), dtype=np.float32)  # (new, D)
        if made.ndim != 2 or len(made) != len(new):
            raise ValueError(f"embed: got shape {made.shape} for {len(new)} texts")
        have |= zip(new, made, strict=True)
    if new or set(wanted) != set(keys):
        _write(path, {key: have[key] for key in wanted}, model)
    return np.stack([have[key] for key in wanted])


def load(path: Path, texts: Sequence[str], model: str) -> np.ndarray:
    """The vectors of texts, (N, D), all of them from the file.

    Raises:
        StaleIndex: the file cannot be read, was made by another model, or from other
            texts.
    """
    keys, vectors = _read(path, model)
    at = {key: i for i, key in enumerate(keys)}
    missing = [text for text in texts if key_of(text) not in at]
    if missing:
        raise StaleIndex(
            f"{path}: made from another text; {len(missing)} of {len(texts)} passages "
            f"are not in it, first {missing[0][:40]!r}. Call `refresh`"
        )
    return vectors[[at[key_of(text)] for text in texts]]


def key_of(text: str) -> str:
    """What a text is kept under: 16 hexadecimal digits of its sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def nearest(vectors: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k rows of unit vectors (N, D) nearest to a query (D,), with their cosines.

    Exact: every row is compared. With k above N, all N; of equals the first.

    Raises ValueError for k < 1, and for a query of another width: another model's.
    """
    if k < 1:
        raise ValueError(f"k: got {k}, wants at least 1")
    query = np.asarray(query)
    if query.shape != vectors.shape[1:]:
        raise ValueError(
            f"query: got shape {query.shape}, wants {vectors.shape[1:]}: "
            "is it of the model that made the index?"
        )
    cosines = vectors @ query  # (N,)
    order = np.argsort(-cosines, kind="stable")[:k]
    return [(int(i), float(cosines[i])) for i in order]


def _read(path: Path, model: str) -> tuple[list[str], np.ndarray]:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            said = file.metadata() or {}
            vectors = file.get_tensor("vectors")
        keys = json.loads(said["keys"])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise StaleIndex(f"{path}: wants an index, got {error!r}") from error
    if said["model"] != model:
        raise StaleIndex(f"{path}: made by {said['model']}, asked for with {model}")
    return keys, vectors


def _write(path: Path, rows: dict[str, np.ndarray], model: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors = np.ascontiguousarray(np.stack([*rows.values()]), dtype=np.float32)
    data = {"keys": json.dumps([*rows]), "model": model}
    part = path.with_suffix(f".{os.getpid()}.part")
    safetensors.numpy.save_file({"vectors": vectors}, part, data)
    os.replace(part, path)
