"""How texts differ by how they are chosen: the record of `language/decoding`.

    python -m train.decoding           # about 20 minutes on one core

SmolLM2-135M-Instruct goes on from 60 openings, written for this book, in ten ways, at
most 48 tokens each; in one of them inside its chat template. Every text is measured
four times:

repetition      the share of its runs of four tokens that stood in it before
distinct-2      pairs of tokens, different ones among all, over the texts of one setting
smol            perplexity under SmolLM2, which is not shown the opening
trigram         perplexity under a trigram model of Multi30k's English captions

Two rows of written text stand beside them: captions of the validation split, and the
book's own prose, cut to the same length. Nothing is chosen by these numbers. A finished
setting is a file under `_build/train/decoding/`, so a killed command goes on there.
"""

import math
from collections import Counter
from itertools import pairwise

import torch
import torch.nn.functional as F
from datasets import load_dataset
from tqdm import tqdm

from lib import decoding, training, weights
from lib.data.origin import EMBEDDED
from lib.pretrained.smollm2 import smollm2

NAME = "decoding"
NEW = 48  # tokens of a text, at most
SHOWN = "The history of the clock begins"  # the page draws the logits after it
ROWS = 30  # openings that go through the model together
ENDS = (0, 2)  # <|endoftext|>, <|im_end|>
SETTINGS = {
    "greedy": {},
    "beam 4": {"beams": 4},
    "greedy, penalty 1.3": {"penalty": 1.3},
    "temperature 1": {"temperature": 1.0},
    "temperature 0.7": {"temperature": 0.7},
    "temperature 1.5": {"temperature": 1.5},
    "top-k 40": {"top_k": 40},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.1": {"min_p": 0.1},
    "greedy, chat": {"chat": True},
}
TEXT = """The old lighthouse keeper climbed the stairs and
A woman in a green coat is standing at
Two children are building a tower of
On the morning of the first snow,
The recipe calls for three eggs and
My grandfather used to say that
When the train finally arrived,
A brown dog is running through
The most important thing about a good map is
In the middle of the market there was
Scientists who study the deep sea have
The letter had been lying in the drawer since
A man with a guitar is sitting on
Every summer the village holds
She opened the window and heard
The bridge over the river was built
If you want to learn to swim,
The cat looked at the fish and
Several people are waiting for
The first chapter of the book describes
At the end of the long road stood
A good teacher knows that
The engine made a strange noise, so
Nobody in the office had noticed that
The museum opened its doors to
A little girl in a yellow dress is
The river rises in the mountains and
Before you plant a tree,
The two brothers had not spoken since
An old bicycle was leaning against
The doctor looked at the screen and
In winter the lake is
The price of bread has
A group of friends are cooking
The captain ordered the crew to
It was the third time this week that
The garden behind the house was full of
People who work at night often
The orchestra began to play and
A construction worker is carrying
The best way to clean a window is
When I was a student,
The photograph shows
The wind blew so hard that
A boy with a red balloon is
The history of the clock begins
Her first job was in
The mountain hut offers
Under the table the children found
The city council decided to
A black and white bird is
The secret of a good soup is
On the last day of the holidays,
The machine can sort
The farmer looked at the sky and
Many visitors come to the island because
The young painter had only
A street vendor is selling
The answer to the riddle was
As soon as the lights went out,"""
OPENINGS = TEXT.split("\n")


def prompt(smol, opening: str, chat: bool) -> list[int]:
    """The tokens to go on from; in a chat the opening begins the model's answer."""
    if chat:
        asked = [{"role": "user", "content": f"Continue this text: {opening}"}]
        template = {"tokenize": False, "add_generation_prompt": True}
        opening = smol.tokenizer.apply_chat_template(asked, **template) + opening
    return smol.tokenizer(opening).input_ids


def texts(smol, setting: dict) -> list[list[int]]:
    """The new tokens of each opening, up to the first end."""
    found, setting = [], dict(setting)
    chat = setting.pop("chat", False)
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(OPENINGS), ROWS):
        some = OPENINGS[start : start + ROWS]
        lines = [prompt(smol, opening, chat) for opening in some]
        ids, mask = decoding.pad_left(lines, pad=2)
        step, more = decoding.cached(smol.model, mask), {"eos": ENDS, "pad": 2}
        if "beams" in setting:
            out, _ = decoding.beam(step, ids, NEW, setting["beams"], **more)
        elif set(setting) & {"temperature", "top_k", "top_p", "min_p"}:
            more["generator"] = generator
            out = decoding.sample(step, ids, NEW, **setting, **more)
        else:
            out = decoding.greedy(step, ids, NEW, **setting, **more)
        found += [cut(row) for row in out[:, ids.shape[1] :].tolist()]
    return found


def cut(tokens: list[int]) -> list[int]:
    """The tokens before the first end."""
    ends = [i for i, token in enumerate(tokens) if token in ENDS]
    return tokens[: ends[0]] if ends else tokens


def written(smol, trigram_text: list[str]) -> dict[str, list[list[int]]]:
    """Texts that were not decoded: captions, several to a text, and the book's prose."""
    captions, line = [], []
    for caption in trigram_text:
        line += smol.tokenizer(" " + caption).input_ids
        if len(line) >= NEW:
            captions.append(line[:NEW])
            line = []
    prose = (EMBEDDED / "prose.txt").read_text("utf8")
    ids = smol.tokenizer(prose).input_ids
    pieces = [ids[i : i + NEW] for i in range(0, len(ids) - NEW, NEW)]
    count = len(OPENINGS)
    stride = len(pieces) // count
    return {
        "written: captions": captions[:count],
        "written: this book": pieces[: stride * count : stride],
    }


@torch.inference_mode()
def surprise(smol, lines: list[list[int]]) -> list[float]:
    """Nats for each token of each text, under SmolLM2, after <|endoftext|> alone."""
    found = []
    for start in range(0, len(lines), ROWS):
        part = [[0, *line] for line in lines[start : start + ROWS]]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(x) for x in part], True, 0)
        logits = smol.model(ids[:, :-1]).logits  # (B, T, V); padding stands behind
        loss = F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")  # (B, T)
        for row, line in zip(loss, part, strict=True):
            size = max(len(line) - 1, 1)
            found.append(row[:size].sum().item() / size)
    return found


class Trigram:
    """P(token | the two before it), Witten–Bell: each order leans on the one below.

    A context that was followed by n different tokens gives the order below the weight
    n / (n + count). The last order below is uniform, so that no token is impossible.
    """

    def __init__(self, lines: list[list[int]], vocabulary: int):
        self.vocabulary = vocabulary
        self.counts = [Counter(), Counter(), Counter()]  # by the length of the context
        for line in lines:
            padded = [-1, -1, *line]
            for i in range(2, len(padded)):
                for n in range(3):
                    self.counts[n][tuple(padded[i - n : i + 1])] += 1
        self.totals, self.kinds = Counter(), Counter()
        for counts in self.counts:
            for gram, count in counts.items():
                self.totals[gram[:-1]] += count
                self.kinds[gram[:-1]] += 1

    def share(self, context: tuple[int, ...], token: int) -> float:
        below = self.share(context[1:], token) if context else 1 / self.vocabulary
        total, kinds = self.totals[context], self.kinds[context]
        if not total:
            return below
        count = self.counts[len(context)][(*context, token)]
        return (count + kinds * below) / (total + kinds)

    def surprise(self, line: list[int]) -> float:
        """Nats for each token of a text."""
        padded = [-1, -1, *line]
        shares = [
            self.share(tuple(padded[i - 2 : i]), padded[i])
            for i in range(2, len(padded))
        ]
        return -sum(map(math.log, shares)) / max(len(shares), 1)


def repetition(line: list[int], n: int = 4) -> float:
    """The share of a text's runs of n tokens that stood in it before."""
    runs = [tuple(line[i : i + n]) for i in range(len(line) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def main() -> None:
    folder = training.arguments(__doc__, NAME).folder
    torch.manual_seed(0)
    smol = smollm2()
    captions = load_dataset("bentrevett/multi30k")
    read = [
        smol.tokenizer(" " + row["en"].strip()).input_ids for row in captions["train"]
    ]
    trigram = Trigram(read, len(smol.tokenizer))
    rows = written(smol, [row["en"].strip() for row in captions["validation"]])

    def run(name: str) -> dict:
        lines = rows[name] if name in rows else texts(smol, SETTINGS[name])
        return {
            # Of others' texts: numbers only.
            "tokens": lines if name in SETTINGS else None,
            "lengths": [len(line) for line in lines],
            "repetition": [round(repetition(line), 4) for line in lines],
            "pairs": pairs(lines),
            "smol": [round(value, 4) for value in surprise(smol, lines)],
            "trigram": [round(trigram.surprise(line), 4) for line in lines],
        }

    runs = {}
    for name in tqdm([*SETTINGS, *rows]):
        key = name.replace(" ", "-").replace(":", "")
        runs[name] = training.kept(folder, key, lambda name=name: run(name))
        means = {key: sum(runs[name][key]) / 60 for key in ("repetition", "smol")}
        tqdm.write(f"{name}: {means}, distinct-2 {runs[name]['pairs']}")
    card = {
        "config": {"settings": SETTINGS, "new tokens": NEW, "openings": len(OPENINGS)},
        "data": "60 openings written for this book (CC BY 4.0); trigrams of Multi30k's "
        "29,000 English training captions, read when this ran and not shipped",
        "command": f"python -m train.{NAME}",
        "metrics": {
            "repetition, greedy": round(sum(runs["greedy"]["repetition"]) / 60, 3),
            "model": smol.name + ", " + smol.source,
        },
        "licence": "CC BY 4.0; texts generated by SmolLM2 (Apache-2.0)",
    }
    ids = torch.tensor([smol.tokenizer(SHOWN).input_ids])
    logits = decoding.cached(smol.model)(ids, None)[0].clone()  # (V,)
    trace = {"openings": OPENINGS, "runs": runs, "shown": SHOWN}
    weights.save(NAME, card, tensors={"logits": logits}, trace=trace)


def pairs(lines: list[list[int]]) -> float:
    """Distinct-2: different pairs of tokens among all, over all texts."""
    all_pairs = [pair for line in lines for pair in pairwise(line)]
    return round(len(set(all_pairs)) / max(len(all_pairs), 1), 4)


if __name__ == "__main__":
    main()
