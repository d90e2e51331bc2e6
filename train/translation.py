"""A translation model: an encoder–decoder on pairs of sentences.

    python -m train.translation                       # Multi30k, 20 minutes on one core
    python -m train.translation --data grammar        # the embedded pairs, one minute
    python -m train.translation --data tanaka=FOLDER  # English–Japanese, where you have it
    python -m train.translation --seeds 1 2           # 20 minutes each: see `again`

One SentencePiece vocabulary for both languages, learned on the training split. Settings
are tried for a few hundred steps each; the loss on the validation split chooses among
them, and its BLEU chooses the width of the beam. The test split is scored once, at the
end, with the weights as they are shipped, in float16.

A killed command goes on where it was, with the same result.
"""

import functools
import io
import os
from pathlib import Path

import sentencepiece as spm
import torch
import torch.nn.functional as F
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from torch import Tensor

from lib import decoding, training, weights
from lib.data.multi30k import embedded_pairs, multi30k
from lib.models.encoder_decoder import PAD, EncoderDecoder
from lib.optimisers import adamw, muon
from lib.tokenizers import sentencepiece

NAME = "translation"
BOS, EOS = 2, 3  # beside PAD = 0; 1 stands for what the vocabulary lacks
# Muon's step costs a quarter more, so it is given fewer of them.
TRIED = {
    "adamw 2e-3": {"optimiser": "adamw", "rate": 2e-3, "pace": 1.0},
    "muon 0.02": {"optimiser": "muon", "rate": 0.02, "pace": 0.8},
}
FULL = {
    "model": {
        "source_vocabulary": 4000,
        "target_vocabulary": 4000,
        "d_model": 192,
        "num_heads": 4,
        "layers": 2,
        "hidden": 512,
        "norm": "pre",
        "tied": True,
    },
    "dropout": 0.1,
    "smoothing": 0.1,
    "batch": 128,
    "steps": 1300,
    "trial_steps": 80,
    "warm_up": 30,
    "ema": 0.99,
    "seed": 0,
    "trial_seed": 100,
    "tried": TRIED,
    "beams": [4],
}
SMALL = FULL | {
    "model": FULL["model"]
    | {
        "source_vocabulary": 160,
        "target_vocabulary": 160,
        "d_model": 64,
        "hidden": 128,
        "layers": 2,
    },
    "dropout": 0.0,
    "batch": 32,
    "steps": 400,
    "trial_steps": 50,
    "warm_up": 20,
    "tried": {"adamw 2e-3": TRIED["adamw 2e-3"]},
    "beams": [4],
}

Pairs = list[tuple[str, str]]


# --- Data ------------------------------------------------------------------------


def load(what: str) -> tuple[dict[str, Pairs], dict]:
    """Pairs of each split, and what a card says of them.

    Raises ValueError for another name, FileNotFoundError for a folder without the files.
    """
    if what.startswith("tanaka="):
        folder = Path(what.removeprefix("tanaka="))
        splits = {}
        for split, stem in (("train",) * 2, ("validation", "dev"), ("test",) * 2):
            sides = [
                (folder / f"{stem}.{language}").read_text("utf8").splitlines()
                for language in ("en", "ja")
            ]
            splits[split] = list(zip(*sides, strict=True))
        facts = {"name": "tanaka", "licence": "CC BY", "is_full": True}
        return splits, facts | {"source": "the Tanaka corpus, words split by spaces"}
    if what not in ("multi30k", "grammar"):
        raise ValueError(
            f"data: got {what!r}, wants multi30k, grammar or tanaka=FOLDER"
        )
    if what == "grammar":
        rows = embedded_pairs()
        facts = {"name": "grammar", "licence": "CC BY 4.0", "is_full": False}
        facts["source"] = "the pairs of a small grammar, train/grammar.py"
    else:
        found = multi30k()
        print(found)
        rows = found.rows
        facts = {k: getattr(found, k) for k in ("name", "licence", "is_full", "source")}
    splits = {"train": [], "validation": [], "test": []}
    for row in rows:
        splits[row["split"]].append((row["en"], row["de"]))
    return splits, facts


def vocabulary(pairs: Pairs, size: int, coverage: float = 1.0) -> bytes:
    """A unigram model of both languages together, as the bytes of a ``.model`` file.

    Its ids: 0 padding, 1 unknown, 2 begins and 3 ends a sentence. Source: Kudo (2018).
    """
    spm.set_min_log_level(2)
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=(text for pair in pairs for text in pair),
        model_writer=model,
        vocab_size=size,
        character_coverage=coverage,
        pad_id=PAD,
        unk_id=1,
        bos_id=BOS,
        eos_id=EOS,
        num_threads=1,
    )
    return model.getvalue()


def pad(rows: list[list[int]]) -> Tensor:
    """Rows of ids, filled up on the right: (B, T)."""
    T = max(map(len, rows))
    return torch.tensor([row + [PAD] * (T - len(row)) for row in rows])


class Batches:
    """`batch(step)`: source (B, Ts) and target (B, Tt), of sentences of like length.

    Each epoch shuffles the pairs, sorts stretches of 50 batches by length, and shuffles
    the batches: all of it follows from the seed and the number of the epoch.
    """

    def __init__(self, processor, pairs: Pairs, size: int, seed: int):
        source, target = zip(*pairs, strict=True)
        self.source = processor.encode(list(source), add_eos=True)
        self.target = processor.encode(list(target), add_bos=True, add_eos=True)
        self.size, self.seed = size, seed
        self.each = len(pairs) // size  # batches of an epoch

    @functools.lru_cache(2)  # noqa: B019, one object lives as long as the run
    def epoch(self, number: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + number)
        order = torch.randperm(len(self.source), generator=generator).tolist()
        batches = []
        for at in range(0, len(order), 50 * self.size):
            stretch = order[at : at + 50 * self.size]
            stretch.sort(key=lambda i: (len(self.target[i]), len(self.source[i]), i))
            batches += [
                stretch[i : i + self.size]
                for i in range(0, len(stretch) - self.size + 1, self.size)
            ]
        which = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[i] for i in which]

    def __call__(self, step: int, generator=None) -> tuple[Tensor, Tensor]:
        number, at = divmod(step, self.each)
        chosen = self.epoch(number)[at]
        return pad([self.source[i] for i in chosen]), pad(
            [self.target[i] for i in chosen]
        )


# --- Training --------------------------------------------------------------------


def loss(model, source: Tensor, target: Tensor, smoothing: float):
    """Cross-entropy of the next tokens, in nats, a share of it spread over all tokens.

    Their sum and their number, padding left out.
    """
    # Matrix products in bfloat16: twice as fast where the CPU knows it.
    with torch.autocast(source.device.type, torch.bfloat16):
        logits = model(source, target[:, :-1])  # (B, Tt − 1, V)
    right = target[:, 1:]  # (B, Tt − 1)
    total = F.cross_entropy(
        logits.float().flatten(0, 1),
        right.flatten(),
        ignore_index=PAD,
        label_smoothing=smoothing,
        reduction="sum",
    )
    return total, (right != PAD).sum()


@torch.no_grad()
def token_loss(model, processor, pairs: Pairs, size: int = 64) -> float:
    """Mean cross-entropy of the true next tokens, in nats, over all tokens of `pairs`."""
    source = processor.encode([s for s, _ in pairs], add_eos=True)
    target = processor.encode([t for _, t in pairs], add_bos=True, add_eos=True)
    order = sorted(range(len(pairs)), key=lambda i: (len(target[i]), len(source[i])))
    total = count = 0
    for at in range(0, len(order), size):
        chosen = order[at : at + size]
        ids = pad([target[i] for i in chosen])
        logits = model(pad([source[i] for i in chosen]), ids[:, :-1])
        one = F.cross_entropy(
            logits.flatten(0, 1),
            ids[:, 1:].flatten(),
            ignore_index=PAD,
            reduction="sum",
        )
        total, count = total + one.item(), count + int((ids[:, 1:] != PAD).sum())
    return total / count


def optimisers(model: EncoderDecoder, name: str, rate: float) -> list:
    if name == "muon":
        return muon(model, model.readout, rate=rate, adamw_rate=2e-3)
    return [adamw(model, rate, betas=(0.9, 0.98))]


def trained(config, setting, steps, seed, *, looks, processor, splits, folder):
    """One run: the model, which holds the average of its weights, and its trace."""
    steps = round(steps * setting["pace"])
    every = max(1, steps // 100)
    torch.manual_seed(seed)
    model = EncoderDecoder(**config["model"], dropout=config["dropout"])
    trace = training.fit(
        model,
        Batches(processor, splits["train"], config["batch"], seed),
        functools.partial(loss, smoothing=config["smoothing"]),
        steps,
        optimisers(model, setting["optimiser"], setting["rate"]),
        seed=seed,
        warm_up=config["warm_up"],
        ema=config["ema"],
        evaluate=lambda m: {
            "loss": round(token_loss(m, processor, splits["validation"]), 4)
        },
        every=every,
        evaluate_every=steps // looks // every * every,
        folder=folder,
        config=[config[k] for k in ("model", "dropout", "smoothing", "batch")],
    )
    return model.eval(), trace


# --- Translation -----------------------------------------------------------------


@torch.no_grad()
def translate(model, processor, sentences, beams: int = 1, size: int = 50, search=None):
    """Translations, and the log-probability of each. One beam is greedy search.

    `search(step, begin, room) -> ids` takes the place of both.
    """
    sources = processor.encode(list(sentences), add_eos=True)
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found: list = [None] * len(sources)
    for at in range(0, len(order), size):
        chosen = order[at : at + size]
        source = pad([sources[i] for i in chosen])  # (B, Ts)
        begin = torch.full((len(chosen), 1), BOS)
        room = 2 * source.shape[1] + 5  # what a translation may take, in tokens
        if search is not None:
            ids = search(model.step(source), begin, room)
        elif beams == 1:
            ids = decoding.greedy(model.step(source), begin, room, eos=EOS, pad=PAD)
        else:
            step = model.step(source)
            ids, _ = decoding.beam(step, begin, room, beams, eos=EOS, pad=PAD)
        logits = model(source, ids[:, :-1]).log_softmax(-1)  # (B, T, V)
        each = logits.gather(-1, ids[:, 1:, None])[..., 0]  # (B, T)
        sums = (each * (ids[:, 1:] != PAD)).sum(1).tolist()
        for i, row, score in zip(chosen, ids.tolist(), sums, strict=True):
            row = [t for t in row if t not in (PAD, BOS, EOS)]
            found[i] = processor.decode(row), round(score, 3)
    texts, scores = zip(*found, strict=True)
    return list(texts), list(scores)


def metrics(references: list[str], tokenize: str) -> dict:
    return {
        "BLEU": BLEU(references=[references], tokenize=tokenize),
        "chrF": CHRF(references=[references]),
    }


def scores(systems: dict[str, list[str]], references: list[str], tokenize: str) -> dict:
    """BLEU and chrF of each system, with paired bootstrap intervals (1,000 draws).

    The first system is the baseline of the p-values. Koehn (2004), as in `sacrebleu`.
    """
    test = PairedTest(
        list(systems.items()), metrics(references, tokenize), None, "bs", 1000
    )
    signatures, table = test()
    found = {name: {} for name in systems}
    for metric, results in table.items():
        if metric == "System":
            continue
        for name, result in zip(systems, results, strict=True):
            found[name][metric] = {
                "score": round(float(result.score), 2),
                "mean": round(float(result.mean), 2),
                "interval": round(float(result.ci), 2),
                "p": result.p_value and round(float(result.p_value), 4),
            }
    return {
        "systems": found,
        "signatures": {k: v.format() for k, v in signatures.items()},
    }


def report(model, untrained, processor, pairs: Pairs, beams: int, tokenize: str):
    """What a trace says of a split: scores, losses, lengths, a few translations."""
    source, references = (list(side) for side in zip(*pairs, strict=True))
    greedy, greedy_sums = translate(model, processor, source)
    beam, beam_sums = translate(model, processor, source, beams)
    nothing, _ = translate(untrained, processor, source)
    systems = {"greedy": greedy, "beam": beam, "copy": source, "untrained": nothing}
    found = scores(systems, references, tokenize)
    found["loss"] = round(token_loss(model, processor, pairs), 4)
    found["untrained_loss"] = round(token_loss(untrained, processor, pairs), 4)

    gaps = [b - g for g, b in zip(greedy_sums, beam_sums, strict=True)]
    found["same"] = sum(map(str.__eq__, greedy, beam))
    found["beam_likelier"] = sum(gap > 1e-3 for gap in gaps)
    found["beam_less_likely"] = sum(gap < -1e-3 for gap in gaps)
    found["log_probability"] = {
        name: round(sum(sums) / len(pairs), 3)
        for name, sums in (("greedy", greedy_sums), ("beam", beam_sums))
    }
    found["words"] = {
        name: round(sum(len(t.split()) for t in texts) / len(pairs), 2)
        for name, texts in {
            "source": source,
            "reference": references,
            **systems,
        }.items()
    }

    def bleu(texts: list[str], rows) -> float:
        kept, true = ([side[i] for i in rows] for side in (texts, references))
        return round(BLEU(tokenize=tokenize).corpus_score(kept, [true]).score, 2)

    words = [len(s.split()) for s in source]
    found["by_length"] = []
    for low, high in ((1, 8), (9, 11), (12, 14), (15, 99)):
        rows = [i for i, n in enumerate(words) if low <= n <= high]
        if rows:
            entry = {"words": [low, high], "pairs": len(rows)}
            entry |= {"greedy": bleu(greedy, rows), "beam": bleu(beam, rows)}
            found["by_length"].append(entry)
    found["first_100"] = {"greedy": bleu(greedy, range(min(100, len(pairs))))}

    # Short ones, spread over the split: their number alone chooses them.
    short = [i for i, n in enumerate(words) if n <= 12]
    sides = {"source": source, "reference": references, "greedy": greedy, "beam": beam}
    found["examples"] = [
        {"row": i} | {name: texts[i] for name, texts in sides.items()}
        for i in short[:: max(1, len(short) // 16)][:16]
    ]
    return found


# --- The whole -------------------------------------------------------------------


def study(splits: dict[str, Pairs], facts: dict, config: dict, folder: Path):
    """Card, tensors (float16), trace and vocabulary of a data set."""
    later = ("steps", "seed", "beams")  # what the trials do not need
    told = {k: v for k, v in config.items() if k not in later}
    folder = folder / training.digest([facts["name"], facts["is_full"], told])
    folder.mkdir(parents=True, exist_ok=True)
    japanese = facts["name"] == "tanaka"
    file = folder / "unigram.model"
    if not file.exists():
        size = config["model"]["source_vocabulary"]
        coverage = 0.9995 if japanese else 1.0
        partial = file.with_suffix(".tmp")
        partial.write_bytes(vocabulary(splits["train"], size, coverage))
        os.replace(partial, file)
    processor = sentencepiece.load(file)
    go = functools.partial(trained, config, processor=processor, splits=splits)

    tried = {}
    for name, setting in config["tried"].items():

        def trial(setting=setting, place=folder / f"trial {name}"):
            steps, seed = config["trial_steps"], config["trial_seed"]
            _, trace = go(setting, steps, seed, looks=1, folder=place)
            loss = trace["evaluations"][-1]["loss"]
            return {"loss": loss, "cpu_seconds": trace["cpu_seconds"]}

        tried[name] = setting | training.kept(folder, f"trial {name}", trial)
        print(name, tried[name], flush=True)
    chosen = min(tried, key=lambda name: tried[name]["loss"])

    folder = folder / f"run {training.digest(config)}"
    setting, seed = config["tried"][chosen], config["seed"]
    model, run = go(setting, config["steps"], seed, looks=6, folder=folder)
    tensors = {k: v.half() for k, v in model.state_dict().items()}
    model.load_state_dict(tensors)  # what is scored is what is shipped
    torch.manual_seed(seed)
    untrained = EncoderDecoder(**config["model"]).eval()

    tokenize = "none" if japanese else "13a"  # its words are split already
    source, references = (
        list(side) for side in zip(*splits["validation"], strict=True)
    )
    validation = {"loss": run["evaluations"][-1]["loss"], "bleu": {}}
    for beams in [1, *config["beams"]]:

        def job(beams=beams):
            texts, _ = translate(model, processor, source, beams)
            bleu = BLEU(tokenize=tokenize).corpus_score(texts, [references])
            return round(bleu.score, 2)

        found = training.kept(folder, f"validation {beams}", job)
        validation["bleu"][str(beams)] = found
        print(f"beams {beams}: validation BLEU {found}", flush=True)
    beams = max(config["beams"], key=lambda b: validation["bleu"][str(b)])
    validation["chosen_beams"] = beams
    test = training.kept(
        folder,
        "test",
        lambda: report(model, untrained, processor, splits["test"], beams, tokenize),
    )
    sentences = [text for pair in splits["train"] for text in pair]
    trace = {
        "tried": tried,
        "chosen": chosen,
        "run": run,
        "validation": validation,
        "test": test,
        "pairs": {split: len(pairs) for split, pairs in splits.items()},
        "tokens": sum(map(len, processor.encode(sentences))),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    spent = run["cpu_seconds"] + sum(t["cpu_seconds"] for t in tried.values())
    card = {
        "config": config | {"chosen": chosen},
        "data": facts
        | {"split": "trained on train, chosen on validation, scored on test"},
        "command": f"OMP_NUM_THREADS=1 python -m train.translation --data {facts['name']}",
        "metrics": {
            "validation_loss": validation["loss"],
            "validation_bleu": validation["bleu"],
            "test": test["systems"],
            "signatures": test["signatures"],
            "training_cpu_minutes": round(spent / 60, 1),
            "seeds": "one",
        },
        "licence": f"MIT; trained on {facts['name']}, {facts['licence']}",
    }
    if config["model"]["tied"]:  # one table, stored once
        del tensors["target_embed.weight"], tensors["readout.weight"]
    return card, tensors, trace, file.read_bytes()


def again(seeds: list[int], splits: dict[str, Pairs], folder: Path) -> dict:
    """The shipped run from other seeds: seed -> scores on the test split, and its loss.

    Vocabulary, settings and width of the beam are those of the shipped checkpoint.
    """
    config = weights.card(NAME)["config"]
    beams = weights.trace(NAME)["validation"]["chosen_beams"]
    processor = sentencepiece.load(weights.path(NAME, "unigram.model"))
    source, references = (list(side) for side in zip(*splits["test"], strict=True))
    setting, found = config["tried"][config["chosen"]], {}
    for seed in seeds:
        place = folder / f"again {training.digest(config | {'seed': seed})}"

        def job(seed=seed, place=place):
            options = {"looks": 6, "processor": processor, "splits": splits}
            model, run = trained(
                config, setting, config["steps"], seed, folder=place, **options
            )
            model.load_state_dict({k: v.half() for k, v in model.state_dict().items()})
            systems = {
                name: translate(model, processor, source, width)[0]
                for name, width in (("greedy", 1), ("beam", beams))
            }
            return scores(systems, references, "13a")["systems"] | {
                "loss": round(token_loss(model, processor, splits["test"]), 4),
                "cpu_seconds": run["cpu_seconds"],
            }

        found[str(seed)] = training.kept(place, "test", job)
        print(seed, found[str(seed)], flush=True)
    return found


def main() -> None:
    options = training.arguments(
        __doc__,
        NAME,
        ("--data", {"default": "multi30k", "help": "%(default)s"}),
        (
            "--seeds",
            {"type": int, "nargs": "+", "help": "add these to the shipped record"},
        ),
    )
    splits, facts = load(options.data)
    if options.seeds:
        if not (facts["name"] == "multi30k" and facts["is_full"]):
            raise SystemExit(
                "--seeds: the shipped model was trained on all of multi30k"
            )
        card, trace = weights.card(NAME), weights.trace(NAME)
        found = again(options.seeds, splits, options.folder)
        trace["seeds"] = trace.get("seeds", {}) | found
        card["metrics"]["seeds"] = (
            f"shipped: 0; scored, too: {', '.join(trace['seeds'])}"
        )
        vocabulary = weights.path(NAME, "unigram.model").read_bytes()
        more = weights.tensors(NAME), trace, {"unigram.model": vocabulary}
        print(weights.save(NAME, card, *more))
        return
    config = FULL if facts["is_full"] else SMALL
    card, tensors, trace, model = study(splits, facts, config, options.folder)
    name = NAME if facts["name"] == "multi30k" and facts["is_full"] else ""
    name = name or f"{NAME}-{facts['name']}"  # not in the place of the shipped one
    print(weights.save(name, card, tensors, trace, {"unigram.model": model}))


if __name__ == "__main__":
    main()
