"""Comparisons that a page prints, ours against the field's, and checks of arguments.

A check either passes and says how well, or names what is wrong. The reader's answers
are judged in `exercise`.
"""

from typing import Any

import numpy as np
import torch


def agrees(what: str, ours: Any, reference: Any, tol: float = 1e-6) -> None:
    """Print the largest difference between two results beside its tolerance.

    Args:
        what: the name that is printed.
        ours, reference: tensors, arrays, numbers or lists of one shape.
        tol: the largest absolute difference allowed.

    Raises:
        ValueError: the shapes differ, or a value is not finite in one of them only.
        AssertionError: the difference is above `tol`.
    """
    ours, reference = array(ours), array(reference)
    if ours.shape != reference.shape:
        raise ValueError(
            f"{what}: ours has shape {ours.shape}, the reference {reference.shape}"
        )
    difference = largest_gap(ours, reference)
    if np.isnan(difference):
        raise ValueError(f"{what}: a value is not finite in one of the two only")
    line = f"{what}: largest difference {difference:.1e}, tolerance {tol:.0e}"
    if difference > tol:
        raise AssertionError(line)
    print(line)


def array(value: Any) -> np.ndarray:
    """Tensors, arrays, numbers, and lists of them, as an array of NumPy's."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return value.numpy()
    if isinstance(value, list | tuple) and any(
        isinstance(x, torch.Tensor) for x in value
    ):
        return np.stack([array(x) for x in value])
    return np.asarray(value)


def largest_gap(a: np.ndarray, b: np.ndarray) -> float:
    """The largest absolute difference; nan where only one of two values is finite."""
    if a.size == 0:
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float("nan") if not np.isfinite(gap).all() else float(gap.max())


# --- Arguments -------------------------------------------------------------------


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether `value` is a whole number of at least `least`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole(name: str, value: Any, least: int = 1) -> None:
    """A whole number of at least `least`. Raises ValueError otherwise."""
    if not is_whole(value, least):
        raise ValueError(f"{name}: got {value!r}, wants a whole number from {least}")


def sizes(numbers: dict[str, int]) -> None:
    """Names and their sizes: each a whole number from 1, num_heads a divisor of d_model.

    Raises:
        ValueError: one is not; the message names it.
    """
    for name, value in numbers.items():
        whole(name, value)
    D, heads = numbers.get("d_model", 1), numbers.get("num_heads", 1)
    if D % heads:
        raise ValueError(f"num_heads: got {heads}, wants a divisor of d_model = {D}")


def tensor(name: str, x: Any) -> None:
    """Raises TypeError for anything but a tensor."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, wants a torch.Tensor")


def floating(name: str, x: Any, like: torch.Tensor, whose: str = "query has") -> None:
    """A tensor of the floating dtype of `like`. Raises TypeError otherwise."""
    tensor(name, x)
    if not x.is_floating_point():
        raise TypeError(f"{name}: got {x.dtype}, wants a floating dtype")
    if x.dtype != like.dtype:
        raise TypeError(f"{name}: got {x.dtype}, wants {like.dtype}, as {whose}")


def whole_numbers(name: str, x: torch.Tensor) -> None:
    """A tensor of an integer dtype. Raises TypeError otherwise."""
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name}: got {x.dtype}, wants whole numbers")


def ids_in_range(name: str, ids: torch.Tensor, vocabulary: int) -> None:
    """Token ids (B, T), whole numbers of 0 to `vocabulary` - 1.

    Raises:
        TypeError: not a tensor of whole numbers.
        ValueError: another number of axes, or an id out of range.
    """
    tensor(name, ids)
    if ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name}: got {ids.dtype}, wants whole numbers (int64)")
    if ids.ndim != 2:
        raise ValueError(f"{name}: got shape {tuple(ids.shape)}, wants (B, T)")
    if ids.numel() and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(
            f"{name}: got {int(ids.min())} to {int(ids.max())}, wants 0 to "
            f"{vocabulary - 1}"
        )
