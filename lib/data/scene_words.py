"""The words of the drawn scenes: captions in English and Japanese, and questions."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

COLOURS = ("red", "yellow", "green", "blue", "purple", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
PLACES = ("top left", "top right", "bottom left", "bottom right")  # reading order
COUNTS = ("one", "two", "three", "four")
# In Japanese, and how that is read.
JAPANESE = {
    "red": ("赤い", "akai"),
    "yellow": ("黄色い", "kiiroi"),
    "green": ("緑の", "midori no"),
    "blue": ("青い", "aoi"),
    "purple": ("紫の", "murasaki no"),
    "black": ("黒い", "kuroi"),
    "circle": ("円", "en"),
    "square": ("四角", "shikaku"),
    "triangle": ("三角", "sankaku"),
    "star": ("星", "hoshi"),
    "heart": ("ハート", "hāto"),
    "cross": ("十字", "jūji"),
    "top left": ("左上", "hidariue"),
    "top right": ("右上", "migiue"),
    "bottom left": ("左下", "hidarishita"),
    "bottom right": ("右下", "migishita"),
}
ASKED = {
    "colour": "What colour is the {shape}?",
    "shape": "What shape is the {colour} object?",
    "count": "How many {shapes} are there?",
    "place": "Where is the {shape}?",
    "yes/no": "Is there a {colour} {shape}?",
}
KINDS = tuple(ASKED)
ANSWERS = {
    "colour": COLOURS,
    "shape": SHAPES,
    "count": COUNTS,
    "place": PLACES,
    "yes/no": ("yes", "no"),
}


class Object(NamedTuple):
    """One object: what the words say, then where it is drawn, as shares of the side."""

    colour: str
    shape: str
    place: str
    x: float  # of its middle, from the left
    y: float  # from the top
    radius: float


def english(objects: Iterable[Object]) -> str:
    """*A red circle at the top left and a blue star at the bottom right.*"""
    parts = [f"a {o.colour} {o.shape} at the {o.place}" for o in in_order(objects)]
    text = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return text[0].upper() + text[1:] + "."


def japanese(objects: Iterable[Object]) -> tuple[str, str]:
    """The caption in Japanese, and its reading: *左上に赤い円があります。*"""
    said = [
        [JAPANESE[word] for word in (o.place, o.colour, o.shape)]
        for o in in_order(objects)
    ]
    text = "、".join(f"{place[0]}に{c[0]}{s[0]}" for place, c, s in said)
    reading = ", ".join(f"{place[1]} ni {c[1]} {s[1]}" for place, c, s in said)
    return f"{text}があります。", f"{reading} ga arimasu."


def in_order(objects: Iterable[Object]) -> Sequence[Object]:
    """Sorted as one reads: the upper row from the left, then the lower one."""
    return sorted(objects, key=lambda o: PLACES.index(o.place))


def asked(kind: str, colour: str, shape: str) -> str:
    """The question of a kind about a colour and a shape, as far as it names them."""
    shapes = f"{shape}es" if shape.endswith("s") else f"{shape}s"
    return ASKED[kind].format(colour=colour, shape=shape, shapes=shapes)
