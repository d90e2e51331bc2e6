"""What a hybrid's global tokens and RoPE's base are worth: five encoders, three seeds.

    python -m train.hybrid_patterns            # all, about 230 minutes on one core
    python -m train.hybrid_patterns --seeds 1  # the first seed of each, 77 minutes
    python -m train.hybrid_patterns --help

Data, sizes and rates are those of `train.hybrid`, whose long runs left open whether the
pattern or the base lets a model use the title: here each is changed alone. "hybrid",
"local" and "full" have RoPE's base 10,000; "hybrid, base 100" is the first with the base
of the earlier runs; "two to one" is ModernBERT's order (Warner et al., 2025), a full
layer and then two local ones, base 160,000 in full layers and 10,000 in local ones.

A finished model is judged on the held-out articles with their own titles and with other
ones. For the gaps whose token is rare and has its nearest copy in the title the answers
are kept article by article, since gaps of one article are no independent sample. What
attention gives to copies in the title, and to the other tokens there, is a mean over all
rare gaps with such a copy, layer by layer, before the training and after it.

The seeds are the outer loop. Finished runs are files under `--folder`, and a killed
command goes on where it was. It writes `checkpoints/hybrid-patterns`: a trace alone.
"""

import copy
import time
from functools import partial
from itertools import cycle, islice

import torch
from torch import Tensor

from lib import training, weights
from lib.attention import attention
from lib.data.livedoor import livedoor
from lib.models.masked import MaskedLanguageModel
from lib.positions import rope_frequencies, rope_turns
from lib.sparse import pattern
from train import hybrid

NAME = "hybrid-patterns"
BASES = {"full": 160_000.0, "local": 10_000.0}  # of "two to one"
PATTERNS = {
    "hybrid": {"base": 1e4},
    "hybrid, base 100": {"base": 100.0},
    "local": {"attention": "local", "base": 1e4},
    "full": {"attention": "full", "base": 1e4},
    "two to one": {"attention": "full"},
}
STEPS, SEEDS = 3600, 3
WATCHED = 200  # articles whose attention weights are looked at


class TwoToOne(MaskedLanguageModel):
    """A full layer, then two local ones, each kind with its own base of RoPE."""

    def __init__(self, *sizes, **settings):
        super().__init__(*sizes, **settings)
        self.kinds = [*islice(cycle(("full", "local", "local")), len(self.layers))]
        width = 2 * len(self.frequencies)  # of a head
        self.turning = {kind: rope_frequencies(width, b) for kind, b in BASES.items()}

    def encode(self, ids: Tensor, key_mask: Tensor | None = None) -> Tensor:
        x = self.embed_norm(self.embed(ids))  # (B, T, D)
        at, mixes = torch.arange(ids.shape[1]), self.mixes(ids.shape[1], key_mask)
        for layer, kind in zip(self.layers, self.kinds, strict=True):
            x = layer(x, rope_turns(at, self.turning[kind]), mixes[kind])  # (B, T, D)
        return self.norm(x)


def kind_of(name: str) -> type[MaskedLanguageModel]:
    return TwoToOne if name == "two to one" else MaskedLanguageModel


def by_article(exam: hybrid.Exam, own: Tensor, other: Tensor) -> list[list[int]]:
    """Of the gaps with their nearest copy in the title: article, gaps, right, right.

    `own` and `other` say of each gap of the exam whether its token is among the best
    five, under its own title and under another one: bool (M,).
    """
    chosen = exam.rare() & (exam.where == hybrid.SEEN.index("title"))  # (M,)
    article = exam.at.nonzero()[:, 0]  # (M,)
    found = []
    for number in article[chosen].unique().tolist():
        gaps = chosen & (article == number)  # (M,)
        counts = (int(x[gaps].sum()) for x in (own, other))
        found.append([number, int(gaps.sum()), *counts])
    return found


@torch.no_grad()
def on_copies(model: MaskedLanguageModel, exam: hybrid.Exam) -> dict[str, list[float]]:
    """Mean weight of a rare gap on a copy of its token in the title, and on the others.

    A number for each layer: the mean over heads, gaps and title tokens. Padding of the
    title is left out, and so are gaps without a copy there.
    """
    ids, seen, at = (x[:WATCHED] for x in (exam.ids, exam.seen, exam.at))
    titles = ids[:, : hybrid.TITLE]  # (N, 32)
    real = (titles != hybrid.FILL)[:, None]  # (N, 1, 32)
    rare = at & (exam.rank[ids] >= hybrid.FREQUENT)  # (N, T)
    copies = (ids[:, :, None] == titles[:, None]) & real & rare[:, :, None]
    others = ~copies & real & copies.any(-1, keepdim=True)  # (N, T, 32)
    setting = {"block": hybrid.MODEL["block"], "window": hybrid.MODEL["window"]}
    world = {"global_tokens": range(hybrid.TITLE)}
    T = ids.shape[1]
    masks = {"local": pattern(T, **setting), "hybrid": pattern(T, **setting, **world)}
    masks["full"] = torch.ones(T, T, dtype=torch.bool)
    given = []

    def mix(query, key, value, mask):
        output, found = attention(query, key, value, mask)
        given.append(found.mean(1)[..., : hybrid.TITLE])  # (B, T, 32)
        return output

    dense = copy.deepcopy(model).eval()
    mixes = {kind: partial(mix, mask=mask) for kind, mask in masks.items()}
    dense.mixes = lambda T, key_mask: mixes
    sums = torch.zeros(2, len(dense.layers))
    for some in torch.arange(len(ids)).split(8):
        given.clear()
        dense.encode(seen[some])
        for row, keys in zip(sums, (copies[some], others[some]), strict=True):
            row += torch.stack([found[keys].sum() for found in given])
    counts = torch.tensor([[copies.sum()], [others.sum()]])
    means = (sums / counts).tolist()
    return dict(zip(("copy", "other"), means, strict=True))


def study(steps: int, seeds: int, articles, exam: hybrid.Exam, folder) -> list[dict]:
    """Every pattern with every seed; the seeds are the outer loop."""
    found = []
    for seed in range(seeds):
        for name in PATTERNS:

            def job(name=name, seed=seed):
                kind, where = kind_of(name), folder / f"{name}-{seed}"
                torch.manual_seed(seed)
                before = on_copies(kind(**hybrid.MODEL | PATTERNS[name]), exam)
                began = time.process_time()
                model, trace = hybrid.train(
                    PATTERNS[name], steps, seed, articles, where, kind=kind
                )
                other = exam.other_titles()
                losses, hits = exam.answers(model)
                losses_else, hits_else = other.answers(model)
                return {
                    "name": name,
                    "seed": seed,
                    "held_out": exam.summary(losses, hits),
                    "other_titles": other.summary(losses_else, hits_else),
                    "by_article": by_article(exam, hits, hits_else),
                    "copies": {"untrained": before, "trained": on_copies(model, exam)},
                    "curve": {"step": trace["step"], "loss": trace["loss"]},
                    "cpu_seconds": trace["cpu_seconds"],
                    "with_judging": round(time.process_time() - began, 1),
                }

            found.append(training.kept(folder, f"{name}-{seed}", job))
            run = found[-1]
            print(name, seed, run["held_out"]["all"], run["cpu_seconds"], flush=True)
    return found


def main() -> None:
    given = training.arguments(
        __doc__,
        NAME,
        ("--steps", {"type": int, "default": STEPS, "help": "of a run, %(default)s"}),
        ("--seeds", {"type": int, "default": SEEDS, "help": "%(default)s"}),
    )
    corpus = livedoor()
    print(corpus)
    setting = [corpus.is_full, hybrid.PIECES, hybrid.MODEL, PATTERNS, BASES]
    setting += [hybrid.RATES, hybrid.BATCH, hybrid.MASKED, hybrid.JUDGED, given.steps]
    folder = given.folder / training.digest(setting)
    articles = hybrid.prepare(corpus, folder)
    exam = hybrid.Exam(articles["report"], articles["train"])
    runs = study(given.steps, given.seeds, articles, exam, folder)
    card = {
        "config": {
            "model": hybrid.MODEL,
            "patterns": PATTERNS,
            "bases": BASES,
            "rates": hybrid.RATES,
            "batch": hybrid.BATCH,
            "steps": given.steps,
            "seeds": given.seeds,
            "watched": WATCHED,
        },
        "data": {
            "name": corpus.name,
            "source": corpus.source,
            "licence": corpus.licence,
            "is_full": corpus.is_full,
            "split": "every tenth article of each category held out to report",
        },
        "command": f"python -m train.{NAME.replace('-', '_')} --steps {given.steps} "
        f"--seeds {given.seeds}",
        "metrics": {
            "cpu_minutes": round(sum(run["with_judging"] for run in runs) / 60, 1),
        },
        "licence": f"MIT; measured on {corpus.name}, {corpus.licence}",
    }
    name = NAME if corpus.is_full else f"{NAME}-embedded"
    print(weights.save(name, card, trace={"runs": runs}))


if __name__ == "__main__":
    main()
