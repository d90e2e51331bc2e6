"""What examples in a prompt do to SmolLM2: the record of `language/in-context`.

    python -m train.in_context            # everything, about 45 minutes on one core

Four tasks of `lib.data.tasks`. Candidates are the task's labels, and in the two word tasks
the inputs too, so that an echo of the question is a possible answer; items with a word of
several tokens are left out of the grid, so one pass scores all candidates. The tested items
are fixed before anything is run (80 words, 60 sentences with each label alike often); the
demonstrations are drawn from the rest. A draw is eight demonstrations in an order; k shots
are its first k, so more shots of a draw add to fewer.

**Grid**: 0/1/2/4/8 shots × labels × formats × calibration, by draw, and other orders of the
same four; ten draws of four with each kind of labels. Labels are *right*; *random*, drawn
from the task's labels; *flipped*: the other sentiment, the next topic, and for words the
input itself. Kept is, for each tested item,
whether the highest score is that of the right label (and of the label that the flipped
examples ask for), before and after calibration. **Draws**: many draws of four on
*sentiment*. **Norms**: sums, means over tokens and over characters, with the labels of
several tokens. **Untrained**: the same network with random weights. **Heads**: the
induction scores of all heads on repeated random tokens; accuracy when the ten highest are
set to their means, against nine draws of as many other heads of the same layers.

Every finished part is a file under `_build/train/in-context/`, and a killed command goes on
where it was. It needs the packages of requirements-weights.txt.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from lib import prompts, training, weights
from lib.data.tasks import FORMATS, LABELS, TASKS
from lib.data.tasks import task as items_of
from lib.lens import heads, hooks, measures
from lib.pretrained.smollm2 import smollm2

NAME = "in-context"
SHOTS, MOST = (0, 1, 2, 4, 8), 8
ARMS = ("right", "random", "flipped")
TESTED = {"antonyms": 80, "past tense": 80, "sentiment": 60, "topic": 60}
DRAWS = {"bare, right": 10, "bare": 3, "right": 2, "else": 2}  # of demonstrations
ORDERS, ORDERED = 3, 4  # further orders of a draw, of so many shots
MANY, MANY_TESTED = 30, 40  # draws of four on sentiment, and items for each
NORM_ITEMS = 40
SEEDS = range(3)  # of the untrained network
INDUCTION, CONTROLS, ABLATED = 10, 9, {"antonyms": 8, "past tense": 4}
ABLATED |= {"sentiment": 4, "topic": 4}  # shots
ABLATED_DRAWS = 4
RANDOM_TOKENS = {"B": 4, "period": 40}


class Task(NamedTuple):
    """What is tested, what is shown, and what can be answered; (input, label) pairs."""

    name: str
    tested: list[tuple[str, str]]
    pool: list[tuple[str, str]]
    candidates: list[str]


def task(name: str, encode: Any) -> Task:
    """Items whose words are one token each; the same split for everyone."""
    rows = [(row["input"], row["label"]) for row in items_of(name)]
    words = name not in LABELS
    if words:
        rows = [r for r in rows if all(len(encode(f" {word}")) == 1 for word in r)]
    random.Random(0).shuffle(rows)
    labels = sorted({label for _, label in rows})
    if words:
        tested = rows[: TESTED[name]]
        candidates = sorted({word for row in rows for word in row})
    else:
        each = TESTED[name] // len(labels)
        by_label = [[row for row in rows if row[1] == label] for label in labels]
        tested = [row for own in by_label for row in own[:each]]
        candidates = labels
    return Task(name, tested, [r for r in rows if r not in tested], candidates)


def shown(task: Task, draw: int, labels: str, order: int = 0) -> list[tuple[str, str]]:
    """The eight demonstrations of a draw; in another order, the first four of them."""
    luck = random.Random(f"{task.name} {draw}")
    rows = luck.sample(task.pool, MOST)
    drawn = [luck.choice(sorted({label for _, label in task.pool})) for _ in rows]
    if labels == "random":
        rows = [(x, label) for (x, _), label in zip(rows, drawn, strict=True)]
    if labels == "flipped":
        rows = [(x, flipped(task, (x, label))) for x, label in rows]
    if order:
        first = rows[:ORDERED]
        luck = random.Random(f"{task.name} {draw} {order}")
        rows = luck.sample(first, ORDERED)
        while rows == first:
            rows = luck.sample(first, ORDERED)
    return rows


def flipped(task: Task, row: tuple[str, str]) -> str:
    """What flipped examples ask for: another label, or the word itself."""
    if task.name not in LABELS:
        return row[0]
    labels = LABELS[task.name]
    return labels[(labels.index(row[1]) + 1) % len(labels)]


def logs(
    model: Any, encode: Any, template: str, rows: Sequence, task: Task, tested: Sequence
) -> tuple[Tensor, Tensor]:
    """log P of each candidate after each tested item (N, L), and calibrated."""
    past = prompts.remember(model, encode(prompts.demonstrations(template, rows)))
    labels = [encode(f" {label}") for label in task.candidates]

    def after(texts):
        asked = [encode(prompts.question(template, text)) for text in texts]
        return prompts.label_logs(model, past, asked, labels)

    found = after([text for text, _ in tested])
    return found, prompts.calibrated(found, after(prompts.CONTENT_FREE))


def digits(found: Tensor, task: Task, wanted: Sequence[str]) -> str:
    """Whether each row's highest score is the wanted candidate: a text of 0 and 1."""
    at = {label: i for i, label in enumerate(task.candidates)}
    best = found.argmax(1).tolist()
    return "".join(str(int(b == at[w])) for b, w in zip(best, wanted, strict=True))


def condition(model, encode, task, form, labels, shots, draw, order=0, tested=None):
    """One prompt, all tested items: the settings, and what was right."""
    tested = tested or task.tested
    rows = shown(task, draw, labels, order)[:shots]
    raw, after = logs(model, encode, FORMATS[task.name][form], rows, task, tested)
    right = [label for _, label in tested]
    found = {
        "format": form,
        "labels": labels,
        "shots": shots,
        "draw": draw,
        "order": order,
        "shown": [label for _, label in rows],
        "right": digits(raw, task, right),
        "calibrated": digits(after, task, right),
    }
    if labels == "flipped":
        other = [flipped(task, row) for row in tested]
        found["follows"] = digits(raw, task, other)
        found["follows, calibrated"] = digits(after, task, other)
    return found


def planned(form: str, draw: int) -> Iterator[tuple[str, int, int]]:
    """The (labels, shots, order) of one draw in one format."""
    for labels in ARMS:
        name = f"{form}, {labels}" if f"{form}, {labels}" in DRAWS else form
        name = name if name in DRAWS else labels if labels in DRAWS else "else"
        if draw >= DRAWS[name]:
            continue
        # Other formats: the wrong labels at four shots alone.
        some = (ORDERED,) if name == "else" else SHOTS[1:]
        yield from ((labels, shots, 0) for shots in some)
        if name == "bare, right" and draw < DRAWS["bare"]:
            yield from ((labels, ORDERED, order) for order in range(1, ORDERS + 1))
    if draw == 0:
        yield "right", 0, 0


def grid(name: str, form: str, draw: int) -> list[dict]:
    model, encode = reader()
    there = task(name, encode)
    return [
        condition(model, encode, there, form, labels, shots, draw, order)
        for labels, shots, order in planned(form, draw)
    ]


def wrong(name: str, draw: int) -> list[dict]:
    """Random and flipped labels of one more draw, four shots, in the bare format."""
    model, encode = reader()
    there = task(name, encode)
    return [
        condition(model, encode, there, "bare", labels, ORDERED, draw)
        for labels in ARMS[1:]
    ]


def draws(first: int, last: int, count: int) -> list[dict]:
    """Four demonstrations of sentiment, drawn anew each time; bare, right labels.

    `count` items are tested, half of them of each label.
    """
    model, encode = reader()
    there = task("sentiment", encode)
    half, n = count // 2, len(there.tested) // 2
    tested = there.tested[:half] + there.tested[n : n + half]
    return [
        condition(model, encode, there, "bare", "right", 4, 100 + d, tested=tested)
        for d in range(first, last)
    ]


# --- Norms -------------------------------------------------------------------------


def norms(name: str, shots: int, draw: int) -> dict[str, Any]:
    """All labels, of one token or several, scored in three ways; bare, right labels."""
    model, encode = reader()
    there = task(name, encode)
    rows = [(row["input"], row["label"]) for row in items_of(name)]
    long = [r for r in rows if len(encode(f" {r[1]}")) > 1]
    tested = long + there.tested[: NORM_ITEMS - len(long)]
    candidates = sorted({label for _, label in rows})
    there = there._replace(candidates=candidates)
    found, _ = logs(
        model,
        encode,
        FORMATS[name]["bare"],
        shown(there, draw, "right")[:shots],
        there,
        tested,
    )
    tokens = torch.tensor([len(encode(f" {label}")) for label in candidates])
    letters = torch.tensor([len(label) for label in candidates])
    wanted = [label for _, label in tested]
    return {
        "shots": shots,
        "draw": draw,
        "long": len(long),
        "sum": digits(found, there, wanted),
        "mean of tokens": digits(found / tokens, there, wanted),
        "mean of characters": digits(found / letters, there, wanted),
    }


# --- Controls ----------------------------------------------------------------------


def untrained(name: str, seed: int) -> dict:
    """Eight shots for the same network with random weights."""
    model, encode = reader()
    torch.manual_seed(seed)
    fresh = type(model)(model.config).eval()
    there = task(name, encode)
    return condition(fresh, encode, there, "bare", "right", MOST, 0)


@torch.no_grad()
def induction_scores() -> list[list[float]]:
    """Of each layer's heads: the weight on the token after an earlier copy."""
    model, _ = reader()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.arange(1000, 40_000)  # no special token among them
    ids = measures.repeated(tokens, generator=generator, **RANDOM_TOKENS)  # (B, 2P)
    with heads.reading_attention(model) as maps:
        model(ids, logits_to_keep=1)
    wanted = measures.after_same(ids)[:, None]  # (B, 1, 2P, 2P)
    shares = [measures.share(m, wanted.expand_as(m)).mean(0) for m in maps.values()]
    return [[round(x, 4) for x in layer.tolist()] for layer in shares]


def highest(scores: list[list[float]], n: int) -> list[tuple[int, int]]:
    """The n heads of highest score, as (layer, head)."""
    every = [(s, i, h) for i, layer in enumerate(scores) for h, s in enumerate(layer)]
    return [(i, h) for _, i, h in sorted(every, reverse=True)[:n]]


def others(chosen: Sequence[tuple[int, int]], heads: int, seed: int) -> list:
    """As many heads of the same layers, none of the chosen, drawn at random."""
    luck, found = random.Random(seed), []
    for layer in sorted({layer for layer, _ in chosen}):
        own = [h for i, h in chosen if i == layer]
        free = [h for h in range(heads) if h not in own]
        found += [(layer, h) for h in luck.sample(free, min(len(own), len(free)))]
    return found


def ablated(name: str, draw: int, form: str, shots: int) -> dict[str, Any]:
    """What is right when groups of heads give their mean over items without examples."""
    model, encode = reader()
    there = task(name, encode)
    chosen = highest(induction_scores(), INDUCTION)
    count = model.config.num_attention_heads
    sets = {"none": [], "induction": chosen}
    sets |= {f"others {s}": others(chosen, count, s) for s in range(CONTROLS)}
    means = head_means(model, encode, FORMATS[name][form], there)
    found = {"shots": shots, "draw": draw, "format": form}
    for kind, group in sets.items():
        edits = {(i, h): hooks.to(means[i][h]) for i, h in group}
        with heads.replacing_heads(model, edits) if edits else nullcontext():
            result = condition(model, encode, there, form, "right", shots, draw)
        found[kind] = result["right"]
    return found


@torch.no_grad()
def head_means(model, encode, template, task) -> dict[int, Tensor]:
    """Layer -> (H, d): what each head mixes, over the tested items alone."""
    total, count = {}, 0
    for text, _ in task.tested[::4]:
        ids = torch.tensor([encode(prompts.question(template, text))])  # (1, T)
        with heads.reading_heads(model) as mixes:
            model(ids, logits_to_keep=1)
        for i, mix in mixes.items():  # (1, T, H, d); the first token is a rest position
            total[i] = total.get(i, 0) + mix[0, 1:].sum(0)
        count += ids.shape[1] - 1
    return {i: x / count for i, x in total.items()}


# --- The study ---------------------------------------------------------------------


def reader() -> tuple[Any, Any]:
    if not READER:
        found = smollm2()
        READER.append((found.model.eval(), found.tokenizer.encode))
    return READER[0]


READER: list = []


def parts() -> Iterator[tuple[Any, tuple]]:
    """Every part of the study; the first draws of everything come before the others."""
    yield induction_scores, ()
    others = ("named", "described")
    yield from grids(["bare"], 0)
    yield from grids(["bare"], 1)
    yield from [(ablated, (name, 0, "bare", shots)) for name, shots in ABLATED.items()]
    yield from grids(others, 0)
    for name in ("antonyms", "past tense"):
        yield from [(ablated, (name, 0, f, 0)) for f in others]
        yield from [(norms, (name, shots, 0)) for shots in (0, 1, 4)]
    yield from grids(["bare"], 2)
    for first in range(0, MANY, 10):
        yield draws, (first, min(first + 10, MANY), MANY_TESTED)
    yield from [(untrained, (name, seed)) for seed in SEEDS for name in TASKS]
    yield from [(ablated, (name, 1, "bare", shots)) for name, shots in ABLATED.items()]
    yield from grids(others, 1)
    for draw in range(DRAWS["bare"], DRAWS["bare, right"]):
        yield from grids(["bare"], draw)
        yield from [(wrong, (name, draw)) for name in TASKS]
    for draw in range(2, ABLATED_DRAWS):
        for name, shots in ABLATED.items():
            yield ablated, (name, draw, "bare", shots)


def grids(forms: Sequence[str], draw: int) -> Iterator[tuple[Any, tuple]]:
    for form in forms:
        yield from ((grid, (t, form, draw)) for t in TASKS if [*planned(form, draw)])


def study(folder: Path) -> dict:
    """Run what is missing; the trace by part."""
    trace = {"grid": {name: [] for name in TASKS}, "draws": [], "norms": {}}
    trace |= {"untrained": {name: [] for name in TASKS}, "ablated": {}}
    minutes = 0.0
    for job, what in tqdm(list(parts()), desc="parts"):
        plan = [*planned(*what[1:])] if job is grid else []
        key = training.digest([job.__name__, *what, plan, SETTINGS])
        part = training.kept(folder, key, lambda job=job, what=what: timed(job, what))
        minutes += part["minutes"]
        found, name = part["found"], what[0] if what else ""
        if job is induction_scores:
            trace["induction"] = found
        elif job in (grid, wrong):
            trace["grid"][name] += found
        elif job is draws:
            trace["draws"] += found
        else:
            trace[job.__name__].setdefault(name, []).append(found)
    trace["cpu minutes"] = round(minutes, 1)
    return trace


def timed(job, what) -> dict:
    start = time.process_time()
    found = job(*what)
    return {"found": found, "minutes": (time.process_time() - start) / 60}


SETTINGS = {
    "model": "SmolLM2-135M-Instruct",
    "tested": TESTED,
    "orders": [ORDERS, ORDERED],
    "norm items": NORM_ITEMS,
    "heads": [INDUCTION, CONTROLS, RANDOM_TOKENS],
}
# How much of it: a part that is finished stays, whatever is added.
CONFIG = SETTINGS | {"draws": DRAWS, "many": [MANY, MANY_TESTED], "seeds": len(SEEDS)}
CONFIG |= {"ablated": ABLATED, "ablated draws": ABLATED_DRAWS}


def _mean(texts: Sequence[str]) -> float:
    return sum(text.count("1") / len(text) for text in texts) / len(texts)


def main() -> None:
    trace = study(training.arguments(__doc__, NAME).folder)
    metrics = {"cpu_minutes": trace["cpu minutes"]}
    for name, found in trace["grid"].items():
        metrics[name] = {
            f"{form}, {shots} shots": _mean(
                [
                    c["right"]
                    for c in found
                    if (c["format"], c["labels"], c["shots"], c["order"])
                    == (form, "right", shots, 0)
                ]
            )
            for form in FORMATS[name]
            for shots in SHOTS
        }
    card = {
        "config": CONFIG,
        "data": {
            "name": "antonyms; past tense; sentiment; topic",
            "source": "written for this book",
            "licence": "CC BY 4.0",
            "split": "tested items apart from those that demonstrations are drawn from",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.in_context",
        "metrics": metrics,
        "licence": "MIT",
    }
    weights.save(NAME, card, trace=trace)


if __name__ == "__main__":
    main()
