"""A small VLM: connectors into frozen SmolLM2, the record of `vision/vision-language`.

    python -m train.vision_language                # everything, two to three CPU-hours
    python -m train.vision_language --only linear  # one arm, kept and not shipped

A frozen ViT-S looks at a picture once: 4×4 vectors, kept in the user's cache. A connector
makes a few image tokens of them, which stand in a prompt of frozen SmolLM2-135M:
*Question: What colour is the circle? Picture<image>:*. The connector alone is trained, in
two stages. First, in seconds and without SmolLM2, towards the word vectors of what is
there. Then through SmolLM2 on the answer's probability: 2,000 steps of 4 questions, half
of them about 3,600 generated scenes, half about the 3,542 pictures of easy-VQA of which
some question tells colour and shape (one question of each kind). What stands before the
picture does not depend on it: SmolLM2 reads each question once for all steps.

Arms. **mlp**: two layers on the means of 2×2 squares, four image tokens; three seeds.
**linear** and **resampler**, also four tokens; **mlp, 1 token** on the mean of all.
**blind**: four learned vectors and no picture, trained in the same way: what questions
alone tell. One seed each.

To compare: **closed form**, the first stage solved by ridge regression, square by square;
**aligned**, an mlp after the first stage; **untrained**, before it; **true words**,
*: (the caption) Answer* in the picture's place. Each main run is judged once more with
**shuffled** pictures: of another question of the same kind.

Judged: 300 questions of each of three splits of `lib.data.scenes` (`test`, `new place`,
`new pair`) and 300 of easy-VQA's test pictures, equally many of each kind. An answer is the
likeliest one of its kind, by the sum of its tokens' log-probabilities; each is recorded.
Sixty training questions are held back, and looked at during a run; nothing is chosen on
what is judged.

Every finished run is a file under `_build/train/vision-language/`, and a killed run goes
on from its last minute.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from lib import runtime, training, weights
from lib.data import easy_vqa, scene_pictures, scene_words
from lib.data.origin import Unreachable
from lib.data.scenes import scenes, shuffled
from lib.models import connectors
from lib.models.connectors import IMAGE, PICTURE, Before, next_logits, padded
from lib.pretrained.dinov2 import vit_s
from lib.pretrained.origin import Pretrained, kept
from lib.pretrained.smollm2 import smollm2

NAME = "vision-language"
PROMPT = f"Question: {{question}} Picture{IMAGE}:"
TOLD = ": {words} Answer"  # in the picture's place: Picture: A red circle. Answer:
ARMS = {
    "mlp": (connectors.TwoLayers, 4),
    "linear": (connectors.Linear, 4),
    "resampler": (connectors.Resampler, 4),
    "mlp, 1 token": (connectors.TwoLayers, 1),
    "blind": (connectors.Blind, 4),
}
SEEDS = {arm: range(3 if arm == "mlp" else 1) for arm in ARMS}
STEPS, BATCH, RATE, DECAY, WARM_UP, LOOK = 2_000, 4, 1e-3, 0.01, 50, 500
ALIGN = 300  # steps of the first stage
ROUNDS, HELD_BACK, PENALTY = 6, 60, 0.1
PICTURES, ASKED = 500, 300  # of an easy-VQA part of the cache; test questions
ANSWERS = {k: scene_words.ANSWERS[k] for k in scene_words.KINDS}
EASY = easy_vqa.ANSWERS
SPLITS = ("test", "new place", "new pair")


# --- Pictures, once ---------------------------------------------------------------


def cached(encoder: Pretrained, name: str, about: list, draw: Callable) -> Tensor:
    """The vectors of one part of the pictures, (n, P, F) in float16, from the cache.

    `about` says which pictures they are; `draw()` makes them, where it is needed.
    """
    sizes = [connectors.SIDE, connectors.GRID]
    text = json.dumps([encoder.source, about, *sizes])
    digest = hashlib.sha256(text.encode()).hexdigest()

    def convert(folder: Path) -> None:
        found = connectors.features(encoder.model, draw()).half()
        save_file({"features": found}, folder / "features.safetensors")

    return load_file(kept(name, digest, convert) / "features.safetensors")["features"]


def scene_features(encoder: Pretrained, rows: list[dict]) -> Tensor:
    """Of the pictures of scenes."""
    about = [row["objects"] for row in rows]
    return cached(
        encoder,
        "scene-features",
        about,
        lambda: scene_pictures.pictures(rows, connectors.SIDE),
    )


def easy_features(encoder: Pretrained, split: str, files: list[str]) -> Tensor:
    """Of easy-VQA's pictures, a part after the other; `files` follow from the split."""
    found = []
    for at in tqdm(range(0, len(files), PICTURES), desc=f"easy-VQA, {split}"):
        part = files[at : at + PICTURES]
        about = [easy_vqa.SHA256[split], at, len(part)]
        draw = lambda part=part: easy_vqa.pictures(part, connectors.SIDE)  # noqa: E731
        found.append(cached(encoder, "easy-vqa-features", about, draw))
    return torch.cat(found)


# --- Questions --------------------------------------------------------------------


def balanced(rows: list[dict], number: int | None = None) -> list[dict]:
    """By lot: one question of each kind about a picture, or `number` in all."""
    rng = random.Random("easy-VQA")
    rows = rng.sample(rows, len(rows))
    if number is None:
        found = {(row["file"], row["kind"]): row for row in rows}
        return [found[key] for key in sorted(found)]
    return equally(rows, EASY, number)


def equally(rows: list[dict], kinds: Iterable[str], number: int) -> list[dict]:
    """The first rows, equally many of each kind, `number` in all."""
    kinds = [*kinds]
    parts = [[row for row in rows if row["kind"] == kind] for kind in kinds]
    return [row for part in parts for row in part[: number // len(kinds)]]


class Sheet(NamedTuple):
    """Questions about pictures: rows of kind, question, answer, known answers, words."""

    rows: list[dict]
    features: Tensor  # (n, P, F) of the pictures
    picture: Tensor  # (N,), whose each question is


def scene_sheet(encoder: Pretrained, split: str, rounds: list[list[dict]]) -> Sheet:
    """Questions about scenes, each with its own picture; the cache has round by round."""
    parts = tqdm(rounds, desc=split)
    seen = torch.cat([scene_features(encoder, rows) for rows in parts])
    rows = [
        row | {"known": ANSWERS[row["kind"]], "words": row["caption"]}
        for one in rounds
        for row in one
    ]
    return Sheet(rows, seen, torch.arange(len(rows)))


def easy_sheet(encoder: Pretrained, split: str, number: int | None) -> Sheet:
    """Questions of easy-VQA, balanced, about pictures whose words are known."""
    rows = easy_vqa.easy_vqa(split).rows
    words = easy_vqa.shown(rows)
    files = [*words]
    seen, at = easy_features(encoder, split, files), {f: i for i, f in enumerate(files)}
    chosen = [
        row
        | {
            "known": EASY[row["kind"]],
            "words": f"A {words[row['file']]}.",
            "question": row["question"].capitalize(),
        }
        for row in balanced([row for row in rows if row["file"] in words], number)
    ]
    return Sheet(chosen, seen, torch.tensor([at[row["file"]] for row in chosen]))


class Data(NamedTuple):
    """What is trained on and judged; the features are of mean 0 and variance 1 there."""

    train: list[Sheet]  # scenes, easy-VQA
    back: Sheet  # held back from training
    judged: dict[str, Sheet]
    middle: Tensor  # (F,), what was subtracted
    spread: Tensor  # (F,), by what was divided


def prepare(encoder: Pretrained) -> Data:
    """All questions, and their pictures' vectors from the cache."""
    rounds = [scenes("train", 1, seed).rows for seed in range(ROUNDS)]
    train = [
        scene_sheet(encoder, "train", rounds),
        easy_sheet(encoder, "train", None),
    ]
    judged = {}
    for split in SPLITS:
        rows = equally(scenes(split, 1, 0).rows, ANSWERS, ASKED)
        judged[split] = scene_sheet(encoder, split, [rows])
    judged["easy-VQA"] = easy_sheet(encoder, "test", ASKED)
    seen = torch.cat([sheet.features.flatten(0, 1) for sheet in train]).float()
    middle, spread = seen.mean(0), seen.std(0)  # (F,)

    def scaled(sheet: Sheet) -> Sheet:
        return sheet._replace(features=(sheet.features.float() - middle) / spread)

    scene, easy = map(scaled, train)
    back = Sheet(scene.rows[-HELD_BACK:], scene.features, scene.picture[-HELD_BACK:])
    scene = Sheet(scene.rows[:-HELD_BACK], scene.features, scene.picture[:-HELD_BACK])
    judged = {name: scaled(sheet) for name, sheet in judged.items()}
    return Data([scene, easy], back, judged, middle, spread)


# --- The language model, frozen ---------------------------------------------------


class Reader:
    """SmolLM2 and all beginnings of prompts: it has read each question once."""

    def __init__(self, found: Pretrained, sheets: list[Sheet]):
        self.language = found.model.eval().requires_grad_(False)
        self.tokenizer = found.tokenizer
        self.scale = self.language.get_input_embeddings().weight.std().item()
        texts = sorted({row["question"] for sheet in sheets for row in sheet.rows})
        before, after = PROMPT.split(IMAGE)
        rows = [self.ids(before.format(question=text)) for text in texts]
        self.number = {text: i for i, text in enumerate(texts)}
        self.before: Before = connectors.read_before(self.language, padded(rows))
        self.after = self.ids(after)
        known = {*sum([*ANSWERS.values(), *EASY.values()], ())}
        self.answers = {word: self.ids(f" {word}") for word in sorted(known)}

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def which(self, rows: list[dict]) -> Tensor:
        """The numbers of the questions of rows: (B,)."""
        return torch.tensor([self.number[row["question"]] for row in rows])

    def loss(self, vectors: Tensor, rows: list[dict]) -> Tensor:
        """−ln of the right answers' probabilities, the mean over rows; (B, M, D)."""
        answers = [self.answers[row["answer"]] for row in rows]
        most = max(map(len, answers))
        places = [PICTURE] * vectors.shape[1]
        ids = padded([[*places, *self.after, *tokens[:-1]] for tokens in answers])
        logits = next_logits(
            self.language, ids, vectors, self.before, self.which(rows), most
        )  # (B, most, V)
        wanted = padded(
            answers
        )  # (B, most); of shorter answers the first are no tokens
        total = F.cross_entropy(
            logits.mT, wanted, ignore_index=connectors.PAD, reduction="sum"
        )
        return total / len(rows)

    def choose(self, vectors: Tensor, rows: list[dict]) -> list[int]:
        """The likeliest of the known answers of each row, by its place among them."""
        scores = [[0.0] * len(row["known"]) for row in rows]
        tokens = [[self.answers[word] for word in row["known"]] for row in rows]
        starts = {tuple(t[:-1]) for known in tokens for t in known}
        for start in sorted(starts):  # one pass for each beginning of an answer
            asked = [
                i
                for i, known in enumerate(tokens)
                if any(tuple(t[:-1]) == start for t in known)
            ]
            places = [PICTURE] * vectors.shape[1]
            ids = padded([[*places, *self.after, *start]] * len(asked))
            which = self.which([rows[i] for i in asked])
            logits = next_logits(
                self.language, ids, vectors[asked], self.before, which, len(start) + 1
            )
            logs = logits.log_softmax(-1)  # (b, len(start) + 1, V)
            for i, log in zip(asked, logs, strict=True):
                for k, t in enumerate(tokens[i]):
                    if tuple(t[:-1]) == start:
                        scores[i][k] = sum(log[j, x].item() for j, x in enumerate(t))
        return [max(range(len(s)), key=s.__getitem__) for s in scores]


@torch.no_grad()
def answered(
    reader: Reader, see: Callable, sheet: Sheet, picture: Tensor, batch: int = 50
) -> list[int]:
    """What is chosen for each question; `see` makes image tokens of (b, P, F)."""
    found = []
    for at in range(0, len(sheet.rows), batch):
        rows = sheet.rows[at : at + batch]
        seen = sheet.features[picture[at : at + batch]]  # (b, P, F)
        found += reader.choose(see(seen), rows)
    return found


def judge(reader: Reader, see: Callable, data: Data, shuffle: bool = False) -> dict:
    """What is chosen for each question of each split."""
    found = {}
    for split, sheet in data.judged.items():
        picture = sheet.picture
        if shuffle:
            picture = picture[shuffled(sheet.rows)]
        found[split] = answered(reader, see, sheet, picture)
    return found


def share(chosen: list[int], rows: list[dict]) -> float:
    """The share of right answers."""
    right = [
        row["known"][i] == row["answer"] for row, i in zip(rows, chosen, strict=True)
    ]
    return round(sum(right) / len(right), 4)


# --- Runs -------------------------------------------------------------------------


def config(arm: str) -> dict:
    """All that makes the runs of an arm what they are."""
    kind, tokens = ARMS[arm]
    numbers = {"steps": STEPS, "batch": BATCH, "rate": RATE, "decay": DECAY}
    sizes = {"side": connectors.SIDE, "grid": connectors.GRID, "rounds": ROUNDS}
    return {
        "connector": kind.__name__,
        "tokens": tokens,
        "prompt": PROMPT,
        "warm_up": WARM_UP,
        "align": ALIGN,
        "held_back": HELD_BACK,
        **numbers,
        **sizes,
    }


def connector(arm: str, reader: Reader, data: Data) -> nn.Module:
    """An untrained connector of an arm."""
    kind, tokens = ARMS[arm]
    D = reader.language.config.hidden_size
    return kind(len(data.middle), D, tokens, reader.scale)


def meant(reader: Reader, sheet: Sheet, tokens: int) -> Tensor:
    """For each question the word vectors' mean of what its picture shows: (N, M, D).

    With four tokens square by square, an empty one is *nothing*; of an easy-VQA picture
    every square has its words, since they do not say where.
    """
    table = reader.language.get_input_embeddings().weight  # (V, D)
    known: dict[str, Tensor] = {}
    found = []
    for row in sheet.rows:
        there = {o.place: f"{o.colour} {o.shape}" for o in row.get("objects", ())}
        easy = row["words"].removeprefix("A ").rstrip(".")
        squares = [there.get(place, "nothing") for place in scene_words.PLACES]
        said = squares if there else [easy] * len(squares)
        if tokens == 1:
            said = [" ".join(there.values()) or easy]
        for words in said:
            if words not in known:
                known[words] = table[reader.ids(f" {words}")].mean(0)  # (D,)
        found.append(torch.stack([known[words] for words in said]))
    return torch.stack(found)


def align(model: nn.Module, tokens: int, seed: int, reader: Reader, data: Data) -> None:
    """The first stage, without the language model: towards the words of what is there."""
    x = torch.cat([sheet.features[sheet.picture] for sheet in data.train])  # (N, P, F)
    y = torch.cat([meant(reader, sheet, tokens) for sheet in data.train])  # (N, M, D)

    def batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        some = torch.randint(len(x), (128,), generator=generator)
        return x[some], y[some]

    training.fit(
        model,
        batch,
        lambda net, x, y: F.mse_loss(net(x), y) / reader.scale**2,
        ALIGN,
        [torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)],
        seed=seed,
        every=ALIGN,
    )


def run(arm: str, seed: int, reader: Reader, data: Data, folder: Path) -> dict:
    """Train one connector: its trace, what it chooses, its weights."""
    torch.manual_seed(seed)
    model = connector(arm, reader, data)
    align(model, ARMS[arm][1], seed, reader, data)

    def batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        number = torch.arange(len(data.train)).repeat_interleave(BATCH // 2)  # (B,)
        most = torch.tensor([len(sheet.rows) for sheet in data.train])[number]
        lots = torch.rand(BATCH, generator=generator, dtype=torch.float64)
        return number, (lots * most).long()  # half scenes, half easy-VQA; its questions

    def loss(net: nn.Module, number: Tensor, at: Tensor) -> Tensor:
        pairs = zip(number.tolist(), at.tolist(), strict=True)
        asked = [(data.train[n], i) for n, i in pairs]
        seen = torch.stack([s.features[s.picture[i]] for s, i in asked])  # (B, P, F)
        return reader.loss(net(seen), [s.rows[i] for s, i in asked])

    def look(net: nn.Module) -> dict:
        sheet = data.back
        chosen = answered(reader, net, sheet, sheet.picture)
        return {"held back": share(chosen, sheet.rows)}

    trace = training.fit(
        model,
        batch,
        loss,
        STEPS,
        [torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)],
        seed=seed,
        warm_up=WARM_UP,
        evaluate=look,
        every=25,
        evaluate_every=LOOK,
        folder=folder,
        config=config(arm),
    )
    trace["chosen"] = judge(reader, model, data)
    if arm == "mlp":
        trace["shuffled"] = judge(reader, model, data, shuffle=True)
    trace["processor"] = runtime.processor()
    return {"trace": trace, "tensors": model.state_dict()}


# --- Without training -------------------------------------------------------------


def closed_form(reader: Reader, data: Data) -> nn.Linear:
    """The ridge map from a square to the words of what is there, F to D: `align`, solved."""
    x, y = [], []
    for sheet in data.train:
        squares = connectors.pooled(sheet.features.mT.unflatten(-1, (4, 4)), 2)
        x.append(squares[sheet.picture].flatten(0, 1))  # (4 N, F)
        y.append(meant(reader, sheet, 4).flatten(0, 1))  # (4 N, D)
    return connectors.ridge(torch.cat(x), torch.cat(y), PENALTY)


def controls(reader: Reader, data: Data) -> dict:
    """What is chosen without the second stage, without any, and from the true words."""
    linear = connectors.Linear(len(data.middle), reader.language.config.hidden_size, 4)
    linear.map = closed_form(reader, data)
    torch.manual_seed(0)
    start = connector("mlp", reader, data)
    found = {
        "closed form": judge(reader, linear, data),
        "untrained": judge(reader, start, data),
    }
    align(start, 4, 0, reader, data)
    found["aligned"] = judge(reader, start, data)
    found["true words"] = {
        split: spoken(reader, sheet) for split, sheet in data.judged.items()
    }
    return {"chosen": found, "tensors": linear.state_dict()}


@torch.no_grad()
def spoken(reader: Reader, sheet: Sheet) -> list[int]:
    """What is chosen where the words stand in the picture's place, row by row."""
    table, found = reader.language.get_input_embeddings(), []
    for row in sheet.rows:
        ids = reader.ids(TOLD.format(words=row["words"]))
        vectors = table(torch.tensor([ids]))  # (1, M, D)
        found += reader.choose(vectors, [row])
    return found


# --- The study --------------------------------------------------------------------


def study(folder: Path, only: str | None = None) -> tuple[dict, dict, Data]:
    """Run what is missing: traces by arm, tensors, and the questions that were judged."""
    encoder = vit_s()
    print(encoder, flush=True)
    data = prepare(encoder)
    reader = Reader(smollm2(), [*data.train, data.back, *data.judged.values()])
    source = encoder.source
    traces, tensors = {}, {"middle": data.middle, "spread": data.spread}
    for arm in [only] if only else ARMS:
        traces[arm] = []
        for seed in SEEDS[arm]:
            key = training.digest([arm, seed, config(arm), ASKED, LOOK, source])
            job = lambda arm=arm, seed=seed, key=key: run(  # noqa: E731
                arm, seed, reader, data, folder / key
            )
            found = training.kept(folder, key, job)
            traces[arm].append(found["trace"])
            chosen = found["trace"]["chosen"]
            report = {s: share(c, data.judged[s].rows) for s, c in chosen.items()}
            print(arm, seed, report, flush=True)
            if seed == 0:
                tensors |= {f"{arm}.{k}": x for k, x in found["tensors"].items()}
    if not only:
        key = training.digest(["controls", config("mlp"), PENALTY, TOLD, ASKED, source])
        found = training.kept(folder, key, lambda: controls(reader, data))
        traces["controls"] = found["chosen"]
        tensors |= {f"closed form.{k}": x for k, x in found["tensors"].items()}
    return traces, tensors, data


def main(argv: list[str] | None = None) -> None:
    only = ("--only", {"choices": [*ARMS], "help": "one arm; nothing is shipped"})
    given = training.arguments(__doc__, NAME, only, argv=argv)
    try:
        traces, tensors, data = study(given.folder, given.only)
    except Unreachable as error:
        print(f"nothing is trained: {error}")
        return
    if given.only:
        return
    exam = {
        split: {
            "kind": [row["kind"] for row in sheet.rows],
            "right": [row["known"].index(row["answer"]) for row in sheet.rows],
        }
        for split, sheet in data.judged.items()
    }
    metrics = {
        arm: {
            "right": {
                split: [share(t["chosen"][split], sheet.rows) for t in traces[arm]]
                for split, sheet in data.judged.items()
            },
            "cpu_minutes": [round(t["cpu_seconds"] / 60, 1) for t in traces[arm]],
        }
        for arm in ARMS
    }
    metrics |= {
        name: {s: share(c, data.judged[s].rows) for s, c in found.items()}
        for name, found in traces["controls"].items()
    }
    card = {
        "config": {arm: config(arm) for arm in ARMS},
        "data": {
            "name": "scenes; easy-VQA",
            "source": f"lib/data/scenes.py; the package {easy_vqa.VERSION}",
            "licence": "CC BY 4.0; MIT",
            "split": "by combination and by picture; by picture",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.vision_language",
        "metrics": metrics,
        "licence": "MIT",
    }
    half = {name: x.half() for name, x in tensors.items()}
    print(weights.save(NAME, card, half, traces | {"exam": exam}))


if __name__ == "__main__":
    main()
