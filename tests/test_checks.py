"""lib.checks: where the tolerance ends, what counts as equal, how arguments are named."""

import math

import numpy as np
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


@pytest.mark.parametrize("given", [{}, {"tol": 1e-3}, {"tol": 4.0}])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_tolerance_is_where_it_says(given, sign, capsys):
    tol = given.get("tol", 1e-6)
    reference = np.array([[0.0, 1.0, -2.0], [3.0, 0.5, 0.0]])
    for share in (0.0, 0.9, 1.0):
        ours = reference.copy()
        ours[1, 2] += sign * share * tol  # beside 0: no digit is lost
        checks.agrees("x", ours, reference, **given)
        told = f"x: largest difference {share * tol:.1e}, tolerance {tol:.0e}\n"
        assert capsys.readouterr().out == told
    ours[1, 2] = sign * 1.1 * tol
    told = f"^x: largest difference {1.1 * tol:.1e}, tolerance {tol:.0e}$"
    with pytest.raises(AssertionError, match=told.replace("+", r"\+")):
        checks.agrees("x", ours, reference, **given)
    assert capsys.readouterr().out == ""


def test_the_largest_of_several_gaps_counts():
    for gaps in ([0.5, 2.0, 0.1], [-2.0, 0.5, 0.5]):  # in units of the tolerance
        with pytest.raises(AssertionError, match=r"x: largest difference 2\.0e-06"):
            checks.agrees("x", 1e-6 * np.array(gaps), np.zeros(3))


def test_whatever_holds_numbers_is_taken(capsys):
    row = torch.tensor([1.0, 2.0], requires_grad=True)
    same = [
        row,
        row * 1,  # with a graph behind it
        row.detach().bfloat16(),
        row.detach().numpy(),
        [row[0], row[1]],
        (torch.tensor(1), 2),
        [1, 2],
    ]
    for ours in same:
        for reference in same:
            checks.agrees("row", ours, reference)
    checks.agrees("rows", [row, 2 * row], torch.tensor([[1, 2], [2, 4]]))
    checks.agrees("yes", torch.tensor([True, False]), [1, 0])
    checks.agrees("nothing", torch.zeros(0, 3), np.zeros((0, 3)))
    assert "nothing: largest difference 0.0e+00" in capsys.readouterr().out
    assert row.requires_grad  # it is left as it was


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_has_to_stand_in_both(odd, capsys):
    checks.agrees("x", [1.0, odd], [1.0, odd])
    others = [1.0, math.inf, -math.inf, math.nan]
    others = [y for y in others if repr(y) != repr(odd)]
    for other in others:
        for pair in (([odd], [other]), ([other], [odd])):
            with pytest.raises(
                ValueError, match=r"^x: a value is not finite in one of"
            ):
                checks.agrees("x", *pair, tol=math.inf)


def test_shapes_do_not_broadcast():
    told = r"^x: ours has shape \(3,\), the reference \(1, 3\)$"
    with pytest.raises(ValueError, match=told):
        checks.agrees("x", torch.zeros(3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"ours has shape \(\), the reference \(1,\)"):
        checks.agrees("x", 1.0, [1.0])


def test_ids_are_those_of_the_vocabulary():
    for dtype in (torch.int32, torch.int64):
        checks.ids_in_range("ids", torch.tensor([[0, 4]], dtype=dtype), 5)
    checks.ids_in_range("ids", torch.zeros(2, 0, dtype=torch.long), 5)
    for low, high in ((0, 5), (-1, 4)):
        told = f"^ids: got {low} to {high}, wants 0 to 4$"
        with pytest.raises(ValueError, match=told):
            checks.ids_in_range("ids", torch.tensor([[low, high]]), 5)
    for shape in ((3,), (1, 2, 3)):
        with pytest.raises(ValueError, match=r"^ids: got shape \(.*\), wants \(B, T\)"):
            checks.ids_in_range("ids", torch.zeros(shape, dtype=torch.long), 5)
    for bad in (torch.zeros(1, 2), torch.zeros(1, 2).bool(), torch.zeros(1, 2).short()):
        with pytest.raises(TypeError, match=f"^ids: got {bad.dtype}, wants whole"):
            checks.ids_in_range("ids", bad, 5)
    with pytest.raises(TypeError, match=r"^ids: got list, wants a torch\.Tensor"):
        checks.ids_in_range("ids", [[1]], 5)
