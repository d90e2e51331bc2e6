"""easy-VQA: 5,000 small pictures of one shape, with questions; from its package."""

import hashlib
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from lib.checks import whole
from lib.data.origin import DataError, Dataset, Unreachable

PACKAGE, VERSION = "easy_vqa", "easy-vqa==1.0"
SHA256 = {
    "train": ("23b68570a0a428c5dcdc8415f7405a6157d26da5cdb245164a8cf0f79213a7b4"),
    "test": ("72c810de400a25271585df3bac8586729f3b089540d7f2f28835ff97183a0073"),
}
ANSWERS = {
    "colour": ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow"),
    "shape": ("circle", "rectangle", "triangle"),
    "yes/no": ("yes", "no"),
}


def easy_vqa(split: str = "train") -> Dataset:
    """Questions about pictures of 64×64 pixels, each with one coloured shape.

    Rows of kind (a key of `ANSWERS`), question, answer, file (the picture's path):
    38,575 about 4,000 pictures to train, 9,673 about 1,000 others to test. Three in four
    are yes/no questions.

    Raises:
        ValueError: no such split.
        Unreachable: the package is not installed; the message says how to.
        DataError: a file of it is missing or another.
    Source: Victor Zhou, easy-VQA 1.0 (2019), MIT licence.
    """
    if split not in SHA256:
        raise ValueError(f"split: got {split!r}, wants 'train' or 'test'")
    found = find_spec(PACKAGE)
    if found is None:
        raise Unreachable(
            f"easy-VQA: its package is not installed: pip install --no-deps {VERSION}"
        )
    folder = Path(found.origin).parent / "data" / split
    try:
        text = (folder / "questions.json").read_bytes()
        files = sorted((folder / "images").glob("*.png"), key=lambda f: int(f.stem))
        hashed = hashlib.sha256(text)
        for file in files:
            hashed.update(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} cannot be read: {error}") from error
    if (got := hashed.hexdigest()) != SHA256[split]:
        raise DataError(f"{folder}: expected sha256 {SHA256[split]}, got {got}")
    kinds = {answer: kind for kind, known in ANSWERS.items() for answer in known}
    return Dataset(
        name=f"easy-VQA ({split})",
        source=f"the package {VERSION.replace('==', ' ')}",
        licence="MIT",
        is_full=True,
        rows=[
            {"kind": kinds[a], "question": q, "answer": a, "file": str(files[number])}
            for q, a, number in json.loads(text)
        ],
        unit="questions",
        texts=("question",),
    )


def shown(rows: Iterable[dict]) -> dict[str, str]:
    """What a picture shows, where its questions and answers tell: file -> *red circle*.

    A question names what is there if it is no yes/no question, or if the answer says so.
    """
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        words = row["question"].rstrip("?").split()
        there = (row["answer"] == "yes") != bool({"no", "not"} & {*words})
        if row["kind"] != "yes/no":
            words, there = [*words, row["answer"]], True
        for kind in ("colour", "shape"):
            named = [word for word in words if word in ANSWERS[kind]]
            if there and named:
                found.setdefault(row["file"], {})[kind] = named[0]
    return {
        file: f"{facts['colour']} {facts['shape']}"
        for file, facts in found.items()
        if len(facts) == 2
    }


def pictures(files: Iterable[str | Path], size: int = 64) -> np.ndarray:
    """The pictures, in another size where asked: uint8 (n, size, size, 3).

    Raises ValueError for a size below 16; DataError names a file that is no picture.
    """
    whole("size", size, 16)
    found = []
    for file in files:
        try:
            with Image.open(file) as image:
                square = image.convert("RGB").resize((size, size), Image.BICUBIC)
        except OSError as error:
            raise DataError(f"{file}: no picture ({error})") from error
        found.append(np.asarray(square))
    return np.stack(found)
