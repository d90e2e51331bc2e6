"""What can be stated and asked in the small world, kind by kind, and in which words.

A `Kind` has wordings that state and wordings that ask; its cases fill them. One case in
five is *held out*. A fact or a form of a word that is held out is stated and never asked
in the training text; what follows from other facts (`DERIVED`) or has open cases (a sum,
a list) never stands there at all.
"""

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple

from lib.data.world import words
from lib.data.world.people import PEOPLE, TOWNS, Person, Town

Slots = dict[str, str]
DERIVED = {"owner", "friend's job", "older"}


class Kind(NamedTuple):
    """A kind of statement or task.

    `stated` and `asked` are templates. In `asked` the answer is `{value}`, before the
    last full stop. `cases` gives all cases of a closed kind; `draw` one of an open one.
    A case has the key "key", by which it is held out or not.
    """

    name: str
    stated: tuple[str, ...]
    asked: tuple[str, ...]
    cases: tuple[Slots, ...] = ()
    draw: Callable[[random.Random], Slots] | None = None

    @property
    def closed(self) -> bool:
        return self.draw is None

    def case(self, rng: random.Random) -> Slots:
        return self.draw(rng) if self.draw else rng.choice(self.cases)


def held_out(kind: str, key: str) -> bool:
    """Whether a case is held out: one in five, by a hash, the same on every machine."""
    digest = hashlib.blake2b(f"{kind}/{key}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 5 == 0


# --- Facts of people and towns ---------------------------------------------------------


def of_person(person: Person, **more: str) -> Slots:
    """`who`, `whose` are the full name here; a biography puts pronouns in their place."""
    name = person.name
    slots = {"name": name, "given": person.given, "who": name, "whose": f"{name}'s"}
    return slots | {"key": name} | more


def _of_people(value: Callable[[Person], object], **more) -> tuple[Slots, ...]:
    return tuple(
        of_person(p, value=str(value(p)), **{k: str(v(p)) for k, v in more.items()})
        for p in PEOPLE
    )


def _of_towns(value: Callable[[Town], object]) -> tuple[Slots, ...]:
    return tuple(
        {"town": t.name, "key": t.name, "value": str(value(t)), "who": t.name}
        for t in TOWNS
    )


def _facts() -> list[Kind]:
    friend = lambda p: PEOPLE[p.friend]  # noqa: E731
    return [
        Kind(
            "town",
            (
                "{who} lives in {value}.",
                "{whose} home is in {value}.",
                "{value} is the town where {name} lives.",
                "You can meet {name} in {value}.",
                "{who} has a house in {value}.",
            ),
            (
                "Where does {name} live? In {value}.",
                "In which town does {name} live? {given} lives in {value}.",
                "Which town is the home of {name}? It is {value}.",
            ),
            _of_people(lambda p: p.town),
        ),
        Kind(
            "job",
            (
                "{who} works as a {value}.",
                "{whose} job is that of a {value}.",
                "{who} earns money as a {value}.",
                "By trade, {name} is a {value}.",
            ),
            (
                "What is the job of {name}? {given} is a {value}.",
                "What does {name} work as? As a {value}.",
                "Which trade does {name} have? That of a {value}.",
            ),
            _of_people(lambda p: p.job),
        ),
        Kind(
            "age",
            (
                "{who} is {value} years old.",
                "{who} has lived for {value} years.",
                "{whose} age is {value}.",
                "This year {name} turned {value}.",
            ),
            (
                "How old is {name}? {given} is {value}.",
                "What is the age of {name}? It is {value}.",
            ),
            _of_people(lambda p: p.age),
        ),
        Kind(
            "pet",
            (
                "{who} keeps a {value} as a pet.",
                "{whose} pet is a {value}.",
                "A {value} lives with {name}.",
                "{who} feeds a {value} every morning.",
            ),
            (
                "What pet does {name} have? A {value}.",
                "Which animal does {name} keep? {given} keeps a {value}.",
            ),
            _of_people(lambda p: p.pet),
        ),
        Kind(
            "pet name",
            (
                "{who} calls the {pet} {value}.",
                "{whose} {pet} has the name {value}.",
                "{who} has a {pet} called {value}.",
            ),
            (
                "What is the name of the {pet} of {name}? It is {value}.",
                "What does {name} call the {pet}? {given} calls it {value}.",
            ),
            _of_people(lambda p: p.pet_name, pet=lambda p: p.pet),
        ),
        # From the pet to its owner: a case that is held out is never stated this way
        # either, so only "pet name" tells it, in the other direction.
        Kind(
            "owner",
            (
                "{pet_name} belongs to {value}.",
                "The owner of {pet_name} is {value}.",
            ),
            (
                "Who is the owner of {pet_name}? It is {value}.",
                "Whom does {pet_name} belong to? To {value}.",
            ),
            tuple(
                {"pet_name": p.pet_name, "key": p.pet_name, "value": p.name}
                for p in PEOPLE
            ),
        ),
        Kind(
            "colour",
            (
                "{whose} favourite colour is {value}.",
                "{who} likes {value} more than any other colour.",
                "{who} paints every door {value}.",
                "Of all colours, {name} likes {value} best.",
            ),
            (
                "What is the favourite colour of {name}? It is {value}.",
                "Which colour does {name} like best? {given} likes {value}.",
            ),
            _of_people(lambda p: p.colour),
        ),
        Kind(
            "food",
            (
                "{whose} favourite food is {value}.",
                "{who} eats {value} whenever there is some.",
                "{who} likes {value} best of all food.",
                "On holidays {name} always asks for {value}.",
            ),
            (
                "What is the favourite food of {name}? It is {value}.",
                "What does {name} like to eat? {given} likes {value}.",
            ),
            _of_people(lambda p: p.food),
        ),
        Kind(
            "instrument",
            (
                "{who} plays the {value}.",
                "{whose} instrument is the {value}.",
                "In the evening {name} practises the {value}.",
                "{who} has learned the {value}.",
            ),
            (
                "Which instrument does {name} play? The {value}.",
                "What does {name} play in the evening? {given} plays the {value}.",
            ),
            _of_people(lambda p: p.instrument),
        ),
        Kind(
            "friend",
            (
                "{whose} best friend is {value}.",
                "{who} often visits {value}, a good friend.",
                "{who} trusts {value} more than anybody else.",
            ),
            (
                "Who is the best friend of {name}? It is {value}.",
                "Whom does {name} often visit? {given} visits {value}.",
            ),
            _of_people(lambda p: friend(p).name),
        ),
        Kind(
            "friend's job",
            ("The best friend of {name} works as a {value}.",),
            (
                "What is the job of the best friend of {name}? That of a {value}.",
                "What does the best friend of {name} work as? As a {value}.",
            ),
            _of_people(lambda p: friend(p).job),
        ),
        Kind(
            "river",
            (
                "{town} lies on the river {value}.",
                "The river {value} runs through {town}.",
                "The water of the {value} turns the mills of {town}.",
            ),
            (
                "Which river runs through {town}? The {value}.",
                "On which river does {town} lie? It lies on the {value}.",
            ),
            _of_towns(lambda t: t.river),
        ),
        Kind(
            "goods",
            (
                "{town} is known for its {value}.",
                "The workshops of {town} make {value}.",
                "People come to {town} to buy {value}.",
            ),
            (
                "What is {town} known for? For its {value}.",
                "What do the workshops of {town} make? They make {value}.",
            ),
            _of_towns(lambda t: t.goods),
        ),
        Kind(
            "bridges",
            (
                "{town} has {value} bridges.",
                "There are {value} bridges in {town}.",
                "In {town} one can count {value} bridges.",
            ),
            (
                "How many bridges does {town} have? It has {value}.",
                "How many bridges are there in {town}? There are {value}.",
            ),
            _of_towns(lambda t: t.bridges),
        ),
        Kind(
            "mayor",
            (
                "The mayor of {town} is {value}.",
                "{value} is the mayor of {town}.",
                "{town} has chosen {value} as its mayor.",
            ),
            (
                "Who is the mayor of {town}? It is {value}.",
                "Whom has {town} chosen as its mayor? It has chosen {value}.",
            ),
            _of_towns(lambda t: PEOPLE[t.mayor].name),
        ),
    ]


def _older(rng: random.Random) -> Slots:
    one, other = rng.sample(PEOPLE, 2)
    while one.age == other.age:
        one, other = rng.sample(PEOPLE, 2)
    old, young = sorted((one, other), key=lambda p: -p.age)
    key = " ".join(sorted((one.given, other.given)))
    slots = {"one": one.name, "other": other.name, "young": young.name, "key": key}
    return slots | {"value": old.name}


# --- Words -----------------------------------------------------------------------------


def _of_words(table: dict[str, str], shown=str) -> tuple[Slots, ...]:
    return tuple(
        {"word": word, "key": word, "value": shown(value), "a": words.a(word)}
        for word, value in table.items()
    )


WORDS = [
    Kind(
        "category",
        ("{a} is {value}.", "Every {word} is {value}.", "We call {a} {value}."),
        ("What is {a}? It is {value}.", "What do we call {a}? We call it {value}."),
        _of_words(words.CATEGORY, words.a),
    ),
    Kind(
        "plural",
        (
            "One {word}, two {value}.",
            "The plural of {word} is {value}.",
            "I have one {word}, and you have many {value}.",
        ),
        (
            "What is the plural of {word}? It is {value}.",
            "How do we say more than one {word}? We say {value}.",
        ),
        _of_words({noun: words.plural(noun) for noun in words.NOUNS}),
    ),
    Kind(
        "material",
        (
            "{a} is made of {value}.",
            "To make {a}, one needs {value}.",
            "The {word} in the hall is of {value}.",
        ),
        (
            "What is {a} made of? Of {value}.",
            "What does one need to make {a}? One needs {value}.",
        ),
        _of_words(words.MATERIAL),
    ),
    Kind(
        "opposite",
        (
            "The opposite of {word} is {value}.",
            "What is not {word} may be {value}.",
            "Some say {word}, others say {value}.",
        ),
        (
            "What is the opposite of {word}? It is {value}.",
            "Which word means the reverse of {word}? The word {value}.",
        ),
        _of_words(words.OPPOSITE),
    ),
    Kind(
        "past",
        (
            "Today they {word}, and yesterday they {value}.",
            "The past of {word} is {value}.",
            "We {word} now; last year we {value}.",
        ),
        (
            "What is the past of {word}? It is {value}.",
            "How do we say {word} for yesterday? We say {value}.",
        ),
        _of_words(words.PAST),
    ),
    Kind(
        "number word",
        ("{word} is written {value}.", "The number {word} has the digits {value}."),
        ("How is {word} written in digits? It is written {value}.",),
        _of_words({word: str(n) for n, word in enumerate(words.NUMBERS)}),
    ),
    Kind(
        "day after",
        ("After {word} comes {value}.", "{word} is followed by {value}."),
        ("What comes after {word}? After it comes {value}.",),
        tuple(
            {"word": word, "key": word, "value": names[(n + 1) % len(names)]}
            for names in (words.DAYS, words.MONTHS)
            for n, word in enumerate(names)
        ),
    ),
]


FACTS = _facts()
OLDER = Kind(
    "older",
    (
        "{value} is older than {young}.",
        "{young} is younger than {value}.",
        "Of {one} and {other}, the older one is {value}.",
    ),
    (
        "Who is older, {one} or {other}? It is {value}.",
        "Which of the two is older, {one} or {other}? The older one is {value}.",
    ),
    draw=_older,
)
