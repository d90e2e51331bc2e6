"""An exercise of a page: its right answer, the wrong ones with a name, and the verdict.

The catalogues are in `exercises`, one file a chapter. What a page prints of its own
results is compared in `checks`.
"""

import copy
import dis
import inspect
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.checks import array, largest_gap

UNANSWERED = "not answered yet"
RIGHT = "right"
SECONDS = 5.0  # of work, not of waiting, that an answer may take for one case


@dataclass(frozen=True)
class Exercise:
    """A question with its answer and a catalogue of wrong answers.

    Args:
        correct: the right answer, a function or a value.
        mistakes: what is wrong -> the answer that this mistake gives.
        cases: argument tuples on which functions are compared; they have to tell
            every mistake from the right answer and from each other.
        tol: the largest difference that counts as equal, as a share of the largest
            number of the right result. Whole numbers and booleans are equal or not.

    The right result is computed in float64, the answer in what the reader chooses. A
    list, a tuple, an array and stacked tensors count as the same. Each call gets copies
    of its own, so that an answer may write into what it is given.

    Calling it with an answer prints :meth:`verdict`; it does not raise.
    """

    correct: Any
    mistakes: dict[str, Any]
    cases: Sequence[tuple] = ((),)
    tol: float = 1e-5

    def __call__(self, answer: Any) -> None:
        print(self.verdict(answer))

    def verdict(self, answer: Any) -> str:
        """Say whether `answer` is right, or which mistake it makes."""
        if answer is None or answer is Ellipsis:
            return UNANSWERED
        if callable(answer) and not callable(self.correct):
            return "not yet: a value is asked for, and this is a function"
        if callable(self.correct) and not callable(answer):
            return "not yet: a function is asked for: give its name, without calling it"
        given = []
        for case in self.cases:
            try:
                result = _ask(answer, case)
            except (Exception, _TooLong) as error:
                return "\n  ".join([_told(error), *_where(error, answer, case)])
            if result is Ellipsis or (result is None and _does_nothing(answer)):
                return UNANSWERED
            if result is None:
                nothing = "your function returns nothing: is a `return` missing?"
                return "\n  ".join([nothing, *_for(answer, case)])
            given.append(result)
        faults = self._faults(given, self.correct)
        if not any(faults):
            return RIGHT
        for message, mistake in self.mistakes.items():
            try:
                if not any(self._faults(given, mistake)):
                    return f"not yet: {message}"
            except Exception:  # some mistakes only work on some shapes
                continue
        if not callable(answer):  # what is expected would be the answer itself
            return f"not yet: {_short(answer)} is not right, nor a mistake known here"
        pairs = zip(faults, self.cases, strict=True)
        fault, case = next((fault, case) for fault, case in pairs if fault)
        return "\n  ".join([f"not yet: {fault}", *_for(answer, case)])

    def _faults(self, given: list, reference: Any) -> list[str]:
        """What differs in each case; "" where nothing does."""
        with _in_float64():
            wanted = [_call(reference, _double(case)) for case in self.cases]
        return [_fault(g, w, self.tol) for g, w in zip(given, wanted, strict=True)]


# Calling


class _TooLong(BaseException):
    """Not an `Exception`, so that an answer's own `except` does not catch it."""


def _call(answer: Any, case: tuple) -> Any:
    return answer(*copy.deepcopy(case)) if callable(answer) else answer


def _ask(answer: Any, case: tuple) -> Any:
    """The reader's result: within the time, and in float64 if float32 does not fit."""
    try:
        return _in_time(answer, case)
    except RuntimeError as error:
        try:  # torch does not multiply a float64 matrix of the page by a float32 case
            return _in_time(answer, _double(case))
        except (Exception, _TooLong):
            raise error from None


def _in_time(answer: Any, case: tuple) -> Any:
    """Call under a trace, which stops endless loops in any thread and system."""
    end = time.thread_time() + SECONDS

    def look(frame, event, arg):
        if time.thread_time() > end:
            raise _TooLong
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        return _call(answer, case)
    finally:
        sys.settrace(before)


@contextmanager
def _in_float64() -> Iterator[None]:
    """New tensors are float64 unless they say otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _double(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.double()
    if isinstance(value, list | tuple):
        return type(value)(_double(x) for x in value)
    return value


def _does_nothing(answer: Callable) -> bool:
    """Is the body of a function that returned None a mere `...`?"""
    code = getattr(answer, "__code__", None)
    empty = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    return code is not None and {i.opname for i in dis.get_instructions(code)} <= empty


# Comparing


def _fault(given: Any, wanted: Any, tol: float) -> str:
    """What differs between two results; "" if nothing does."""
    if isinstance(wanted, str):
        if isinstance(given, str) and given == wanted:
            return ""
        return f"expected {_short(wanted)}, got {_short(given)}"
    if isinstance(wanted, list | tuple):
        rows = isinstance(given, Tensor | np.ndarray) and given.ndim
        if not rows and not isinstance(given, list | tuple):
            return f"expected {len(wanted)} items, got {_short(given)}"
        if len(given) != len(wanted):
            return f"expected {len(wanted)} items, got {len(given)}"
        for i, (g, w) in enumerate(zip(given, wanted, strict=True), 1):
            if fault := _fault(g, w, tol):
                return f"item {i} of {len(wanted)}: {fault}"
        return ""
    mine, right = _numbers(given), _numbers(wanted)
    if mine is None:
        kind = "a tensor" if right.ndim else "a number"
        return f"expected {kind}, got {_short(given)}"
    if right.ndim == 0 and mine.size == 1:
        mine = mine.reshape(())
    if mine.shape != right.shape:
        return f"expected shape {right.shape}, got {mine.shape}"
    allowed = _allowed(mine, right, tol)
    if largest_gap(mine, right) <= allowed:  # False for nan
        return ""
    apart = ~np.isclose(mine, right, rtol=0, atol=allowed, equal_nan=True)
    at = tuple(int(i) for i in np.argwhere(apart)[0]) if right.ndim else ()
    place = f"at {list(at)} " if at else ""
    return f"{place}expected {{}}, got {{}}".format(*_apart(right[at], mine[at]))


def _numbers(value: Any) -> np.ndarray | None:
    try:
        found = array(value)
        found = found.astype(np.float64) if found.dtype == object else found
    except (TypeError, ValueError):
        return None
    return found if found.dtype.kind in "fiub" else None


def _allowed(mine: np.ndarray, right: np.ndarray, tol: float) -> float:
    """A share of the largest right number, and no less than the answer's rounding."""
    size = np.abs(right[np.isfinite(right)]).max(initial=0) or 1.0
    tol = tol if right.dtype.kind == "f" else 0.0
    rounding = 8 * np.finfo(mine.dtype).eps if mine.dtype.kind == "f" else 0.0
    return float(size * max(tol, rounding))


# Telling


def _told(error: BaseException) -> str:
    if isinstance(error, _TooLong):
        return (
            f"your answer is not done after {SECONDS:.0f} seconds: does its loop end?"
        )
    return f"your answer raises {type(error).__name__}: {error}"


def _where(error: BaseException, answer: Callable, case: tuple) -> list[str]:
    """The reader's own line, the deepest in the file of the answer; and the case."""
    code = getattr(inspect.unwrap(answer), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if code is not None and f.filename == code.co_filename]
    line = [f"in line {own[-1].lineno} of its cell: {own[-1].line}"] if own else []
    return line + _for(answer, case)


def _for(answer: Callable, case: tuple) -> list[str]:
    """The case, its arguments named as the reader named them."""
    try:
        parameters = inspect.signature(answer).parameters.values()
    except (TypeError, ValueError):  # of something built in
        parameters = []
    names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    if len(names) < len(case):
        names = [f"argument {i + 1}" for i in range(len(case))]
    pairs = [f"{n} = {_short(x)}" for n, x in zip(names, case, strict=False)]
    return [f"for {', '.join(pairs)}"] if pairs else []


def _apart(right: np.generic, mine: np.generic) -> tuple[str, str]:
    """Two numbers, with as many digits as it takes to see that they differ."""
    if right.dtype.kind != "f" and mine.dtype.kind != "f":
        return str(right), str(mine)
    for digits in range(4, 18):
        texts = f"{float(right):.{digits}g}", f"{float(mine):.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) > 8:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(_short, value))}]"
    elif callable(value):
        text = "a function"
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "…"
