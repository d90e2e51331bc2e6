"""The small world's language model: a base that later chapters adapt.

    python -m train.world            # about 20 CPU-minutes on one core

`lib.data.world` writes plain English about sixty people, twelve towns and a handful of
tasks, without end; each training step reads text that was never read before, though its
facts come again and again in other words. There are no instructions in it and no chat.

BPE of 1,536 tokens learned from the first documents, RoPE, 2.4 M parameters, Muon. The
text that is judged comes from another seed. The examination asks each kind of question,
of cases that were asked in training and of cases that never were; an untrained copy and
guessing (the most frequent answer, or one of the two that are named) answer the same. The
recipe was not tuned: nothing was chosen on the examination.

A killed run goes on from its last minute. One seed is shipped.
"""

import itertools

import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor

from lib import runtime, training, weights, world
from lib.data.world.items import graded, is_right, items
from lib.data.world.text import KINDS, documents
from lib.models.pretraining import language_model
from lib.optimisers import muon

NAME = world.NAME
VOCABULARY, LENGTH, BATCH, STEPS = 1536, 128, 16, 1200
FOR_TOKENIZER, JUDGED = 8_000, 1_500  # documents
SEED, SEED_JUDGED = 1, 1_000_003  # of the documents
MODEL = {"d_model": 192, "num_heads": 6, "layers": 4}
RATES = {"rate": 0.015, "decay": 0.1, "adamw_rate": 3e-3, "adamw_decay": 0.05}
EMA, WARM_UP = 0.99, 0.03
LOOKS, FEW, MOST = (
    8,
    6,
    100,
)  # looks in a run; items of a kind in a look, and at the end
GROUPS = {"asked": ("asked", False), "held out": ("asked", True)}
GROUPS |= {"stated": ("stated", False)}


def text(tokenizer: world.Tokenizer, tokens: int) -> Tensor:
    """So many tokens of documents to train on (N,): always the same first ones."""
    stream, parts, found = documents(SEED), [], 0
    while found < tokens:
        parts.append(world.ids_of(tokenizer, [*itertools.islice(stream, 1000)]))
        found += len(parts[-1])
    return torch.cat(parts)[:tokens]


def loss(model, texts: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of each token but the first of texts (B, T + 1)."""
    logits = model(texts[:, :-1])  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), texts[:, 1:].flatten())


@torch.no_grad()
def judge(model, ids: Tensor, size: int) -> dict[str, float]:
    """Loss on held-out ids (N,) that stand for so many bytes: nats a token, bits a byte.

    Read in blocks: a guess reads 1 to `LENGTH` tokens.
    """
    blocks = (len(ids) - 1) // LENGTH
    total = 0.0
    for part in torch.arange(blocks).split(32):
        texts = ids[part[:, None] * LENGTH + torch.arange(LENGTH + 1)]  # (B, T + 1)
        total += loss(model, texts).item() * len(part)
    nats = total / blocks
    per_byte = nats * len(ids) / size / torch.log(torch.tensor(2.0)).item()
    return {"nats": round(nats, 4), "bits_per_byte": round(per_byte, 4)}


def examination(most: int) -> dict[str, list]:
    """The items of each group: asked of cases that were asked in training, or never
    were; and the beginnings of statements."""
    return {
        group: [
            item
            for kind in KINDS
            for item in items(kind, held_out=held, form=form, most=most)
        ]
        for group, (form, held) in GROUPS.items()
    }


def examine(model, tokenizer: world.Tokenizer, most: int) -> dict:
    """Group -> kind -> how many right, guessed right, and how many there are."""
    found = {}
    for group, some in examination(most).items():
        right = graded(some, world.examined(model, tokenizer, some))
        guessed = graded(some, [item.guess for item in some])
        found[group] = {
            kind: {"right": sum(rows), "guessed": sum(guessed[kind]), "n": len(rows)}
            for kind, rows in right.items()
        }
    return found


def share(model, tokenizer: world.Tokenizer, most: int) -> dict[str, float]:
    """Group -> the share of right answers, of a few items of each kind."""
    found = {}
    for group, some in examination(most).items():
        texts = world.examined(model, tokenizer, some)
        right = [is_right(t, i.answer) for t, i in zip(texts, some, strict=True)]
        found[group] = round(sum(right) / len(right), 4)
    return found


def totals(found: dict) -> dict:
    """Group -> right, guessed, n over all kinds, and Wilson's 95 % interval."""
    summed = {}
    for group, kinds in found.items():
        row = {
            k: sum(one[k] for one in kinds.values()) for k in ("right", "guessed", "n")
        }
        interval = binomtest(row["right"], row["n"]).proportion_ci(method="wilson")
        row["interval_95"] = [round(float(x), 4) for x in (interval.low, interval.high)]
        summed[group] = row
    return summed


def run(tokenizer: world.Tokenizer, held: Tensor, size: int, seed: int, folder):
    """One run: the model, in evaluation mode, and its trace."""
    ids = text(tokenizer, STEPS * BATCH * LENGTH + 1)
    order = torch.randperm(STEPS * BATCH, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model = language_model(len(tokenizer.vocabulary), **MODEL)

    def batch(step: int, generator) -> tuple[Tensor]:
        starts = order[step * BATCH : (step + 1) * BATCH] * LENGTH  # (B,)
        return (ids[starts[:, None] + torch.arange(LENGTH + 1)],)

    trace = training.fit(
        model,
        batch,
        loss,
        STEPS,
        list(muon(model, model.readout, **RATES)),
        seed=seed,
        warm_up=int(WARM_UP * STEPS),
        ema=EMA,
        evaluate=lambda m: judge(m, held, size) | share(m, tokenizer, FEW),
        every=max(STEPS // 200, 1),
        evaluate_every=max(STEPS // LOOKS, 1),
        folder=folder,
        config=[MODEL, RATES, VOCABULARY, SEED],
    )
    return model, trace


def main(argv: list[str] | None = None) -> None:
    given = training.arguments(__doc__, NAME, argv=argv)
    settings = [VOCABULARY, LENGTH, BATCH, STEPS, MODEL, RATES, EMA, WARM_UP, SEED]
    folder = given.folder / training.digest(settings)
    first = [*itertools.islice(documents(SEED), FOR_TOKENIZER)]
    tokenizer = world.train_tokenizer(first, VOCABULARY)
    judged = [*itertools.islice(documents(SEED_JUDGED), JUDGED)]
    held, size = world.ids_of(tokenizer, judged), sum(len(d.encode()) for d in judged)

    def job() -> dict:
        model, trace = run(tokenizer, held, size, 0, folder)
        state = {key: value.half() for key, value in model.state_dict().items()}
        return {"trace": trace, "state": state}

    done = training.kept(folder, "finished", job)
    models = {
        name: language_model(len(tokenizer.vocabulary), **MODEL).eval()
        for name in ("trained", "untrained")
    }
    models["trained"].load_state_dict(done["state"])  # rounded, as it is shipped
    found = {}
    for name, model in models.items():
        kinds = examine(model, tokenizer, MOST)
        found[name] = judge(model, held, size) | {"kinds": kinds, "all": totals(kinds)}
        print(name, found[name]["bits_per_byte"], found[name]["all"], flush=True)
    trace, trained = done["trace"], found["trained"]
    card = {
        "config": {
            "model": MODEL,
            "vocabulary": len(tokenizer.vocabulary),
            "length": LENGTH,
            "training": {
                "batch": BATCH,
                "steps": STEPS,
                "ema": EMA,
                "warm_up": WARM_UP,
            },
            "rates": RATES,
            "seed": 0,
        },
        "data": {
            "name": "the small world",
            "source": "written by lib.data.world for this book",
            "licence": "CC BY 4.0",
            "split": f"documents of seed {SEED} train, {JUDGED:,} of seed "
            f"{SEED_JUDGED} are judged; lib.data.world.kinds says which questions are "
            "held out",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.world",
        "metrics": {
            "parameters": sum(p.numel() for p in models["trained"].parameters()),
            "bits a byte, held-out text": trained["bits_per_byte"],
            "nats a token, held-out text": trained["nats"],
            "examination": trained["all"],
            "CPU-minutes": round(trace["cpu_seconds"] / 60, 1),
        },
        "licence": "MIT for the weights",
    }
    record = {"run": trace, "examined": found, "processor": runtime.processor()}
    files = {world.FILE: tokenizer.to_json().encode()}
    print(weights.save(NAME, card, done["state"], record, files))


if __name__ == "__main__":
    main()
