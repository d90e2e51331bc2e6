"""Each wrong answer of a catalogue is rejected with its own message, the right one taken."""

import importlib
from pathlib import Path

import pytest
import torch

from lib.checks import agrees
from lib.exercise import RIGHT, UNANSWERED, Exercise

ROOMS = sorted(p.stem for p in Path("lib/exercises").glob("[a-z]*.py"))
EXERCISES = [
    (room, name, exercise)
    for room in ROOMS
    for name, exercise in vars(importlib.import_module(f"lib.exercises.{room}")).items()
    if isinstance(exercise, Exercise)
]
each = pytest.mark.parametrize(
    ("room", "name", "exercise"),
    EXERCISES,
    ids=lambda x: x if isinstance(x, str) else "",
)


def test_there_are_exercises():
    assert {room for room, _, _ in EXERCISES} == set(ROOMS)
    assert len(EXERCISES) >= 3 * len(ROOMS)


@each
def test_right_answer_is_taken(room, name, exercise):
    assert exercise.verdict(exercise.correct) == RIGHT


@each
def test_no_answer(room, name, exercise):
    assert exercise.verdict(...) == UNANSWERED
    if callable(exercise.correct):
        assert exercise.verdict(lambda *_: ...) == UNANSWERED


@each
def test_each_mistake_has_its_own_message(room, name, exercise):
    assert exercise.mistakes
    for message, wrong in exercise.mistakes.items():
        assert exercise.verdict(wrong) == f"not yet: {message}"


@each
def test_an_answer_that_raises_is_reported(room, name, exercise):
    def raises(*_):
        raise KeyError("colour")

    assert "KeyError" in exercise.verdict(raises)
    assert exercise.verdict("nonsense").startswith("not yet")


def test_verdicts():
    exercise = Exercise(
        correct=lambda x: x.softmax(-1),
        mistakes={"softmax over the queries": lambda x: x.softmax(0)},
        cases=[(torch.arange(12.0).reshape(3, 4).sin(),)],
    )
    assert exercise.verdict(lambda x: x.T).endswith("expected shape (3, 4), got (4, 3)")
    assert "at [0, 0] expected" in exercise.verdict(lambda x: x)
    assert (
        exercise.verdict(lambda x: x.add_(1).softmax(-1)) == RIGHT
    )  # cases are copied


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
