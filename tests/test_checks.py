"""lib.checks: the argument checks name the argument, what it got and what it wants."""

import pytest
import torch

from lib import checks


@pytest.mark.parametrize("bad", [0, -1, True, 1.0, "1", None, float("nan")])
def test_a_whole_number_is_an_int_from_the_least(bad):
    message = f"^block: got {bad!r}, wants a whole number from 1$"
    with pytest.raises(ValueError, match=message):
        checks.whole("block", bad)
    assert not checks.is_whole(bad)
    checks.whole("block", 1)
    checks.whole("T", 0, 0)


def test_sizes_are_whole_and_heads_divide_the_width():
    checks.sizes({"d_model": 6, "num_heads": 3, "layers": 1})
    with pytest.raises(ValueError, match="layers: got 0, wants a whole number from 1"):
        checks.sizes({"d_model": 6, "layers": 0})
    with pytest.raises(ValueError, match=r"num_heads: got 4, wants a divisor of .* 6"):
        checks.sizes({"d_model": 6, "num_heads": 4})


def test_tensors_and_their_dtypes():
    like = torch.zeros(1)
    checks.floating("key", torch.ones(2), like)
    checks.whole_numbers("distance", torch.arange(3))
    for bad, told in (
        ([1.0], "key: got list, wants a torch.Tensor"),
        (torch.arange(2), "key: got torch.int64, wants a floating dtype"),
        (torch.ones(2).double(), "key: got torch.float64, wants .*float32, as q has"),
    ):
        with pytest.raises(TypeError, match=told):
            checks.floating("key", bad, like, "q has")
    for dtype in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"distance: got {dtype}, wants whole"):
            checks.whole_numbers("distance", torch.ones(2, dtype=dtype))
