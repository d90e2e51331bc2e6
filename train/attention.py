"""What one layer can do, and what the scale is for: the record of `block/attention`.

    python -m train.attention             # everything, about 7 minutes on one core

Two tasks, as on the page. **Copy the token after a marker** (`copy_after`), with one
layer of attention: a linear readout; an MLP before the readout; and that MLP with
weights that each pair of places learns and no content changes (`ByPlace`). **Look up by content**
(`lookup`), with 256 features, by the power of d that divides the scores, and by learning
rate. `Reader` and the tasks are those of the page, which `tests/test_train_attention.py`
asserts. Steps and rates were fixed beforehand; all runs are reported on the same held-out
sequences, and nothing is chosen by them.

Every finished run is a file under `_build/train/attention/`, so a killed command goes on
where it was.
"""

import json
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lib import training, weights
from lib.attention import attention, causal_mask

NAME = "attention"
QUESTION, N = 16, 6  # letters, and pairs of a letter and a colour in a sequence
MARKER, ASK, M = 16, 17, 8  # the marker, the question mark, symbols in a sequence
T = M + 2  # with the two
BATCH, HELD_OUT = 64, 10_000  # HELD_OUT is the seed of the test sequences
# One layer on `copy_after`: hidden features of the MLP (0: none), weights by place, steps.
READOUTS = {
    "linear readout": (0, False, 3000),
    "MLP before the readout": (256, False, 3000),
    "MLP, weights by place alone": (256, True, 6000),
}
READOUT_SEEDS, READOUT_RATE = range(5), 3e-3
READOUT_EVERY, READOUT_TEST, SCALE_TEST = 250, 4000, 1000
# `lookup` with D = d = 256: the scores are divided by this power of d.
SCALES = {"not scaled": 0, "scaled by √d": 0.5, "scaled by d": 1}
SCALE_SEEDS, SCALE_STEPS, SCALE_RATES = range(3), 300, (3e-4, 1e-3, 3e-3)
SCALE_EVERY, WIDE = 20, 256
CONFIG = {
    "network": "Reader of train/attention.py",
    "optimiser": "Adam",
    "batch": BATCH,
    "readouts": {"settings": READOUTS, "seeds": 5}
    | {"rate": READOUT_RATE, "d_model": 32},
    "scales": {"powers": SCALES, "seeds": 3, "steps": SCALE_STEPS}
    | {"rates": SCALE_RATES, "d_model": WIDE},
}


class Reader(nn.Module):
    def __init__(self, sizes, answers, D=32, layers=1, hidden=0, attend=attention):
        super().__init__()
        linear = partial(nn.Linear, dtype=torch.float64)
        embedding = partial(nn.Embedding, dtype=torch.float64)
        self.embed = nn.ModuleList(embedding(n, D) for n in sizes)
        self.qkv = nn.ModuleList(linear(D, 3 * D, bias=False) for _ in range(layers))
        self.up = linear(D, hidden) if hidden else None
        self.down = linear(hidden, D) if hidden else None
        self.readout = linear(D, answers)
        self.attend = attend

    def forward(self, tokens, mask=None):
        x = sum(e(tokens[..., i]) for i, e in enumerate(self.embed))  # (B, T, D)
        maps = []
        for qkv in self.qkv:
            query, key, value = qkv(x).chunk(3, -1)  # (B, T, D) each
            output, weights = self.attend(query, key, value, mask)
            x = x + output  # (B, T, D)
            maps.append(weights)  # (B, T, T)
        x = x[:, -1]  # (B, D)
        if self.up:
            x = x + self.down(F.gelu(self.up(x)))  # (B, D)
        return self.readout(x), maps  # (B, answers), one map for each layer


class ByPlace(nn.Module):
    """Learned scores (T, T) that are the same whatever the tokens hold."""

    def __init__(self, T: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(T, T, dtype=torch.float64))

    def forward(self, query, key, value, mask=None):
        scores = self.scores.expand(len(value), -1, -1)  # (B, T, T)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = scores.softmax(-1)
        return weights @ value, weights


def scaled(power: float, query, key, value, mask=None) -> tuple[Tensor, Tensor]:
    """Attention whose scores are divided by d to this power."""
    d = query.shape[-1]
    return attention(query * d ** (0.5 - power), key, value, mask)


def lookup(B, generator):
    letters = torch.rand(B, QUESTION, generator=generator).argsort(-1)[:, :N]  # (B, N)
    colours = torch.rand(B, N, generator=generator).argsort(-1)  # (B, N), shuffled
    right = torch.randint(N, (B, 1), generator=generator)  # (B, 1), place of the answer
    answer, asked = letters.gather(1, right), colours.gather(1, right)  # (B, 1) each
    letters = F.pad(letters, (0, 1), value=QUESTION)  # (B, T) with T = N + 1
    tokens = torch.stack([letters, torch.cat([colours, asked], 1)], -1)  # (B, T, 2)
    return tokens, answer[:, 0], right[:, 0]


def copy_after(B, generator):
    marker = torch.randint(M - 1, (B, 1), generator=generator)  # (B, 1), its place
    symbols = torch.rand(B, MARKER, generator=generator).argsort(-1)[:, : T - 1]
    symbols = F.pad(symbols.scatter(1, marker, MARKER), (0, 1), value=ASK)  # (B, T)
    answer = symbols.gather(1, marker + 1)[:, 0]  # (B,)
    places = torch.arange(T).expand(B, T)  # (B, T)
    return torch.stack([symbols, places], -1), answer, marker[:, 0] + 1


@torch.no_grad()
def measure(model, tokens, answer, right, mask=None) -> list[float]:
    """Accuracy, and the mean weight on the right cell of the last row."""
    logits, maps = model(tokens, mask)
    accuracy = (logits.argmax(-1) == answer).double().mean().item()
    share = maps[-1][:, -1].gather(1, right[:, None]).mean().item()
    return [round(accuracy, 4), round(share, 4)]


def train(model, task, seed, steps, rate, every, count, mask=None) -> list[list]:
    """Train; [step, accuracy, weight on the right cell] every so many steps."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    test = task(count, torch.Generator().manual_seed(HELD_OUT))
    trace = [[0, *measure(model, *test, mask)]]
    for step in range(1, steps + 1):
        tokens, answer, _ = task(BATCH, generator)
        loss = F.cross_entropy(model(tokens, mask)[0], answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0:
            trace.append([step, *measure(model, *test, mask)])
    return trace


def readout(setting: str, seed: int) -> list:
    hidden, by_place, steps = READOUTS[setting]
    torch.manual_seed(seed)
    attend = ByPlace(T) if by_place else attention
    model = Reader([ASK + 1, T], MARKER, hidden=hidden, attend=attend)
    how = steps, READOUT_RATE, READOUT_EVERY, READOUT_TEST
    return train(model, copy_after, seed, *how, causal_mask(T))


def scale(setting: str, rate: float, seed: int) -> list:
    torch.manual_seed(seed)
    attend = partial(scaled, SCALES[setting])
    model = Reader([QUESTION + 1, N], QUESTION, D=WIDE, attend=attend).float()
    how = SCALE_STEPS, rate, SCALE_EVERY, SCALE_TEST
    return train(model, lookup, seed, *how)


def study(folder: Path) -> dict:
    """Run what is missing; the trace: part -> setting (and rate) -> one list a seed."""

    def run(job, *what):
        steps = READOUTS[what[0]][2] if job is readout else SCALE_STEPS
        key = training.digest([job.__name__, *what, steps, BATCH, READOUT_TEST])
        return training.kept(folder, key, lambda: job(*what))

    readouts, scales = {}, {}
    for setting in tqdm(READOUTS, desc="readouts"):
        readouts[setting] = [run(readout, setting, seed) for seed in READOUT_SEEDS]
    for setting in tqdm(SCALES, desc="scales"):
        scales[setting] = {
            f"{rate:g}": [run(scale, setting, rate, seed) for seed in SCALE_SEEDS]
            for rate in SCALE_RATES
        }
    return {"readouts": readouts, "scales": scales}


def main() -> None:
    trace = study(training.arguments(__doc__, NAME).folder)
    ends = {
        name: [run[-1][1] for run in runs] for name, runs in trace["readouts"].items()
    }
    metrics = {name: {"accuracy": [min(x), max(x)]} for name, x in ends.items()}
    card = {
        "config": json.loads(json.dumps(CONFIG)),
        "data": {
            "name": "look up by content; copy the token after a marker",
            "source": "drawn by train/attention.py",
            "licence": "MIT",
            "split": "sequences to train and to report on have different seeds",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.attention",
        "metrics": metrics,
        "licence": "MIT",
    }
    weights.save(NAME, card, trace=trace)


if __name__ == "__main__":
    main()
