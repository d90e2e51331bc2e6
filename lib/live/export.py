"""Checkpoints as classic scripts, which a page reads from a server and from a disk alike.

`fetch` is refused from a disk, script tags are not. A script holds a part of a file,
packed, in base64, as a property of its own tag: no name is left on the page, and what is
cut does not run. The scripts are made when the site is built, never committed.
"""

import base64
import gzip
from functools import cache
from pathlib import Path

import safetensors.torch

from lib import weights

PART = 3 * 2**16  # bytes of a part, a step of the progress

File = tuple[str, str, str]  # checkpoint, file, of its tensors those under this prefix


@cache
def content(checkpoint: str, file: str, prefix: str = "") -> bytes:
    """The bytes of a file of a checkpoint; of its tensors those under `prefix` alone.

    Raises as `lib.weights` does, and ValueError where no tensor has that prefix.
    """
    if not file.endswith(".safetensors"):
        return weights.path(checkpoint, file).read_bytes()
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.tensors(checkpoint).items()
        if name.startswith(prefix)
        and tensor.is_floating_point()  # not: batches counted
    }
    if not found:
        raise ValueError(f"prefix: {checkpoint} has no tensor under {prefix!r}")
    return safetensors.torch.save(found)


@cache
def _packed(*which: str) -> bytes:
    return gzip.compress(content(*which), 9, mtime=0)  # the same at every time


def listed(checkpoint: str, file: str, prefix: str = "") -> dict:
    """What a page has to know of a file: its key among the scripts, and its bytes."""
    size = len(_packed(checkpoint, file, prefix))
    name = "-".join((checkpoint, prefix.strip("/"), file))
    key = name.replace("--", "-").replace(".", "-")
    return {"file": file, "key": key, "bytes": size, "part": PART}


def write(folder: Path, checkpoint: str, file: str, prefix: str = "") -> list[Path]:
    """The scripts of a file, `<key>-<number>.js` in `folder`, from number 0."""
    whole, key = _packed(checkpoint, file, prefix), listed(checkpoint, file, prefix)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, start in enumerate(range(0, len(whole), PART)):
        text = base64.b64encode(whole[start : start + PART]).decode()
        made.append(folder / f"{key['key']}-{number}.js")
        made[-1].write_text(f'document.currentScript.part = "{text}";\n', "utf8")
    return made
