"""A masked language model on Japanese news, and what each part of it is worth.

    python -m train.hybrid                   # all, about two and a half hours on one core
    python -m train.hybrid --only ablation   # seven configurations × three seeds
    python -m train.hybrid --only local      # one of the three longer runs
    python -m train.hybrid --help

A sequence is the title of an article in 32 tokens, filled up or cut, then 224 tokens of
its body. The title is never masked. Of the body 30 % is masked in training, as in
ModernBERT, and 15 % in judging, as in BERT; a masked token is always [MASK].

Attention in blocks of 16: the window is the own block and one on each side, the 32
tokens of the title are global. So "local" has no way to the title for most of the body,
"hybrid" has. One factor at a time is changed from the hybrid with RoPE and pre-norm.

Every tenth article of each category is held out (`sentencepiece.split`) and judged once, in
the end, with the same masks for all. Rates, and which of the two hybrids is shipped, were
chosen on articles taken from the others.
Finished runs are files under `--folder`, and a killed command goes on where it was.
"""

import copy
import os
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import runtime, training, weights
from lib.data.livedoor import livedoor
from lib.models.masked import MaskedLanguageModel
from lib.optimisers import muon
from lib.sparse import pattern
from lib.tokenizers import sentencepiece

NAME = "hybrid"
PIECES = ("sentencepiece", "unigram-8000-bytes.model")
TITLE, BODY = 32, 224
LENGTH = TITLE + BODY
PARTS = ("titles", "bodies", "sizes")  # of the tokens, as they are kept
MASK = 8000  # the id after the last piece
FILL = 2  # </s>, which fills a short title up
BATCH, MASKED, JUDGED = 8, 0.30, 0.15
FREQUENT = 100  # so many pieces count as frequent
SEEN = ("near", "title", "far", "nowhere")  # where a rare token has its nearest copy
CHOOSING = 20  # every twentieth training article is kept for choices
MODEL = {
    "vocabulary": MASK + 1,
    "d_model": 96,
    "num_heads": 3,
    "layers": 4,
    "attention": "hybrid",
    "positions": "rope",
    "base": 100.0,
    "norm": "pre",
    "block": 16,
    "window": 3,
    "global_tokens": TITLE,
    "length": LENGTH,
}
CHANGES = {
    "hybrid": {},
    "full": {"attention": "full"},
    "local": {"attention": "local"},
    "alternating": {"attention": "alternating"},
    "learned positions": {"positions": "learned"},
    "Post-LN": {"norm": "post"},
    "RMSNorm": {"norm": "rms"},
}
SEEDS = (0, 1, 2)
RATES = {"rate": 0.02, "decay": 0.0, "adamw_rate": 1e-2, "adamw_decay": 0.0}
STEPS, LONG_STEPS, WARM_UP = 300, 8000, 0.1
LONG = {"hybrid": {}, "local": {"attention": "local"}, "base 10,000": {"base": 1e4}}
LENGTHS = (256, 512, 1024, 2048, 4096)  # of the measured cost


class Articles:
    """Titles (N, 32), bodies one after another, and where each begins and how long."""

    def __init__(self, titles: np.ndarray, bodies: np.ndarray, sizes: np.ndarray):
        self.titles, self.bodies = (
            torch.from_numpy(x.astype(np.int64)) for x in (titles, bodies)
        )
        self.sizes = torch.from_numpy(sizes)
        self.starts = self.sizes.cumsum(0) - self.sizes

    def __len__(self) -> int:
        return len(self.titles)

    def sequences(self, picks: Tensor, generator: torch.Generator) -> Tensor:
        """The titles of `picks` (B,), each with a stretch of its body: (B, T)."""
        room = self.sizes[picks] - BODY + 1  # (B,), places where it may begin
        share = torch.rand(len(picks), generator=generator)  # (B,)
        first = self.starts[picks] + (share * room).long()  # (B,)
        stretch = self.bodies[first[:, None] + torch.arange(BODY)]  # (B, 224)
        return torch.cat((self.titles[picks], stretch), 1)


def encoded(processor, article) -> tuple[list[int], list[int]]:
    """The title in 32 ids, and the ids of the body."""
    title, *lines = sentencepiece.clean(article)
    ids = processor.encode(title)[:TITLE]
    return ids + [FILL] * (TITLE - len(ids)), processor.encode(" ".join(lines))


def prepare(corpus, folder: Path) -> dict[str, Articles]:
    """Articles to train, to choose and to report on; those too short are left out."""
    file = folder / "tokens.npz"
    if not file.exists():
        processor = sentencepiece.load(weights.path(*PIECES))
        train, held_out = sentencepiece.split(corpus.rows)
        groups = {
            "train": [a for i, a in enumerate(train) if i % CHOOSING],
            "choose": train[::CHOOSING],
            "report": held_out,
        }
        arrays = {}
        for name, articles in groups.items():
            found = [encoded(processor, article) for article in articles]
            found = [(title, body) for title, body in found if len(body) >= BODY]
            arrays[f"{name} titles"] = np.array([t for t, _ in found], np.int16)
            arrays[f"{name} bodies"] = np.concatenate(
                [np.array(b, np.int16) for _, b in found]
            )
            arrays[f"{name} sizes"] = np.array([len(b) for _, b in found])
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"tokens.{os.getpid()}.npz"
        np.savez(part, **arrays)
        os.replace(part, file)
    arrays = np.load(file)  # arrays of numbers: nothing is unpickled
    return {
        name: Articles(*(arrays[f"{name} {part}"] for part in PARTS))
        for name in ("train", "choose", "report")
    }


def masked(ids: Tensor, share: float, generator: torch.Generator):
    """The ids with a share of the body hidden, and where: both (B, T)."""
    at = torch.rand(ids.shape, generator=generator) < share  # (B, T)
    at[:, :TITLE] = False
    return ids.masked_fill(at, MASK), at


class Exam:
    """Fixed stretches and masks of some articles, and what a model scores on them."""

    def __init__(self, articles: Articles, train: Articles, most: int | None = None):
        generator = torch.Generator().manual_seed(2_026)
        picks = torch.arange(len(articles))[:most]
        self.ids = articles.sequences(picks, generator)  # (N, T)
        self.seen, self.at = masked(self.ids, JUDGED, generator)  # (N, T)
        self.targets = self.ids[self.at]  # (M,)
        counts = torch.bincount(train.bodies, minlength=MASK + 1)  # (V,)
        self.counts, self.rank = counts, counts.argsort(descending=True).argsort()
        self.where = self._where()  # (M,), index into SEEN

    def _where(self) -> Tensor:
        """For each masked token, where an unmasked copy of it stands, nearest first."""
        near = pattern(LENGTH, block=16, window=3)  # (T, T)
        found = []
        for ids, seen, at in zip(self.ids, self.seen, self.at, strict=True):
            copy = ids[at][:, None] == seen  # (m, T)
            kinds = (copy & near[at], copy[:, :TITLE], copy)
            where = torch.full((len(copy),), 3)
            for i in (2, 1, 0):
                where[kinds[i].any(1)] = i
            found.append(where)
        return torch.cat(found)

    def rare(self) -> Tensor:
        """Which hidden tokens are not among the most frequent: bool (M,)."""
        return self.rank[self.targets] >= FREQUENT

    def score(self, model) -> dict:
        """Loss (nats) and top-5 accuracy of all masked tokens, and by where a copy is."""
        return self.summary(*self.answers(model))

    @torch.no_grad()
    def answers(self, model) -> tuple[Tensor, Tensor]:
        """The loss of each masked token, and is it among the best five: (M,) both."""
        model.eval()
        losses, hits = [], []
        parts = zip(*(x.split(16) for x in (self.ids, self.seen, self.at)), strict=True)
        for ids, seen, at in parts:
            logits = model(seen, None, at).float()  # (m, V)
            losses.append(F.cross_entropy(logits, ids[at], reduction="none"))
            hits.append((logits.topk(5).indices == ids[at][:, None]).any(1))
        return torch.cat(losses), torch.cat(hits)

    def other_titles(self) -> "Exam":
        """The same gaps, each body under the title of the article before it."""
        other = copy.copy(self)
        titles, bodies = self.seen[:, :TITLE], self.seen[:, TITLE:]
        other.seen = torch.cat((titles.roll(1, 0), bodies), 1)
        return other

    def unigram(self) -> dict:
        """The score of one guess for every gap: how often each token occurs."""
        share = (self.counts + 1).double() / (self.counts + 1).sum()
        return self.summary(-share.log()[self.targets], self.rank[self.targets] < 5)

    def summary(self, losses: Tensor, hits: Tensor) -> dict:
        rare = self.rare()
        groups = {"all": torch.ones_like(rare), "frequent": ~rare}
        groups |= {name: rare & (self.where == i) for i, name in enumerate(SEEN)}
        return {
            name: {
                "loss": round(losses[group].double().mean().item(), 4),
                "top5": round(hits[group].double().mean().item(), 4),
                "tokens": int(group.sum()),
            }
            for name, group in groups.items()
            if group.any()
        }


def loss(model, seen: Tensor, ids: Tensor, at: Tensor):
    """Cross-entropy of the hidden tokens: its sum, and how many they are."""
    return F.cross_entropy(model(seen, None, at), ids[at], reduction="sum"), at.sum()


def train(
    change,
    steps,
    seed,
    articles,
    folder,
    evaluate=None,
    evaluate_every=None,
    kind=MaskedLanguageModel,
):
    """One run: the model, in evaluation mode, and its trace."""
    torch.manual_seed(seed)
    model = kind(**MODEL | change)
    train = articles["train"]

    def batch(step: int, generator: torch.Generator):
        picks = torch.randint(len(train), (BATCH,), generator=generator)
        ids = train.sequences(picks, generator)
        seen, at = masked(ids, MASKED, generator)
        return seen, ids, at

    trace = training.fit(
        model,
        batch,
        loss,
        steps,
        muon(model, **RATES),
        seed=seed,
        warm_up=int(WARM_UP * steps),
        evaluate=evaluate,
        every=max(1, steps // 20),
        evaluate_every=evaluate_every,
        folder=folder,
        config=[MODEL | change, RATES, BATCH, MASKED],
    )
    return model, trace


def ablation(steps, seeds, articles, exam, folder) -> list[dict]:
    """Every configuration with every seed; the seeds are the outer loop."""
    found = []
    for seed in seeds:
        for name, change in CHANGES.items():

            def job(name=name, change=change, seed=seed):
                where = folder / f"{name}-{seed}"
                began = time.process_time()
                model, trace = train(change, steps, seed, articles, where)
                report = exam.score(model)
                return {
                    "name": name,
                    "seed": seed,
                    "curve": {"step": trace["step"], "loss": trace["loss"]},
                    "held_out": report,
                    "cpu_seconds": trace["cpu_seconds"],
                    "with_judging": round(time.process_time() - began, 1),
                }

            found.append(training.kept(folder, f"{name}-{seed}", job))
            run = found[-1]
            print(name, seed, run["held_out"]["all"], run["cpu_seconds"], flush=True)
    return found


def longer(name, steps, articles, choices, folder) -> tuple[MaskedLanguageModel, dict]:
    """One long run, watched on the articles kept for choices."""
    return train(
        LONG[name],
        steps,
        0,
        articles,
        folder / f"{name} {steps}",
        lambda model: {"choose": choices.score(model)},
        max(steps // 16, 1),
    )


def cost(lengths=LENGTHS, runs: int = 5) -> dict:
    """Tokens a second and peak memory of one sequence, forward and backward, by length.

    Full and hybrid in turn in one process, process time, medians and quartiles. The
    memory is the most that torch holds at once beyond the model itself, in MB.
    """
    found = {"lengths": lengths, "runs": runs, "cpu": runtime.processor()}
    for name in ("full", "hybrid"):
        found[name] = {"tokens_per_second": [], "quartiles": [], "peak_mb": []}
    models = {n: MaskedLanguageModel(**MODEL | CHANGES[n]) for n in ("full", "hybrid")}
    for length in lengths:
        generator = torch.Generator().manual_seed(length)
        ids = torch.randint(MASK, (1, length), generator=generator)
        seen, at = masked(ids, MASKED, generator)

        def step(model, seen=seen, ids=ids, at=at):
            total, number = loss(model, seen, ids, at)
            value = total / number
            value.backward()
            return value

        times = {name: [] for name in models}
        for turn in range(runs + 1):
            for name, model in models.items():
                model.zero_grad()
                began = time.process_time()
                step(model)
                if turn:  # the first is not counted
                    times[name].append(length / (time.process_time() - began))
        for name, model in models.items():
            low, middle, high = statistics.quantiles(times[name], n=4)
            found[name]["tokens_per_second"].append(round(middle))
            found[name]["quartiles"].append([round(low), round(high)])
            model.zero_grad()
            found[name]["peak_mb"].append(runtime.peak(partial(step, model)))
    return found


def main() -> None:
    options = [
        ("--steps", {"type": int, "default": STEPS, "help": "of a run, %(default)s"}),
        ("--long-steps", {"type": int, "default": LONG_STEPS, "help": "%(default)s"}),
        ("--seeds", {"type": int, "default": len(SEEDS), "help": "%(default)s"}),
        ("--only", {"choices": ("ablation", *LONG), "help": "one part of it"}),
    ]
    given = training.arguments(__doc__, NAME, *options)
    corpus = livedoor()
    print(corpus)
    facts = {"name": corpus.name, "source": corpus.source, "licence": corpus.licence}
    facts |= {"is_full": corpus.is_full}
    setting = [facts["is_full"], PIECES, MODEL, RATES, BATCH, MASKED, JUDGED, BODY]
    folder = given.folder / training.digest(setting)
    articles = prepare(corpus, folder)
    exam = Exam(articles["report"], articles["train"])
    if given.only in (None, "ablation"):
        place = folder / f"ablation {given.steps}"
        runs = ablation(given.steps, range(given.seeds), articles, exam, place)
    choices = Exam(articles["choose"], articles["train"])
    long = {
        name: longer(name, given.long_steps, articles, choices, folder)
        for name in LONG
        if given.only in (None, name)
    }
    if not given.only:
        measured = training.kept(folder, "cost", cost)
        ship(long, runs, measured, articles, exam, facts, given)


def ship(long, runs, measured, articles, exam, facts, given) -> None:
    """Round to float16, judge what is left, write the checkpoint of the better hybrid."""
    found = {}
    for name, (model, run) in long.items():
        model.load_state_dict({k: v.half() for k, v in model.state_dict().items()})
        found[name] = run | {"held_out": exam.score(model)}
        found[name]["other_titles"] = exam.other_titles().score(model)
    hybrids = [name for name in long if LONG[name].get("attention") != "local"]
    best = min(
        hybrids, key=lambda n: found[n]["evaluations"][-1]["choose"]["all"]["loss"]
    )
    model, run = long[best]
    tensors = {key: value.half() for key, value in model.state_dict().items()}
    seen_in_training = Exam(articles["train"], articles["train"], most=len(exam.ids))
    found[best]["training"] = seen_in_training.score(model)
    torch.manual_seed(0)
    untrained = MaskedLanguageModel(**MODEL)
    trace = {
        "longer": found,
        "ablation": runs,
        "baselines": {
            "ln_V": round(float(np.log(MODEL["vocabulary"])), 4),
            "untrained": exam.score(untrained),
            "unigram": exam.unigram(),
        },
        "cost": measured,
        "articles": {name: len(part) for name, part in articles.items()},
        "tokens": int(articles["train"].sizes.sum()),
    }
    card = {
        "config": {
            "model": MODEL | LONG[best],
            "changes": CHANGES,
            "longer": LONG,
            "shipped": best,
            "tokenizer": "/".join(PIECES),
            "mask": MASK,
            "title": TITLE,
            "body": BODY,
            "fill": FILL,
            "batch": BATCH,
            "masked": MASKED,
            "judged": JUDGED,
            "frequent": FREQUENT,
            "rates": RATES,
            "steps": given.steps,
            "long_steps": given.long_steps,
        },
        "data": facts
        | {
            "split": "every tenth article of each category held out to report; every "
            "twentieth of the others kept for choices"
        },
        "command": f"python -m train.hybrid --steps {given.steps} --long-steps "
        f"{given.long_steps}",
        "metrics": {
            "held_out": found[best]["held_out"]["all"],
            "cpu_minutes": round(run["cpu_seconds"] / 60, 1),
            "slowest_run_cpu_minutes": round(
                max(r["with_judging"] for r in runs) / 60, 1
            ),
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "licence": f"MIT for the weights; trained on {facts['name']}, {facts['licence']}",
    }
    name = NAME if facts["is_full"] else f"{NAME}-embedded"
    print(weights.save(name, card, tensors, trace))


if __name__ == "__main__":
    main()
