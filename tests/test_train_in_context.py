"""train.in_context: its split, its demonstrations, groups of heads, a killed study."""

import re

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib import weights
from lib.data.tasks import FORMATS, LABELS, TASKS
from lib.pretrained.origin import packaged
from lib.pretrained.smollm2 import PACKAGE
from train import in_context as study


class Words:
    """A tokenizer of words, with the space before them, and of signs."""

    def __init__(self):
        self.ids = {}

    def __call__(self, text):
        words = re.findall(r"\n| ?[^\s\w]+| ?\w+", text)
        return [self.ids.setdefault(word, len(self.ids) % 600) for word in words]


@pytest.fixture
def tiny(monkeypatch):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    monkeypatch.setattr(study, "READER", [(model, Words())])
    monkeypatch.setattr(study, "TESTED", dict.fromkeys(TASKS, 8))
    monkeypatch.setattr(study, "INDUCTION", 3)
    monkeypatch.setattr(study, "RANDOM_TOKENS", {"B": 2, "period": 6})
    real = torch.arange
    monkeypatch.setattr(
        torch,
        "arange",
        lambda *a, **k: real(10, 600) if a == (1000, 40_000) else real(*a, **k),
    )
    return model


@pytest.fixture
def encode():
    return Words()


@pytest.mark.parametrize("name", TASKS)
def test_tested_and_shown_are_apart(name, encode):
    found = study.task(name, encode)
    assert len(found.tested) == study.TESTED[name] and len(found.pool) >= study.MOST
    assert not set(found.tested) & set(found.pool)
    assert found == study.task(name, encode)
    words = {word for row in found.tested + found.pool for word in row}
    if name in LABELS:
        assert found.candidates == sorted(LABELS[name])
        labels = [label for _, label in found.tested]
        assert len({labels.count(label) for label in LABELS[name]}) == 1
    else:
        assert found.candidates == sorted(words)
        assert all(len(encode(f" {word}")) == 1 for word in words)


@pytest.mark.parametrize("name", TASKS)
def test_labels_change_and_inputs_stay(name, encode):
    there = study.task(name, encode)
    right, luck, wrong = (study.shown(there, 3, labels) for labels in study.ARMS)
    assert len(right) == study.MOST and set(right) <= set(there.pool)
    assert [x for x, _ in right] == [x for x, _ in luck] == [x for x, _ in wrong]
    assert all(a != b for a, b in zip(right, wrong, strict=True))
    assert {label for _, label in luck} <= {label for _, label in there.pool}
    assert right != study.shown(there, 4, "right")
    other = study.shown(there, 3, "right", order=2)
    assert sorted(other) == sorted(right[: study.ORDERED]) and other != right[:4]


def test_wrong_labels_follow_a_rule(encode):
    topic, words = study.task("topic", encode), study.task("antonyms", encode)
    assert study.flipped(topic, ("", "weather")) == "food"
    assert study.flipped(topic, ("", "music")) == "sports"
    assert study.flipped(words, ("hot", "cold")) == "hot"


def test_the_plan_has_every_setting():
    plan = {
        (f, d, *p)
        for f in FORMATS["topic"]
        for d in range(max(study.DRAWS.values()))
        for p in study.planned(f, d)
    }
    for labels in study.ARMS:
        for shots in study.SHOTS[1:]:
            draws = {
                d
                for f, d, la, k, o in plan
                if (f, la, k, o) == ("bare", labels, shots, 0)
            }
            wanted = study.DRAWS["bare, right" if labels == "right" else "bare"]
            assert draws == {*range(wanted)}
    orders = {o for f, d, la, k, o in plan if k == study.ORDERED and f == "bare"}
    assert orders == {*range(study.ORDERS + 1)}
    zero = [row for row in plan if row[3] == 0]
    assert sorted(zero) == [(f, 0, "right", 0, 0) for f in sorted(FORMATS["topic"])]
    assert {(la, k) for f, _, la, k, _ in plan if f == "named" and la != "right"} == {
        ("random", 4),
        ("flipped", 4),
    }


def test_right_or_not_by_hand():
    there = study.Task("topic", [], [], ["food", "music", "sports"])
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 2.0]])
    assert study.digits(scores, there, ["music", "sports"]) == "10"


def test_heads_of_the_highest_score_and_others():
    scores = [[0.1, 0.9, 0.2, 0.3], [0.8, 0.1, 0.0, 0.7]]
    chosen = study.highest(scores, 3)
    assert chosen == [(0, 1), (1, 0), (1, 3)]
    for seed in range(20):
        found = study.others(chosen, 4, seed)
        assert len(set(found)) == 3 and not set(found) & set(chosen)
        assert [layer for layer, _ in found] == [0, 1, 1]
    assert len({tuple(study.others(chosen, 4, seed)) for seed in range(20)}) > 1


def test_no_heads_is_the_condition_itself(tiny):
    found = study.ablated("topic", 0, "bare", 2)
    model, encode = study.reader()
    there = study.task("topic", encode)
    again = study.condition(model, encode, there, "bare", "right", 2, 0)
    assert found["none"] == again["right"]
    assert {len(v) for k, v in found.items() if k.startswith("others")} == {8}


@pytest.mark.parametrize("name", ["antonyms", "sentiment"])
def test_a_condition_with_wrong_labels(tiny, name):
    model, encode = study.reader()
    there = study.task(name, encode)
    found = study.condition(model, encode, there, "named", "flipped", 4, 1)
    assert len(found["shown"]) == 4 and len(found["follows"]) == 8
    if name == "sentiment":  # two labels: who is not right follows
        pairs = zip(found["right"], found["follows"], strict=True)
        assert all(a != b for a, b in pairs)


@pytest.fixture
def quick(monkeypatch):
    """The study with jobs that take no time."""

    def job(name):
        def found(*what):
            study.highest([[0.0]], 1)
            return {"job": [name, *map(str, what)]}

        found.__name__ = name
        return found

    for name in ("ablated", "norms", "untrained", "induction_scores"):
        monkeypatch.setattr(study, name, job(name))
    for name in ("grid", "draws", "wrong"):
        listed = lambda *what, name=name: [job(name)(*what)]  # noqa: E731
        listed.__name__ = name
        monkeypatch.setattr(study, name, listed)


def test_a_killed_study_goes_on_to_the_same_result(quick, monkeypatch, goes_on):
    monkeypatch.setattr(
        study, "timed", lambda job, what: {"found": job(*what), "minutes": 1}
    )
    trace = goes_on(study.study, study, "highest", (2, 30))
    assert trace["grid"].keys() == set(TASKS)
    assert [x["job"][-1] for x in trace["grid"]["topic"]].count("0") == 3
    assert [x["job"][0] for x in trace["grid"]["topic"]].count("wrong") == 7
    assert [x["job"][1:] for x in trace["draws"]] == [
        [str(first), str(first + 10), str(study.MANY_TESTED)] for first in (0, 10, 20)
    ]
    assert [x["job"][2:] for x in trace["norms"]["past tense"]] == [
        ["0", "0"],
        ["1", "0"],
        ["4", "0"],
    ]
    assert [len(trace["ablated"][name]) for name in ("antonyms", "topic")] == [6, 4]
    assert trace["induction"]["job"] == ["induction_scores"]
    assert trace["cpu minutes"] == len([*study.parts()])


@pytest.mark.parametrize("name", ["antonyms", "past tense"])
def test_norms_divide_by_tokens_and_letters(tiny, monkeypatch, name):
    """With all labels of one token the sum and the mean over tokens agree."""
    monkeypatch.setattr(study, "NORM_ITEMS", 6)
    found = study.norms(name, 1, 0)
    assert {len(found[key]) for key in ("sum", "mean of tokens")} == {6}
    assert found["long"] == 0 and found["sum"] == found["mean of tokens"]


recorded = pytest.mark.skipif(study.NAME not in weights.names(), reason="not run yet")


@recorded
def test_the_record_is_of_these_settings():
    card, record = weights.card(study.NAME), weights.trace(study.NAME)
    assert card["config"] == study.CONFIG
    for name in TASKS:
        planned = sum(
            len([*study.planned(form, draw)])
            for form in FORMATS[name]
            for draw in range(max(study.DRAWS.values()))
        )
        more = 2 * (study.DRAWS["bare, right"] - study.DRAWS["bare"])  # four shots
        assert len(record["grid"][name]) == planned + more
        assert len(record["untrained"][name]) == len(study.SEEDS)
    assert len(record["draws"]) == study.MANY


@recorded
@pytest.mark.skipif(not packaged(PACKAGE), reason=f"{PACKAGE} is not installed")
def test_the_record_is_what_the_model_says():
    """One condition of each word task again; an item or two may lie on the edge."""
    record = weights.trace(study.NAME)
    model, encode = study.reader()
    for name in ("antonyms", "past tense"):
        there = study.task(name, encode)
        found = study.condition(model, encode, there, "bare", "right", 4, 0)
        wanted = next(
            c
            for c in record["grid"][name]
            if all(
                c[k] == found[k] for k in ("format", "labels", "shots", "draw", "order")
            )
        )
        for key in ("right", "calibrated"):
            pairs = zip(found[key], wanted[key], strict=True)
            assert sum(a != b for a, b in pairs) <= 2
    scores = torch.tensor(study.induction_scores())
    torch.testing.assert_close(
        scores, torch.tensor(record["induction"]), atol=2e-3, rtol=0
    )
