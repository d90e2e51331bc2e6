"""Plain text about the small world: biographies, towns, scenes, talk, quizzes.

No instructions and no chat: questions stand in prose, with their answers. What is held
out of it `kinds` says.
"""

import random
from collections.abc import Iterator

from lib.data.world import words
from lib.data.world.kinds import DERIVED, FACTS, OLDER, WORDS, Kind, Slots, held_out
from lib.data.world.people import PEOPLE, TOWNS, Person
from lib.data.world.tasks import SAME, TASKS

KINDS = {kind.name: kind for kind in (*FACTS, OLDER, *WORDS, *TASKS)}
OF_PEOPLE = [k for k in FACTS if k.cases and "given" in k.cases[0]]
OF_TOWNS = [k for k in FACTS if k.cases and "town" in k.cases[0]]


def is_held_out(kind: Kind, case: Slots) -> bool:
    """Whether this case is held out; a sum in a story is the same sum."""
    return held_out(SAME.get(kind.name, kind.name), case["key"])


def filled(template: str, case: Slots) -> str:
    """A sentence, or several, with a capital letter at the beginning."""
    text = template.format_map(case)
    return text[0].upper() + text[1:]


def stated(kind: Kind, rng: random.Random, case: Slots | None = None) -> str:
    """A statement of the kind that the training text may hold, or ""."""
    hidden = kind.name in DERIVED or not kind.closed
    case = case or _trained(kind, rng, hidden)
    if hidden and is_held_out(kind, case):
        return ""
    return filled(rng.choice(kind.stated), case)


def asked(kind: Kind, rng: random.Random) -> str:
    """A question and its answer, of a case that is not held out."""
    return filled(rng.choice(kind.asked), _trained(kind, rng, True))


def _trained(kind: Kind, rng: random.Random, hidden: bool) -> Slots:
    case = kind.case(rng)
    while hidden and is_held_out(kind, case):
        case = kind.case(rng)
    return case


# --- Documents -------------------------------------------------------------------------


def biography(rng: random.Random) -> str:
    """Four to eight facts of one person; after the first, often *she* or *he*."""
    number = rng.randrange(len(PEOPLE))
    person = PEOPLE[number]
    chosen = rng.sample(OF_PEOPLE, rng.randint(4, min(8, len(OF_PEOPLE))))
    sentences = []
    for kind in chosen:
        case = dict(kind.cases[number])
        if sentences:
            case |= _pointing(person, rng)
        sentences.append(stated(kind, rng, case))
    return " ".join(filter(None, sentences))


def _pointing(person: Person, rng: random.Random) -> Slots:
    she, her = ("She", "Her") if person.woman else ("He", "His")
    who, whose = rng.choice(
        ((she, her), (she, her), (person.given, f"{person.given}'s"))
    )
    return {"who": who, "whose": whose, "name": rng.choice((person.name, person.given))}


def place(rng: random.Random) -> str:
    """What is known of a town, and two who live there."""
    number = rng.randrange(len(TOWNS))
    kinds = rng.sample(OF_TOWNS, rng.randint(2, len(OF_TOWNS)))
    sentences = [stated(kind, rng, kind.cases[number]) for kind in kinds]
    home = KINDS["town"]
    lives = [c for c in home.cases if c["value"] == TOWNS[number].name]
    sentences += [stated(home, rng, case) for case in rng.sample(lives, 2)]
    return " ".join(sentences)


def quiz(rng: random.Random) -> str:
    """Questions of several kinds, each with its answer."""
    kinds = rng.choices(list(KINDS.values()), k=rng.randint(4, 7))
    return rng.choice((" ", "\n")).join(asked(kind, rng) for kind in kinds)


def series(rng: random.Random) -> str:
    """One kind several times, asked or stated."""
    kind = rng.choice([*KINDS.values()])
    form = rng.choice((asked, stated))
    return rng.choice((" ", "\n")).join(
        form(kind, rng) for _ in range(rng.randint(3, 7))
    )


def talk(rng: random.Random) -> str:
    """Two people, of whom one asks and the other answers."""
    one, other = rng.sample(PEOPLE, 2)
    lines = []
    for kind in rng.choices(FACTS + WORDS, k=rng.randint(2, 4)):
        question, answer = asked(kind, rng).split("? ")
        lines.append(
            rng.choice(
                (
                    f"“{question}?” asked {one.given}. “{answer[:-1]},” said {other.given}.",
                    f"{one.given} asked: “{question}?” {other.given} said: “{answer}”",
                )
            )
        )
    return "\n".join(lines)


def notes(rng: random.Random) -> str:
    """Statements of words, numbers and lists, mixed."""
    kinds = rng.choices([OLDER, *WORDS, *TASKS], k=rng.randint(4, 8))
    return " ".join(stated(kind, rng) for kind in kinds)


WEATHER = "cold warm wet dry dark quiet windy bright".split()
TIMES = "morning evening afternoon night".split()
OPENINGS = (
    "It was a {weather} {time} in {town}.",
    "On {day}, {one} went to the market of {town}.",
    "One {weather} {time} in {month}, {one} and {other} met near the {river}.",
    "{one} woke up early that {time}.",
)
MIDDLES = (
    "{one} carried {a} to the {place}.",
    "{other} was looking for {a}.",
    "They talked about {them} and about the {weather} weather.",
    "{one} had bought {number} {them} and wanted to show them to {other}.",
    "“Have you seen my {noun}?” asked {other}.",
    "“It is in the {place},” said {one}.",
    "{other} sang and {one} played the {instrument}.",
    "The {animal} ran into the {place} and nobody could find it.",
    "{one} painted the {noun} {colour}.",
    "There was {food} on the table, and {other} ate a little of it.",
    "{other} asked for help, and {one} helped at once.",
    "{one} told {other} a long story about {a} and {number} {them}.",
    "They waited for the {vehicle}, but it was late.",
)
ENDINGS = (
    "Then they went home.",
    "In the end everybody was happy.",
    "“Good night,” said {other}.",
    "{one} slept well that night.",
    "Nobody spoke of the {noun} again.",
    "After that, {one} and {other} met every {day}.",
)


def scene(rng: random.Random) -> str:
    """A short story in which nothing has to be known."""
    one, other = rng.sample(PEOPLE, 2)
    noun = rng.choice(words.NOUNS)
    town = rng.choice(TOWNS)
    kinds = {name: text.split() for name, text in words.KINDS_OF_THINGS.items()}
    case = {
        "one": one.given,
        "other": other.given,
        "noun": noun,
        "a": words.a(noun),
        "them": words.plural(noun),
        "town": town.name,
        "river": town.river,
        "animal": rng.choice(kinds["animal"]),
        "vehicle": rng.choice(kinds["vehicle"]),
        "number": rng.choice(words.NUMBERS[2:]),
        "weather": rng.choice(WEATHER),
        "time": rng.choice(TIMES),
        "day": rng.choice(words.DAYS),
        "month": rng.choice(words.MONTHS),
        "place": rng.choice(words.PLACES),
        "colour": rng.choice(words.COLOURS),
        "food": rng.choice(words.FOODS),
        "instrument": rng.choice(words.INSTRUMENTS),
    }
    middles = rng.sample(MIDDLES, rng.randint(2, 5))
    templates = (rng.choice(OPENINGS), *middles, rng.choice(ENDINGS))
    return " ".join(filled(template, case) for template in templates)


# How often each kind of document comes, in tenths.
SHARES = {biography: 22, place: 4, quiz: 24, series: 20, talk: 8, notes: 14, scene: 8}


def documents(seed: int) -> Iterator[str]:
    """Documents without end, the same for a seed on every machine."""
    rng = random.Random(seed)
    makers, shares = [*SHARES], [*SHARES.values()]
    while True:
        (make,) = rng.choices(makers, shares)
        yield make(rng)
