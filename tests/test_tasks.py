"""lib.data.tasks: items are balanced, different, and do not hold their own answer."""

import re
from collections import Counter

import pytest

from lib.data.tasks import FORMATS, LABELS, TASKS, task


@pytest.mark.parametrize("name", TASKS)
def test_items_are_many_and_different(name):
    rows = task(name).rows
    inputs = [row["input"].lower() for row in rows]
    assert len(set(inputs)) == len(inputs) >= 100
    assert all(row["label"] and row["input"] == row["input"].strip() for row in rows)
    assert f"{name}: {len(rows)} items" in repr(task(name))


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_balanced_and_not_in_their_input(name):
    rows = task(name).rows
    counts = Counter(row["label"] for row in rows)
    assert set(counts) == set(LABELS[name]) and len(set(counts.values())) == 1
    for row in rows:
        for label in LABELS[name]:
            assert not re.search(label.rstrip("s"), row["input"], re.IGNORECASE)


@pytest.mark.parametrize("name", LABELS)
def test_sentences_are_worded_differently(name):
    words = [re.findall(r"\w+", row["input"].lower()) for row in task(name)]
    openings = Counter(tuple(w[:3]) for w in words)
    assert max(openings.values()) == 1
    alike = [
        len({*a} & {*b}) / len({*a} | {*b})
        for i, a in enumerate(words)
        for b in words[:i]
    ]
    assert max(alike) < 0.5


@pytest.mark.parametrize("name", LABELS)
def test_no_word_opens_one_class_alone(name):
    """The first word of an item says little: the commonest opens several classes."""
    rows = task(name).rows
    first = Counter(row["input"].split()[0] for row in rows)
    opened = {row["label"] for row in rows if row["input"].split()[0] == "The"}
    assert first.most_common(1)[0][0] == "The" and opened == set(LABELS[name])


def test_a_pair_of_opposites_stands_once():
    pairs = [frozenset(row.values()) for row in task("antonyms")]
    assert len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)


def test_a_past_tense_is_another_word():
    assert all(row["input"] != row["label"] for row in task("past tense"))
    regular = sum(row["label"].endswith("ed") for row in task("past tense"))
    assert 20 <= regular <= 60


def test_a_template_ends_with_the_label():
    assert FORMATS.keys() == set(TASKS)
    for formats in FORMATS.values():
        assert formats.keys() == {"bare", "named", "described"}
        for template in formats.values():
            assert template.endswith(" {label}") and template.count("{input}") == 1


def test_another_name_is_refused():
    with pytest.raises(ValueError, match=r"name: got 'capitals', wants one of anton"):
        task("capitals")
