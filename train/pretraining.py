"""A small GPT on tiny Shakespeare, character by character: `language/pretraining`.

    python -m train.pretraining                  # nine runs, about five hours on one core
    python -m train.pretraining --only long-0    # one of them
    torchrun --nproc-per-node=2 -m train.pretraining --only long-0   # on two cores
    python -m train.pretraining --only long-0 --choose   # to choose a recipe, see below

The text is cut as nanoGPT cuts it: the first 90 % to train, the rest to validate. A run
reads the validation split once, whole, when it is finished. Recipes were chosen with
`--choose`: then the last tenth of the *training* text is judged in its place, and
nothing is shipped. A fiftieth of the training text is watched while a run goes on, and
never trained on.

Three recipes, three seeds each: `long` has 90 CPU-minutes, `five` ten, `three` six,
which is what two cores have in forty-five, five and three minutes. With `--choose` `long`
was compared at 3,600 steps: dropout .2 and Muon's decay .1 had 1.424 nats, decay .3 1.434;
dropout .3 and decay .1 stood at 1.462 after 3,200, where decay .3 had 1.442. At an equal loss on the text that it was trained on
decay .3 was the best of the three, so it is given a third more steps. The trace keeps each run:
its curve, what the model writes as it learns, its losses, its time. The weights of
`long-0`, the first and not the best, are shipped in float16, and it is these that its
losses are of.

A killed run goes on where it was. A finished run is a file under `--folder` and a part
of the shipped trace, so a later command adds what is missing and repeats nothing.
"""

import time
from collections.abc import Callable
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import decoding, runtime, training, weights
from lib.data.shakespeare import tiny_shakespeare
from lib.models.language import LanguageModel
from lib.models.pretraining import language_model
from lib.optimisers import Muon, muon

NAME = "pretraining"
LENGTH = 256  # characters of a text in training, and of the context in judging
STRIDE = 128  # of the sliding window
SHIPPED = "long-0"
RATES = {"rate": 0.015, "decay": 0.1, "adamw_rate": 3e-3, "adamw_decay": 0.05}
EMA, WARM_UP = 0.998, 0.02
LOOK = 100  # steps between two looks at the watched text, each with a text written
WRITTEN = 120  # characters of such a text
RECIPES = {
    "long": {
        "model": {"d_model": 160, "num_heads": 5, "layers": 5},
        "dropout": {"dropout": 0.2, "embedding_dropout": 0.1},
        "batch": 12,
        "steps": 4_800,
        "rates": RATES | {"decay": 0.3},
    },
    "five": {
        "model": {"d_model": 160, "num_heads": 5, "layers": 5},
        "dropout": {"dropout": 0.05, "embedding_dropout": 0.05},
        "batch": 8,
        "steps": 2_600,
        "rates": RATES,
    },
    "three": {
        "model": {"d_model": 160, "num_heads": 5, "layers": 4},
        "dropout": {"dropout": 0.0, "embedding_dropout": 0.05},
        "batch": 8,
        "steps": 1_900,
        "rates": RATES,
    },
}
RUNS = [f"{recipe}-{seed}" for seed in range(3) for recipe in RECIPES]


def encode(text: str) -> tuple[str, Tensor]:
    """The characters that occur, sorted, and the text as ids (N,)."""
    vocabulary = "".join(sorted(set(text)))
    number = {character: i for i, character in enumerate(vocabulary)}
    return vocabulary, torch.tensor([number[character] for character in text])


def split(ids: Tensor, choose: bool) -> dict[str, Tensor]:
    """The parts of a text (N,): "train", "watched", "judged", in the text's order.

    What is judged is the last tenth; with `choose` it is the last tenth of the others,
    and the validation split is not looked at. Watched is the fiftieth before it.
    """
    rest, judged = _last(ids, 10)
    if choose:
        rest, judged = _last(rest, 10)
    train, watched = _last(rest, 50)
    return {"train": train, "watched": watched, "judged": judged}


def _last(ids: Tensor, share: int) -> tuple[Tensor, Tensor]:
    first = len(ids) * (share - 1) // share
    return ids[:first], ids[first:]


def batches(ids: Tensor, size: int, seed: int) -> Callable:
    """`batch(step, …)` for `training.fit`: so many texts (B, T + 1), neighbours cut apart.

    A pass over the text reads each character once: it is cut into texts from a random
    place on, which come in a random order. The next pass cuts elsewhere.
    """
    steps = (len(ids) - LENGTH - 1) // LENGTH // size  # of one pass
    if steps < 1:
        raise ValueError(
            f"ids: got {len(ids)} characters, wants {(size + 1) * LENGTH + 1} at least"
        )

    def batch(step: int, generator: torch.Generator) -> tuple[Tensor]:
        passes, done = divmod(step, steps)
        mine = torch.Generator().manual_seed(1000 * seed + passes)
        offset = torch.randint(LENGTH, (), generator=mine)
        order = torch.randperm(steps * size, generator=mine)  # all texts of the pass
        starts = order[done * size : (done + 1) * size] * LENGTH + offset  # (B,)
        return (ids[starts[:, None] + torch.arange(LENGTH + 1)],)

    return batch


def fast_bfloat16(runs: int = 5) -> bool:
    """Whether this processor multiplies bfloat16 at least 1.5 times as fast as float32."""
    seconds = {torch.float32: [], torch.bfloat16: []}
    for _ in range(runs):
        for dtype, found in seconds.items():
            x = torch.ones(512, 512, dtype=dtype)
            began = time.process_time()
            for _ in range(4):
                x @ x
            found.append(time.process_time() - began)
    return min(seconds[torch.float32]) > 1.5 * min(seconds[torch.bfloat16])


def loss(model, texts: Tensor, half: bool) -> Tensor:
    """Mean cross-entropy (nats) of each character but the first of texts (B, T + 1)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(texts[:, :-1])  # (B, T, V)
    return F.cross_entropy(logits.float().flatten(0, 1), texts[:, 1:].flatten())


class MuonInHalf(Muon):
    """`Muon` with its matrix products in bfloat16, as on a GPU."""

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            super().step()


def optimisers(model, readout, rates: dict, half: bool) -> list:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    first, second = muon(model, readout, **rates)
    if half:
        rates = {"lr": rates["rate"], "weight_decay": rates["decay"]}
        first = MuonInHalf(first.param_groups[0]["params"], **rates)
    return [first, second]


@torch.no_grad()
def judge(model: LanguageModel, ids: Tensor, stride: int = LENGTH) -> float:
    """Nats a character, over every character of `ids` (N,) but the first.

    Each is predicted once. With a stride of `LENGTH` the text is read in blocks, and a
    guess reads 1 to 256 characters, as in a random batch: nanoGPT's measure. With a
    smaller one a window slides: all but those of the first window read more than
    `LENGTH − stride`.
    """
    last = len(ids) - 1
    windows = []
    for first in range(0, last, stride):  # the targets first + 1 … end
        end = min(first + stride, last)
        windows.append((min(max(0, first + stride - LENGTH), first), first, end))
    total = 0.0
    for (context, new), some in groupby(windows, lambda w: (w[1] - w[0], w[2] - w[1])):
        starts = torch.tensor([begin for begin, _, _ in some])
        for part in starts.split(32):
            texts = ids[part[:, None] + torch.arange(context + new + 1)]
            logits = model(texts[:, :-1])[:, context:].float()  # (B, new, V)
            targets = texts[:, context + 1 :]  # (B, new)
            losses = F.cross_entropy(logits.mT, targets, reduction="sum")
            total += losses.double().item()
    return total / last


def write(model: LanguageModel, vocabulary: str, start: str = "\n") -> str:
    """A text of the model's, drawn from the same random numbers each time."""
    prompt = torch.tensor([[vocabulary.index(start)]])
    drawn = torch.Generator().manual_seed(0)
    ids = decoding.sample(decoding.cached(model), prompt, WRITTEN, generator=drawn)
    return "".join(vocabulary[i] for i in ids[0, 1:].tolist())


def train(name: str, vocabulary: str, parts: dict, half: bool, folder):
    """One run: the model, in evaluation mode, and its trace."""
    kind, seed = name.split("-")
    recipe, seed = RECIPES[kind], int(seed)
    torch.manual_seed(seed)
    model = language_model(len(vocabulary), **recipe["model"], **recipe["dropout"])
    seen = parts["train"][: len(parts["watched"])]

    def look(average: LanguageModel) -> dict:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = {"watched": judge(average, parts["watched"])}
            found["seen"] = judge(average, seen)
        found = {key: round(value, 4) for key, value in found.items()}
        return found | {"text": write(average, vocabulary)}

    trace = training.fit(
        model,
        batches(parts["train"], recipe["batch"], seed),
        lambda model, texts: loss(model, texts, half),
        recipe["steps"],
        optimisers(model, model.readout, recipe["rates"], half),
        seed=seed,
        warm_up=int(WARM_UP * recipe["steps"]),
        ema=EMA,
        evaluate=look,
        every=max(recipe["steps"] // 200, 1),
        evaluate_every=LOOK,
        folder=folder,
        config=[recipe, half],
    )
    return model, trace


def record(name: str, model, trace: dict, parts: dict, half: bool) -> dict:
    """What is kept of a finished run. The judged text is read here, and only here.

    The weights are rounded to float16 first, as they are shipped, and are judged in
    float32.
    """
    model.load_state_dict({k: v.half() for k, v in model.state_dict().items()})
    judged = parts["judged"]
    return {
        "name": name,
        "recipe": recipe_of(name),
        "parameters": sum(p.numel() for p in model.parameters()),
        "curve": {key: trace[key] for key in ("step", "loss", "rate")},
        "looks": trace["evaluations"],
        "judged": {
            "characters": len(judged) - 1,
            "blocks": round(judge(model, judged), 4),
            "sliding": round(judge(model, judged, STRIDE), 4),
        },
        "cpu_minutes": round(trace["cpu_seconds"] / 60, 1),
        "minutes": round(trace["seconds"] / 60, 1),
        "processes": training.processes()[1],
        "threads": torch.get_num_threads(),
        "bfloat16": half,
        "processor": runtime.processor(),
    }


def recipe_of(name: str) -> dict:
    """All that makes a run what it is, but its seed."""
    more = {"ema": EMA, "warm_up": WARM_UP, "length": LENGTH}
    return RECIPES[name.split("-")[0]] | more


def shipped(name: str) -> dict:
    """The finished runs of the shipped trace whose recipes are still those above."""
    if name not in weights.names():
        return {}
    runs = weights.trace(name)["runs"]
    return {key: run for key, run in runs.items() if run["recipe"] == recipe_of(key)}


def main(argv: list[str] | None = None) -> None:
    options = [
        ("--only", RUNS, "one run"),
        ("--choose", None, "judge a part of the training text, ship nothing"),
        (
            "--embedded",
            None,
            "train on the book's own prose where nothing else answers",
        ),
    ]
    options = [
        (flag, {"help": text} | ({"choices": of} if of else {"action": "store_true"}))
        for flag, of, text in options
    ]
    given = training.arguments(__doc__, NAME, *options, argv=argv)
    corpus = tiny_shakespeare()
    print(corpus, flush=True)
    if not (corpus.is_full or given.embedded):
        print("nothing is trained: give --embedded to train on this text")
        return
    vocabulary, ids = encode(corpus.rows[0]["content"])
    parts = split(ids, given.choose)
    rank, _ = training.processes()
    half = fast_bfloat16()
    target = NAME if corpus.is_full else f"{NAME}-embedded"
    for name in [given.only] if given.only else RUNS:
        setting = [corpus.is_full, given.choose, recipe_of(name)]
        folder = given.folder / f"{name}-{training.digest(setting)}"
        if name in shipped(target) and not given.choose:
            continue

        def job(name=name, folder=folder) -> dict:
            model, trace = train(name, vocabulary, parts, half, folder)
            state = {key: value.half() for key, value in model.state_dict().items()}
            return {"record": record(name, model, trace, parts, half), "state": state}

        # Every process keeps its own copy: all of them know what is finished.
        done = training.kept(folder / f"process {rank}", "finished", job)
        run = done["record"]
        print(name, run["judged"], run["cpu_minutes"], "CPU-minutes", flush=True)
        if rank == 0 and not given.choose:
            print(ship(target, corpus, vocabulary, done))


def ship(target: str, corpus, vocabulary: str, done: dict):
    """Add a finished run to the checkpoint, and the weights if they are `SHIPPED`'s."""
    run, runs = done["record"], shipped(target)
    tensors = weights.tensors(target) if SHIPPED in runs else None
    runs |= {run["name"]: run}
    runs = {name: runs[name] for name in RUNS if name in runs}
    if run["name"] == SHIPPED:
        tensors = done["state"]
    found = {name: run["judged"]["blocks"] for name, run in runs.items()}
    card = {
        "config": {
            "model": RECIPES[SHIPPED.split("-")[0]]["model"],
            "vocabulary": vocabulary,
            "length": LENGTH,
            "shipped": SHIPPED,
            "recipes": {name: recipe_of(name) for name in RECIPES},
        },
        "data": {
            "name": corpus.name,
            "source": corpus.source,
            "licence": corpus.licence,
            "is_full": corpus.is_full,
            "split": "the last tenth validates, as nanoGPT's; of the rest the last "
            "fiftieth is watched",
        },
        "command": f"python -m train.{NAME}",
        "metrics": {
            "validation, nats a character, in blocks of 256": found,
            "CPU-minutes": {name: run["cpu_minutes"] for name, run in runs.items()},
        },
        "licence": f"MIT for the weights; trained on {corpus.name}, {corpus.licence}",
    }
    return weights.save(target, card, tensors, {"runs": runs})


if __name__ == "__main__":
    main()
