"""Draws the scenes: each shape is a rule which points are inside, each pixel a share."""

from collections.abc import Callable, Iterable

import numpy as np

from lib.checks import whole
from lib.data.scene_words import Object

FINE = 4  # points along a pixel, each way: edges are grey where they cut a pixel
PAPER, EDGE = (243, 241, 236), (35, 35, 35)
WITHIN = 0.82  # the share of a shape, from its middle, that has its colour
INKS = {
    "red": (214, 39, 40),
    "yellow": (250, 204, 21),
    "green": (60, 179, 75),
    "blue": (45, 95, 220),
    "purple": (150, 60, 180),
    "black": (0, 0, 0),
}


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A point is in it if it is on the inner side of four of five lines, or of all."""
    angles = np.pi * (2 * np.arange(5) / 5 - 0.5)  # a tip above each side; one is up
    sides = np.cos(angles)[:, None, None] * u + np.sin(angles)[:, None, None] * v
    return (sides <= np.cos(0.4 * np.pi)).sum(0) >= 4


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A disc whose middle rises with the distance from the axis; y is up."""
    return x**2 + (y - np.cbrt(x**2)) ** 2 <= 1


# u to the right, v down, from −1 to 1 over the box of the shape.
INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: u**2 + v**2 <= 0.95**2,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.82,
    "triangle": lambda u, v: (v <= 0.72) & (abs(u) <= 0.58 * (v + 0.98)),
    "star": _star,
    "heart": lambda u, v: _heart(1.05 * u, 0.25 - 1.28 * v),
    "cross": lambda u, v: (
        (np.minimum(abs(u), abs(v)) <= 0.32) & (np.maximum(abs(u), abs(v)) <= 0.95)
    ),
}


def picture(objects: Iterable[Object], size: int = 64) -> np.ndarray:
    """The objects on light paper, each with a dark edge: uint8 (size, size, 3).

    The same scene may be drawn in any size: 32 for a small model, 224 for a ViT.
    Raises ValueError for a size below 16, in which shapes cannot be told apart.
    """
    whole("size", size, 16)
    image = np.full((size, size, 3), PAPER, dtype=np.float64)
    for one in objects:
        # The pixels that its box touches, and the points on them.
        left, top = (max(int((m - one.radius) * size), 0) for m in (one.x, one.y))
        right, below = (
            min(int((m + one.radius) * size) + 1, size) for m in (one.x, one.y)
        )
        u, v = np.meshgrid(
            _points(left, right, one.x, one.radius, size),
            _points(top, below, one.y, one.radius, size),
        )
        shape = INSIDE[one.shape]
        box = image[top:below, left:right]
        for ink, share in ((EDGE, 1.0), (INKS[one.colour], WITHIN)):
            covered = _shares(shape(u / share, v / share))[..., None]
            box += covered * (np.array(ink) - box)
    return np.round(image).astype(np.uint8)


def pictures(rows: Iterable[dict], size: int = 64) -> np.ndarray:
    """One for each row of `scenes`: uint8 (n, size, size, 3)."""
    return np.stack([picture(row["objects"], size) for row in rows])


def _points(start: int, end: int, middle: float, radius: float, size: int):
    at = (np.arange(start * FINE, end * FINE) + 0.5) / (FINE * size)  # shares of a side
    return (at - middle) / radius


def _shares(inside: np.ndarray) -> np.ndarray:
    """How much of each pixel is inside: (FINE h, FINE w) -> (h, w)."""
    h, w = (n // FINE for n in inside.shape)
    return inside.reshape(h, FINE, w, FINE).mean((1, 3))
