"""Questions about the small world with one answer each, and what a guess would score."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lib.data.world.kinds import Kind, Slots
from lib.data.world.text import KINDS, filled, is_held_out

VALUE = "{value}."
FORMS = ("stated", "asked")
# The two slots between which a question lets one choose: a guess takes one of them.
CHOICES = {"older": ("one", "other"), "larger": ("a", "b"), "smaller": ("a", "b")}
CHOICES |= {"put": ("place", "another")}


class Item(NamedTuple):
    """A text to complete, up to a full stop, and its one right completion."""

    kind: str
    prompt: str  # without the space before the answer
    answer: str
    guess: str  # of two that are named one, else the most frequent answer of the kind


def items(
    kind: str, *, held_out: bool, form: str = "asked", most: int = 100, seed: int = 0
) -> list[Item]:
    """Items of a kind: all of its cases, or `most` different ones.

    Args:
        held_out: whether of the cases that are held out (never asked in training) or of
            the others.
        form: "asked", a question; "stated", the beginning of a statement.

    Raises:
        ValueError: no such kind or form.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, wants one of {', '.join(KINDS)}")
    if form not in FORMS:
        raise ValueError(f"form: got {form!r}, wants 'stated' or 'asked'")
    one, rng = KINDS[kind], random.Random(f"{kind} {held_out} {form} {seed}")
    templates = [t for t in getattr(one, form) if t.endswith(VALUE)]
    guess, found = most_frequent(one), {}
    for case in _cases(one, rng, most):
        if is_held_out(one, case) == held_out and templates:
            template = rng.choice(templates)
            prompt = filled(template.removesuffix(VALUE), case).rstrip()
            said = case[rng.choice(CHOICES[kind])] if kind in CHOICES else guess
            found[case["key"]] = Item(kind, prompt, case["value"], said)
    found = list(found.values())
    rng.shuffle(found)
    return found[:most]


def _cases(kind: Kind, rng: random.Random, most: int) -> Iterable[Slots]:
    # One case in five is held out, and some are drawn twice.
    return kind.cases if kind.closed else (kind.draw(rng) for _ in range(20 * most))


def most_frequent(kind: Kind) -> str:
    """The answer that most cases have, of those that are not held out."""
    cases = _cases(kind, random.Random(kind.name), 100)
    found = Counter(c["value"] for c in cases if not is_held_out(kind, c))
    return max(found, key=lambda value: (found[value], value))


def is_right(completion: str, answer: str) -> bool:
    """Whether a text begins with the answer and a full stop; spaces before it are free."""
    text = completion.lstrip()
    return text.startswith(f"{answer}.") or text == answer


def graded(items: Sequence[Item], completions: Sequence[str]) -> dict[str, list[bool]]:
    """Kind -> right or wrong, in the items' order.

    Raises:
        ValueError: not as many completions as items.
    """
    if len(items) != len(completions):
        raise ValueError(
            f"completions: got {len(completions)}, wants one for each of {len(items)}"
        )
    found: dict[str, list[bool]] = {}
    for item, completion in zip(items, completions, strict=True):
        found.setdefault(item.kind, []).append(is_right(completion, item.answer))
    return found
