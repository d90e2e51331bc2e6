"""What is each part of the recipe worth? The ablations of `language/pretraining`.

    python -m train.ablations            # about 75 CPU-minutes on one core

Tiny Shakespeare, characters. Arms: the whole recipe; each of its five parts taken away
alone; all five at once, which is about GPT-2's recipe. In place of RoPE a learned table of
positions, of QK-norm plain scores, of ReLU² GELU, of Muon AdamW, of a readout of its own
the embedding's weights. Nothing else changes.

Equal time, not equal steps: an arm is given `MINUTES` of CPU time. How many steps these
are is measured once, before the first run, all arms in turn in one process; then it is
fixed, kept beside the runs and shipped with them, so that runs repeat. AdamW's rate is the
best of `ADAMW_RATES` on the *watched* text, one run each of the "AdamW" arm with a seed of
its own; Muon's was chosen in the same way before (`train/pretraining.py --choose`).

Judged is the last tenth of the *training* text, kept aside; the validation split is not
read here. Minutes: 7 arms × 3 seeds × 3 = 63, and 4 rates × 3 = 12.

To be tested on the page: each arm against the whole, seed by seed (paired by the seed, so
the same batches where steps are equal), by Welch's t-test with Holm's correction over the
six comparisons; three seeds say little, and the page prints each run.

Every finished run is a file under `_build/train/pretraining-ablations/`, and a killed run
goes on from its last minute.
"""

import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from lib import runtime, training, weights
from lib.data.shakespeare import tiny_shakespeare
from lib.layers import MLP, gelu
from lib.models.language import LanguageModel, SelfAttention
from lib.models.pretraining import language_model
from lib.optimisers import adamw, muon
from train import pretraining as study

NAME = "pretraining-ablations"
PARTS = ("RoPE", "QK-norm", "ReLU²", "Muon", "untied head")
ARMS = {"whole": ()} | {f"no {part}": (part,) for part in PARTS} | {"none": PARTS}
SHAPE = {"d_model": 160, "num_heads": 5, "layers": 4}
SEEDS, MINUTES, BATCH = range(3), 3.0, 8
TUNING_SEED = 100
ADAMW_RATES = (1e-3, 2e-3, 4e-3, 8e-3)
TIMED = 5  # steps of each arm, in turn, of which the median counts


def network(vocabulary: int, without: tuple[str, ...]) -> LanguageModel:
    """The recipe's model without some of `PARTS`.

    Raises: ValueError for a part that is not one of them.
    """
    if unknown := {*without} - {*PARTS}:
        raise ValueError(f"without: got {sorted(unknown)}, wants some of {PARTS}")
    model = language_model(vocabulary, **SHAPE)
    D, heads = SHAPE["d_model"], SHAPE["num_heads"]
    if "RoPE" in without:
        plain = LanguageModel(
            vocabulary, **SHAPE, positions="learned", length=study.LENGTH, scale=0.02
        )
        plain.embed, plain.norm, plain.blocks = model.embed, model.norm, model.blocks
        model = plain
    for block in model.blocks:
        if "QK-norm" in without:
            block.attention = SelfAttention(D, heads)
        if "ReLU²" in without:
            block.mlp = MLP(D, 4 * D, gelu)
    if "untied head" in without:
        # The readout's start: a table of the embeddings' size would begin at a loss far
        # above ln V. The stream is normalised before each branch, whatever its size.
        nn.init.normal_(model.embed.weight, std=0.02)
        model.readout.weight = model.embed.weight
    return model


def optimisers(model: LanguageModel, without: tuple[str, ...], rate: float) -> list:
    """Muon and AdamW, or AdamW at `rate` alone."""
    if "Muon" in without:
        return [adamw(model, rate, decay=study.RATES["adamw_decay"])]
    return muon(model, model.readout, **study.RATES)


def seconds_a_step(vocabulary: int, ids: Tensor) -> dict[str, float]:
    """CPU seconds of a training step of each arm: medians, the arms in turn."""
    batch = study.batches(ids, BATCH, 0)
    made = {}
    for arm, without in ARMS.items():
        model = network(vocabulary, without)
        made[arm] = model, optimisers(model, without, 1e-3)
    found = {arm: [] for arm in ARMS}
    for step in range(1 + TIMED):
        for arm, (model, several) in made.items():
            began = time.process_time()
            model.zero_grad()
            study.loss(model, *batch(step, None), False).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser in several:
                optimiser.step()
            if step:  # the first one fills the caches
                found[arm].append(time.process_time() - began)
    return {arm: round(statistics.median(some), 4) for arm, some in found.items()}


def run(
    arm: str, seed: int, steps: int, rate: float, parts: dict, V: int, folder: Path
) -> dict:
    """Train one network; its trace and its loss on the text kept aside."""
    without = ARMS[arm]
    torch.manual_seed(seed)
    model = network(V, without)
    trace = training.fit(
        model,
        study.batches(parts["train"], BATCH, seed),
        lambda model, texts: study.loss(model, texts, False),
        steps,
        optimisers(model, without, rate),
        seed=seed,
        warm_up=max(1, int(study.WARM_UP * steps)) if steps > 1 else 0,
        ema=study.EMA if steps > 500 else None,
        evaluate=lambda m: {"watched": round(study.judge(m, parts["watched"]), 4)},
        every=max(steps // 50, 1),
        evaluate_every=max(steps // 5, 1),
        folder=folder,
        config=[arm, steps, rate, SHAPE, BATCH, study.RATES],
    )
    kept = ("step", "loss", "evaluations", "seconds", "cpu_seconds")
    return {
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "rate": rate,
        "parameters": sum(p.numel() for p in model.parameters()),
        "watched": trace["evaluations"][-1]["watched"],
        "judged": round(study.judge(model, parts["judged"]), 4),
        "trace": {key: trace[key] for key in kept},
    }


def everything(folder: Path, vocabulary: str, parts: dict) -> dict:
    """Seconds a step, the tuning of AdamW's rate, and all runs; only what is missing."""
    V = len(vocabulary)
    shipped = weights.trace(NAME) if NAME in weights.names() else {}
    seconds = shipped.get("seconds_a_step") or training.kept(
        folder, "seconds", lambda: seconds_a_step(V, parts["train"])
    )
    steps = {arm: max(1, int(60 * MINUTES / s)) for arm, s in seconds.items()}

    def one(arm: str, seed: int, rate: float) -> dict:
        settings = [arm, seed, steps[arm], rate, SHAPE, BATCH, study.RATES, V]
        key = training.digest(settings)
        job = lambda: run(arm, seed, steps[arm], rate, parts, V, folder / key)  # noqa: E731
        found = training.kept(folder, key, job)
        print(arm, seed, rate, found["judged"], flush=True)
        return found

    tuning = [one("no Muon", TUNING_SEED, rate) for rate in ADAMW_RATES]
    rate = min(tuning, key=lambda row: row["watched"])["rate"]
    runs = [one(arm, seed, rate) for seed in SEEDS for arm in ARMS]
    return {"seconds_a_step": seconds, "steps": steps, "tuning": tuning, "runs": runs}


def main(argv: list[str] | None = None) -> None:
    embedded = {"action": "store_true", "help": "train on the book's own prose"}
    given = training.arguments(
        __doc__, "ablations", ("--embedded", embedded), argv=argv
    )
    corpus = tiny_shakespeare()
    print(corpus, flush=True)
    if not (corpus.is_full or given.embedded):
        print("nothing is trained: give --embedded to train on this text")
        return
    vocabulary, ids = study.encode(corpus.rows[0]["content"])
    found = everything(given.folder, vocabulary, study.split(ids, choose=True))
    losses = {
        arm: [run["judged"] for run in found["runs"] if run["arm"] == arm]
        for arm in ARMS
    }
    minutes = (
        sum(r["trace"]["cpu_seconds"] for r in found["runs"] + found["tuning"]) / 60
    )
    card = {
        "config": {
            "shape": SHAPE,
            "arms": {arm: [*without] for arm, without in ARMS.items()},
            "minutes": MINUTES,
            "batch": BATCH,
            "length": study.LENGTH,
            "rates": study.RATES,
            "adamw_rates": ADAMW_RATES,
            "seeds": len(SEEDS),
        },
        "data": {
            "name": corpus.name,
            "source": corpus.source,
            "licence": corpus.licence,
            "is_full": corpus.is_full,
            "split": "judged: the last tenth of the training text; validation not read",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.ablations",
        "metrics": {
            "nats a character, kept-aside text": losses,
            "CPU-minutes": round(minutes, 1),
        },
        "licence": "MIT",
    }
    found["processor"] = runtime.processor()
    target = NAME if corpus.is_full else f"{NAME}-embedded"
    print(weights.save(target, card, None, found))


if __name__ == "__main__":
    main()
