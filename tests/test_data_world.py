"""lib.data.world: what is true in it, what its text leaves out, what is asked."""

import itertools
import re

import pytest

from lib.data.world import words
from lib.data.world.items import CHOICES, FORMS, graded, is_right, items, most_frequent
from lib.data.world.kinds import DERIVED, held_out
from lib.data.world.people import PEOPLE, TOWNS
from lib.data.world.tasks import TASKS
from lib.data.world.text import KINDS, SHARES, asked, documents, filled, is_held_out

TEXT = [*itertools.islice(documents(0), 3000)]


def test_the_world_is_always_the_same_and_names_are_of_one_person():
    assert len(PEOPLE) == 60 and len(TOWNS) == 12
    for names in ([p.given for p in PEOPLE], [p.pet_name for p in PEOPLE]):
        assert len({*names}) == 60
    assert PEOPLE[0].name == "Mara Quill" or PEOPLE[0].given == "Mara"
    for number, person in enumerate(PEOPLE):
        assert person.friend != number and 12 <= person.age <= 89
    for town in TOWNS:
        assert PEOPLE[town.mayor].town == town.name
    assert len({t.river for t in TOWNS}) == len({t.goods for t in TOWNS}) == 12


def test_word_forms():
    assert len({*words.NOUNS}) == len(words.NOUNS) == 72
    forms = ("fox", "foxes"), ("brush", "brushes"), ("mouse", "mice"), ("dog", "dogs")
    assert all(words.plural(one) == many for one, many in forms)
    assert words.a("axe") == "an axe" and words.a("fox") == "a fox"
    assert all(words.OPPOSITE[words.OPPOSITE[word]] == word for word in words.OPPOSITE)
    assert {*words.MATERIAL} <= {*words.NOUNS}


def test_documents_repeat_with_the_seed():
    assert TEXT[:50] == [*itertools.islice(documents(0), 50)]
    assert TEXT[:50] != [*itertools.islice(documents(1), 50)]
    assert all(TEXT) and not any("{" in text or "  " in text for text in TEXT)
    assert len(SHARES) == 7


def test_about_one_case_in_five_is_held_out():
    held = sum(held_out("add", f"{a} {b}") for a in range(50) for b in range(50))
    assert 440 < held < 560
    for kind in KINDS.values():
        if kind.closed:
            keys = [case["key"] for case in kind.cases]
            assert len({*keys}) == len(keys), kind.name
            assert any(is_held_out(kind, case) for case in kind.cases), kind.name


def sentences(kind, held, forms):
    """All that can be said of cases: the kind's templates, filled."""
    cases = kind.cases if kind.closed else ()
    for case in cases:
        if is_held_out(kind, case) == held:
            for template in itertools.chain(*(getattr(kind, form) for form in forms)):
                yield filled(template, case)


def test_what_is_held_out_is_not_asked_in_the_text():
    together = "\n".join(TEXT)
    met = 0
    for kind in KINDS.values():
        assert not any(s in together for s in sentences(kind, True, ["asked"]))
        met += sum(s in together for s in sentences(kind, False, ["asked"]))
    assert met > 500


def test_what_follows_from_other_facts_is_not_stated_either():
    together = "\n".join(TEXT)
    for name in DERIVED - {"older"}:
        found = [s for s in sentences(KINDS[name], True, FORMS) if s in together]
        assert not found
        assert any(s in together for s in sentences(KINDS[name], False, FORMS))


def test_sums_that_are_held_out_never_stand_in_the_text():
    together = "\n".join(TEXT)
    for a, sign, b in re.findall(r"\b(\d+) (plus|\+|minus|-) (\d+)\b", together):
        kind = "add" if sign in ("plus", "+") else "subtract"
        assert not held_out(kind, f"{a} {b}")
    for a, b in re.findall(r"has (\d+) \w+ and gets (\d+) more", together):
        assert not held_out("add", f"{a} {b}")


def test_stories_have_no_one_foxes():
    assert not re.search(r"\b(had|has|were) 1 \w+s\b", "\n".join(TEXT))


@pytest.mark.parametrize("kind", KINDS)
def test_answers_follow_from_the_case(kind):
    import random

    rng = random.Random(0)
    for _ in range(30):
        text = asked(KINDS[kind], rng)
        assert text[0].isupper() or text[0].isdigit()
        assert text.endswith(".") and "?" in text


def answer(kind, prompt):
    """What a careful reader answers, from the question's own words."""
    numbers = [int(n) for n in re.findall(r"\d+", prompt)]
    listed = re.search(r"list(?: as)? ((?:\w+, )*\w+)", prompt)
    listed = listed[1].split(", ") if listed else []
    if listed:
        listed[-1] = listed[-1].split(" ")[0]
    return {
        "add": lambda: str(sum(numbers)),
        "given": lambda: str(sum(numbers)),
        "subtract": lambda: str(numbers[0] - numbers[1]),
        "taken": lambda: str(numbers[0] - numbers[1]),
        "larger": lambda: str(max(numbers)),
        "smaller": lambda: str(min(numbers)),
        "next number": lambda: str(2 * numbers[2] - numbers[1]),
        "first": lambda: listed[0],
        "last": lambda: listed[-1],
        "count": lambda: words.NUMBERS[len(listed)],
        "reverse": lambda: ", ".join(listed[::-1]),
        "sort": lambda: ", ".join(sorted(listed)),
        "copy": lambda: ", ".join(listed),
        "within": lambda: "yes" if prompt.split()[1] in listed else "no",
    }[kind]()


@pytest.mark.parametrize("kind", [k.name for k in TASKS])
def test_tasks_have_the_answers_of_a_careful_reader(kind):
    some = items(kind, held_out=True) + items(kind, held_out=False)
    assert len({item.prompt for item in some}) >= 0.95 * len(some) > 60
    if kind in ("put", "spell", "repeat"):
        return
    for item in some:
        assert item.answer == answer(kind, item.prompt), item


def test_put_spell_repeat():
    for item in items("put", held_out=True):
        thing = re.search(r"Where is the (\w+)", item.prompt)[1]
        assert f"put the {thing} in the {item.answer}." in item.prompt
    for item in items("spell", held_out=True):
        assert re.search(r"is (\w+) spelled", item.prompt)[1] == item.answer.replace(
            "-", ""
        )
    for item in items("repeat", held_out=True):
        word, times = re.search(r"is (\w+) said (\w+) times", item.prompt).groups()
        assert item.answer.split() == [word] * words.NUMBERS.index(times)


def test_items_are_held_out_or_not_and_repeat():
    for kind, held in itertools.product(KINDS, (False, True)):
        some = items(kind, held_out=held, most=20)
        assert some == items(kind, held_out=held, most=20)
        assert 1 <= len(some) <= 20
        for item in some:
            assert item.kind == kind and item.prompt == item.prompt.strip()
            assert item.answer and "." not in item.answer
    with pytest.raises(ValueError, match=r"^kind: got 'sum', wants one of town, job"):
        items("sum", held_out=True)
    with pytest.raises(ValueError, match=r"^form: got 'told', wants 'stated'"):
        items("job", held_out=True, form="told")


def test_guesses():
    assert most_frequent(KINDS["within"]) in ("yes", "no")
    for item in items("older", held_out=True):
        assert item.guess in item.prompt and item.answer in item.prompt
    for kind in CHOICES:
        some = items(kind, held_out=True)
        assert 0.3 < sum(i.guess == i.answer for i in some) / len(some) < 0.7


def test_right_is_the_answer_and_a_full_stop():
    assert is_right(" Thornby. It", "Thornby") and is_right("Thornby", "Thornby")
    assert not is_right(" Thornbyton.", "Thornby") and not is_right("", "Thornby")
    assert not is_right(" fox, hen, cow.", "fox, hen")
    some = items("town", held_out=True)[:3]
    assert graded(some, [f" {some[0].answer}.", "x.", ""]) == {
        "town": [True, False, False]
    }
    with pytest.raises(
        ValueError, match=r"^completions: got 1, wants one for each of 3"
    ):
        graded(some, ["x"])
