"""Text as coloured pieces, frame by frame: merges one by one, tokenizers one by one.

The frames are made here and drawn twice: the last one for the still, all by pieces.js.
"""

from collections.abc import Collection, Sequence

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lib.figures.element import Element
from lib.figures.pictures import png
from lib.figures.theme import CATEGORIES, letters

COLOURS = CATEGORIES[:5]
FPS = 0.7  # frames a second: pieces want time to be read
LETTER, LINE, LEFT, WIDE = 0.085, 0.3, 1.15, 7.0  # inches of the still
Row = tuple[str, Sequence[str]]  # a title, and the pieces of its text


def pieces(
    frames: Sequence[Sequence[Row]],
    labels: Sequence[str],
    *,
    alt: str,
    name: str = "Pieces",
    grey: Collection[str] = (),
) -> Element:
    """Rows of pieces that a reader plays, pauses and steps through, one label a frame.

    A piece has the same colour in all rows and frames; those in `grey` have none. `alt`
    says what is shown and what to see in it; the last frame stands where scripts are
    stripped.

    Raises: ValueError if there are no frames, not one label for each, or no alt text.
    """
    if not frames or len(frames) != len(labels):
        raise ValueError(
            f"labels: got {len(labels)}, wants one for each of {len(frames)} frames"
        )
    if not alt.strip():
        raise ValueError("alt must say what the pieces show and what to see in them")
    seen = dict.fromkeys(piece for f in frames for _, row in f for piece in row)
    coloured = [piece for piece in seen if piece not in grey]
    colour = {piece: 1 + n % len(COLOURS) for n, piece in enumerate(coloured)}
    index = {piece: n for n, piece in enumerate(seen)}
    data = {
        "name": name,
        "alt": alt,
        "colours": COLOURS,
        "fps": FPS,
        "labels": list(labels),
        "pieces": [[piece, colour.get(piece, 0)] for piece in seen],
        "frames": [
            [[title, [index[piece] for piece in row]] for title, row in frame]
            for frame in frames
        ],
    }
    return Element("pieces", data, png(_draw(data)))


def _draw(data: dict) -> Figure:
    """The last frame: boxes in lines, a title before each row."""
    boxes, titles, y = [], [], 0
    for title, row in data["frames"][-1]:
        titles.append((y, title))
        x = LEFT
        for piece, colour in (data["pieces"][i] for i in row):
            wide = LETTER * (letters(piece) + 1)
            if x > LEFT and x + wide > WIDE:
                x, y = LEFT, y + 1
            boxes.append((x, y, wide, piece, colour))
            x += wide + 0.03
        y += 1.3
    tall = (y + 0.6) * LINE
    figure, ax = plt.subplots(figsize=(WIDE, tall))
    for x, line, wide, piece, colour in boxes:
        face = data["colours"][colour - 1] + "40" if colour else "none"
        edge = data["colours"][colour - 1] if colour else "0.6"
        place = (x, line * LINE + 0.03), wide, LINE - 0.06
        style = {"boxstyle": "round,pad=0,rounding_size=0.04", "fc": face, "ec": edge}
        ax.add_patch(FancyBboxPatch(*place, **style))
        middle = x + wide / 2, (line + 0.5) * LINE
        ax.text(*middle, piece, ha="center", va="center", size=8.5)
    for line, title in titles:
        ax.text(LEFT - 0.1, (line + 0.5) * LINE, title, ha="right", va="center", size=8)
    ax.set(xlim=(0, WIDE), ylim=(y * LINE, -0.05))
    ax.set_title(data["labels"][-1], size="medium")
    ax.axis("off")
    return figure
