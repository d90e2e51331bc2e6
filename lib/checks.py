"""Comparisons that a page prints: ours against the field's, the reader's against ours.

A check either passes and says how well, or names what is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

UNANSWERED = "not answered yet"
RIGHT = "right"


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
    ours, reference = _array(ours), _array(reference)
    if ours.shape != reference.shape:
        raise ValueError(
            f"{what}: ours has shape {ours.shape}, the reference {reference.shape}"
        )
    difference = _difference(ours, reference)
    if np.isnan(difference):
        raise ValueError(f"{what}: a value is not finite in one of the two only")
    line = f"{what}: largest difference {difference:.1e}, tolerance {tol:.0e}"
    if difference > tol:
        raise AssertionError(line)
    print(line)


@dataclass(frozen=True)
class Exercise:
    """A question with its answer and a catalogue of wrong answers.

    Args:
        correct: the right answer, a function or a value.
        mistakes: what is wrong -> the answer that this mistake gives.
        cases: argument tuples on which functions are compared; they have to tell
            every mistake from the right answer and from each other.
        tol: the largest absolute difference that counts as equal.

    Calling it with an answer prints :meth:`verdict`; it does not raise.
    """

    correct: Any
    mistakes: dict[str, Any]
    cases: Sequence[tuple] = field(default=((),))
    tol: float = 1e-5

    def __call__(self, answer: Any) -> None:
        print(self.verdict(answer))

    def verdict(self, answer: Any) -> str:
        """Say whether `answer` is right, or which mistake it makes."""
        try:
            given = [_call(answer, case) for case in self.cases]
        except Exception as error:
            return f"your answer raises {type(error).__name__}: {error}"
        if any(result is None or result is Ellipsis for result in given):
            return UNANSWERED
        wanted = [_call(self.correct, case) for case in self.cases]
        if _same(given, wanted, self.tol):
            return RIGHT
        for message, mistake in self.mistakes.items():
            try:
                wrong = [_call(mistake, case) for case in self.cases]
            except Exception:  # some mistakes only work on some shapes
                continue
            if _same(given, wrong, self.tol):
                return f"not yet: {message}"
        return f"not yet: {_first_difference(given, wanted, self.tol)}"


def _call(answer: Any, case: tuple) -> Any:
    if not isinstance(answer, Callable):
        return answer
    # Each call gets its own tensors: an answer may write into what it is given.
    return answer(*(x.clone() if isinstance(x, torch.Tensor) else x for x in case))


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return value.numpy()
    if isinstance(value, list | tuple) and any(
        isinstance(x, torch.Tensor) for x in value
    ):
        return np.stack([_array(x) for x in value])
    return np.asarray(value)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest absolute difference; nan where only one of two values is finite."""
    if a.size == 0:
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float("nan") if not np.isfinite(gap).all() else float(gap.max())


def _same(given: Sequence, wanted: Sequence, tol: float) -> bool:
    return all(_equal(g, w, tol) for g, w in zip(given, wanted, strict=True))


def _equal(given: Any, wanted: Any, tol: float) -> bool:
    if isinstance(wanted, str | bytes) or isinstance(given, str | bytes):
        return type(given) is type(wanted) and given == wanted
    if isinstance(wanted, list | tuple):
        return (
            isinstance(given, list | tuple)
            and len(given) == len(wanted)
            and _same(given, wanted, tol)
        )
    try:
        given, wanted = _array(given), _array(wanted)
    except (TypeError, ValueError):
        return False
    if given.shape != wanted.shape or given.dtype.kind not in "fiub":
        return False
    return _difference(given, wanted) <= tol  # False for nan


def _first_difference(given: Sequence, wanted: Sequence, tol: float) -> str:
    for g, w in zip(given, wanted, strict=True):
        if _equal(g, w, tol):
            continue
        if isinstance(w, torch.Tensor | np.ndarray):
            try:
                mine, right = _array(g), _array(w)
            except (TypeError, ValueError):
                return f"expected a tensor, got {type(g).__name__}"
            if mine.shape != right.shape:
                return f"expected shape {right.shape}, got {mine.shape}"
            if mine.dtype.kind not in "fiub":
                return f"expected numbers, got {type(g).__name__}"
            gap = ~np.isclose(mine, right, rtol=0, atol=tol, equal_nan=True)
            at = tuple(int(i) for i in np.argwhere(gap)[0])
            return f"at {list(at)} expected {right[at]:.4g}, got {mine[at]:.4g}"
        return f"expected {_short(w)}, got {_short(g)}"
    return "it differs"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


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
