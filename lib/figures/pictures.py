"""A figure's pixels, and pictures in few colours: PNG stills and the frames of a GIF."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def pixels(figure: Figure) -> np.ndarray:
    """The figure's pixels (height, width, 3); closes it, or the notebook shows it too."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def indexed(pictures: Sequence[np.ndarray]) -> list[Image.Image]:
    """The pictures with one palette, in which the commonest colours stay exact.

    Pillow's own choice turns white into a light grey, and differs from frame to frame.
    """
    codes = [picture.astype(np.uint32) @ [1 << 16, 1 << 8, 1] for picture in pictures]
    counts = np.zeros(1 << 24, np.int64)
    for code in codes:
        colours, number = np.unique(code, return_counts=True)
        counts[colours] += number
    seen = np.flatnonzero(counts)
    rgb = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], axis=1)
    palette = rgb[np.argsort(-counts[seen], kind="stable")][:255]
    if len(seen) > 255:
        rest = Image.fromarray(rgb[None].astype(np.uint8)).quantize(127)
        more = np.reshape(rest.getpalette(), (-1, 3))
        palette = np.concatenate([palette[:128], more])
    nearest = np.empty(1 << 24, np.uint8)
    for part in range(0, len(seen), 4096):
        away = rgb[part : part + 4096, None] - palette
        nearest[seen[part : part + 4096]] = np.square(away).sum(-1).argmin(1)
    images = []
    for code in codes:
        images.append(Image.frombytes("P", code.shape[::-1], nearest[code].tobytes()))
        images[-1].putpalette(palette.astype(np.uint8).tobytes())
    return images


def png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 255 colours; closes it."""
    [image] = indexed([pixels(figure)])
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
