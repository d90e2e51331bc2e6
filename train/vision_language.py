"""A small VLM: connectors into frozen SmolLM2, the record of `vision/vision-language`.

    python -m train.vision_language                # everything, 90 CPU-minutes
    python -m train.vision_language --only linear  # one arm, kept and not shipped

A frozen ViT-S looks at a picture once: 4×4 vectors, kept in the user's cache. A connector
makes a few image tokens of them, which stand in a prompt of frozen SmolLM2-135M: *Question:
What colour is the circle? Picture<image>:*, after three examples with words in the
picture's place, *(A blue star.)*. The connector alone is trained, in two stages. First, in
seconds and without SmolLM2, towards the word vectors of what is there. Then through
SmolLM2, on the right answer's probability among the known answers of its kind: 250 steps
of 4 questions, half of them about 2,340 generated scenes, half about 1,500 pictures of
easy-VQA of which some question tells colour and shape, one question of each kind. What
stands before the picture does not depend on it: SmolLM2 reads each question once.

Arms, three seeds each, which draw the same questions: **mlp**, two layers on the means of
2×2 squares, four image tokens; **linear** and **resampler**, also four tokens; **mlp, 1
token** on the mean of all. **blind**: four learned vectors and no picture, trained in the
same way: what questions alone tell. **mlp, longer** goes on where each mlp ended, for
1,750 more steps with a schedule of their own.

To compare: **closed form**, the first stage solved by ridge regression, square by square;
**aligned**, each mlp after the first stage; **untrained**, before it; **true words**, the
caption in the picture's place, as in the examples. Each longer run is judged once more
with **shuffled** pictures: of another question of the same kind.

Judged: 150 questions of each of three splits of `lib.data.scenes` (`test`, `new place`,
`new pair`) and 150 of easy-VQA's test pictures, equally many of each kind. An answer is the
likeliest of its kind; each is recorded. Sixty training questions are held back, and looked
at during a run; nothing is chosen on what is judged. The examples were chosen by what
SmolLM2 answers to true words of the training split.

Every finished run is a file under `_build/train/vision-language/`, and a killed run goes
on from its last minute.
"""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lib import runtime, training, weights
from lib.data import easy_vqa, scene_pictures, scene_words
from lib.data.origin import Unreachable
from lib.data.scenes import scenes, shuffled
from lib.models import connectors
from lib.models.connectors import IMAGE, PICTURE, Before, next_logits, padded
from lib.pretrained.dinov2 import vit_s
from lib.pretrained.origin import Pretrained, computed
from lib.pretrained.smollm2 import smollm2

NAME = "vision-language"
EXAMPLES = (
    ("What colour is the star?", "A blue star.", "blue"),
    ("Is there a red heart?", "A yellow heart.", "no"),
    ("Where is the cross?", "A green cross at the bottom left.", "bottom left"),
)
PROMPT = "".join(f"Question: {q} Picture ({w}): {a}\n" for q, w, a in EXAMPLES)
PROMPT += f"Question: {{question}} Picture{IMAGE}:"
TOLD = " ({words})"  # in the picture's place


class Arm(NamedTuple):
    """A connector, its image tokens, and the arm whose runs it continues, if any."""

    kind: type[nn.Module]
    tokens: int = 4
    start: str | None = None


ARMS = {
    "mlp": Arm(connectors.TwoLayers),
    "linear": Arm(connectors.Linear),
    "resampler": Arm(connectors.Resampler),
    "mlp, 1 token": Arm(connectors.TwoLayers, 1),
    "blind": Arm(connectors.Blind),
    "mlp, longer": Arm(connectors.TwoLayers, start="mlp"),
}
SHIPPED = ("mlp, longer", "blind")  # their first seed's weights, and the closed form's
SEEDS = range(3)
FEW, STEPS = 250, 2_000  # of each arm; of the longer one, with those before
BATCH, RATE, DECAY, WARM_UP, LOOK = 4, 1e-3, 0.01, 50, 500
ALIGN = 300  # steps of the first stage
ROUNDS, PICTURES, HELD_BACK, PENALTY = 4, 1_500, 60, 0.1
PART, ASKED = 500, 150  # pictures of one file of the cache; test questions
SIZES = [connectors.SIDE, connectors.GRID]
ANSWERS = {k: scene_words.ANSWERS[k] for k in scene_words.KINDS}
EASY = easy_vqa.ANSWERS
SPLITS = ("test", "new place", "new pair")
TOLD_OF = ("test", "easy-VQA")  # to SmolLM2 no combination of words was held out


# --- Pictures, once ---------------------------------------------------------------


def scene_features(encoder: Pretrained, rows: list[dict]) -> Tensor:
    """Of the pictures of scenes, (n, P, F)."""
    about = [encoder.source, [row["objects"] for row in rows], *SIZES]

    def see() -> Tensor:
        drawn = scene_pictures.pictures(rows, connectors.SIDE)
        return connectors.features(encoder.model, drawn)

    return computed("scene-features", about, see)


def easy_features(encoder: Pretrained, split: str, files: list[str]) -> Tensor:
    """Of pictures of easy-VQA, a part after the other."""
    found = []
    for at in tqdm(range(0, len(files), PART), desc=f"easy-VQA, {split}"):
        part = files[at : at + PART]
        about = [encoder.source, easy_vqa.SHA256[split], *SIZES]
        about.append([Path(file).name for file in part])

        def see(part: list[str] = part) -> Tensor:
            drawn = easy_vqa.pictures(part, connectors.SIDE)
            return connectors.features(encoder.model, drawn)

        found.append(computed("easy-vqa-features", about, see))
    return torch.cat(found)


# --- Questions --------------------------------------------------------------------


def balanced(rows: list[dict], pictures: int) -> list[dict]:
    """By lot so many pictures, and of each one question of each kind."""
    rng = random.Random("easy-VQA")
    chosen = {*rng.sample(sorted({row["file"] for row in rows}), pictures)}
    rows = [row for row in rng.sample(rows, len(rows)) if row["file"] in chosen]
    found = {(row["file"], row["kind"]): row for row in rows}
    return [found[key] for key in sorted(found)]


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


def easy_sheet(encoder: Pretrained, split: str, pictures: int) -> Sheet:
    """Questions of easy-VQA, one of each kind about each of so many pictures.

    Of each picture some question tells colour and shape.
    """
    rows = easy_vqa.easy_vqa(split).rows
    words = easy_vqa.shown(rows)
    chosen = [
        row
        | {
            "known": EASY[row["kind"]],
            "words": f"A {words[row['file']]}.",
            "question": row["question"].capitalize(),
        }
        for row in balanced([row for row in rows if row["file"] in words], pictures)
    ]
    files = sorted({row["file"] for row in chosen})
    seen, at = easy_features(encoder, split, files), {f: i for i, f in enumerate(files)}
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
        easy_sheet(encoder, "train", PICTURES),
    ]
    judged = {}
    for split in SPLITS:
        rows = equally(scenes(split, 1, 0).rows, ANSWERS, ASKED)
        judged[split] = scene_sheet(encoder, split, [rows])
    judged["easy-VQA"] = easy_sheet(encoder, "test", ASKED // len(EASY))
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
        words = {*sum([*ANSWERS.values(), *EASY.values()], ())}
        self.answers = {word: tuple(self.ids(f" {word}")) for word in sorted(words)}
        self.words = torch.tensor(sorted({*sum(self.answers.values(), ())}))  # (W,)
        self.column = {token: i for i, token in enumerate(self.words.tolist())}

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def which(self, rows: list[dict]) -> Tensor:
        """The numbers of the questions of rows: (B,)."""
        return torch.tensor([self.number[row["question"]] for row in rows])

    def known(self, row: dict) -> list[tuple[int, ...]]:
        """The tokens of the answers that a question may have."""
        return [self.answers[word] for word in row["known"]]

    def losses(self, vectors: Tensor, rows: list[dict]) -> Tensor:
        """−ln of each right answer's probability among the known ones: (B,).

        `vectors` (B, M, D). At each of an answer's tokens the softmax is over those that
        go on towards a known answer.
        """
        answers = [self.answers[row["answer"]] for row in rows]
        most = max(map(len, answers))
        places = [PICTURE] * vectors.shape[1]
        ids = padded([[*places, *self.after, *tokens[:-1]] for tokens in answers])
        which = self.which(rows)
        logits = next_logits(
            self.language, ids, vectors, self.before, which, most, self.words
        )  # (B, most, W)
        found = []
        for row, answer, said in zip(rows, answers, logits, strict=True):
            loss, known = 0.0, self.known(row)
            for j, scores in enumerate(said[most - len(answer) :]):  # (W,) each
                next_ = branches(known, answer[:j])
                logs = scores[[self.column[t] for t in next_]].log_softmax(0)
                loss -= logs[next_.index(answer[j])]
            found.append(loss)
        return torch.stack(found)

    def likely(self, vectors: Tensor, rows: list[dict]) -> list[list[float]]:
        """Of each row the known answers' log-probabilities; their exponentials sum to 1."""
        found = [[0.0] * len(row["known"]) for row in rows]
        known = [self.known(row) for row in rows]
        starts = {t[:j] for some in known for t in some for j in range(len(t))}
        for start in sorted(starts):  # one pass for each beginning of an answer
            asked = [
                i for i, some in enumerate(known) if len(branches(some, start)) > 1
            ]
            if not asked:
                continue
            places = [PICTURE] * vectors.shape[1]
            ids = padded([[*places, *self.after, *start]] * len(asked))
            which = self.which([rows[i] for i in asked])
            logits = next_logits(
                self.language,
                ids,
                vectors[asked],
                self.before,
                which,
                words=self.words,
            )  # (b, 1, W)
            for i, scores in zip(asked, logits[:, 0], strict=True):
                next_ = branches(known[i], start)
                logs = scores[[self.column[t] for t in next_]].log_softmax(0).tolist()
                for k, t in enumerate(known[i]):
                    if t[: len(start)] == start:
                        found[i][k] += logs[next_.index(t[len(start)])]
        return found


def branches(known: list[tuple[int, ...]], start: tuple[int, ...]) -> list[int]:
    """The tokens with which `start` goes on towards a known answer, sorted."""
    n = len(start)
    return sorted({t[n] for t in known if t[:n] == start and len(t) > n})


@torch.no_grad()
def answered(
    reader: Reader, see: Callable, sheet: Sheet, picture: Tensor, batch: int = 50
) -> list[int]:
    """What is chosen for each question; `see` makes image tokens of (b, P, F)."""
    found = []
    for at in range(0, len(sheet.rows), batch):
        rows = sheet.rows[at : at + batch]
        seen = sheet.features[picture[at : at + batch]]  # (b, P, F)
        found += map(best, reader.likely(see(seen), rows))
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


def best(logs: list[float]) -> int:
    """The place of the largest."""
    return max(range(len(logs)), key=logs.__getitem__)


def share(chosen: list[int], rows: list[dict]) -> float:
    """The share of right answers."""
    right = [
        row["known"][i] == row["answer"] for row, i in zip(rows, chosen, strict=True)
    ]
    return round(sum(right) / len(right), 4)


# --- Runs -------------------------------------------------------------------------


def config(arm: str) -> dict:
    """All that makes the runs of an arm what they are."""
    kind, tokens, start = ARMS[arm]
    return {
        "connector": kind.__name__,
        "tokens": tokens,
        "prompt": PROMPT,
        "start": start,
        "steps": STEPS - FEW if start else FEW,
        "batch": BATCH,
        "rate": RATE,
        "decay": DECAY,
        "warm_up": WARM_UP,
        "align": ALIGN,
        "rounds": ROUNDS,
        "pictures": PICTURES,
        "held_back": HELD_BACK,
        "sizes": SIZES,
    }


def connector(arm: str, reader: Reader, data: Data) -> nn.Module:
    """An untrained connector of an arm."""
    kind, tokens, _ = ARMS[arm]
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


def run(
    arm: str,
    seed: int,
    reader: Reader,
    data: Data,
    folder: Path,
    start: dict[str, Tensor] | None = None,
) -> dict:
    """Train one connector, or go on from `start`: trace, what it chooses, weights."""
    torch.manual_seed(seed)
    model = connector(arm, reader, data)
    found = {}
    if start is None:
        align(model, ARMS[arm].tokens, seed, reader, data)
        if arm == "mlp":
            found["aligned"] = judge(reader, model, data)
    else:
        model.load_state_dict(start)

    def batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        number = torch.arange(len(data.train)).repeat_interleave(BATCH // 2)  # (B,)
        most = torch.tensor([len(sheet.rows) for sheet in data.train])[number]
        lots = torch.rand(BATCH, generator=generator, dtype=torch.float64)
        return number, (lots * most).long()  # half scenes, half easy-VQA; its questions

    def loss(net: nn.Module, number: Tensor, at: Tensor) -> Tensor:
        pairs = zip(number.tolist(), at.tolist(), strict=True)
        asked = [(data.train[n], i) for n, i in pairs]
        seen = torch.stack([s.features[s.picture[i]] for s, i in asked])  # (B, P, F)
        return reader.losses(net(seen), [s.rows[i] for s, i in asked]).mean()

    def look(net: nn.Module) -> dict:
        sheet = data.back
        chosen = answered(reader, net, sheet, sheet.picture)
        return {"held back": share(chosen, sheet.rows)}

    trace = training.fit(
        model,
        batch,
        loss,
        config(arm)["steps"],
        [torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)],
        seed=seed if start is None else seed + len(SEEDS),  # other questions
        warm_up=WARM_UP,
        evaluate=look,
        every=25,
        evaluate_every=LOOK,
        folder=folder,
        config=config(arm),
    )
    found["chosen"] = judge(reader, model, data)
    if start is not None:
        found["shuffled"] = judge(reader, model, data, shuffle=True)
    found["processor"] = runtime.processor()
    return {"trace": trace | found, "tensors": model.state_dict()}


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
    found = {
        "closed form": judge(reader, linear, data),
        "untrained": judge(reader, connector("mlp", reader, data), data),
        "true words": {s: spoken(reader, data.judged[s]) for s in TOLD_OF},
    }
    return {"chosen": found, "tensors": linear.state_dict()}


@torch.no_grad()
def spoken(reader: Reader, sheet: Sheet) -> list[int]:
    """What is chosen where the words stand in the picture's place."""
    table = reader.language.get_input_embeddings()
    said = [reader.ids(TOLD.format(words=row["words"])) for row in sheet.rows]
    found = [0] * len(said)
    for M in sorted({*map(len, said)}):  # those of one length together
        at = [i for i, ids in enumerate(said) if len(ids) == M]
        vectors = table(torch.tensor([said[i] for i in at]))  # (b, M, D)
        likely = reader.likely(vectors, [sheet.rows[i] for i in at])
        for i, logs in zip(at, likely, strict=True):
            found[i] = best(logs)
    return found


# --- The study --------------------------------------------------------------------


def study(folder: Path, only: str | None = None) -> tuple[dict, dict, Data]:
    """Run what is missing: traces by arm, tensors, and the questions that were judged."""
    encoder = vit_s()
    print(encoder, flush=True)
    data = prepare(encoder)
    reader = Reader(smollm2(), [*data.train, data.back, *data.judged.values()])
    source = encoder.source

    def finished(arm: str, seed: int) -> dict:
        start = ARMS[arm].start
        before = start and finished(start, seed)["tensors"]
        described = [config(arm), start and config(start)]
        key = training.digest([arm, seed, described, ASKED, LOOK, source])
        job = lambda: run(arm, seed, reader, data, folder / key, before)  # noqa: E731
        return training.kept(folder, key, job)

    traces, tensors = {}, {"middle": data.middle, "spread": data.spread}
    for arm in [only] if only else ARMS:
        traces[arm] = []
        for seed in SEEDS:
            found = finished(arm, seed)
            traces[arm].append(found["trace"])
            chosen = found["trace"]["chosen"]
            report = {s: share(c, data.judged[s].rows) for s, c in chosen.items()}
            print(arm, seed, report, flush=True)
            if arm in SHIPPED and seed == SEEDS[0]:
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
