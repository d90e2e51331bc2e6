"""A ModernBERT-style encoder on Japanese news: `language/masked-lm`.

    python -m train.masked_lm                # the shipped run, four CPU-hours in sittings
    python -m train.masked_lm --now          # ship it as far as it has got
    python -m train.masked_lm --measure      # judge what is shipped, six CPU-minutes
    python -m train.masked_lm --only 30-0    # one of nine short runs, six CPU-minutes
    python -m train.masked_lm --only short   # all of them
    torchrun --nproc-per-node=2 -m train.masked_lm   # on two cores

A row of 128 tokens is cut from the training articles, which stand one after another in
a new order in each pass: nothing is padded. 30 % of the tokens are chosen, as in
ModernBERT, and of these 80 % become [MASK], 10 % random and 10 % stay, as in BERT.

The rate warms up, stays, and falls to 0 at the end (warm-up–stable–decay). So the run
can rest: what is shipped in between is the running average of the weights, and the next
command starts from it, with a fresh optimiser, another warm-up and another order of the
articles. The same command goes on in every case: with a killed sitting where it was,
otherwise with a new sitting for the steps that are left.

Every tenth article of each category is the test split (`sentencepiece.split`, by which
the tokenizer was trained too) and is judged when something is shipped; every twentieth
of the others validates, and all choices were made there. The gaps of both are fixed.

What is measured beside the loss: the same gaps filled by counting (`lib.guesses`, whose
two weights were chosen on the validation articles), what other gaps would have given,
what each side of a gap is worth, and what the encoder's vectors tell of a category.

Short runs, of the same model from the start, compare 15, 30 and 40 % of chosen tokens,
three seeds each, at equal time; they are judged on the test split with the same gaps.
"""

import math
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lib import gaps, guesses, runtime, training, weights
from lib.data.livedoor import livedoor
from lib.models.modernbert import ModernBert
from lib.tokenizers import sentencepiece
from train.pretraining import fast_bfloat16, optimisers

NAME = "masked-lm"
PIECES = ("sentencepiece", "unigram-8000-bytes.model")
MASK = 8000  # the id after the last piece
START, END = 1, 2  # <s> before an article, </s> after its title and after its body
CHOOSING = 20  # every twentieth training article validates
LENGTH, BATCH, ROWS = 128, 32, 8  # tokens of a row, rows of a step and of one pass
MODEL = {
    "vocabulary": MASK + 1,
    "d_model": 192,
    "num_heads": 3,
    "layers": 6,
    "hidden": 288,
    "window": 16,
    "global_base": 10_000.0,
    "local_base": 1_000.0,
}
RATES = {"rate": 0.02, "decay": 0.05, "adamw_rate": 6e-3, "adamw_decay": 0.0}
SHARE, EMA = 0.3, 0.995
STABLE, DECAY, WARM_UP = 4_200, 3_400, 100  # steps; the warm-up is a sitting's own
SHORT_STEPS, SHARES, SEEDS = 190, (0.15, 0.3, 0.4), (0, 1, 2)
SHORT = [f"{round(100 * share)}-{seed}" for seed in SEEDS for share in SHARES]
OTHER_MASKS, FEWER = 8, 3
LOOK = 100  # steps between two looks at the validation articles


def encoded(processor, article) -> Tensor:
    """An article as one row of ids: <s> title </s> body </s>."""
    title, *lines = sentencepiece.clean(article)
    parts = [START], processor.encode(title), [END], processor.encode(" ".join(lines))
    return torch.tensor([*parts[0], *parts[1], *parts[2], *parts[3], END])


def prepare(corpus, folder: Path) -> dict[str, list[Tensor]]:
    """The articles of each split, as ids; kept in `folder`."""

    def job() -> dict[str, list[Tensor]]:
        processor = sentencepiece.load(weights.path(*PIECES))
        train, test = sentencepiece.split(corpus.rows)
        groups = {
            "train": [a for i, a in enumerate(train) if i % CHOOSING],
            "validation": train[::CHOOSING],
            "test": test,
        }
        return {
            name: [encoded(processor, article) for article in articles]
            for name, articles in groups.items()
        }

    return training.kept(folder, "tokens", job)


class Batches:
    """`batch(step, generator)` for `training.fit`: what is read, ids, gaps, (B, T) each.

    A pass over the articles reads each token once, but for a rest of less than a step.
    """

    def __init__(self, articles: list[Tensor], share: float, seed: int):
        self.articles, self.share, self.seed = articles, share, seed
        tokens = sum(map(len, articles))
        self.steps = (tokens - LENGTH) // (BATCH * LENGTH)  # of one pass
        if self.steps < 1:
            raise ValueError(
                f"articles: got {tokens} tokens, wants {(BATCH + 1) * LENGTH} at least"
            )
        self.number = self.rows = None  # the pass that is laid out, and its rows

    def lay_out(self, number: int) -> None:
        """The rows of a pass, (steps · B, T), in the order in which they are read."""
        mine = torch.Generator().manual_seed(1000 * self.seed + number)
        order = torch.randperm(len(self.articles), generator=mine).tolist()
        stream = torch.cat([self.articles[i] for i in order])
        first = int(torch.randint(LENGTH, (), generator=mine))
        rows = stream[first : first + self.steps * BATCH * LENGTH].view(-1, LENGTH)
        self.rows = rows[torch.randperm(len(rows), generator=mine)]
        self.number = number

    def __call__(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        number, done = divmod(step, self.steps)
        if number != self.number:
            self.lay_out(number)
        ids = self.rows[done * BATCH : (done + 1) * BATCH]  # (B, T)
        at = gaps.chosen(ids, self.share, generator)  # (B, T)
        return gaps.corrupted(ids, at, MASK, generator), ids, at


def summary(model, exam: gaps.Exam) -> dict:
    """Loss (nats), top-1 and top-5 accuracy over all gaps."""
    losses, ranks = gaps.filled(model, exam)
    return {
        "loss": round(losses.double().mean().item(), 4),
        "top1": round((ranks < 1).double().mean().item(), 4),
        "top5": round((ranks < 5).double().mean().item(), 4),
        "gaps": len(losses),
    }


def train(model, articles, share, steps, final, seed, folder, look=None) -> dict:
    """Train `model` in place; the trace of `training.fit`.

    Matrix products are in bfloat16 where the processor is faster with it.
    """
    began, half = time.monotonic(), fast_bfloat16()

    def loss(model, seen: Tensor, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return gaps.hidden_loss(model, seen, ids, at)

    def watched(average) -> dict:
        found = summary(average, look)
        minutes = (time.monotonic() - began) / 60
        print(f"{time.strftime('%H:%M')} {minutes:.1f} min", found, flush=True)
        return found

    return training.fit(
        model,
        Batches(articles["train"], share, seed),
        loss,
        steps,
        optimisers(model, model.decoder, RATES, half),
        pieces=BATCH // ROWS // training.processes()[1],
        seed=seed,
        warm_up=min(WARM_UP, steps // 2),
        final=final,
        ema=EMA,
        evaluate=look and watched,
        every=10,
        evaluate_every=LOOK,
        folder=folder,
        config=[MODEL, RATES, share, BATCH, LENGTH],
    )


# --- The shipped run, in sittings -------------------------------------------------


def shipped(target: str) -> dict:
    """What the shipped trace holds, where its run is still the one above."""
    if target in weights.names():
        trace = weights.trace(target)
        if trace["recipe"] == recipe():
            return trace
    return {"recipe": recipe(), "sittings": [], "short": {}}


def recipe() -> dict:
    """All that makes the shipped run what it is, but where its sittings end."""
    return {
        "model": MODEL,
        "rates": RATES,
        "share": SHARE,
        "ema": EMA,
        "batch": BATCH,
        "length": LENGTH,
    }


def sitting(target: str, folder: Path, most: int) -> tuple[Path, dict] | None:
    """The folder and the start of the sitting that is due, None after the last one.

    It takes the steps that are left of its kind, `most` at most.
    """
    sittings = shipped(target)["sittings"]
    last = folder / f"sitting-{len(sittings)}"
    going = bool(sittings) and not sittings[-1]["finished"]
    if going and (last / "resume.pt").exists():
        sittings, place = sittings[:-1], last  # what was shipped of it is old
    else:
        place = folder / f"sitting-{len(sittings) + 1}"
    done = {
        kind: sum(s["steps"] for s in sittings if s["kind"] == kind)
        for kind in ("stable", "decay")
    }
    left = {"stable": STABLE - done["stable"], "decay": DECAY - done["decay"]}
    if left["stable"] > 0 and not done["decay"]:
        kind = "stable"
    elif left["decay"] > 0:
        kind = "decay"
    else:
        return None

    def job() -> dict:
        torch.manual_seed(0)
        state = ModernBert(**MODEL).state_dict()
        if sittings:
            state = {k: v.float() for k, v in weights.tensors(target).items()}
            state["decoder.weight"] = state["model.embeddings.tok_embeddings.weight"]
        steps = min(left[kind], most)
        return {"kind": kind, "steps": steps, "state": state, "before": sittings}

    return place, training.kept(place, "start", job)


def sit(target: str, folder: Path, most: int, articles: dict, facts: dict) -> None:
    """One sitting, to its end, and then shipped."""
    due = sitting(target, folder, most)
    if due is None:
        print("all steps are done: remove the checkpoint to train again")
        return
    place, start = due
    model = ModernBert(**MODEL)
    model.load_state_dict(start["state"])
    print(f"{place}: {start['kind']}, {start['steps']} steps", flush=True)
    look = gaps.exam(articles["validation"], LENGTH, MASK)
    final = 1.0 if start["kind"] == "stable" else 0.0
    number = len(start["before"])
    trace = train(
        model, articles, SHARE, start["steps"], final, number, place, look=look
    )
    if training.processes()[0] == 0:
        ship(target, articles, facts, model, start, start["steps"], trace)


def now(target: str, folder: Path, articles: dict, facts: dict) -> None:
    """Ship the sitting that is going on, from its resume file."""
    due = sitting(target, folder, STABLE + DECAY)
    file = due and due[0] / "resume.pt"
    if not file or not file.exists():
        print("no sitting is going on")
        return
    found = torch.load(file, map_location="cpu", weights_only=True)
    model = ModernBert(**MODEL)
    model.load_state_dict(found["average"])
    ship(target, articles, facts, model.eval(), due[1], found["step"], found["trace"])


def ship(target, articles, facts, model, start, steps, trace) -> None:
    """Round to float16, judge what is left on the test split, write the checkpoint."""
    model.load_state_dict({k: v.half() for k, v in model.state_dict().items()})
    tensors = {key: value.half() for key, value in model.state_dict().items()}
    del tensors["decoder.weight"]  # it is the table of the embeddings
    exam = gaps.exam(articles["test"], LENGTH, MASK, stretches=2)
    held_out = summary(model, exam)
    record = {
        "kind": start["kind"],
        "steps": steps,
        "finished": steps == start["steps"],
        "curve": {key: trace[key] for key in ("step", "loss", "rate")},
        "looks": trace["evaluations"],
        "cpu_minutes": round(trace["cpu_seconds"] / 60, 1),
        "minutes": round(trace["seconds"] / 60, 1),
        "test": held_out,
        "processor": runtime.processor(),
    }
    old = {key: value for key, value in shipped(target).items() if key != "measured"}
    sittings = [*start["before"], record]
    torch.manual_seed(0)
    trace = old | {
        "sittings": sittings,
        "planned": {"stable": STABLE, "decay": DECAY},
        "articles": {name: len(found) for name, found in articles.items()},
        "tokens": {name: sum(map(len, found)) for name, found in articles.items()},
        "untrained": summary(ModernBert(**MODEL), exam),
        "ln_V": round(math.log(MODEL["vocabulary"]), 4),
    }
    print(save(target, facts, tensors, trace))


def save(target: str, facts: dict, tensors: dict | None, trace: dict) -> Path:
    """Write the checkpoint: weights, trace, card."""
    last = trace["sittings"][-1] if trace["sittings"] else None
    metrics = {"short runs": {name: r["test"] for name, r in trace["short"].items()}}
    if last:
        metrics |= {
            "test": last["test"],
            "steps": sum(s["steps"] for s in trace["sittings"]),
            "of steps": STABLE + DECAY,
            "cpu_minutes": round(sum(s["cpu_minutes"] for s in trace["sittings"]), 1),
            "parameters": sum(x.numel() for x in tensors.values()),
        }
    card = {
        "config": recipe() | {"tokenizer": "/".join(PIECES), "mask": MASK},
        "data": facts
        | {
            "split": "every tenth article of each category to test; every twentieth of "
            "the others to validate"
        },
        "command": "python -m train.masked_lm",
        "metrics": metrics,
        "licence": f"MIT for the weights; trained on {facts['name']}, {facts['licence']}",
    }
    return weights.save(target, card, tensors, trace)


# --- What is measured -------------------------------------------------------------


def measures(corpus, articles: dict, tensors: dict) -> dict:
    """Everything that a page says of the shipped model, on the test split."""
    model = ModernBert(**MODEL)
    state = {key: value.float() for key, value in tensors.items()}
    state["decoder.weight"] = state["model.embeddings.tok_embeddings.weight"]
    model.load_state_dict(state)
    torch.manual_seed(0)
    untrained = ModernBert(**MODEL).eval()
    exam = gaps.exam(articles["test"], LENGTH, MASK, stretches=2)
    return {
        "fillers": fillers(model.eval(), articles, exam),
        "masks": [
            summary(model, gaps.exam(articles["test"], LENGTH, MASK, masks=seed))
            for seed in range(OTHER_MASKS)
        ],
        "sides": sides(model, articles["test"]),
        "categories": categories(corpus, {"trained": model, "untrained": untrained}),
    }


def fillers(model, articles: dict, exam: gaps.Exam) -> dict:
    """Loss, top-1 and top-5 by article: of the model, and of all baselines."""
    base = guesses.unigram(articles["train"], MODEL["vocabulary"])
    counted = guesses.Neighbours(articles["train"], MODEL["vocabulary"])
    look = gaps.exam(articles["validation"], LENGTH, MASK)

    def best(make, weights_) -> float:
        """The weight with the lowest loss on the validation articles."""
        found = {w: guesses.answers(make(w), look)[0].mean().item() for w in weights_}
        return min(found, key=found.get)

    copied = best(lambda w: guesses.copying(base, w), (0.05, 0.1, 0.2, 0.3, 0.4))
    power = best(lambda k: counted.guess(look, power=k), (0.25, 0.5, 0.75, 1.0))
    found = {"model": gaps.filled(model, exam)}
    for name, guess in {
        "unigram": guesses.alone(base),
        "copy": guesses.copying(base, copied),
        "bigram, left": counted.guess(exam, "left"),
        "bigram, right": counted.guess(exam, "right"),
        "bigram, both sides": counted.guess(exam, power=power),
    }.items():
        found[name] = guesses.answers(guess, exam)
    return {
        "copy weight": copied,
        "power": power,
        "gaps": np.bincount(exam.owner).tolist(),
        "by_article": {
            name: {
                "loss": by_article(losses, exam),
                "top1": by_article(ranks < 1, exam),
                "top5": by_article(ranks < 5, exam),
            }
            for name, (losses, ranks) in found.items()
        },
    }


@torch.no_grad()
def sides(model, articles: list[Tensor]) -> dict:
    """The loss at one gap of each article, by what may be read around it.

    The gap stands in the middle of the first row; nothing else is hidden. "half of each"
    shows as many tokens as one side has, the nearest ones of both.
    """
    found = {name: [] for name in ("left", "right", "half of each", "both")}
    for article in articles:
        middle = LENGTH // 2
        if len(article) < LENGTH or article[middle] < gaps.CONTROL:
            continue
        row = article[: LENGTH + 1].clone()  # 64 tokens on each side
        target = int(row[middle])
        row[middle] = MASK
        parts = {
            "left": row[: middle + 1],
            "right": row[middle:],
            "half of each": row[middle // 2 : 3 * middle // 2 + 1],
            "both": row,
        }
        for name, part in parts.items():
            at = part == MASK
            logits = model(part[None], None, at[None])[0]  # (V,)
            found[name].append(round(-logits.log_softmax(-1)[target].item(), 3))
    return found


@torch.no_grad()
def vectors(model, rows: list[Tensor]) -> np.ndarray:
    """The mean of the encoder's states over the first `LENGTH` tokens: (N, D)."""
    found = []
    for some in range(0, len(rows), 32):
        part = [row[:LENGTH] for row in rows[some : some + 32]]
        ids = torch.nn.utils.rnn.pad_sequence(part, True, padding_value=-1)  # (n, T)
        real = ids >= 0
        states = model.model(ids.masked_fill(~real, MASK), real)  # (n, T, D)
        states = states.masked_fill(~real[..., None], 0.0).sum(1)  # (n, D)
        found.append(states / real.sum(1, keepdim=True))
    return torch.cat(found).numpy()


def categories(corpus, models: dict) -> dict:
    """Categories of test articles by logistic regression: right or wrong, article by article.

    Every `FEWER`-th training article trains it. All read the title and the body's
    beginning, 128 tokens; "TF-IDF, whole" reads whole articles. C by cross-validation.
    """
    train, test = sentencepiece.split(corpus.rows)
    train = [a for i, a in enumerate(train) if i % CHOOSING][::FEWER]
    processor = sentencepiece.load(weights.path(*PIECES))
    sets = [[encoded(processor, a) for a in part] for part in (train, test)]
    labels = [[a["category"] for a in part] for part in (train, test)]
    words = [
        [" ".join(map(str, row[:n].tolist())) for row in part]
        for n in (LENGTH, None)
        for part in sets
    ]
    features = {name: [vectors(m, part) for part in sets] for name, m in models.items()}
    for name, part in (("TF-IDF", words[:2]), ("TF-IDF, whole", words[2:])):
        count = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True, min_df=2)
        features[name] = [count.fit_transform(part[0]), count.transform(part[1])]
    found = {"train": len(train), "test": len(test), "right": {}}
    for name, (known, new) in features.items():
        scale = StandardScaler(with_mean=not name.startswith("TF"))
        fit = LogisticRegressionCV(
            Cs=np.logspace(-3, 3, 7),
            cv=3,
            max_iter=1_000,
            l1_ratios=(0,),
            scoring="accuracy",
            use_legacy_attributes=False,
        )
        fit.fit(scale.fit_transform(known), labels[0])
        right = fit.predict(scale.transform(new)) == np.array(labels[1])
        found["right"][name] = right.astype(int).tolist()
    return found


# --- Short runs ---------------------------------------------------------------------


def short(name: str, steps: int, articles: dict, folder: Path) -> dict:
    """One short run: a share of chosen tokens and a seed, judged on the test split."""
    share, seed = (int(part) for part in name.split("-"))

    def job() -> dict:
        torch.manual_seed(seed)
        model = ModernBert(**MODEL)
        trace = train(
            model, articles, share / 100, steps, 0.0, 100 + seed, folder / name
        )
        exam = gaps.exam(articles["test"], LENGTH, MASK, stretches=2)
        losses, _ = gaps.filled(model, exam)
        return {
            "share": share / 100,
            "seed": seed,
            "steps": steps,
            "curve": {key: trace[key] for key in ("step", "loss")},
            "test": summary(model, exam),
            "by_article": by_article(losses, exam),
            "cpu_minutes": round(trace["cpu_seconds"] / 60, 1),
            "processor": runtime.processor(),
        }

    return training.kept(folder / name, "finished", job)


def by_article(values: Tensor, exam: gaps.Exam) -> list[float]:
    """The mean of `values` (M,) over the gaps of each article that has one."""
    owner = exam.owner
    total = np.bincount(owner, weights=values.double().numpy())
    number = np.bincount(owner)
    return [round(float(t / n), 3) for t, n in zip(total, number, strict=True) if n]


def main(argv: list[str] | None = None) -> None:
    options = [
        (
            "--only",
            {"choices": ["short", *SHORT], "help": "short runs, or one of them"},
        ),
        ("--short-steps", {"type": int, "default": SHORT_STEPS, "help": "%(default)s"}),
        (
            "--most",
            {"type": int, "default": STABLE + DECAY, "help": "steps of a sitting"},
        ),
        ("--measure", {"action": "store_true", "help": "judge what is shipped"}),
        (
            "--now",
            {"action": "store_true", "help": "ship what there is, train nothing"},
        ),
        (
            "--embedded",
            {
                "action": "store_true",
                "help": "train on the book's own articles if need be",
            },
        ),
    ]
    given = training.arguments(__doc__, NAME, *options, argv=argv)
    corpus = livedoor()
    print(corpus, flush=True)
    if not (corpus.is_full or given.embedded):
        print("nothing is trained: give --embedded to train on these articles")
        return
    facts = {"name": corpus.name, "source": corpus.source, "licence": corpus.licence}
    facts |= {"is_full": corpus.is_full}
    target = NAME if corpus.is_full else f"{NAME}-embedded"
    folder = given.folder / training.digest([corpus.is_full, PIECES, recipe()])
    articles = prepare(corpus, folder)
    if given.measure:
        trace, tensors = shipped(target), weights.tensors(target)
        trace["measured"] = measures(corpus, articles, tensors)
        print(save(target, facts, tensors, trace))
    elif given.now:
        now(target, folder, articles, facts)
    elif given.only:
        for name in SHORT if given.only == "short" else [given.only]:
            run = short(name, given.short_steps, articles, folder)
            trace = shipped(target)
            trace["short"][name] = run
            tensors = weights.tensors(target) if trace["sittings"] else None
            print(name, run["test"], save(target, facts, tensors, trace), flush=True)
    else:
        sit(target, folder, given.most, articles, facts)


if __name__ == "__main__":
    main()
