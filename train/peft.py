"""Ways to adapt SmolLM2 with few numbers: the record of `adapt/peft`.

    OMP_NUM_THREADS=1 python -m train.peft                # everything, about 55 minutes
    OMP_NUM_THREADS=1 python -m train.peft --only rates   # one part: see below

SmolLM2-135M-Instruct answers questions in sentences; here it learns to answer with one
word (`lib.adapters.answers`: four tasks, 24 items to tune by, 40 to test). A run takes
steps of four items with Adam until the dev items cost `TARGET` nats an answer, looked at
every four steps, or until `MOST` steps; then the test items and the suite of
`lib.forgetting` are read. So all methods are compared where they have gained as much.

    rates     each method at three rates, seed 0, dev loss after 12 steps: the best is
              taken; DoRA and LoRA on 4 bits take that of LoRA on all maps
    methods   each method at its rate, three seeds: the path of (gain, forgetting), the suite
    ranks     LoRA on all maps, ranks 1, 8 and 64: three alphas each, seed 0; then three
              seeds at the best alpha of each rank, and at rank 8's alpha left alone
    kept      LoRA on all maps with prose rehearsed, and with KL to the start on that prose

Minutes on one core: rates 8, methods 30, ranks 8, kept 10. A part needs the ones
above it (`methods` and `kept` the rates, `ranks` those of LoRA); whatever is missing runs
first, and a call without `--only` writes the record once all is there. Every finished run
is a file under `_build/train/peft/`, and a killed command goes on behind the last of them.
It needs the packages of requirements-weights.txt.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import forgetting, training, weights
from lib.adapters import answers
from lib.adapters.adapter import attach, trained
from lib.adapters.bottleneck import Bottleneck
from lib.adapters.fourbit import nf4, quantise
from lib.adapters.lora import DoRA, LoRA
from lib.adapters.prompt import SoftPrompt
from lib.pretrained.smollm2 import smollm2

NAME = "peft"
PARTS = ("rates", "methods", "ranks", "kept")
MAPS = r"model\.layers\.\d+\..*_proj"  # all linear maps of all layers
QV, LAST = MAPS.replace("_proj", "(q|v)_proj"), MAPS.replace("_proj", "(o|down)_proj")
RANK, ALPHA, WIDTH = 8, 16.0, 16
OPENING = "Answer the question below with one word only. Write nothing else at all."
BATCH, WARM_UP, LOOK, MOST, TUNE = 4, 4, 4, 40, 12
TARGET = 2.0  # nats an answer on the dev items, where all methods are compared
DIVERGED = 999.0  # stands for the dev loss of a rate at which training broke
SEEDS = range(3)
RATES = {
    "full": (1e-5, 3e-5, 1e-4),
    "LoRA, q and v": (1e-3, 3e-3, 1e-2),
    "LoRA, all maps": (3e-4, 1e-3, 3e-3),
    "bottleneck": (3e-4, 1e-3, 3e-3),
    "soft prompt": (3e-3, 1e-2, 3e-2),
}
SAME = {  # these take the rate of another method
    "DoRA, all maps": "LoRA, all maps",
    "LoRA on 4 bits": "LoRA, all maps",
}
RANKS, ALPHAS = (1, 8, 64), (4.0, 16.0, 64.0)
KEEPERS = ("rehearsal", "KL")
PIECES, LOOKED, OWN = 9, 3, 64  # prose: pieces to test, at a look, tokens of rehearsal
ONE, OTHER = "LoRA, all maps", 2  # the method of `ranks` and `kept`; prose in a step


# --- Methods -----------------------------------------------------------------------


def adapted(
    method: str, model: nn.Module, encode: Callable, rank=RANK, alpha=ALPHA
) -> nn.Module:
    """The model made ready for a method, in place; what is called from then on."""
    if method == "full":
        return model.requires_grad_(True)
    if method == "soft prompt":
        return SoftPrompt(model, encode(OPENING))
    if method == "bottleneck":
        attach(model, LAST, lambda base: Bottleneck(base, WIDTH))
        return model
    if method == "LoRA on 4 bits":
        quantise(model, MAPS, nf4())
    kind = DoRA if method.startswith("DoRA") else LoRA
    where = QV if "q and v" in method else MAPS
    attach(model, where, lambda base: kind(base, rank, alpha))
    return model


class Bench:
    """The start model, the task and the suite: what all runs share."""

    def __init__(self, found: Any):
        self.found, self.model = found, found.model.eval()
        self.rows = {
            k: answers.rows(self.encode, v) for k, v in answers.split().items()
        }
        self.suite = forgetting.suite(found, PIECES)
        self.look = forgetting.Suite(self.suite.prose[:: PIECES // LOOKED])
        every = forgetting.all_prose(self.encode, OWN)
        self.own = every[: len(every) // 2]  # to rehearse: apart from the tested half

    def encode(self, text: str) -> list[int]:
        return self.found.tokenizer.encode(text, add_special_tokens=False)

    def gain(self, model: Any) -> float:
        nats = answers.score(model, self.rows["dev"])["nats"]
        return sum(nats) / len(nats)

    def forgotten(self, model: Any) -> float:
        return forgetting.summary(forgetting.measured(model, self.look))["prose"]

    def whole(self, model: Any) -> dict[str, Any]:
        """What is read at the end of a run, item by item."""
        return answers.score(model, self.rows["test"]) | forgetting.measured(
            model, self.suite
        )


# --- Runs --------------------------------------------------------------------------


def steps(
    bench: Bench, model: nn.Module, rate: float, seed: int, keeper: str | None = None
) -> Iterator[int]:
    """Train without end, and give the number of steps done after each."""
    optimiser = torch.optim.Adam(trained(model), rate)
    step = 0
    while True:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARM_UP)
        ids, labels = answers.batch(bench.rows["train"], BATCH, seed, step)
        optimiser.zero_grad()
        loss = answers.loss(model, ids, labels)
        if not loss.isfinite():
            raise FloatingPointError(f"step {step}, rate {rate}: the loss is {loss}")
        loss.backward()
        if keeper:
            generator = torch.Generator().manual_seed(seed * 1000 + step)
            at = torch.randint(len(bench.own), (OTHER,), generator=generator)
            keeping(keeper, model, bench.model, bench.own[at]).backward()
        nn.utils.clip_grad_norm_(trained(model), 1.0)
        optimiser.step()
        step += 1
        yield step


def keeping(keeper: str, model: Any, start: Any, ids: Tensor) -> Tensor:
    """What a step adds so that less is forgotten: nats a token on prose (B, T) -> ()."""
    logs = model(ids).logits[:, :-1].log_softmax(-1)  # (B, T − 1, V)
    if keeper == "rehearsal":
        return F.nll_loss(logs.flatten(0, 1), ids[:, 1:].flatten())
    if keeper == "KL":  # of the start model from this one, averaged over places
        with torch.no_grad():
            before = start(ids).logits[:, :-1].log_softmax(-1)  # (B, T − 1, V)
        return (before.exp() * (before - logs)).sum(-1).mean()
    raise ValueError(f"keeper: got {keeper!r}, wants one of {KEEPERS}")


def run(
    bench: Bench,
    method: str,
    rate: float,
    seed: int,
    rank: int = RANK,
    alpha: float = ALPHA,
    keeper: str | None = None,
) -> dict[str, Any]:
    """One run until `TARGET`: its path, sizes and times, and what is read at its end."""
    torch.manual_seed(seed)
    model = adapted(method, copy.deepcopy(bench.model), bench.encode, rank, alpha)
    own = sum(p.numel() for p in trained(model))
    path, seconds, began = [], [], time.process_time()
    path.append([0, bench.gain(model), bench.forgotten(model)])
    last = time.process_time()
    for step in steps(bench, model, rate, seed, keeper):
        seconds.append(time.process_time() - last)
        if step % LOOK == 0:
            path.append([step, bench.gain(model), bench.forgotten(model)])
            if not math.isfinite(sum(path[-1])):
                raise FloatingPointError(f"step {step}, rate {rate}: {path[-1]}")
            if path[-1][1] <= TARGET or step >= MOST:
                break
        last = time.process_time()
    found = {"path": [[s, round(g, 4), round(f, 4)] for s, g, f in path]}
    found |= {"trained": own, "rate": rate, "rank": rank, "alpha": alpha}
    found |= {"step seconds": round(sorted(seconds)[len(seconds) // 2], 3)}
    found |= bench.whole(model)
    return found | {"cpu_seconds": round(time.process_time() - began, 1)}


def short(bench: Bench, method: str, rate: float, seed: int, rank=RANK, alpha=ALPHA):
    """Dev loss after `TUNE` steps: what rates and alphas are chosen by."""
    torch.manual_seed(seed)
    began = time.process_time()
    model = adapted(method, copy.deepcopy(bench.model), bench.encode, rank, alpha)
    try:
        next(step for step in steps(bench, model, rate, seed) if step >= TUNE)
        dev = bench.gain(model)
    except FloatingPointError:
        dev = DIVERGED
    dev = round(dev, 4) if math.isfinite(dev) else DIVERGED
    found = {"dev": dev, "rank": rank, "alpha": alpha}
    return found | {"rate": rate, "cpu_seconds": round(time.process_time() - began, 1)}


# --- The study ---------------------------------------------------------------------


def study(bench: Bench, folder: Path, only: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """Run what is missing of the parts asked for; the trace of all that is there then."""

    def kept(key: str, job: Callable, *what: Any, **more: Any) -> dict[str, Any]:
        print(key, flush=True)
        return training.kept(folder, key, lambda: job(bench, *what, **more))

    trace: dict[str, Any] = {"start": kept("start", lambda b: b.whole(b.model))}
    trace["rates"] = {
        name: {
            str(rate): kept(f"rate-{name}-{rate}", short, name, rate, 0) for rate in own
        }
        for name, own in RATES.items()
        if only != ("ranks",) or name == ONE
    }
    chosen = {
        name: min(RATES[name], key=lambda rate: found[str(rate)]["dev"])
        for name, found in trace["rates"].items()
    }
    trace["chosen"] = chosen
    if "methods" in only:
        trace["methods"] = {}
        for name in (*RATES, *SAME):
            rate = chosen[SAME.get(name, name)]
            trace["methods"][name] = {
                str(seed): kept(f"run-{name}-{seed}", run, name, rate, seed)
                for seed in SEEDS
            }
    if "ranks" in only:
        trace["ranks"] = ranks(kept, chosen[ONE])
    if "kept" in only:
        trace["kept"] = {
            keeper: {
                str(seed): kept(
                    f"kept-{keeper}-{seed}", run, ONE, chosen[ONE], seed, keeper=keeper
                )
                for seed in SEEDS
            }
            for keeper in KEEPERS
        }
    return trace


def ranks(kept: Callable, rate: float) -> dict[str, Any]:
    """Each rank at its best alpha, and at the alpha that is best for `RANK`."""
    found: dict[str, Any] = {"tuning": {}, "tuned": {}, "left alone": {}}

    def one(rank: int, alpha: float, seed: int) -> dict[str, Any]:
        return kept(f"rank-{rank}-{alpha}-{seed}", short, ONE, rate, seed, rank, alpha)

    best = {}
    for rank in RANKS:
        tried = {alpha: one(rank, alpha, 0) for alpha in ALPHAS}
        found["tuning"][str(rank)] = {str(a): x for a, x in tried.items()}
        best[rank] = min(ALPHAS, key=lambda alpha: tried[alpha]["dev"])
    for rank in RANKS:
        for name, alpha in (("tuned", best[rank]), ("left alone", best[RANK])):
            found[name][str(rank)] = [one(rank, alpha, seed) for seed in SEEDS]
    return found


def minutes(found: Any) -> float:
    """CPU minutes of all runs in a trace."""
    if isinstance(found, dict):
        own = found.get("cpu_seconds", 0) / 60
        return own + sum(minutes(x) for k, x in found.items() if k != "cpu_seconds")
    return sum(map(minutes, found)) if isinstance(found, list) else 0.0


CONFIG = {
    "methods": [*RATES, *SAME],
    "rates": {name: list(rates) for name, rates in RATES.items()},
    "rank": [RANK, ALPHA, WIDTH, OPENING],
    "steps": [BATCH, WARM_UP, LOOK, MOST, TUNE],
    "target": TARGET,
    "ranks": [RANKS, ALPHAS],
    "seeds": len(SEEDS),
    "prose": [PIECES, LOOKED, OWN, OTHER],
}


def main(argv: list[str] | None = None) -> None:
    part = {"choices": PARTS, "action": "append", "help": "a part; may be given again"}
    given = training.arguments(__doc__, NAME, ("--only", part), argv=argv)
    found = smollm2()
    folder = given.folder / training.digest([CONFIG, found.source])
    trace = study(Bench(found), folder, tuple(given.only or PARTS))
    if missing := [name for name in PARTS if name not in trace]:
        print(f"kept in {folder}; no record without {', '.join(missing)}")
        return
    metrics = {
        f"{name}: right of {len(one['0']['exact'])}": [
            sum(x["exact"]) for x in one.values()
        ]
        for name, one in trace["methods"].items()
    }
    card = {
        "config": CONFIG,
        "data": {
            "name": "short answers: items of lib.data.tasks as questions",
            "weights": f"{found.source} · {found.licence}",
            "text": "written for this book · CC BY 4.0",
            "split": "of each task ten items to test, six to tune by, the rest to train",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.peft",
        "metrics": metrics | {"cpu_minutes": round(minutes(trace), 1)},
        "licence": "MIT",
    }
    print(weights.save(NAME, card, trace=trace))


if __name__ == "__main__":
    main()
