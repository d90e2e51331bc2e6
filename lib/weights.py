"""Checkpoints that the book ships: ``checkpoints/<name>/`` with a card of hashes.

Every read compares the file's sha256 with the card. Weights are safetensors: nothing
is unpickled, and no code of others runs. Data lives in `lib.data`.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

FOLDER = Path(__file__).parent.parent / "checkpoints"
CARD, TENSORS, TRACE = "card.json", "model.safetensors", "trace.json"
CARD_KEYS = ("config", "data", "command", "metrics", "licence")
LARGEST = 10_000_000  # bytes of one checkpoint, all its files together
PICKLED = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")


class WeightsError(Exception):
    """A checkpoint is missing or is not what its card says: the message names it."""


def names() -> list[str]:
    """The names of all checkpoints, sorted."""
    return sorted(found.parent.name for found in FOLDER.glob(f"[!.]*/{CARD}"))


def card(name: str) -> dict[str, Any]:
    """What a checkpoint is: name, config, data, command, metrics, licence, files.

    Raises:
        ValueError: `name` is not a plain name.
        WeightsError: there is no such card, or it is not complete.
    """
    where = FOLDER / _plain("name", name) / CARD
    try:
        found = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{where}: expected a card, found no file") from None
    except ValueError as error:
        raise WeightsError(f"{where}: expected JSON, got {error}") from error
    keys = ("name", *CARD_KEYS, "files")
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise WeightsError(f"{where}: expected the keys {keys}, {missing} missing")
    if found["name"] != name:
        raise WeightsError(
            f"{where}: expected the name {name!r}, got {found['name']!r}"
        )
    return found


def trace(name: str) -> Any:
    """What the training recorded (``trace.json``). Raises as `path` does."""
    return json.loads(_read(name, TRACE))


def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors`` by name, on the CPU. Raises as `path`."""
    return safetensors.torch.load(_read(name, TENSORS))


def path(name: str, file: str) -> Path:
    """Where a file of a checkpoint is, its sha256 having been compared with the card.

    Raises:
        ValueError: `name` or `file` is not a plain name.
        WeightsError: the card does not list the file, or the file is missing or
            differs from its sha256; the message names it.
    """
    _read(name, file)
    return FOLDER / name / file


def save(
    name: str,
    card: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
    trace: Any = None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint, in the place of an older one of that name, and its hashes.

    `card` holds config, data, command, metrics and licence; the name and the hashes
    are filled in. The new folder is complete before it takes its place.

    Raises:
        ValueError: a name is not plain or is taken, a key of the card is missing, a
            file would have to be unpickled, a trace holds what JSON cannot (NaN), or
            the files are larger than `LARGEST` together.
    """
    target = FOLDER / _plain("name", name)
    if missing := [key for key in CARD_KEYS if key not in card]:
        raise ValueError(f"card: expected the keys {CARD_KEYS}, {missing} missing")
    contents = {}
    for file, content in (files or {}).items():
        if _plain("files", file) in (CARD, TENSORS, TRACE) or file.endswith(PICKLED):
            raise ValueError(f"files: {file!r} is a reserved name or a pickled format")
        contents[file] = bytes(content)
    if tensors is not None:
        ready = {key: tensors[key].detach().cpu().contiguous() for key in tensors}
        contents[TENSORS] = safetensors.torch.save(ready)
    if trace is not None:
        contents[TRACE] = json.dumps(trace, allow_nan=False).encode() + b"\n"
    hashes = {file: _sha256(contents[file]) for file in sorted(contents)}
    full = {**card, "name": name, "files": hashes}
    ordered = {key: full[key] for key in sorted(full, key=_card_order)}
    text = json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False)
    contents[CARD] = text.encode() + b"\n"
    if (size := sum(map(len, contents.values()))) > LARGEST:
        raise ValueError(f"{target}: expected at most {LARGEST:,} bytes, got {size:,}")

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix=f".{name}-") as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        fresh.mkdir()
        for file, content in contents.items():
            (fresh / file).write_bytes(content)
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(fresh, target)
        except OSError:
            if old.exists():
                shutil.move(old, target)
            raise
    return target


def _read(name: str, file: str) -> bytes:
    where = FOLDER / _plain("name", name) / _plain("file", file)
    expected = card(name)["files"].get(file)
    if expected is None:
        raise WeightsError(f"{where}: the card of {name!r} does not list this file")
    try:
        content = where.read_bytes()
    except OSError as error:
        raise WeightsError(f"{where}: cannot be read ({error.strerror})") from error
    if (got := _sha256(content)) != expected:
        raise WeightsError(f"{where}: expected sha256 {expected}, got {got}")
    return content


def _plain(argument: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{argument}: expected letters, digits, '.', '_' and '-', got {name!r}"
        )
    return name


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _card_order(key: str) -> tuple[int, str]:
    order = ("name", *CARD_KEYS)
    return (order.index(key) if key in order else len(order) + (key == "files"), key)
