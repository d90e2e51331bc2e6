"""Does the cut of numbers decide what a model can add? The record of `tokens/tokenizer-internals`.

    python -m train.arithmetic            # everything, about 17 minutes on one core

One task, `352+871=1223`, three ways to cut the numbers into tokens (`CUTS`): each digit; the
pieces of a BPE that was trained on numbers as texts have them, small ones more often than
large ones; the whole number up to 999. The same sums in the same order, the same network
(`LanguageModel`), steps, rate and loss (the tokens of the answer alone). The test sums are
drawn once and never trained on. An answer is right if the text is: the model writes
it token by token, and what it writes is decoded. Nothing is chosen by the test sums.

Every finished run is a file under `_build/train/arithmetic/`, so a killed command goes on
where it was.
"""

import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu
from tokenizers import Tokenizer, models, trainers
from torch import Tensor
from tqdm import tqdm

from lib import training, weights
from lib.models.language import LanguageModel

NAME = "arithmetic"
LOW, HIGH = 100, 1000  # both numbers of a sum: three digits
CUTS = ("each digit", "BPE pieces", "whole numbers")
NUMBERS, MERGES = 100_000, 200  # of the text that the BPE is trained on
SEEDS, STEPS, BATCH, RATE, WARM_UP = range(5), 1500, 128, 3e-3, 100
SHAPE = {"d_model": 64, "num_heads": 4, "layers": 2}
EVERY, TEST, TEST_SEED = 250, 1000, 10_000
CONFIG = {
    "network": "LanguageModel, RoPE",
    "shape": SHAPE,
    "optimiser": "AdamW; warm-up, then half a cosine",
    "rate": RATE,
    "steps": STEPS,
    "batch": BATCH,
    "cuts": CUTS,
    "seeds": len(SEEDS),
    "numbers": [LOW, HIGH - 1],
    "merges": MERGES,
}


def numbers_as_in_text(count: int = NUMBERS, seed: int = 0) -> list[str]:
    """Numbers from 1 to 9,999 whose logarithms are drawn evenly: small ones prevail."""
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed)).double()
    return [str(int(x)) for x in (10_000**drawn).tolist()]


def pieces(numbers: list[str], merges: int = MERGES) -> Tokenizer:
    """A BPE of the digits and `merges` pieces, trained by the field's library."""
    bpe = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=10 + merges, show_progress=False)
    bpe.train_from_iterator(numbers, trainer)
    return bpe


class Cut:
    """Text of sums to ids and back; each sum ends with a full stop."""

    def __init__(self, cut: str) -> None:
        self.cut = cut
        self.bpe = pieces(numbers_as_in_text()) if cut == "BPE pieces" else None
        whole = map(str, range(1000 if cut == "whole numbers" else 10))
        names = self.bpe.get_vocab() if self.bpe else whole
        self.names = [*"+=.", *sorted(names, key=lambda name: (len(name), name))]
        self.ids = {name: i for i, name in enumerate(self.names)}

    def number(self, digits: str) -> list[str]:
        if self.cut == "each digit":
            return list(digits)
        if self.bpe:
            return self.bpe.encode(digits).tokens
        head, tail = digits[:-3], digits[-3:]  # 1223 is 1, 223; 1007 is 1, 0, 0, 7
        return [*head, *(list(tail) if tail[0] == "0" else [tail])]

    def encode(self, a: int, b: int) -> tuple[list[int], list[int]]:
        """The ids of `a+b=`, and of the sum with its full stop."""
        asked = [*self.number(str(a)), "+", *self.number(str(b)), "="]
        answer = [*self.number(str(a + b)), "."]
        return [self.ids[x] for x in asked], [self.ids[x] for x in answer]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.names[i] for i in ids)


def held_out() -> Tensor:
    """The test sums, (TEST, 2), all different."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    side = HIGH - LOW
    drawn = torch.randperm(side * side, generator=generator)[:TEST]
    return torch.stack([drawn // side, drawn % side], 1) + LOW


def draw(count: int, forbidden: Tensor, generator: torch.Generator) -> list[list[int]]:
    """`count` pairs of numbers, none of them in `forbidden` (numbered as a·HIGH + b)."""
    pairs = torch.randint(LOW, HIGH, (2 * count, 2), generator=generator)
    known = torch.isin(pairs @ torch.tensor([HIGH, 1]), forbidden)
    return pairs[~known][:count].tolist()


def mean_length(cut: Cut) -> float:
    """The tokens of a test sum on average, its answer and full stop included."""
    lengths = [sum(map(len, cut.encode(a, b))) for a, b in held_out().tolist()]
    return round(sum(lengths) / len(lengths), 2)


def batch(cut: Cut, pairs: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids (B, T) padded behind with full stops, and targets with −100 outside answers."""
    rows = [cut.encode(a, b) for a, b in pairs]
    T = max(len(asked) + len(answer) for asked, answer in rows)
    ids = torch.full((len(rows), T), cut.ids["."])
    targets = torch.full((len(rows), T), -100)
    for i, (asked, answer) in enumerate(rows):
        end = len(asked) + len(answer)
        ids[i, :end] = torch.tensor(asked + answer)
        targets[i, len(asked) - 1 : end - 1] = torch.tensor(answer)
    return ids, targets


@torch.no_grad()
def answers(model: LanguageModel, cut: Cut, pairs: list[list[int]]) -> list[str]:
    """What the model writes after `a+b=`, greedily, without the full stop."""
    said: dict[int, str] = {}
    asked = [cut.encode(a, b)[0] for a, b in pairs]
    for length in sorted(set(map(len, asked))):  # no padding: one length at a time
        places = [i for i, ids in enumerate(asked) if len(ids) == length]
        ids = torch.tensor([asked[i] for i in places])  # (B, T)
        for _ in range(6):
            last = model(ids)[:, -1].argmax(-1, keepdim=True)  # (B, 1)
            ids = torch.cat([ids, last], 1)
        for i, row in zip(places, ids[:, length:].tolist(), strict=True):
            said[i] = cut.decode(row).split(".")[0]
    return [said[i] for i in range(len(pairs))]


def measure(model: LanguageModel, cut: Cut, pairs: list[list[int]]) -> float:
    """The share of sums whose answer is right to the last digit."""
    said = answers(model, cut, pairs)
    right = [s == str(a + b) for s, (a, b) in zip(said, pairs, strict=True)]
    return round(sum(right) / len(right), 4)


def train(name: str, seed: int) -> dict:
    """One run: [step, share of right test sums] every so often, and what it cost."""
    cut, test = Cut(name), held_out()
    forbidden = test @ torch.tensor([HIGH, 1])
    torch.manual_seed(seed)
    model = LanguageModel(len(cut.names), **SHAPE)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, fused=True)
    began, found = time.process_time(), [[0, measure(model, cut, test.tolist())]]
    for step in range(STEPS):
        share = training.schedule(step, STEPS, WARM_UP)
        optimizer.param_groups[0]["lr"] = RATE * share
        ids, targets = batch(cut, draw(BATCH, forbidden, generator))
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % EVERY == 0:
            found.append([step + 1, measure(model, cut, test.tolist())])
    return {
        "curve": found,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(cut.names),
        "cpu_seconds": time.process_time() - began,
    }


def study(folder: Path) -> dict:
    """Run what is missing; the trace: cut -> one run a seed, and the test's p values."""
    trace = {"runs": {name: [] for name in CUTS}}
    for seed in SEEDS:
        for name in tqdm(CUTS, desc=f"seed {seed}"):
            key = training.digest([name, seed, STEPS, BATCH, RATE, SHAPE, MERGES, TEST])
            run = training.kept(folder, key, lambda n=name, s=seed: train(n, s))
            trace["runs"][name].append(run)
    trace["tokens_a_sum"] = {name: mean_length(Cut(name)) for name in CUTS}
    ends = {
        name: [run["curve"][-1][1] for run in runs]
        for name, runs in trace["runs"].items()
    }
    first, *others = CUTS
    trace["mann_whitney_p"] = {
        other: float(mannwhitneyu(ends[first], ends[other]).pvalue) for other in others
    }
    trace["cpu_minutes"] = round(
        sum(run["cpu_seconds"] for runs in trace["runs"].values() for run in runs) / 60,
        1,
    )
    return trace


def main() -> None:
    trace = study(training.arguments(__doc__, NAME).folder)
    metrics = {}
    for name, runs in trace["runs"].items():
        ends = [run["curve"][-1][1] for run in runs]
        metrics[name] = {"right sums": [min(ends), max(ends)]}
    card = {
        "config": json.loads(json.dumps(CONFIG)),
        "data": {
            "name": "sums of two numbers of three digits",
            "source": "drawn by train/arithmetic.py",
            "licence": "MIT",
            "split": "1,000 test sums, never trained on",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.arithmetic",
        "metrics": metrics,
        "licence": "MIT",
    }
    weights.save(NAME, card, trace=trace)


if __name__ == "__main__":
    main()
