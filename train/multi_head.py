"""How many heads does a task with four relations need? The record of `block/multi-head`.

    python -m train.multi_head            # everything, about 5 minutes on one core

The task: 32 symbols, drawn alike; at each position from 6 on say the symbols 1, 2, 4 and
6 back. The network is `Echo`: embeddings of symbol and place, one `MultiHeadAttention`
without a residual, a linear readout; in one setting an MLP stands before the readout. It
is the class of the same name on the page, which `tests/test_attention.py` asserts.

The learning rate was chosen before, of 3e-3 and 1e-2, in runs with seed 0 on other
sequences: for 2 heads it was better, for 1 and 4 heads there was no difference. The
recorded runs have other seeds, and nothing is chosen on their test sequences.
Every finished run is a file under `_build/train/multi-head/`, so a killed command goes
on where it was.
"""

import hashlib
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from lib import weights
from lib.attention import MultiHeadAttention

NAME = "multi-head"
SYMBOLS, T, BACK = 32, 16, (1, 2, 4, 6)
BATCH = 64
RATE = 3e-3
TEST = 10_000  # the seed of the test sequences
# d_model, heads, width of the MLP (0: none), steps, seeds
SETTINGS = {
    "1 head": (64, 1, 0, 1500, 5),
    "2 heads": (64, 2, 0, 1500, 5),
    "4 heads": (64, 4, 0, 1500, 5),
    "8 heads": (64, 8, 0, 1500, 5),
    "1 head and MLP": (64, 1, 256, 4000, 3),
    "1 head, wider": (104, 1, 0, 4000, 2),  # as many parameters as with the MLP
}
# Settings of whose first seeds the weights are shipped.
SHIPPED = {"4 heads": 5, "8 heads": 5, "1 head and MLP": 3}
CONFIG = {
    "network": "Echo of train/multi_head.py",
    "settings": SETTINGS,
    "rate": RATE,
    "batch": BATCH,
    "symbols": SYMBOLS,
    "tokens": T,
    "back": BACK,
    "optimiser": "Adam, the rate falls linearly to a twentieth",
}


class Echo(nn.Module):
    def __init__(self, d_model, num_heads, hidden=0):
        super().__init__()
        self.symbol = nn.Embedding(SYMBOLS, d_model)
        self.place = nn.Embedding(T, d_model)
        self.attend = MultiHeadAttention(d_model, num_heads, bias=False)
        self.up = nn.Linear(d_model, hidden) if hidden else None
        self.down = nn.Linear(hidden, d_model) if hidden else None
        self.readout = nn.Linear(d_model, len(BACK) * SYMBOLS)

    def forward(self, tokens):
        x = self.symbol(tokens) + self.place.weight  # (B, T, D)
        x, maps = self.attend(x)  # (B, T, D), (B, H, T, T)
        if self.up:
            x = x + self.down(F.gelu(self.up(x)))  # (B, T, D)
        logits = self.readout(x[:, max(BACK) :])  # (B, T − 6, 4 · symbols)
        return logits.unflatten(-1, (len(BACK), SYMBOLS)), maps


def sequences(count: int, generator: torch.Generator):
    """Tokens (count, T) and, for the places from 6 on, answers (count, T − 6, 4)."""
    tokens = torch.randint(SYMBOLS, (count, T), generator=generator)
    answers = [tokens[:, max(BACK) - k : T - k] for k in BACK]
    return tokens, torch.stack(answers, -1)


def train(setting: str, seed: int) -> Echo:
    """The network of `setting`, trained with the weights and data of `seed`."""
    d_model, num_heads, hidden, steps, _ = SETTINGS[setting]
    torch.manual_seed(seed)
    model = Echo(d_model, num_heads, hidden)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, steps)
    for _ in range(steps):
        tokens, answers = sequences(BATCH, generator)
        logits, _ = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 2), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def measure(model: Echo, seed: int) -> list[float]:
    """Accuracy for 1, 2, 4 and 6 back, and of all four at once, on 2,000 sequences."""
    tokens, answers = sequences(2000, torch.Generator().manual_seed(seed))
    right = (model(tokens)[0].argmax(-1) == answers).double()  # (B, T − 6, 4)
    each = right.mean((0, 1)).tolist()
    return [round(x, 4) for x in [*each, right.prod(-1).mean().item()]]


def once(folder: Path, name: str, make):
    """What `make` gives, or what it gave when this was run before."""
    file = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.pt"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(make(), file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
    return torch.load(file, weights_only=True)


def main() -> None:
    folder = Path("_build/train") / NAME
    trace, tensors, metrics = {}, {}, {}
    for setting, settings in SETTINGS.items():
        trace[setting] = []
        for seed in tqdm(range(1, settings[-1] + 1), desc=setting):

            def make(setting=setting, seed=seed):
                model = train(setting, seed)
                return measure(model, TEST), model.state_dict()

            name = json.dumps([RATE, BATCH, settings[:-1], seed])
            measured, state = once(folder, name, make)
            trace[setting].append(measured)
            if seed <= SHIPPED.get(setting, 0):
                for key, tensor in state.items():
                    tensors[f"{setting}/{seed}/{key}"] = tensor
        right = [run[-1] for run in trace[setting]]
        metrics[setting] = {"all four right": round(sum(right) / len(right), 3)}
    card = {
        "config": json.loads(json.dumps(CONFIG)),
        "data": {
            "name": "four symbols back",
            "source": "drawn by train/multi_head.py",
            "licence": "MIT",
            "split": "training and test sequences have different seeds",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.multi_head",
        "metrics": metrics,
        "licence": "MIT",
    }
    weights.save(NAME, card, tensors, trace)


if __name__ == "__main__":
    main()
