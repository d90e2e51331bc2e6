"""A TopK sparse autoencoder on a layer of SmolLM2: the record of `vision/probing`.

    python -m train.sae            # everything, about 45 minutes on one core

**Text**: tiny Shakespeare (public domain), cut as the field cuts it: the first 90 % to
train, the rest to test. Another text, the book's own prose (CC BY 4.0), is tested only.
Pieces of 128 tokens; the first place of each is left out, since the model rests its
attention there and the state is about two hundred times as long as the others. Where the
file cannot be reached nothing is trained, unless `--embedded` asks for the book's prose.

**States**: what layer 11 of 30 puts out (width 576), in float16, kept in parts under the
user's cache, ``glass-box/sae-states-…``: 0.4 GB, which you may remove.

**Runs**: three seeds, 4,096 features, 32 of them on, batches of 1,024 states. Settings
were fixed before the first run. Seed 0 is shipped in float16: 9.4 MB.

**Judged**, on test pieces: the share of variance that is left, and the loss of the whole
model with the layer's states rebuilt, in each piece, for 8, 32 and 128 entries: by the
autoencoder (it was trained with 32), by the same before training, by the first main
components, by each state's largest components, and by each state's largest directions of
an orthonormal set drawn by lot. How much two seeds share. **Units**: 24 features and 24
neurons of the same layer drawn by lot among those that are on neither often nor hardly
ever, each with its top places and places by lot.

Every finished part is a file, and a killed command goes on where it was.

**Plan**, from short runs on one core: a step takes 0.33 s, 1,500 of three seeds 25 minutes;
a state 1.8 ms, 0.34 million of them 10 minutes; a token through the whole model 5.7 ms, 19
codes on 36 pieces 9 minutes; the lists one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pooch
import torch
from torch import Tensor

from lib import training, weights
from lib.data.origin import EMBEDDED
from lib.data.shakespeare import tiny_shakespeare
from lib.lens import hooks, sae
from lib.lens.sae import TopK
from lib.pretrained.smollm2 import smollm2

NAME = "sae"
LAYER = 11
T = 128  # tokens of a piece
PART = 64  # pieces of a file of states
FEATURES, K = 4096, 32
RUN = {"batch": 1024, "steps": 1500, "rate": 5e-4, "warm_up": 100}
SEEDS = range(3)
LOOK, LOOKED_AT = 250, 4096  # steps between two looks, at so many states
TESTED = {"shakespeare": 24, "prose": 12}  # pieces whose loss is taken
ENTRIES = (8, 32, 128)
UNITS, TOP, LOTS = 24, 8, 4
READ = 100  # test pieces in which their places lie
OFTEN = (5e-4, 0.05)  # share of places where a unit of the lists is on
AROUND = 12  # tokens on each side of a place that is shown


# --- Texts and states --------------------------------------------------------------


def pieces(encode: Callable[[str], list[int]], text: str) -> Tensor:
    """A text's tokens in pieces, (n, T), the rest left out.

    Raises ValueError for a text that is shorter than one piece.
    """
    ids = torch.tensor(encode(text))
    if len(ids) < T:
        raise ValueError(f"text: got {len(ids)} tokens, wants at least {T}")
    return ids[: len(ids) // T * T].view(-1, T)


def texts(corpus, encode) -> dict[str, Tensor]:
    """The pieces by what they are for: "train", "shakespeare" and "prose"."""
    text = corpus.rows[0]["content"]
    prose = (EMBEDDED / "prose.txt").read_text(encoding="utf-8")
    split = len(text) * 9 // 10
    parts = {"train": text[:split], "shakespeare": text[split:], "prose": prose}
    if not corpus.is_full:  # the text is the prose itself: no piece on both sides
        parts["prose"] = text[split:]
    return {name: pieces(encode, part) for name, part in parts.items()}


@torch.no_grad()
def states_of(model, ids: Tensor) -> Tensor:
    """What the layer puts out for pieces (n, T), without the first place: (n, T − 1, D).

    The layers after it are not run.
    """
    with (
        stopping_after(model, LAYER) as short,
        hooks.reading(short, rf"layers\.{LAYER}") as found,
    ):
        short(ids, use_cache=False)
    return found[f"layers.{LAYER}"][:, 1:].half()


@contextmanager
def stopping_after(model, layer: int) -> Iterator:
    """The model's body without the layers after one, for the length of a `with`."""
    body, layers = model.model, model.model.layers
    body.layers = layers[: layer + 1]
    try:
        yield body
    finally:
        body.layers = layers


def cached(ids: Tensor, source: str) -> Path:
    """Where the states of these pieces lie, of weights that come from `source`."""
    key = training.digest([source, LAYER, T, PART, ids.tolist()])
    return Path(pooch.os_cache("glass-box")) / f"sae-states-{key}"


def states(found, ids: Tensor, folder: Path) -> tuple[Tensor, float]:
    """All states of the pieces, (N, D) in float16, and the CPU minutes they took."""
    model, parts, minutes = found.model.eval(), [], 0.0
    for i, some in enumerate(ids.split(PART)):
        one = training.kept(folder, f"part-{i}", timed(states_of, model, some))
        minutes += one["minutes"]
        parts.append(one["found"].flatten(0, 1))
    return torch.cat(parts), minutes


# --- Training ----------------------------------------------------------------------


def fresh(train: Tensor, seed: int) -> TopK:
    """An autoencoder before its training, set to the mean and size of the states."""
    some = train[:: max(1, len(train) // 20_000)].float()
    centre = some.mean(0)
    scale = (some - centre).square().sum(1).mean().sqrt().item()
    torch.manual_seed(seed)
    return TopK(train.shape[1], FEATURES, K, scale, centre)


def trained(train: Tensor, test: Tensor, seed: int, folder: Path) -> dict[str, Any]:
    """One run: its trace, with looks at test states, and its tensors in float16."""
    model = fresh(train, seed)
    looked = test[:LOOKED_AT].float()
    variance = model.scale.item() ** 2

    def batch(step: int, generator: torch.Generator) -> tuple[Tensor]:
        at = torch.randint(len(train), (RUN["batch"],), generator=generator)
        return (train[at].float(),)

    def loss(model, x: Tensor) -> Tensor:
        return (model(x) - x).square().sum(-1).mean() / variance

    def look(model) -> dict[str, float]:
        values, on = model.encode(looked)
        left = sae.unexplained(looked, model.decode(values, on), model.centre)
        used = on[values > 0].unique().numel()
        return {"unexplained": round(left.item(), 4), "never on": FEATURES - used}

    trace = training.fit(
        model,
        batch,
        loss,
        RUN["steps"],
        [torch.optim.Adam(model.parameters(), RUN["rate"])],
        seed=seed,
        warm_up=RUN["warm_up"],
        evaluate=look,
        evaluate_every=LOOK,
        folder=folder,
        config=[LAYER, T, FEATURES, K, RUN],
    )
    return {"trace": trace, "state": {k: v.half() for k, v in whole(model).items()}}


def whole(model: TopK) -> dict[str, Tensor]:
    """The tensors of an autoencoder, its directions at length one."""
    state = dict(model.state_dict())
    state["directions"] = torch.nn.functional.normalize(state["directions"], dim=1)
    return state


def opened(state: dict[str, Tensor]) -> TopK:
    """The autoencoder of tensors that `trained` gave, or that the checkpoint holds."""
    state = {name: value.float() for name, value in state.items()}
    model = TopK(state["directions"].shape[1], len(state["directions"]), K)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


# --- Judging -----------------------------------------------------------------------


def codes(train: Tensor, models: dict[str, TopK]) -> dict[str, Callable]:
    """Name -> k -> how it rebuilds states; each with k entries for a state."""
    centre, rows = sae.components(train[:: max(1, len(train) // 40_000)].float())
    lot = sae.by_lot(train.shape[1])
    found = {
        "first components": lambda k: sae.first(centre, rows, k),
        "largest components": lambda k: sae.largest(centre, rows, k),
        "directions by lot": lambda k: sae.largest(centre, lot, k),
        "mean": lambda k: lambda x: centre.expand_as(x),
        "whole": lambda k: None,
    }
    for name, model in models.items():
        found[name] = lambda k, model=model: lambda x: model(x, k)
    return found


def planned() -> list[tuple[str, int]]:
    """The (code, entries) whose losses are taken; other seeds with K entries alone."""
    several = ("autoencoder 0", "untrained", "first components")
    several += ("largest components", "directions by lot")
    found = [("whole", 0), ("mean", 0)]
    found += [(name, k) for name in several for k in ENTRIES]
    return found + [(f"autoencoder {seed}", K) for seed in SEEDS if seed]


def losses(model, ids: Tensor, rebuild) -> list[float]:
    layer = rf"model\.layers\.{LAYER}"
    found = [sae.spliced_loss(model, layer, some, rebuild) for some in ids.split(4)]
    return [round(x, 4) for x in torch.cat(found).tolist()]


def remaining(code: dict[str, Callable], x: Tensor) -> dict[str, dict[str, float]]:
    """The share of the variance of states (N, D) that each planned code leaves."""
    found, centre = {}, code["mean"](0)(x)[0]
    for name, k in planned()[2:]:
        share = sae.unexplained(x, code[name](k)(x), centre)
        found.setdefault(name, {})[str(k)] = round(share.item(), 4)
    return found


def shared(one: TopK, other: TopK) -> dict[str, float]:
    """The largest cosine of each direction with one of the other's: its spread."""
    rows = [torch.nn.functional.normalize(m.directions, dim=1) for m in (one, other)]
    most = (rows[0] @ rows[1].mT).amax(1)  # (M,)
    return {
        "median": round(most.median().item(), 4),
        "above .7": round((most > 0.7).double().mean().item(), 4),
    }


def units(model, autoencoder: TopK, ids: Tensor, decode: Callable) -> dict[str, list]:
    """Features and neurons drawn by lot, each with places of the test pieces."""
    down = rf"layers\.{LAYER}\.mlp\.down_proj"
    features, neurons = [], []
    with torch.no_grad(), stopping_after(model, LAYER) as short:
        for some in ids[:READ].split(16):
            with (
                hooks.reading(short, rf"layers\.{LAYER}") as out,
                hooks.reading_inputs(short, down) as mlp,
            ):
                short(some, use_cache=False)
            x = next(iter(out.values()))[:, 1:].flatten(0, 1)  # (n, D)
            values, on = autoencoder.encode(x)
            features.append(torch.zeros(len(x), FEATURES).scatter_(1, on, values))
            neurons.append(next(iter(mlp.values()))[:, 1:].flatten(0, 1))
    every = {"features": torch.cat(features), "neurons": torch.cat(neurons)}
    return {name: listed(x, ids, decode) for name, x in every.items()}


def listed(x: Tensor, ids: Tensor, decode: Callable) -> list[dict]:
    """Units (N, M) drawn by lot: where each is largest, and places by lot where it is on.

    A neuron counts as on where it is above a tenth of its own largest value.
    """
    on = x > 0.1 * x.amax(0)  # (N, M)
    often = on.double().mean(0)  # (M,)
    able = ((often >= OFTEN[0]) & (often <= OFTEN[1])).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(0)
    drawn = able[torch.randperm(len(able), generator=generator)[:UNITS]]
    found = []
    for unit in drawn.tolist():
        top = x[:, unit].topk(min(TOP, len(x))).indices.tolist()
        places = on[:, unit].nonzero()[:, 0]
        lot = places[torch.randperm(len(places), generator=generator)[:LOTS]].tolist()
        found.append(
            {
                "unit": unit,
                "on": round(often[unit].item(), 5),
                "top": [shown(p, x[p, unit], ids, decode) for p in top],
                "by lot": [shown(p, x[p, unit], ids, decode) for p in lot],
            }
        )
    return found


def shown(place: int, value: Tensor, ids: Tensor, decode: Callable) -> list:
    """The value at a place, and the text before it, at it and after it."""
    piece, at = divmod(place, T - 1)
    row, at = ids[piece].tolist(), at + 1  # the first place has no state
    around = (row[max(0, at - AROUND) : at], [row[at]], row[at + 1 : at + 1 + AROUND])
    return [round(value.item(), 3), *(decode(part) for part in around)]


# --- The study ---------------------------------------------------------------------


def timed(job: Callable, *what) -> Callable[[], dict]:
    def run() -> dict:
        start = time.process_time()
        found = job(*what)
        return {"found": found, "minutes": (time.process_time() - start) / 60}

    return run


def study(found, corpus, folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Run what is missing; the trace, and the tensors of seed 0."""
    encode, model = found.tokenizer.encode, found.model.eval()
    parts = texts(corpus, encode)
    minutes, x = {"states": 0.0, "runs": 0.0, "judged": 0.0}, {}
    for name in ("train", "shakespeare"):
        x[name], took = states(found, parts[name], cached(parts[name], found.source))
        minutes["states"] += took
    folder = folder / training.digest([CONFIG, corpus.is_full, found.source])
    runs = {}
    for seed in SEEDS:
        job = timed(trained, x["train"], x["shakespeare"], seed, folder / f"{seed}")
        runs[seed] = training.kept(folder, f"run-{seed}", job)
        minutes["runs"] += runs[seed]["found"]["trace"]["cpu_seconds"] / 60
    models = {
        f"autoencoder {s}": opened(run["found"]["state"]) for s, run in runs.items()
    }
    models["untrained"] = fresh(x["train"], 0).requires_grad_(False)
    code, judged = codes(x["train"], models), {}
    for name, k in planned():
        for text, count in TESTED.items():
            job = timed(losses, model, parts[text][:count], code[name](k))
            one = training.kept(folder, f"losses-{text}-{name}-{k}", job)
            judged.setdefault(text, {}).setdefault(name, {})[str(k)] = one["found"]
            minutes["judged"] += one["minutes"]
    seen = x["shakespeare"][:LOOKED_AT].float()
    left = training.kept(folder, "left", lambda: remaining(code, seen))
    first = models["autoencoder 0"]
    job = timed(units, model, first, parts["shakespeare"], found.tokenizer.decode)
    lists = training.kept(folder, "units", job)
    minutes["judged"] += lists["minutes"]
    trace = {
        "runs": {str(seed): run["found"]["trace"] for seed, run in runs.items()},
        "losses": judged,
        "unexplained": left,
        "shared": {
            f"0 and {seed}": shared(first, models[f"autoencoder {seed}"])
            for seed in SEEDS
            if seed
        }
        | {"0 and untrained": shared(first, models["untrained"])},
        "units": lists["found"],
        "states": {name: len(one) for name, one in x.items()},
        "cpu minutes": {name: round(value, 1) for name, value in minutes.items()},
    }
    return trace, runs[0]["found"]["state"]


CONFIG = {
    "layer": LAYER,
    "tokens": T,
    "model": {"width": 576, "features": FEATURES, "k": K},
    "run": RUN,
    "seeds": len(SEEDS),
    "tested": TESTED,
    "entries": ENTRIES,
    "units": [UNITS, TOP, LOTS, OFTEN, READ],
}


def main(argv: list[str] | None = None) -> None:
    plain = {"action": "store_true", "help": "train on the book's own prose"}
    given = training.arguments(__doc__, NAME, ("--embedded", plain), argv=argv)
    corpus = tiny_shakespeare()
    print(corpus, flush=True)
    if not (corpus.is_full or given.embedded):
        print("nothing is trained: give --embedded to train on this text")
        return
    found = smollm2()
    trace, state = study(found, corpus, given.folder)
    whole, mean = (
        torch.tensor(trace["losses"]["shakespeare"][name]["0"])
        for name in ("whole", "mean")
    )
    metrics = {
        f"loss recovered, {name}, {k}": round(
            sae.recovered(torch.tensor(one), whole, mean).item(), 4
        )
        for name, k in planned()[2:]
        for one in [trace["losses"]["shakespeare"][name][str(k)]]
    }
    metrics |= {"unexplained": trace["unexplained"]["autoencoder 0"][str(K)]}
    card = {
        "config": CONFIG,
        "data": {
            "name": "states of SmolLM2-135M-Instruct, the output of a layer",
            "weights": f"{found.source} · {found.licence}",
            "text": f"{corpus.name}: {corpus.source} · {corpus.licence}",
            "is_full": corpus.is_full,
            "split": "first 90 % to train, the rest to test; the prose is tested only",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.sae",
        "metrics": metrics | {"cpu_minutes": sum(trace["cpu minutes"].values())},
        "licence": "MIT; trained on states of SmolLM2 (Apache-2.0) over "
        + corpus.licence,
    }
    target = NAME if corpus.is_full else f"{NAME}-embedded"
    print(weights.save(target, card, state, trace))


if __name__ == "__main__":
    main()
