"""CIFAR-10, or scikit-learn's handwritten digits, and their pixels as arrays."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.data.origin import DataError, Dataset, Unreachable, from_hub

NAME = "uoft-cs/cifar10"
IMAGES = {"train": 50_000, "test": 10_000}
CLASSES = tuple(
    [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
)


@dataclass(frozen=True, eq=False)
class Images(Dataset):
    """Images of 32×32 pixels in ten classes; the rows are those to train.

    `train` and `test` are sequences of {"img": a PIL image, "label": 0 … 9}, decoded
    when asked for; `pixels` makes arrays of them.
    """

    test: Any = field(default=(), repr=False)
    classes: tuple[str, ...] = CLASSES

    @property
    def train(self) -> Any:
        return self.rows

    def __repr__(self) -> str:
        size = f"{len(self):,} + {len(self.test):,} images of 32×32 pixels"
        parts = [f"{self.name}: {size}", self.source, self.licence, self.notice]
        return " · ".join(part for part in parts if part)


def cifar10() -> Images:
    """CIFAR-10: 50,000 small photographs to train, 10,000 to test, in ten classes.

    As `datasets.load_dataset` gives them: rows of img, label. The original pixels come
    as PNG; where the images are JPEG, their pixels have lost something, and `notice`
    says so. Where the hub does not answer and the client's cache has no copy,
    scikit-learn's handwritten digits stand in, enlarged to 32×32; `is_full` is then
    False and `notice` says why.

    Raises:
        DataError: the data set is there and is another.
    """
    try:
        found = from_hub(NAME)
    except Unreachable as error:
        return _digits(f"not CIFAR-10, because {error}")
    got = {split: len(found[split]) for split in found}
    if got != IMAGES:
        raise DataError(f"{NAME}: expected {IMAGES}, got {got}")
    first = found["train"][0]["img"]
    lossy = "JPEG copy: these are not quite the original pixels"
    return Images(
        name="cifar10",
        source=f"CIFAR-10, huggingface.co/datasets/{NAME}",
        licence="no licence stated, cite Krizhevsky (2009)",
        is_full=True,
        rows=found["train"],
        notice="" if first.format == "PNG" else lossy,
        test=found["test"],
    )


def _digits(notice: str) -> Images:
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = [
        {"img": Image.fromarray(grey).resize((32, 32)).convert("RGB"), "label": label}
        for grey, label in zip(
            (found.images * 255 / 16).astype("uint8"),
            found.target.tolist(),
            strict=True,
        )
    ]
    return Images(
        name="cifar10",
        source="the embedded default, scikit-learn's handwritten digits",
        licence="CC BY 4.0",
        is_full=False,
        rows=rows[:1497],
        notice=notice,
        test=rows[1497:],
        classes=tuple("0123456789"),
    )


def pixels(rows: Any, picks: Any = None) -> tuple[Any, Any]:
    """Images and labels as arrays: uint8 (n, 32, 32, 3) and int64 (n,).

    `rows` is the `train` or `test` of `Images`; `picks` are the indices, all unless
    given.
    """
    picks = range(len(rows)) if picks is None else picks
    chosen = [rows[int(i)] for i in picks]
    images = [np.asarray(row["img"].convert("RGB")) for row in chosen]
    labels = np.array([row["label"] for row in chosen], dtype=np.int64)
    return np.stack(images), labels
