"""How many heads does a task with four relations need? The record of `block/multi-head`.

    python -m train.multi_head            # everything, about 10 minutes on one core

The task: 32 symbols, drawn alike; at each position from 6 on say the symbols 1, 2, 4 and
6 back. The network is `Echo`: embeddings of symbol and place, one `MultiHeadAttention`
without a residual, a linear readout; in one setting an MLP stands before the readout. It
is the class of the same name on the page, which `tests/test_attention.py` asserts.

Each number of heads first finds its own learning rate, steps and warm-up: the schedules
of `SCHEDULES` are tried from the cheapest on, with two seeds of their own, on validation
sequences; the best mean wins, and a search ends early where both seeds get more than
`ENOUGH` of the places right. Then five other seeds are trained and measured on the test
sequences, on which nothing is chosen. The two settings with an MLP or more width are not
searched; they have the longest training.

Every finished run is a file under `_build/train/multi-head/`, so a killed command goes
on where it was.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from lib import training, weights
from lib.attention import MultiHeadAttention

NAME = "multi-head"
SYMBOLS, T, BACK = 32, 16, (1, 2, 4, 6)
BATCH = 64
VALIDATION, TEST = (
    20_000,
    10_000,
)  # the seeds of the sequences to choose and to report on
# rate, steps, warm-up steps
SCHEDULES = (
    (3e-3, 1500, 0),
    (6e-3, 1500, 0),
    (3e-3, 4000, 0),
    (6e-3, 4000, 0),
    (3e-3, 4000, 400),
    (6e-3, 4000, 400),
)
TRIAL_SEEDS, ENOUGH = (101, 102), 0.95
# d_model, heads, width of the MLP (0: none), seeds, schedule (None: searched)
SETTINGS = {
    "1 head": (64, 1, 0, 5, None),
    "2 heads": (64, 2, 0, 5, None),
    "4 heads": (64, 4, 0, 5, None),
    "8 heads": (64, 8, 0, 5, None),
    "1 head and MLP": (64, 1, 256, 3, SCHEDULES[2]),
    # as many parameters as with the MLP
    "1 head, wider": (104, 1, 0, 2, SCHEDULES[2]),
}
# Settings of whose first seeds the weights are shipped.
SHIPPED = {"4 heads": 5, "8 heads": 5, "1 head and MLP": 3}
CONFIG = {
    "network": "Echo of train/multi_head.py",
    "settings": SETTINGS,
    "schedules": SCHEDULES,
    "trial_seeds": TRIAL_SEEDS,
    "enough": ENOUGH,
    "batch": BATCH,
    "symbols": SYMBOLS,
    "tokens": T,
    "back": BACK,
    "optimiser": "Adam; after the warm-up the rate falls linearly, to a twentieth",
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


def train(shape: tuple, schedule: tuple, seed: int) -> Echo:
    """A network of `shape` (d_model, heads, MLP), with the weights and data of `seed`."""
    rate, steps, warm_up = schedule
    torch.manual_seed(seed)
    model = Echo(*shape)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for step in range(steps):
        rise = min(1.0, (step + 1) / max(warm_up, 1))
        optimizer.param_groups[0]["lr"] = rate * rise * (1 - 0.95 * step / steps)
        tokens, answers = sequences(BATCH, generator)
        logits, _ = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 2), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def measure(model: Echo, seed: int) -> list[float]:
    """Accuracies on 2,000 sequences: for 1, 2, 4 and 6 back, of all four at once, and
    of all four where they are four different symbols."""
    tokens, answers = sequences(2000, torch.Generator().manual_seed(seed))
    right = (model(tokens)[0].argmax(-1) == answers).double()  # (B, T − 6, 4)
    each, whole = right.mean((0, 1)).tolist(), right.prod(-1)  # whole (B, T − 6)
    ordered = answers.sort(-1).values
    different = (ordered[..., 1:] != ordered[..., :-1]).all(-1)  # (B, T − 6)
    found = [*each, whole.mean().item(), whole[different].mean().item()]
    return [round(x, 4) for x in found]


def run(folder: Path, shape: tuple, schedule: tuple, seed: int, sequences_of: int):
    """The measures and the weights of one run, from its file if it was run before."""

    def job():
        model = train(shape, schedule, seed)
        return measure(model, sequences_of), model.state_dict()

    what = [BATCH, *shape, *schedule, seed, sequences_of]
    return training.kept(folder, training.digest(what), job)


def search(folder: Path, shape: tuple) -> tuple[tuple, list]:
    """The best schedule, and [rate, steps, warm-up, what each trial seed got right]."""
    trials = []
    for schedule in SCHEDULES:
        right = [
            run(folder, shape, schedule, seed, VALIDATION)[0][4] for seed in TRIAL_SEEDS
        ]
        trials.append([*schedule, right])
        if min(right) > ENOUGH:
            break
    best = max(trials, key=lambda trial: sum(trial[-1]))  # of equals, the cheapest
    return tuple(best[:3]), trials


def study(folder: Path) -> tuple[dict, dict]:
    """Run what is missing; the tensors to ship and the trace."""
    trace, tensors = {}, {}
    for setting, (*shape, seeds, schedule) in SETTINGS.items():
        trials = []
        if schedule is None:
            schedule, trials = search(folder, tuple(shape))
        found = {"schedule": schedule, "trials": trials, "runs": []}
        for seed in tqdm(range(1, seeds + 1), desc=f"{setting}, {schedule}"):
            measured, state = run(folder, tuple(shape), schedule, seed, TEST)
            found["runs"].append(measured)
            if seed <= SHIPPED.get(setting, 0):
                for key, tensor in state.items():
                    tensors[f"{setting}/{seed}/{key}"] = tensor
        trace[setting] = found
    return tensors, trace


def main() -> None:
    tensors, trace = study(training.arguments(__doc__, NAME).folder)
    metrics = {}
    for setting, found in trace.items():
        right = [run[4] for run in found["runs"]]
        metrics[setting] = {"all four right": [min(right), max(right)]}
    card = {
        "config": json.loads(json.dumps(CONFIG)),
        "data": {
            "name": "four symbols back",
            "source": "drawn by train/multi_head.py",
            "licence": "MIT",
            "split": "sequences to train, choose and report on have different seeds",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.multi_head",
        "metrics": metrics,
        "licence": "MIT",
    }
    weights.save(NAME, card, tensors, trace)


if __name__ == "__main__":
    main()
