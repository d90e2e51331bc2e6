"""No right answer is refused, no wrong one taken, and each known mistake is named.

`learners` holds the answers, as people write them.
"""

import ast
import contextlib
import copy
import functools
import importlib
import inspect
import re
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager
from learners import RIGHT_ANSWERS, WRONG_ANSWERS
from mended import MENDED

from lib import exercise as mechanism
from lib.checks import agrees
from lib.exercise import RIGHT, UNANSWERED, Exercise

ROOMS = sorted(p.stem for p in Path("lib/exercises").glob("[a-z]*.py"))
EXERCISES = [
    (room, name, exercise)
    for room in ROOMS
    for name, exercise in vars(importlib.import_module(f"lib.exercises.{room}")).items()
    if isinstance(exercise, Exercise)
]
# Rooms whose functions load, draw or train, and the catalogues: none is a method.
OUTWARD = "data|exercises?|figures|pretrained|runtime|training|weights"


def ids(x):
    return x if isinstance(x, str) else ""


each = pytest.mark.parametrize(("room", "name", "exercise"), EXERCISES, ids=ids)


def exercise_of(room: str, name: str) -> Exercise:
    return getattr(importlib.import_module(f"lib.exercises.{room}"), name)


def test_there_are_exercises():
    assert {room for room, _, _ in EXERCISES} == set(ROOMS)
    assert len(EXERCISES) >= 3 * len(ROOMS)


# Right answers


def numbers(value):
    """Tensors as NumPy's arrays, also inside a list; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, list | tuple):
        return type(value)(numbers(x) for x in value)
    return value


def nested(value, kind):
    """A result as lists or tuples of Python's numbers, down to the last axis."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return kind(nested(x, kind) for x in value)
    value = np.asarray(numbers(value)).tolist()
    return nested(value, kind) if isinstance(value, list) else value


def stacked(value):
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        if any(isinstance(x, str) for x in value):  # which no tensor holds
            return value
        parts = [torch.as_tensor(x) for x in value]
        equal = len({part.shape for part in parts}) == 1
        return torch.stack(parts) if equal else value
    return torch.as_tensor(value)


def spoil(x):
    """Change what an answer was given in every way that it can be changed."""
    if isinstance(x, torch.Tensor):
        x.zero_()
    elif isinstance(x, list | set | dict):
        for part in x if isinstance(x, list) else ():
            spoil(part)
        x.clear()


STYLES = {
    "list": lambda value: nested(value, list),
    "tuple": lambda value: nested(value, tuple),
    "numpy": lambda value: value if isinstance(value, str) else numbers(value),
    "stacked": stacked,
    "in place": copy.deepcopy,
}


@each
@pytest.mark.parametrize("style", STYLES)
def test_right_answer_is_taken_in_every_style(room, name, exercise, style):
    def answer(*case):
        found = STYLES[style](exercise.correct(*case))
        if style == "in place":
            spoil(list(case))
        return found

    if not callable(exercise.correct):
        value = exercise.correct
        answer = {"list": [value], "tuple": (value,), "numpy": np.array([value])}.get(
            style, torch.tensor([value])
        )
    for _ in range(2):  # the first does not use up what the second needs
        assert exercise.verdict(answer) == RIGHT
    assert exercise.verdict(exercise.correct) == RIGHT


@pytest.mark.parametrize(("room", "name", "what", "answer"), RIGHT_ANSWERS, ids=ids)
def test_a_learners_right_answer_is_taken(room, name, what, answer):
    exercise = exercise_of(room, name)
    assert [exercise.verdict(answer) for _ in range(2)] == [RIGHT, RIGHT]


# Wrong answers


@pytest.mark.parametrize(
    ("room", "name", "what", "answer", "named"), WRONG_ANSWERS, ids=ids
)
def test_a_learners_wrong_answer_is_named(room, name, what, answer, named, monkeypatch):
    if named == "does its loop end":
        monkeypatch.setattr(mechanism, "SECONDS", 0.5)
    told = exercise_of(room, name).verdict(answer)
    assert told not in (RIGHT, UNANSWERED)
    assert named in told


@each
def test_each_mistake_has_its_own_message(room, name, exercise):
    assert exercise.mistakes
    for message, wrong in exercise.mistakes.items():
        assert exercise.verdict(wrong) == f"not yet: {message}"


@each
def test_no_answer(room, name, exercise):
    assert exercise.verdict(...) == UNANSWERED
    if callable(exercise.correct):

        def empty(*_): ...

        def described(*_):
            """To be written."""

        for answer in (empty, described, lambda *_: ...):
            assert exercise.verdict(answer) == UNANSWERED


@each
def test_an_answer_of_another_kind(room, name, exercise):
    def raises(*_):
        raise KeyError("colour")

    if callable(exercise.correct):
        assert "KeyError" in exercise.verdict(raises)
        assert "without calling it" in exercise.verdict("nonsense")
    else:
        assert "a value is asked for" in exercise.verdict(raises)
        assert "'nonsense' is not right" in exercise.verdict("nonsense")
        # A message does not give the answer away.
        assert (
            exercise.verdict(-7) == "not yet: -7 is not right, nor a mistake known here"
        )


# The mechanism

SOFTMAX = Exercise(
    correct=lambda x: x.softmax(-1),
    mistakes={"softmax over the queries": lambda x: x.softmax(0)},
    cases=[(torch.arange(12.0).reshape(3, 4).sin(),)],
)
PAIR = Exercise(
    correct=lambda n, words: [n + 1.0, torch.arange(n) > 1, len(words)],
    mistakes={},
    cases=[(3, ["a", "b"])],
)


def test_what_differs():
    told = SOFTMAX.verdict(lambda x: x.T)
    assert told == (
        "not yet: expected shape (3, 4), got (4, 3)\n  for x = a tensor of shape (3, 4)"
    )
    assert "at [0, 0] expected 0.1438, got 0\n" in SOFTMAX.verdict(lambda x: x)
    assert "expected a tensor, got 'no'" in SOFTMAX.verdict(lambda x: "no")
    assert "expected a tensor, got [[1], [2, 3]]" in SOFTMAX.verdict(
        lambda x: [[1], [2, 3]]
    )
    mask = [False, False, True]
    assert PAIR.verdict(lambda n, words: (4, mask, torch.tensor([2]))) == RIGHT
    for answer, wanted in {
        (4, (False, True, True), 2): "item 2 of 3: at [1] expected False, got True",
        (4, tuple(mask), 3): "item 3 of 3: expected 2, got 3",
        (4.0001, tuple(mask), 2): "item 1 of 3: expected 4, got 4.0001",
        (4, tuple(mask)): "expected 3 items, got 2",
        7: "expected 3 items, got 7",
    }.items():
        told = PAIR.verdict(lambda n, words, answer=answer: answer)
        assert told == f"not yet: {wanted}\n  for n = 3, words = ['a', 'b']"


def test_digits_enough_to_differ():
    exercise = Exercise(correct=lambda: torch.tensor(47.117242), mistakes={})
    assert "expected 47.117, got 47.118\n" in exercise.verdict(lambda: 47.118) + "\n"
    assert exercise.verdict(lambda: 47.1172) == RIGHT  # float32 has no more


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_tolerance_is_a_share_of_the_result(size):
    exercise = Exercise(
        correct=lambda x: x * size, mistakes={}, cases=[(torch.linspace(0, 1, 5),)]
    )
    for factor, right in ((1 + 0.9e-5, True), (1 + 1.1e-5, False)):
        answer = lambda x: x.double() * size * factor  # noqa: B023, E731
        assert (exercise.verdict(answer) == RIGHT) == right
    zero = Exercise(correct=lambda x: 0 * x, mistakes={}, cases=exercise.cases)
    assert zero.verdict(lambda x: x * 1e-9) == RIGHT
    assert zero.verdict(lambda x: x * 1e-4) != RIGHT


def test_whole_numbers_are_equal_or_not():
    exercise = Exercise(correct=lambda n: 10**7 * n, mistakes={}, cases=[(3,)])
    assert exercise.verdict(lambda n: 1e7 * n) == RIGHT
    assert exercise.verdict(lambda n: 10**7 * n + 1) != RIGHT
    assert exercise.verdict(lambda n: 1e7 * n + 1) != RIGHT
    assert exercise.verdict(lambda n: float("nan")) != RIGHT


def test_precision_is_the_readers_choice():
    assert SOFTMAX.verdict(lambda x: x.double().softmax(-1)) == RIGHT
    eye = torch.eye(3, dtype=torch.float64)
    assert SOFTMAX.verdict(lambda x: eye @ x.softmax(-1)) == RIGHT
    told = SOFTMAX.verdict(lambda x: torch.eye(2, dtype=torch.float64) @ x)
    assert "RuntimeError" in told  # the first error, if neither precision fits
    assert torch.get_default_dtype() == torch.float32


def test_references_are_exact():
    """A sum that float32 gets wrong, and that the reference must not."""
    exercise = Exercise(
        correct=lambda x: (x + 1e6) - 1e6,
        mistakes={},
        cases=[(torch.linspace(0, 1, 8),)],
    )
    assert exercise.verdict(lambda x: x) == RIGHT
    assert exercise.verdict(lambda x: (x + 1e6) - 1e6) != RIGHT


def test_a_forgotten_return_is_no_missing_answer():
    def forgets(x):
        x.softmax(-1)

    assert SOFTMAX.verdict(forgets) == (
        "your function returns nothing: is a `return` missing?\n"
        "  for x = a tensor of shape (3, 4)"
    )


def test_an_exception_shows_the_readers_line():
    def slips(x):
        rows = x.sum(-1)
        return rows[7]

    told = SOFTMAX.verdict(slips)
    assert told.startswith("your answer raises IndexError: ")
    assert "of its cell: return rows[7]\n  for x = a tensor of shape (3, 4)" in told

    def nested_slip(x):
        return torch.einsum("ij,jk", x)  # raised inside torch, asked for here

    assert 'torch.einsum("ij,jk", x)' in SOFTMAX.verdict(nested_slip)
    assert "takes 0 positional arguments" in SOFTMAX.verdict(lambda: 1)
    # What has no line of the reader's shows the case alone.
    told = SOFTMAX.verdict(functools.partial(torch.add, other="x"))
    assert "TypeError" in told and "of its cell" not in told
    assert told.endswith("for argument 1 = a tensor of shape (3, 4)")


def test_an_endless_loop_ends(monkeypatch):
    monkeypatch.setattr(mechanism, "SECONDS", 0.2)

    def endless(x):
        n = 0
        while True:
            with contextlib.suppress(Exception):
                n += 1

    start = time.thread_time()
    told = SOFTMAX.verdict(endless)
    assert time.thread_time() - start < 2
    assert "does its loop end?" in told and "of its cell: " in told
    assert "for x = a tensor" in told


def test_a_trace_of_others_goes_on():
    def look(*_):
        return None

    before = sys.gettrace()
    sys.settrace(look)
    try:
        assert SOFTMAX.verdict(lambda x: x.softmax(-1)) == RIGHT
        assert sys.gettrace() is look
    finally:
        sys.settrace(before)


# Pasting what the page shows


def shown(notebook) -> dict:
    """The functions that a reader can paste: name -> function.

    Those that visible cells define, run with the page's imports and plain constants, and
    those of the rooms of `lib` that the page imports. Exercises and solutions are left
    out, and so is all that needs a run of the page.
    """
    world = {}
    for cell in notebook.cells:
        hidden = "hide-cell" in cell.metadata.get("tags", [])
        if cell.cell_type != "code" or hidden or "exercises." in cell.source:
            continue
        for node in ast.parse(TransformerManager().transform_cell(cell.source)).body:
            fits = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
            plain = isinstance(node, ast.Assign) and not any(
                isinstance(part, ast.Call) for part in ast.walk(node)
            )
            if not plain and not isinstance(node, fits):
                continue
            try:
                exec(compile(ast.Module([node], []), "page", "exec"), world)
            except Exception:  # of values that the page computes
                assert not isinstance(node, ast.Import | ast.ImportFrom)
            if isinstance(node, ast.Import):  # import lib.attention
                for name in (alias.name for alias in node.names):
                    world[name] = sys.modules[name]
    found = {n: x for n, x in world.items() if inspect.isroutine(x)}
    for module in [x for x in world.values() if inspect.ismodule(x)]:
        if module.__name__.startswith("lib."):
            for name, function in inspect.getmembers(module, inspect.isfunction):
                found[f"{module.__name__}.{name}"] = function
    outward = re.compile(rf"lib\.({OUTWARD})\b")
    return {n: x for n, x in found.items() if not outward.match(x.__module__ or "")}


def pasted(notebook, exercises) -> list[str]:
    """What answers an exercise without a change: "exercise: function"."""
    found = shown(notebook)
    return [
        f"{name}: {function}"
        for name, exercise in vars(exercises).items()
        if isinstance(exercise, Exercise) and callable(exercise.correct)
        for function, answer in found.items()
        if exercise.verdict(answer) == RIGHT
    ]


def page(name: str):
    notebook = nbformat.read(f"notebooks/{name}.ipynb", as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    room = re.search(r"from lib\.exercises import (\w+) as exercises", code)[1]
    return notebook, importlib.import_module(f"lib.exercises.{room}")


@pytest.mark.parametrize("name", MENDED)
def test_nothing_that_the_page_shows_answers_its_exercises(name):
    assert pasted(*page(name)) == []


def test_pasting_is_noticed():
    cells = [
        "import torch\nfrom torch.nn.functional import relu\nfrom lib import attention",
        "AXIS = -1\nlarge = torch.zeros(9)\n\n\ndef ours(x):\n    return x.softmax(AXIS)",
        "def scores(x):\n    return x @ x.mT",
        "def needs_a_run(x):\n    return x + large",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    solution = nbformat.v4.new_code_cell("def mine(x):\n    return x.softmax(-1)")
    solution.metadata.tags = ["hide-cell"]
    notebook.cells.append(solution)
    names = set(shown(notebook))
    assert {"ours", "scores", "relu", "lib.attention.attention"} <= names
    assert "mine" not in names
    room = type("room", (), {"soft": SOFTMAX})
    assert pasted(notebook, room) == ["soft: ours"]


# The other comparison, of `checks`


def test_agrees(capsys):
    agrees("sum", torch.ones(3), [1, 1, 1 + 1e-9], tol=1e-6)
    assert "sum: largest difference" in capsys.readouterr().out
    agrees("infinite", [float("-inf")], [float("-inf")])
    with pytest.raises(AssertionError, match="sum: largest difference"):
        agrees("sum", 1.0, 1.1)
    with pytest.raises(ValueError, match=r"ours has shape \(2,\)"):
        agrees("sum", [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="not finite"):
        agrees("sum", [float("nan")], [1.0])
