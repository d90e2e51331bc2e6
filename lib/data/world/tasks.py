"""Tasks of the small world whose cases never end: sums, comparisons, lists, stories."""

import random
from collections.abc import Callable

from lib.data.world import words
from lib.data.world.kinds import Kind, Slots
from lib.data.world.people import PEOPLE

LARGEST = 20  # of the two numbers of a sum


def _add(rng: random.Random, least: int = 0) -> Slots:
    a, b = rng.randint(least, LARGEST), rng.randint(least, LARGEST)
    return {"a": str(a), "b": str(b), "value": str(a + b), "key": f"{a} {b}"}


def _subtract(rng: random.Random, least: int = 0) -> Slots:
    pair = rng.randint(least, 2 * LARGEST), rng.randint(least, LARGEST)
    a, b = sorted(pair, reverse=True)
    return {"a": str(a), "b": str(b), "value": str(a - b), "key": f"{a} {b}"}


def _compared(rng: random.Random, choose: Callable) -> Slots:
    a, b = rng.sample(range(100), 2)
    value, rest = choose(a, b), min(a, b) if choose is max else max(a, b)
    pair = {"a": str(a), "b": str(b), "rest": str(rest), "value": str(value)}
    return pair | {"key": f"{min(a, b)} {max(a, b)}"}


def _next(rng: random.Random) -> Slots:
    start, step = rng.randint(0, 60), rng.choice((1, 2, 5, 10))
    row = [start + n * step for n in range(4)]
    shown = ", ".join(map(str, row[:3]))
    return {"row": shown, "value": str(row[3]), "key": shown}


def _story(rng: random.Random, case: Callable) -> Slots:
    slots, (one, other) = case(rng, least=2), rng.sample(PEOPLE, 2)
    noun = rng.choice(words.NOUNS)
    them = words.plural(noun)
    return slots | {"one": one.given, "other": other.given, "them": them}


def _put(rng: random.Random) -> Slots:
    one, other = rng.sample(PEOPLE, 2)
    thing, second = rng.sample(words.NOUNS, 2)
    place, another = rng.sample(words.PLACES, 2)
    key = " ".join((thing, place, second, another))
    slots = {"one": one.given, "other": other.given, "thing": thing, "second": second}
    return slots | {"place": place, "another": another, "value": place, "key": key}


def _list(rng: random.Random, low: int, high: int, value: Callable) -> Slots:
    items = rng.sample(words.NOUNS, rng.randint(low, high))
    shown = ", ".join(items)
    return {"list": shown, "value": value(items), "key": shown}


def _joined(items: list[str]) -> str:
    return ", ".join(items)


def _within(rng: random.Random) -> Slots:
    slots = _list(rng, 2, 5, _joined)
    items = slots["list"].split(", ")
    there = rng.random() < 0.5
    others = [noun for noun in words.NOUNS if noun not in items]
    word = rng.choice(items if there else others)
    known = {"word": word, "value": "yes" if there else "no"}
    known |= {"is": "is" if there else "is not"}
    return slots | known | {"key": f"{slots['list']} {word}"}


def _spelled(rng: random.Random) -> Slots:
    word = rng.choice(words.NOUNS)
    return {"word": word, "value": "-".join(word), "key": word}


def _repeated(rng: random.Random) -> Slots:
    word, times = rng.choice(words.NOUNS), rng.randint(2, 5)
    slots = {"word": word, "times": words.NUMBERS[times], "key": f"{word} {times}"}
    return slots | {"value": " ".join([word] * times)}


TASKS = [
    Kind(
        "add",
        (
            "{a} plus {b} is {value}.",
            "{a} + {b} = {value}.",
            "{a} and {b} make {value}.",
        ),
        (
            "What is {a} plus {b}? It is {value}.",
            "How much is {a} + {b}? It is {value}.",
        ),
        draw=_add,
    ),
    Kind(
        "subtract",
        ("{a} minus {b} is {value}.", "{a} - {b} = {value}."),
        (
            "What is {a} minus {b}? It is {value}.",
            "How much is {a} - {b}? It is {value}.",
        ),
        draw=_subtract,
    ),
    Kind(
        "larger",
        ("{value} is more than {rest}.", "{rest} is smaller than {value}."),
        ("Which is larger, {a} or {b}? It is {value}.",),
        draw=lambda rng: _compared(rng, max),
    ),
    Kind(
        "smaller",
        ("{value} is less than {rest}.", "{rest} is larger than {value}."),
        ("Which is smaller, {a} or {b}? It is {value}.",),
        draw=lambda rng: _compared(rng, min),
    ),
    Kind(
        "next number",
        ("We count: {row}, {value}.", "{row}, and then comes {value}."),
        ("Which number follows {row}? The next one is {value}.",),
        draw=_next,
    ),
    Kind(
        "given",
        (
            "{one} had {a} {them}. {other} gave {one} {b} more. Then {one} had {value}.",
            "There were {a} {them} on the table. {one} brought {b} more, which made {value}.",
        ),
        ("{one} has {a} {them} and gets {b} more. How many does {one} have? {value}.",),
        draw=lambda rng: _story(rng, _add),
    ),
    Kind(
        "taken",
        (
            "{one} had {a} {them}. {one} gave {b} of them to {other}. {value} were left.",
        ),
        ("{one} has {a} {them} and loses {b}. How many does {one} have? {value}.",),
        draw=lambda rng: _story(rng, _subtract),
    ),
    Kind(
        "put",
        (
            "{one} put the {thing} in the {place}. {other} put the {second} in the "
            "{another}. So the {thing} was in the {value}.",
            "{other} took the {second} to the {another}, and {one} took the {thing} to "
            "the {place}. Later {one} found the {thing} in the {value}.",
        ),
        (
            "{one} put the {thing} in the {place}. {other} put the {second} in the "
            "{another}. Where is the {thing}? In the {value}.",
            "{other} put the {second} in the {another}. {one} put the {thing} in the "
            "{place}. Where is the {thing}? In the {value}.",
        ),
        draw=_put,
    ),
    Kind(
        "first",
        ("The list {list} begins with {value}.", "First in {list} comes {value}."),
        ("What is the first word of the list {list}? It is {value}.",),
        draw=lambda rng: _list(rng, 2, 5, lambda items: items[0]),
    ),
    Kind(
        "last",
        ("The list {list} ends with {value}.", "Last in {list} comes {value}."),
        ("What is the last word of the list {list}? It is {value}.",),
        draw=lambda rng: _list(rng, 2, 5, lambda items: items[-1]),
    ),
    Kind(
        "count",
        ("The list {list} has {value} words.", "In {list} we count {value} words."),
        ("How many words are in the list {list}? There are {value}.",),
        draw=lambda rng: _list(rng, 2, 6, lambda items: words.NUMBERS[len(items)]),
    ),
    Kind(
        "reverse",
        ("Read backwards, {list} becomes {value}.",),
        ("What is the list {list} backwards? It is {value}.",),
        draw=lambda rng: _list(rng, 2, 4, lambda items: _joined(items[::-1])),
    ),
    Kind(
        "sort",
        ("In the order of the alphabet, {list} becomes {value}.",),
        ("What is the list {list} in the order of the alphabet? It is {value}.",),
        draw=lambda rng: _list(rng, 2, 3, lambda items: _joined(sorted(items))),
    ),
    Kind(
        "copy",
        (
            "She wrote {list}, and he copied {value}.",
            "They said {list}; we said {value}.",
        ),
        ("What is the same list as {list}? It is {value}.",),
        draw=lambda rng: _list(rng, 2, 5, _joined),
    ),
    Kind(
        "within",
        ("The word {word} {is} in the list {list}.",),
        ("Is {word} in the list {list}? The answer is {value}.",),
        draw=_within,
    ),
    Kind(
        "spell",
        ("The word {word} is spelled {value}.",),
        ("How is {word} spelled? It is spelled {value}.",),
        draw=_spelled,
    ),
    Kind(
        "repeat",
        ("The word {word} said {times} times is {value}.",),
        ("What is {word} said {times} times? It is {value}.",),
        draw=_repeated,
    ),
]
# A sum in a story is the same sum: it is held out with it.
SAME = {"given": "add", "taken": "subtract", "smaller": "larger"}
