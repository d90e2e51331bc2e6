"""Pictures and captions of scenes in one space: a record of `vision/vision-language`.

    python -m train.contrastive                   # everything, 25 CPU-minutes
    python -m train.contrastive --only softmax    # one arm, three seeds

A small ViT and a small text encoder learn from scratch which caption belongs to which
picture of 32×32 pixels. A step has 128 pairs of 12,000; the caption of each is English
or Japanese, by lot. One pair in five shows a single object, so a batch holds some equal
captions, which both losses count as wrong: as in life.

Arms, three seeds each: **softmax** and **sigmoid**, the two losses, with the scale
learned from 10 and kept from 1 to 100. Three more to see what the modality gap depends
on, all softmax: **batch 16**, and the scale fixed at **5** or at **100**. All see equally
many pairs, so batch 16 takes eight times the steps; its trace tells of as many steps, too.

Judged on scenes of three splits of `lib.data.scenes`: other pictures of combinations that
training has; of a coloured shape at a place, and of a colour with a shape, that it never
has. Retrieval: the right one among 256, both ways and both languages, where captions that
are equal are all right. Zero-shot: a picture of one object, and the captions of all 144
combinations of six colours, six shapes and four places. Ranks and predictions are
recorded one by one. Sizes and rate were fixed by a short trial with another seed.

Every finished run is a file under `_build/train/contrastive/`, and a killed run goes on
from its last minute.
"""

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from lib import runtime, training, weights
from lib.data import scene_words
from lib.data.scene_pictures import pictures
from lib.data.scenes import ALL, CASES, scenes
from lib.models.contrastive import Scale, TwoTowers, Words, gap, ranks, small_towers

NAME = "contrastive"
ROUNDS, SIZE = 20, 32
ARMS = {
    "softmax": {"loss": "softmax"},
    "sigmoid": {"loss": "sigmoid"},
    "batch 16": {"loss": "softmax", "batch": 16},
    "scale 5": {"loss": "softmax", "scale": 5.0},
    "scale 100": {"loss": "softmax", "scale": 100.0},
}
SHIPPED = ("softmax", "sigmoid")  # their first seed's weights
SEEDS, STEPS, BATCH, RATE, DECAY, WARM_UP = range(3), 300, 128, 2e-3, 0.05, 40
LOOK = 50  # steps between looks, at the full batch
GALLERY, SHOWN = 256, 12  # pairs of a gallery, of a look
LANGUAGES = {"en": "caption", "ja": "caption_ja"}
MODEL = {"d_model": 64, "num_heads": 4, "layers": [4, 2], "width": 64}


def pixels(rows: list[dict]) -> Tensor:
    """Drawn: (n, 3, SIZE, SIZE), from −1 to 1."""
    drawn = torch.from_numpy(pictures(rows, SIZE))  # (n, h, w, 3)
    return drawn.permute(0, 3, 1, 2) / 127.5 - 1


def captions(rows: list[dict]) -> list[str]:
    """The captions of all rows, language by language."""
    return [row[key] for key in LANGUAGES.values() for row in rows]


def prepare(folder: Path) -> tuple[Words, Tensor, Tensor]:
    """The vocabulary; the training pictures; their captions' ids, (2, N, T)."""
    rows = scenes("train", ROUNDS).rows
    words = Words(captions(rows))
    key = training.digest(["pixels", ROUNDS, SIZE])
    drawn = training.kept(folder, key, lambda: pixels(rows))
    return words, drawn, words(captions(rows)).unflatten(0, (2, -1))


def gallery(split: str) -> list[dict]:
    """Scenes to find; those whose answer is no are left out: they hold nothing new."""
    rows = [row for row in scenes(split, seed=1).rows if row["answer"] != "no"]
    return rows[:GALLERY]


def single(split: str) -> list[dict]:
    """Scenes of one object; of a held-out split, one of what is held out."""
    return [row for row in scenes(split, 2, seed=2).rows if len(row["objects"]) == 1]


def named() -> list[str]:
    """The captions of all 144 single objects, language by language."""
    objects = [[scene_words.Object(*case, 0, 0, 0)] for case in ALL]
    english = [scene_words.english(one) for one in objects]
    return english + [scene_words.japanese(one)[0] for one in objects]


def vectors(model: TwoTowers, words: Words, rows: list[dict]) -> tuple[Tensor, Tensor]:
    """Of pictures (N, D), and of captions (2, N, D)."""
    texts = model.read(words(captions(rows)))
    return model.see(pixels(rows)), texts.unflatten(0, (2, -1))


def look(model: TwoTowers, words: Words, rows: list[dict]) -> dict:
    """Retrieval on the test split, the gap, the scale, and a few similarities."""
    seen, (english, japanese) = vectors(model, words, rows)
    found_first = rank_of(rows, seen, english, "caption") < 1  # (N,)
    bias = 0.0 if model.bias is None else model.bias.item()
    found = {
        "recall": round(found_first.double().mean().item(), 4),
        "gap": round(gap(seen, english), 4),
        "language_gap": round(gap(english, japanese), 4),
        "scale": round(model.scale().item(), 3),
        "bias": round(bias, 3),
    }
    shown = (seen[:SHOWN] @ english[:SHOWN].mT).tolist()  # (SHOWN, SHOWN)
    return found | {"shown": [[round(x, 2) for x in row] for row in shown]}


def rank_of(rows: list[dict], asked: Tensor, given: Tensor, key: str) -> Tensor:
    """The rank of the right one for each of `asked`: (N,)."""
    texts = [row[key] for row in rows]
    same = torch.tensor([[a == b for b in texts] for a in texts])
    return ranks(asked @ given.mT, same)


def judge(model: TwoTowers, words: Words) -> dict:
    """Ranks and zero-shot predictions of each split, one by one."""
    found = {"retrieval": {}, "zero_shot": {}}
    candidates = model.read(words(named())).unflatten(0, (2, -1))  # (2, 144, D)
    for split in CASES:
        if split == "train":
            continue
        rows = gallery(split)
        seen, texts = vectors(model, words, rows)
        ways = {}
        for (language, key), text in zip(LANGUAGES.items(), texts, strict=True):
            ways[f"{language} for a picture"] = rank_of(rows, seen, text, key)
            ways[f"picture for {language}"] = rank_of(rows, text, seen, key)
        found["retrieval"][split] = {k: v.tolist() for k, v in ways.items()}
        seen = model.see(pixels(single(split)))  # (n, D)
        found["zero_shot"][split] = {
            language: (seen @ texts.mT).argmax(1).tolist()
            for language, texts in zip(LANGUAGES, candidates, strict=True)
        }
    return found


def config(arm: str) -> dict:
    """All that makes the runs of an arm what they are."""
    settings = {"batch": BATCH, "scale": None} | ARMS[arm]
    times = BATCH // settings["batch"]  # as many pairs for all
    numbers = {"steps": STEPS * times, "warm_up": WARM_UP * times, "look": LOOK * times}
    numbers |= {"rate": RATE, "decay": DECAY}
    return settings | numbers | {"model": MODEL, "rounds": ROUNDS, "size": SIZE}


def network(arm: str, vocabulary: int) -> TwoTowers:
    """An untrained model of an arm."""
    model = small_towers(vocabulary, ARMS[arm]["loss"], **MODEL)
    if scale := ARMS[arm].get("scale"):
        model.scale = Scale(scale).requires_grad_(False)
    return model


def run(arm: str, seed: int, prepared: tuple, folder: Path) -> dict:
    """Train one model: its trace, what it finds, its weights."""
    words, drawn, ids = prepared
    torch.manual_seed(seed)
    model, settings = network(arm, len(words)), config(arm)
    size = settings["batch"]

    def batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        which = torch.randperm(len(drawn), generator=generator)[:size]  # (B,)
        language = torch.randint(2, (size,), generator=generator)  # (B,)
        texts = ids[language, which]  # (B, T)
        return drawn[which], texts[:, : int((texts != 0).sum(1).max())]

    learned = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learned if p.ndim > 1]
    others = [p for p in learned if p.ndim < 2]  # the scale among them: no decay
    groups = [
        {"params": matrices, "weight_decay": DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    rows = gallery("test")
    trace = training.fit(
        model,
        batch,
        lambda net, *pairs: net(*pairs),
        settings["steps"],
        [torch.optim.AdamW(groups, RATE, betas=(0.9, 0.98))],
        seed=seed,
        warm_up=settings["warm_up"],
        evaluate=lambda net: look(net, words, rows),
        every=10,
        evaluate_every=settings["look"],
        folder=folder,
        config=settings,
    )
    with torch.no_grad():
        trace |= judge(model, words)
    trace["processor"] = runtime.processor()
    return {"trace": trace, "tensors": model.state_dict()}


def study(folder: Path, only: str | None = None) -> tuple[dict, dict, Words]:
    """Run what is missing; arm -> one trace a seed; the shipped arms' first weights."""
    prepared = prepare(folder)
    arms = [only] if only else [*ARMS]
    traces, tensors = {arm: [] for arm in arms}, {}
    for seed in tqdm(SEEDS, desc="seeds"):  # all arms of a seed, so a part is a study
        for arm in arms:
            key = training.digest([arm, seed, config(arm), GALLERY])
            job = lambda key=key, arm=arm, seed=seed: run(  # noqa: E731
                arm, seed, prepared, folder / key
            )
            found = training.kept(folder, key, job)
            traces[arm].append(found["trace"])
            if arm in SHIPPED and seed == SEEDS[0]:
                tensors |= {f"{arm}.{k}": v.half() for k, v in found["tensors"].items()}
    return traces, tensors, prepared[0]


def main(argv: list[str] | None = None) -> None:
    only = ("--only", {"choices": [*ARMS], "help": "one arm; nothing is shipped"})
    given = training.arguments(__doc__, NAME, only, argv=argv)
    traces, tensors, words = study(given.folder, given.only)
    metrics = {}
    for arm, runs in traces.items():
        last = [trace["evaluations"][-1] for trace in runs]
        metrics[arm] = {
            key: [e[key] for e in last] for key in ("recall", "gap", "scale")
        }
        metrics[arm]["cpu_minutes"] = [round(t["cpu_seconds"] / 60, 1) for t in runs]
        print(arm, metrics[arm], flush=True)
    if given.only:
        return
    card = {
        "config": {arm: config(arm) for arm in ARMS} | {"words": [*words.ids]},
        "data": {
            "name": "scenes",
            "source": "generated by lib/data/scenes.py",
            "licence": "CC BY 4.0",
            "split": "by combination and by picture",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.contrastive",
        "metrics": metrics,
        "licence": "MIT",
    }
    print(weights.save(NAME, card, tensors, traces))


if __name__ == "__main__":
    main()
