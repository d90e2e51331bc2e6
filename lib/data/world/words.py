"""The words of the small world: what there is, of what kind, and how its words bend."""

KINDS_OF_THINGS = {
    "animal": "dog cat horse cow sheep goat fox rabbit duck hen mouse goose",
    "fruit": "apple pear plum cherry peach lemon grape melon fig orange banana berry",
    "tool": "hammer saw knife spoon shovel brush needle axe rope ladder bucket key",
    "piece of clothing": "coat hat shirt scarf glove shoe sock dress belt boot cap skirt",
    "piece of furniture": (
        "table chair bed shelf lamp mirror desk bench clock box curtain rug"
    ),
    "vehicle": "boat cart bus train bicycle sled ship wagon lorry tractor tram plane",
}
CATEGORY = {
    noun: kind for kind, words in KINDS_OF_THINGS.items() for noun in words.split()
}
NOUNS = tuple(CATEGORY)

IRREGULAR = {"sheep": "sheep", "mouse": "mice", "goose": "geese", "knife": "knives"}
IRREGULAR |= {"shelf": "shelves", "scarf": "scarves", "lorry": "lorries"}
IRREGULAR |= {"cherry": "cherries", "berry": "berries"}


def plural(noun: str) -> str:
    """Two of them: *fox* -> *foxes*, *mouse* -> *mice*."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


def a(noun: str) -> str:
    """With its article: *an axe*."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


MADE_OF = {
    "wood": "ladder brush table chair shelf desk bench box cart sled boat wagon",
    "iron": "hammer saw knife spoon shovel axe key train tractor tram ship bucket",
    "wool": "coat scarf glove sock rug cap",
    "leather": "shoe belt boot",
    "cotton": "shirt dress skirt curtain rope hat",
    "glass": "lamp mirror",
}
MATERIAL = {noun: stuff for stuff, words in MADE_OF.items() for noun in words.split()}

_PAIRS = """
hot cold, big small, old young, long short, fast slow, high low, full empty, light dark,
hard soft, wet dry, rich poor, open closed, early late, near far, good bad, strong weak,
happy sad, clean dirty, wide narrow, thick thin, loud quiet, first last, up down,
left right, day night, summer winter, north south, east west, inside outside, yes no,
always never, begin end, buy sell, give take, love hate, win lose, push pull, ask answer,
friend enemy, true false
"""
OPPOSITE = {}
for _pair in _PAIRS.replace("\n", " ").split(","):
    _one, _other = _pair.split()
    OPPOSITE |= {_one: _other, _other: _one}

PAST = dict(
    pair.split()
    for pair in """
go went, see saw, eat ate, run ran, sing sang, write wrote, give gave, take took,
come came, find found, make made, buy bought, bring brought, think thought, sell sold,
tell told, sleep slept, keep kept, leave left, drink drank, swim swam, begin began,
drive drove, break broke, speak spoke, know knew, grow grew, fly flew, draw drew,
fall fell, hold held, meet met, build built, send sent, lose lost, win won, sit sat,
stand stood, hear heard, walk walked, talk talked, play played, work worked, cook cooked,
clean cleaned, paint painted, open opened, wait waited, call called, help helped
""".replace("\n", " ").split(",")
)

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen twenty"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November "
    "December"
).split()
PLACES = "kitchen garden cellar attic barn hall shed yard".split()
COLOURS = "red blue green yellow white black brown grey purple pink".split()
FOODS = (
    "bread soup rice cheese fish honey cake porridge beans eggs noodles salad nuts "
    "potatoes mushrooms"
).split()
INSTRUMENTS = "violin flute drum piano guitar harp trumpet cello organ horn".split()
JOBS = (
    "baker miller teacher doctor farmer sailor painter tailor smith gardener cook judge "
    "writer potter weaver fisher singer carpenter clerk shepherd"
).split()
