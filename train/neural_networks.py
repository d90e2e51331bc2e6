"""Spirals, depth and optimisers: the record of `basics/neural-networks`.

    python -m train.neural_networks       # everything, about 4 minutes on one core

Four parts. **spirals**: held-out accuracy by width and depth, with linear baselines.
**overfit**: a net that learns forty points by heart, a part of them with a wrong label.
**depth**: plain SGD on deeper and deeper nets whose weights start at the size of
`nn.Linear` or at that of He and others (2015). **optimisers**: five of them on three
problems, each at its own best rate.

Where a rate is chosen, it is chosen by the held-out accuracy of `TUNING` seeds (of
equals the middle rate), and what is reported comes from other seeds. The seeds of a
setting train side by side, as one stack of weights. Every finished run is a file under
`_build/train/neural-networks/`, so a killed command goes on where it was.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from lib import training, weights

NAME = "neural-networks"
POINTS, HELD_OUT, BATCH, STEPS = 200, 1000, 64, 1000
SEEDS, TUNING, FRESH = range(10), range(100, 110), range(20)
# Widths of the hidden layers; "linear" layers have no activation between them.
NETS = {
    "one linear layer": [],
    "two linear layers": [32],
    **{f"ReLU, {width}": [width] for width in (2, 4, 8, 16, 32, 64)},
    "ReLU, 32 · 32": [32] * 2,
    "ReLU, 32 · 32 · 32": [32] * 3,
    "ReLU, 32 · 32 · 32 · 32": [32] * 4,
}
RATE = 0.01  # Adam's, for the nets above
FEW, WRONG, LOOKS = 40, 8, (*range(0, 100, 10), *range(100, 1001, 50))
DEPTHS, DEPTH_RATES, WIDTH, LONGER = (1, 2, 4, 8, 16), (0.03, 0.1, 0.3), 32, 4
# The standard deviation of a weight of a layer with so many inputs.
SIZES = {
    "as nn.Linear": lambda inputs: (1 / (3 * inputs)) ** 0.5,
    "as He and others": lambda inputs: (2 / inputs) ** 0.5,
}
OPTIMISERS = {
    "SGD": torch.optim.SGD,
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "RMSprop": torch.optim.RMSprop,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}
RATES = tuple(float(f"{10 ** (k / 2):.2g}") for k in range(-8, 5))
CONFIG = {
    "points": POINTS,
    "batch": BATCH,
    "steps": STEPS,
    "nets": {"hidden": NETS, "optimiser": "Adam", "rate": RATE, "seeds": len(SEEDS)},
    "overfit": {"points": FEW, "wrong labels": WRONG, "hidden": [64, 64]},
    "depth": {"depths": DEPTHS, "rates": DEPTH_RATES, "width": WIDTH}
    | {"optimiser": "SGD", "seeds": len(FRESH)},
    "optimisers": {"rates": RATES, "tuning_seeds": len(TUNING), "seeds": len(FRESH)},
}

# --- Data ------------------------------------------------------------------------------


def spirals(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (n, 2) on two spiral arms of 1.35 turns, with noise, and their arm (n,), 0 or 1."""
    arm = torch.arange(n) % 2  # (n,)
    along = 0.1 + 0.9 * torch.rand(n, generator=generator).sqrt()  # (n,)
    angle = 3 * torch.pi * along + torch.pi * arm  # (n,)
    x = 2 * along * torch.stack([angle.cos(), angle.sin()])  # (2, n)
    return x.mT + 0.08 * torch.randn(n, 2, generator=generator), arm


def many(make: Callable, n: int, seeds: Sequence[int], first: int = 0):
    """`make(n, generator)` for each seed: (seeds, n, features), (seeds, n)."""
    pairs = [make(n, torch.Generator().manual_seed(first + s)) for s in seeds]
    return tuple(torch.stack(part) for part in zip(*pairs, strict=True))


def unequal(n: int, seeds: Sequence[int], held_out: int) -> tuple:
    """Twenty features whose sizes differ by up to 1,000; a linear rule with noise."""
    size = 10 ** torch.linspace(-1.5, 1.5, 20)  # (D,)

    def make(n, generator):
        x = torch.randn(n, 20, generator=generator)  # (n, D)
        rule = torch.randn(20, generator=generator)  # (D,)
        noise = 0.5 * torch.randn(n, generator=generator)
        return x * size, (x @ rule + noise > 0).long()

    x, y = many(make, n + held_out, seeds)
    return x[:, :n], y[:, :n], x[:, n:], y[:, n:]


def own_words(n: int, seeds: Sequence[int], held_out: int) -> tuple:
    """One feature has the answer; two are always 1; the others occur once each.

    A positive example has one feature of its own, a negative one five, and six examples
    in ten are positive. Wilson and others (2017), section 3.
    """

    def make(n, generator):
        y = (torch.rand(n, generator=generator) < 0.6).long()  # (n,)
        x = torch.zeros(n, 3 + 5 * n)  # (n, D)
        x[:, 0], x[:, 1:3] = 2.0 * y - 1, 1.0
        for i, positive in enumerate(y.tolist()):
            x[i, 3 + 5 * i : 3 + 5 * i + (1 if positive else 5)] = 1.0
        return x, y

    x, y = many(make, n + held_out, seeds)
    return x[:, :n], y[:, :n], x[:, n:], y[:, n:]


def two_spirals(n: int, seeds: Sequence[int], held_out: int) -> tuple:
    return *many(spirals, n, seeds), *many(spirals, held_out, seeds, 10_000)


# name -> data, hidden layers, points, held-out points, batch (0: all), steps
PROBLEMS = {
    "two spirals": (two_spirals, [32, 32], POINTS, HELD_OUT, BATCH, 300),
    "features of unequal size": (unequal, [], POINTS, HELD_OUT, 0, 200),
    "words of its own": (own_words, [], 40, 200, 0, 500),
}

# --- Nets, one for each seed -------------------------------------------------------------


def start(seeds: Sequence[int], widths: Sequence[int], size: Callable) -> list[Tensor]:
    """Weights (seeds, inputs, outputs) of a normal distribution, biases of zero."""
    found = []
    for layer, (a, b) in enumerate(pairwise(widths)):
        draws = [torch.Generator().manual_seed(1000 * s + layer) for s in seeds]
        w = torch.stack([torch.randn(a, b, generator=g) for g in draws]) * size(a)
        found += [w, torch.zeros(len(seeds), 1, b)]
    return [p.requires_grad_() for p in found]


def forward(parameters: list[Tensor], x: Tensor, activate: Callable) -> Tensor:
    """Points (seeds, n, features) to logits (seeds, n, classes)."""
    for i in range(0, len(parameters), 2):
        x = x @ parameters[i] + parameters[i + 1]  # (seeds, n, width)
        x = activate(x) if i < len(parameters) - 2 else x
    return x


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy: the mean over points, and the sum over seeds, so that their
    gradients stay apart."""
    seeds = len(logits)
    return seeds * F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def fit(
    parameters, data, optimiser, steps, batch, seeds, activate=torch.relu, looks=()
):
    """Train; the accuracy (seeds,) on training and held-out points at each of `looks`."""
    x, y, x_new, y_new = data
    orders = [torch.Generator().manual_seed(5000 + s) for s in seeds]
    each, found = torch.arange(len(seeds))[:, None], []

    @torch.no_grad()
    def look():
        pairs = (x, y), (x_new, y_new)
        return [_right(forward(parameters, a, activate), b) for a, b in pairs]

    for step in range(steps + 1):
        if step == steps or step in looks:
            found.append(look())
        if step == steps:
            return found
        xs, ys = x, y
        if batch:
            size = (x.shape[1], (batch,))
            rows = torch.stack([torch.randint(*size, generator=g) for g in orders])
            xs, ys = x[each, rows], y[each, rows]  # (seeds, batch, …)
        loss = loss_of(forward(parameters, xs, activate), ys)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _right(logits: Tensor, labels: Tensor) -> list[float]:
    right = (logits.argmax(-1) == labels).double().mean(-1)
    finite = logits.isfinite().flatten(1).all(-1)
    return [round(a, 4) for a in (right * finite).tolist()]


def run(data, hidden, seeds, optimiser, rate, steps, batch, **more) -> dict:
    """Accuracy by seed after training: {"train": [...], "held_out": [...]}."""
    size = more.pop("size", SIZES["as He and others"])
    parameters = start(seeds, [data[0].shape[-1], *hidden, 2], size)
    if not hidden:  # a convex problem: from zero
        parameters = [torch.zeros_like(p).requires_grad_() for p in parameters]
    how = optimiser(parameters, lr=rate), steps, batch, seeds
    looks = fit(parameters, data, *how, **more)
    train, held_out = zip(*looks, strict=True)
    if len(looks) == 1:
        return {"train": train[0], "held_out": held_out[0]}
    return {
        "train": [*zip(*train, strict=True)],
        "held_out": [*zip(*held_out, strict=True)],
    }


# --- The four parts ----------------------------------------------------------------------


def net(name: str) -> dict:
    data = two_spirals(POINTS, SEEDS, HELD_OUT)
    activate = torch.relu if name.startswith("ReLU") else (lambda x: x)
    how = SEEDS, torch.optim.Adam, RATE, STEPS, BATCH
    return run(data, NETS[name], *how, activate=activate)


def overfit(wrong: int) -> dict:
    """Accuracy by seed over the steps, for forty points, so many with a wrong label."""
    x, y, *new = two_spirals(FEW, SEEDS, HELD_OUT)
    y = y.clone()
    y[:, :wrong] = 1 - y[:, :wrong]
    how = SEEDS, torch.optim.Adam, RATE, STEPS, 0
    return run((x, y, *new), [64, 64], *how, looks=LOOKS)


def deep(size: str, depth: int, rate: float, seeds, steps: int = STEPS) -> dict:
    data = two_spirals(POINTS, seeds, HELD_OUT)
    how = seeds, torch.optim.SGD, rate, steps, BATCH
    return run(data, [WIDTH] * depth, *how, size=SIZES[size])


def slopes(size: str) -> list[list[float]]:
    """Before training, by layer: the norm of its weights' gradient for each seed."""
    x, y, *_ = two_spirals(POINTS, FRESH, 2)
    parameters = start(FRESH, [2, *[WIDTH] * DEPTHS[-1], 2], SIZES[size])
    loss = loss_of(forward(parameters, x, torch.relu), y)
    found = torch.autograd.grad(loss, parameters[::2])
    return [[float(f"{n:.3g}") for n in g.flatten(1).norm(dim=1)] for g in found]


def solve(problem: str, optimiser: str, rate: float, seeds) -> list[float]:
    make, hidden, n, held_out, batch, steps = PROBLEMS[problem]
    how = seeds, OPTIMISERS[optimiser], rate, steps, batch
    return run(make(n, seeds, held_out), hidden, *how)["held_out"]


def best(by_rate: dict[float, list[float]]) -> float:
    """The rate of the highest mean; of equals the one in their middle, or below it."""
    means = {rate: round(sum(runs), 6) for rate, runs in by_rate.items()}
    equals = sorted(rate for rate in means if means[rate] == max(means.values()))
    return equals[(len(equals) - 1) // 2]


def study(folder: Path) -> dict:
    """Run what is missing, and return the trace."""
    torch.set_default_dtype(torch.float64)

    seconds = []

    def kept(job, *what):
        def timed():
            began = time.process_time()
            return {"found": job(*what), "seconds": time.process_time() - began}

        key = training.digest([job.__name__, *what, STEPS, CONFIG])
        one = training.kept(folder, key, timed)
        seconds.append(one["seconds"])
        return one["found"]

    nets = {name: kept(net, name) for name in tqdm(NETS, desc="spirals")}
    few = {str(wrong): kept(overfit, wrong) for wrong in (0, WRONG)}
    depth, rates = {}, {}
    for size in SIZES:
        depth[size], rates[size] = {}, {}
        for d in tqdm(DEPTHS, desc=f"depth, {size}"):
            tried = {
                rate: kept(_held_out, size, d, rate, [*TUNING]) for rate in DEPTH_RATES
            }
            rates[size][d] = best(tried)
            depth[size][d] = kept(deep, size, d, rates[size][d], [*FRESH])
    size, last = next(iter(SIZES)), DEPTHS[-1]
    what = size, last, rates[size][last], [*FRESH], LONGER * STEPS
    longer = kept(deep, *what)
    optimisers = {}
    for problem in PROBLEMS:
        optimisers[problem] = {}
        for name in tqdm(OPTIMISERS, desc=problem):
            tried = {r: kept(solve, problem, name, r, [*TUNING]) for r in RATES}
            rate = best(tried)
            held_out = kept(solve, problem, name, rate, [*FRESH])
            optimisers[problem][name] = {"rate": rate, "held_out": held_out}
    found = {"spirals": nets, "overfit": {"steps": LOOKS, "runs": few}}
    found |= {"depth": {"runs": depth, "rates": rates, "longer": longer}}
    found["depth"]["gradients"] = {size: kept(slopes, size) for size in SIZES}
    found |= {"optimisers": optimisers, "cpu_minutes": round(sum(seconds) / 60)}
    return json.loads(json.dumps(found))


def _held_out(size: str, depth: int, rate: float, seeds) -> list[float]:
    return deep(size, depth, rate, seeds)["held_out"]


def main() -> None:
    trace = study(training.arguments(__doc__, NAME).folder)
    mean = {
        name: round(math.fsum(found["held_out"]) / len(SEEDS), 3)
        for name, found in trace["spirals"].items()
    }
    card = {
        "config": json.loads(json.dumps(CONFIG)),
        "data": {
            "name": "two spirals; features of unequal size; words of its own",
            "source": "drawn by train/neural_networks.py",
            "licence": "MIT",
            "split": "training, held-out and tuning points have different seeds",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.neural_networks",
        "metrics": {"held_out_accuracy": mean, "cpu_minutes": trace["cpu_minutes"]},
        "licence": "MIT",
    }
    print(weights.save(NAME, card, trace=trace))


if __name__ == "__main__":
    main()
