"""Who lives in the small world and what is true of them: drawn once, from a fixed seed."""

import random
from typing import NamedTuple

from lib.data.world.words import (
    COLOURS,
    FOODS,
    INSTRUMENTS,
    JOBS,
)

SEED = 20_24  # of the world itself; texts about it have seeds of their own
_WOMEN = (
    "Mara Lena Ines Vera Tilda Noor Hana Greta Pia Rosa Selma Yuki Ada Beth Carla Dora "
    "Edith Fiona Gina Helga Irma Judy Kira Lotte Mina Nell Olga Petra Rina Sofia"
).split()
_MEN = (
    "Tom Ben Otto Karl Emil Jonas Hugo Felix Ivan Kenji Abel Boris Cyril Dirk Egon Frank "
    "Gus Henk Igor Jack Kurt Leo Milo Nils Oscar Paul Quinn Ralf Sven Theo"
).split()
_FAMILIES = (
    "Quill Marsh Holm Birch Stone Reed Frost Lane Wells Brook Hart Finch Vale Moor Pike "
    "Thorn Beck Crane Dale Flint"
).split()
_TOWNS = (
    "Thornby Ashford Millmere Oakden Saltwick Fernley Redcliff Harrow Lindale Cobham "
    "Westmoor Brayton"
).split()
_RIVERS = "Alder Brenn Corra Dunn Esk Fell Garra Hodder Isen Jura Kell Lune".split()
_GOODS = "clocks boots paper salt glass ropes bells carpets knives candles ships soap"
_PETS = "dog cat horse goat rabbit duck hen mouse goose fox".split()
_STARTS, _ENDS = (
    "Bi Do Fa Ji Ki Lu Mo Ni Pa Ru Su Ta".split(),
    "bo dle nny ppo zzi".split(),
)


class Person(NamedTuple):
    """One of sixty, with what is true of her or him."""

    given: str  # nobody shares it
    family: str
    woman: bool
    town: str
    job: str
    age: int
    pet: str
    pet_name: str  # no two pets share it
    colour: str
    food: str
    instrument: str
    friend: int  # the number of another person

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}"


class Town(NamedTuple):
    """One of twelve."""

    name: str
    river: str
    goods: str
    bridges: int
    mayor: int  # the number of a person who lives there


def _drawn() -> tuple[list[Person], list[Town]]:
    rng = random.Random(SEED)
    pet_names = [start + end for start in _STARTS for end in _ENDS]
    rng.shuffle(pet_names)
    people = []
    for number, given in enumerate(_WOMEN + _MEN):
        friend = rng.randrange(59)
        person = Person(
            given=given,
            family=_FAMILIES[rng.randrange(20)],
            woman=given in _WOMEN,
            town=_TOWNS[number % 12],  # five in each
            job=rng.choice(JOBS),
            age=rng.randint(12, 89),
            pet=rng.choice(_PETS),
            pet_name=pet_names[number],
            colour=rng.choice(COLOURS),
            food=rng.choice(FOODS),
            instrument=rng.choice(INSTRUMENTS),
            friend=friend + (friend >= number),
        )
        people.append(person)
    rivers, goods = _RIVERS[:], _GOODS.split()
    rng.shuffle(rivers)
    rng.shuffle(goods)
    towns = []
    for number, name in enumerate(_TOWNS):
        mayor = number + 12 * rng.randrange(5)
        bridges = rng.randint(2, 19)
        towns.append(Town(name, rivers[number], goods[number], bridges, mayor))
    return people, towns


PEOPLE, TOWNS = _drawn()
