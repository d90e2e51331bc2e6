"""A picture that the vision transformer names: the element of `vision/vit`."""

import base64
import html
import io

import torch
from PIL import Image
from torch import Tensor

from lib import weights
from lib.live.element import Live
from lib.models.vision import ViT, conv_stem

FILES = (("vit", "model.safetensors", ""),)
SIDE = 96  # pixels of a sample that the page carries


def model() -> ViT:
    """The shipped vision transformer, in float32."""
    shape = weights.card("vit")["config"]["model"]
    size = shape["d_model"], shape["num_heads"], shape["layers"], 10
    stem = conv_stem(*shape["stem"], shape["d_model"])
    found = ViT(stem, (8, 8), *size, hidden=shape["hidden"], pool=shape["pool"])
    kept = weights.tensors("vit").items()
    found.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in kept}
    )
    return found.eval()


def seen(picture: Image.Image) -> Image.Image:
    """The square in the middle at 32×32, as the browser makes it."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    return square.resize((32, 32), Image.LANCZOS)


@torch.no_grad()
def shares(net: ViT, picture: Image.Image) -> Tensor:
    """The probabilities of the ten classes: (10,)."""
    card = weights.card("vit")["config"]
    pixels = torch.frombuffer(bytearray(seen(picture).tobytes()), dtype=torch.uint8)
    scaled = pixels.view(32, 32, 3) / 255 - torch.tensor(card["mean"])
    image = (scaled / torch.tensor(card["std"])).permute(2, 0, 1)[
        None
    ]  # (1, 3, 32, 32)
    return net(image)[0].softmax(-1)


def picture(samples: dict[str, Image.Image]) -> Live:
    """The element, and its story: what the model says of `samples`, by name.

    Raises ValueError without a sample.
    """
    if not samples:
        raise ValueError("samples: got none, wants at least one")
    net, card = model(), weights.card("vit")["config"]
    rows, carried = [], []
    for name, whole in samples.items():
        side = min(whole.size)
        left, top = (whole.width - side) // 2, (whole.height - side) // 2
        square = whole.convert("RGB").crop((left, top, left + side, top + side))
        square = square.resize((SIDE, SIDE), Image.LANCZOS)
        # A few bytes are a picture's own: the browser reads exactly these pixels.
        square = square.quantize(64)
        best = shares(net, square).topk(3)
        told = ", ".join(
            f"{card['classes'][i]} {share:.0%}"
            for i, share in zip(
                best.indices.tolist(), best.values.tolist(), strict=True
            )
        )
        small = _uri(seen(square))
        rows.append(
            f'<tr><td><img src="{small}" width="64" height="64" alt="{html.escape(name)} '
            f'at 32×32 pixels, which is all that the model reads"></td>'
            f"<td>{html.escape(name)}</td><td>{told}</td></tr>"
        )
        carried.append({"name": name, "source": _uri(square)})
    story = (
        "<table><thead><tr><th>at 32×32</th><th>picture</th><th>the model says</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
        "<p>It has ten classes only, and no word for anything else.</p>"
    )
    shape = card["model"]
    data = {
        "name": "A picture is named",
        "config": {"num_heads": shape["num_heads"], "strides": shape["stem"][1]},
        "classes": card["classes"],
        "mean": card["mean"],
        "std": card["std"],
        "samples": carried,
    }
    return Live("picture", FILES, data, story)


def _uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
