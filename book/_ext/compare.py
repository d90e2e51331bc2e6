"""Are two outputs of a cell the same? Text exactly, pictures and drawn numbers nearly.

Used by the tests, which compare what ran with what is stored, and by `make refresh`,
which keeps the stored bytes of a picture that has not changed.
"""

import base64
import io
import json
import re

import numpy as np
from PIL import Image, ImageSequence
from scipy.ndimage import uniform_filter

PICTURE_MEAN = 2.0  # mean absolute difference of a whole picture, of 255
PICTURE_TILE = 6.0  # the same in any 16 x 16 tile: a changed digit shows here
NUMBERS = 0.005  # of the spread of a field of a replay: a pixel of 200
DIGIT = 0.001  # of its largest number: the last of the four digits that are stored
FINE = {"x", "edges", "logits", "rest"}  # the same to that digit, whatever the spread
BYTES = {"u8": "u1", "u16": "<u2"}  # whole numbers in base64, by the name of the field
MIXED = {"marks", "rest"}  # each column is a quantity of its own


def differs(kind: str, new: str, old: str):
    """What differs first between two outputs of a cell of one MIME type, or None."""
    if kind in ("image/png", "image/gif"):
        return picture_differs(base64.b64decode(new), base64.b64decode(old))
    if kind == "text/html":
        return html_differs(new, old)
    return None if new == old else f"now:\n{new}\nstored:\n{old}"


def picture_differs(new: bytes, old: bytes):
    """Each frame nearly the same, as a whole and in each of its corners."""
    if new == old:
        return None
    with Image.open(io.BytesIO(new)) as a, Image.open(io.BytesIO(old)) as b:
        if getattr(a, "n_frames", 1) != getattr(b, "n_frames", 1):
            return "another number of frames"
        for number, frames in enumerate(
            zip(ImageSequence.Iterator(a), ImageSequence.Iterator(b), strict=True)
        ):
            x, y = (np.asarray(f.convert("RGB"), dtype=np.float32) for f in frames)
            if x.shape != y.shape:
                return f"size {x.shape}, stored {y.shape}"
            gap = np.abs(x - y).mean(axis=2)
            tile = uniform_filter(gap, 16, mode="constant").max()
            if gap.mean() > PICTURE_MEAN or tile > PICTURE_TILE:
                return f"frame {number}: mean {gap.mean():.2f}, worst tile {tile:.1f} of 255"
    return None


# What a figure's HTML holds beside its script: a digest, a still and the numbers.
DIGEST = re.compile(r'(?<=data-key=")[0-9a-f]+|(?<=\}\)\(")[0-9a-f]+(?=", \{)')
PIECES = re.compile(
    r"data:image/png;base64,(?P<png>[A-Za-z0-9+/=]+)"
    r'|(?<=\}\)\("…", )(?P<json>\{.*\})(?=\);?\s*</script>)'
)


def html_differs(new: str, old: str):
    """Text exactly, embedded pictures and a replay's numbers within a tolerance."""
    if new == old:
        return None
    new, old = DIGEST.sub("…", new), DIGEST.sub("…", old)
    a, b = list(PIECES.finditer(new)), list(PIECES.finditer(old))
    texts = [PIECES.sub("…", text) for text in (new, old)]
    if texts[0] != texts[1] or len(a) != len(b):
        return f"now:\n{texts[0][:2000]}\nstored:\n{texts[1][:2000]}"
    for x, y in zip(a, b, strict=True):
        if x["png"] and y["png"]:
            problem = picture_differs(
                base64.b64decode(x["png"]), base64.b64decode(y["png"])
            )
        else:
            problem = json_differs(json.loads(x["json"]), json.loads(y["json"]))
        if problem:
            return problem
    return None


def json_differs(new, old, at: str = ""):
    """Each list of numbers within a tolerance of its own, all else exactly.

    `at` is the path of the two within the replay, such as "panels.0.series.1.y".
    """
    a, b = _numbers(new), _numbers(old)
    if a is not None and b is not None:
        return _numbers_differ(a, b, at)
    if isinstance(new, dict) and isinstance(old, dict) and [*new] == [*old]:
        pairs = ((key, new[key], old[key]) for key in old)
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        pairs = zip(range(len(old)), new, old, strict=True)
    else:
        return None if new == old else f"{at}: {new!r}, stored {old!r}"
    found = (json_differs(x, y, f"{at}.{key}".lstrip(".")) for key, x, y in pairs)
    return next(filter(None, found), None)


def _numbers(value):
    """Numbers as an array, from a list, nested or not, or bytes; None for anything else."""
    if isinstance(value, dict) and len(value) == 1 and (kind := BYTES.get(*value)):
        return np.frombuffer(base64.b64decode(*value.values()), kind).astype(float)
    if not (isinstance(value, list) and value):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return None
    return array.astype(float) if array.dtype.kind in "if" else None


def _numbers_differ(new, old, at):
    if new.shape != old.shape:
        return f"{at}: shape {new.shape}, stored {old.shape}"
    field = at.rpartition(".")[2]
    axis = 0 if field in MIXED else None
    allowed = DIGIT * np.abs(old).max(axis)
    if field not in FINE:
        allowed = np.maximum(allowed, NUMBERS * np.ptp(old, axis))
    wrong = np.argwhere(np.abs(new - old) > allowed)
    if not len(wrong):
        return None
    place = tuple(wrong[0])
    where = ".".join(map(str, (at, *place)))
    return f"{where}: {new[place]:g}, stored {old[place]:g}"
