"""A GIF of figures: one palette, a progress bar, a last frame that is held."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from lib.figures.pictures import indexed, pixels

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Animation:
    """A GIF that a notebook displays: it plays three times and rests on its last frame."""

    data: bytes
    frames: int
    seconds: float
    alt: str | None = None

    def _repr_mimebundle_(self, include=None, exclude=None):
        text = f"animation: {self.frames} frames, {self.seconds:.1f} s"
        gif = base64.b64encode(self.data).decode()
        return {"image/gif": gif, "text/plain": text}, (
            {"image/gif": {"alt": self.alt}} if self.alt else {}
        )


def animation(
    draw: Callable[[int], Figure],
    frames: int,
    *,
    fps: float = 8,
    alt: str | None = None,
    hold: int = 12,
) -> Animation:
    """The figures `draw(0)` … `draw(frames - 1)` as an optimised GIF of at most 1 MB.

    Frames share one palette, a thin bar below them marks progress, and the last one is
    held for `hold` frames' time; `fps` is frames per second. All figures must have one
    size. ValueError names the size of a GIF above 1 MB.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    if fps <= 0 or hold < 1:
        raise ValueError(f"fps must be > 0 and hold >= 1, got {fps} and {hold}")
    pictures = [pixels(draw(i)) for i in range(frames)]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        sizes = sorted(f"{w}×{h}" for h, w, _ in shapes)
        raise ValueError(f"draw must return figures of one size, got {sizes}")
    pictures = [
        _with_progress(picture, (i + 1) / frames) for i, picture in enumerate(pictures)
    ]
    images = indexed(pictures)
    step = round(1000 / fps)
    out = io.BytesIO()
    images[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=[step] * (frames - 1) + [step * hold],
        loop=2,  # twice more after the first
        optimize=True,
        disposal=1,
    )
    if out.tell() > MAX_BYTES:
        raise ValueError(
            f"the GIF has {out.tell():,} bytes, at most {MAX_BYTES:,} are allowed: "
            f"draw fewer frames than {frames}, or smaller figures"
        )
    return Animation(out.getvalue(), frames, (frames - 1 + hold) * step / 1000, alt)


def _with_progress(picture: np.ndarray, done: float) -> np.ndarray:
    bar = np.full((5, picture.shape[1], 3), 225, np.uint8)
    bar[:, : round(done * picture.shape[1])] = 90
    return np.concatenate([picture, bar])
