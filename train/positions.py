"""The position bench: seven schemes in one small model, at the trained length and beyond.

    python -m train.positions             # everything, about 20 minutes on one core
    python -m train.positions --help

The model is `LanguageModel` over characters (2 layers, width 64, 4 heads), the text is
tiny Shakespeare. Only the scheme differs: none, sinusoidal, learned, Shaw, T5, ALiBi,
RoPE. Each first climbs to its own best scale and learning rate on the split for choices,
with a seed of its own, until both neighbours of the best are worse. Three other seeds at
that setting are then scored on the last part of the text, which chose nothing.

Scored are the same characters at every length: the last 64 of each window, given the
characters of the window before them. A length L gives L − 63 to L of them. So what
changes with the length is only how much the model is given. A learned table has no row
beyond its length: the score there is null, not a loss.

Every model is also scored with its keys cut to the last 128, so that it meets no distance
which it has not met in training, and never more keys at once.

RoPE is also scored with its frequencies interpolated or its base enlarged (NTK), as it
is and after a short training at the longer length; plain RoPE gets the same training.
Two more scores part the reasons for which plain RoPE fails: `clamped` keeps all keys, and
those 127 or more back score as if they stood 127 back; `away` keeps the last 128 keys, and
the older half of them scores as if it stood as far back as the longer text goes.

The bias of T5 is kept from each seed, and from a control: the same model, trained on the
same text with its characters in a random order.

Every finished run is a file under `_build/train/positions/`, so a killed command goes on
where it was.
"""

import copy
import math
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lib import training, weights
from lib.attention import split_heads
from lib.data.shakespeare import tiny_shakespeare
from lib.models.language import LanguageModel
from lib.positions import (
    SCHEMES,
    interpolated,
    ntk_base,
    rope,
    rope_frequencies,
    rope_turns,
)

NAME = "positions"
LAYERS, WIDTH, HEADS = 2, 64, 4
LENGTH, BATCH, SCORED = 128, 8, 64
LENGTHS, TUNED = (128, 256, 512, 1024, 2048), (512, 1024)
STEPS, TUNE_STEPS = 600, 50
# Half the steps choose as well, but for the table: till then it has learned nothing.
TRIAL_STEPS = {scheme: 300 for scheme in SCHEMES} | {"learned": 600}
SEEDS, TRIAL_SEED = (0, 1, 2), 100
RATES = tuple(0.001 * 2**i for i in range(8))
RATE = 0.016  # where the climb starts, and at which scales are compared
# What "scale" is: the amplitude of the waves, the deviation of a table's start (token
# vectors start with deviation 1), the base of RoPE. Others have none. The grid, and
# where the climb starts.
SCALES = {
    "sinusoidal": ((0.1, 0.3, 1.0, 3.0, 10.0), 1.0),
    "learned": ((0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 1.0),
    "shaw": ((0.03, 0.1, 0.3, 1.0, 3.0), 0.3),
    "rope": ((10.0, 100.0, 1e3, 1e4, 1e5), 100.0),
}
STRIDE = 1536  # characters between the ends of two windows that are scored
SHIPPED = ("sinusoidal", "rope")  # schemes whose first seed's weights are shipped


def config() -> dict:
    return {
        "model": f"{LAYERS} layers, d_model {WIDTH}, {HEADS} heads, pre-norm, GELU",
        "optimiser": "AdamW, betas (0.9, 0.99), weight decay 0.01, clip 1",
        "schedule": "20 steps up, then a cosine to a tenth",
        "schemes": SCHEMES,
        "length": LENGTH,
        "lengths": LENGTHS,
        "tuned_lengths": TUNED,
        "batch": BATCH,
        "steps": STEPS,
        "trial_steps": TRIAL_STEPS,
        "seeds": SEEDS,
        "trial_seed": TRIAL_SEED,
        "rates": RATES,
        "scales": {name: grid for name, (grid, _) in SCALES.items()},
        "scored": SCORED,
        "stride": STRIDE,
        "fine_tuning": f"{TUNE_STEPS} steps at the longer length, a quarter of the "
        "rate, as many characters a step (at least one window)",
        "cut": f"the last {LENGTH} keys, the query's own included",
        "clamped": f"keys {LENGTH - 1} or more back score as if {LENGTH - 1} back",
        "away": f"cut, and keys {LENGTH // 2} or more back score as if length − "
        f"{LENGTH} farther back",
        "weights": f"seed {SEEDS[0]} of {', '.join(SHIPPED)}",
        "shaw_reach": 32,
        "t5": f"32 buckets, far {LENGTH}, one table for all layers",
    }


def characters() -> str:
    """The alphabet, in the order of the ids."""
    return "".join(sorted(set(tiny_shakespeare().rows[0]["content"])))


def text() -> tuple[Tensor, Tensor, Tensor]:
    """Ids to train (90 %), to choose (5 %) and to report (5 %)."""
    content = tiny_shakespeare().rows[0]["content"]
    number = {c: i for i, c in enumerate(characters())}
    ids = torch.tensor([number[c] for c in content])
    return ids.tensor_split([int(0.9 * len(ids)), int(0.95 * len(ids))])


def started(scheme: str, scale: float, seed: int, ids: Tensor) -> LanguageModel:
    """A model before its training."""
    torch.manual_seed(seed)
    characters = int(ids.max()) + 1
    return LanguageModel(
        characters, WIDTH, HEADS, LAYERS, positions=scheme, length=LENGTH, scale=scale
    )


def fit(model, ids, length, steps, rate, seed) -> list[float]:
    """Train in place; the training loss averaged over each tenth of the steps."""
    order = torch.Generator().manual_seed(1_000_000 + seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    batch = max(1, BATCH * LENGTH // length)
    losses = []
    for step in range(steps):
        up = min(1.0, (step + 1) / 20)
        down = 0.55 + 0.45 * math.cos(math.pi * step / steps)
        optimiser.param_groups[0]["lr"] = rate * up * down
        start = torch.randint(len(ids) - length, (batch, 1), generator=order)
        window = ids[start + torch.arange(length + 1)]  # (B, T + 1)
        logits = model(window[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return [round(tenth.mean().item(), 4) for tenth in torch.tensor(losses).chunk(10)]


def windows(ids: Tensor, length: int, stride: int) -> Tensor:
    """(N, length + 1), ending at the same characters whatever the length."""
    ends = torch.arange(max(LENGTHS), len(ids) - 1, stride)  # (N,)
    return ids[ends[:, None] + torch.arange(-length, 1)]


@torch.no_grad()
def score(model, ids: Tensor, length: int, stride: int) -> float | None:
    """Mean loss (nats a character) of the last characters of each window of `length`.

    None where the scheme is undefined at this length.
    """
    if model.positions == "learned" and length > LENGTH:
        return None
    losses = []
    for window in windows(ids, length, stride).split(max(1, 8192 // length)):
        logits = model(window[:, :-1])[:, -SCORED:]  # (B, S, V)
        target = window[:, -SCORED:]  # (B, S)
        losses.append(F.cross_entropy(logits.mT, target, reduction="none").flatten())
    return round(torch.cat(losses).mean().item(), 4)


# --- Attention with fewer keys, or with other distances ----------------------------------


@contextmanager
def changed(model, change):
    """The model, while each attention gets `change(layer, x, places)` as its places."""

    def before(layer, arguments):
        x, places, *rest = arguments
        return x, change(layer, x, places), *rest

    handles = [b.attention.register_forward_pre_hook(before) for b in model.blocks]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def cut(layer, x, places):
    """Each query meets the last LENGTH keys, its own included."""
    far = places.distance <= -LENGTH  # (T, T)
    return places._replace(bias=places.bias.masked_fill(far, -torch.inf))


def clamped(layer, x, places, frequencies):
    """RoPE: keys LENGTH − 1 or more back score as if they stood just there."""
    query, key = heads(layer, x)  # (B, H, T, d) each
    there = rope_turns(torch.tensor([LENGTH - 1]), frequencies).expand(x.shape[1], -1)
    return rescored(places, query, key, rope(query, there) @ key.mT, LENGTH - 1)


def away(layer, x, places, frequencies, by):
    """RoPE, cut: keys LENGTH/2 or more back score as if `by` places farther back."""
    query, key = heads(layer, x)  # (B, H, T, d) each
    later = places.turns * rope_turns(torch.tensor([by]), frequencies)  # (T, d/2)
    scores = rope(query, later) @ rope(key, places.turns).mT  # (B, H, T, T)
    return cut(layer, x, rescored(places, query, key, scores, LENGTH // 2))


def heads(layer, x):
    return (split_heads(map(x), HEADS) for map in (layer.to_query, layer.to_key))


def rescored(places, query, key, scores, back):
    """Places whose bias makes keys `back` or more places back score as in `scores`."""
    own = rope(query, places.turns) @ rope(key, places.turns).mT  # (B, H, T, T)
    near = places.distance > -back  # (T, T)
    added = (scores - own).masked_fill(near, 0.0) / query.shape[-1] ** 0.5
    return places._replace(bias=places.bias + added)


def scored(model, ids, change) -> list:
    """`score` at each length with `change(length)` in the attention."""
    losses = []
    for length in LENGTHS:
        with changed(model, change(length)):
            losses.append(score(model, ids, length, STRIDE))
    return losses


# --- One run --------------------------------------------------------------------------


@torch.no_grad()
def by_distance(model, ids: Tensor) -> dict:
    """What the trained attention does by distance back, 0 to half the length.

    Over queries in the second half of 32 windows: the mean weight, and for Shaw the
    mean of what its vectors add to the score. Each (layers, H, T/2).
    """
    seen, half = {"weight": [], "shaw": []}, LENGTH // 2
    window = windows(ids, LENGTH, 512)[:32, :-1]  # (B, T)
    back = torch.arange(half, LENGTH)[:, None] - torch.arange(half)  # (T/2, T/2), keys

    def mean(scores):
        there = back.expand(*scores.shape[:2], half, half)
        return scores[..., half:, :].gather(-1, there).mean((0, 2)).tolist()  # (H, T/2)

    def look(layer, arguments, output):
        x, places, *_ = arguments
        query, key = (
            split_heads(map(x), HEADS) for map in (layer.to_query, layer.to_key)
        )  # (B, H, T, d)
        if places.turns is not None:
            query, key = rope(query, places.turns), rope(key, places.turns)
        bias = places.bias  # (T, T) or (1, H, T, T)
        if layer.shaw is not None:
            added = layer.shaw(query, places.distance)  # (B, H, T, T)
            seen["shaw"].append(mean(added))
            bias = bias + added
        scores = query @ key.mT / query.shape[-1] ** 0.5 + bias
        seen["weight"].append(mean(scores.softmax(-1)))

    handles = [b.attention.register_forward_hook(look) for b in model.blocks]
    model(window)
    for handle in handles:
        handle.remove()
    return {k: rounded(v) for k, v in seen.items() if v}


def rounded(numbers, digits: int = 4):
    if isinstance(numbers, float):
        return round(numbers, digits)
    return [rounded(n, digits) for n in numbers]


def trial(scheme, scale, rate, ids, choose) -> dict:
    start = time.process_time()
    model = started(scheme, scale, TRIAL_SEED, ids)
    fit(model, ids, LENGTH, TRIAL_STEPS[scheme], rate, TRIAL_SEED)
    loss = score(model, choose, LENGTH, LENGTH)
    loss = loss if loss < 10 else 10.0  # also where it is no number
    seconds = round(time.process_time() - start, 1)
    return {"scale": scale, "rate": rate, "loss": loss, "cpu_seconds": seconds}


def run(scheme, scale, rate, seed, ids, report, folder) -> dict:
    """One reported run: its curve, its losses by length, what its positions became.

    What is shipped of its weights goes to `folder`.
    """
    start = time.process_time()
    model = started(scheme, scale, seed, ids)
    result = {"seed": seed, "untrained": score(model, report, LENGTH, STRIDE)}
    result["untrained_by_distance"] = by_distance(model, report)
    result["curve"] = fit(model, ids, LENGTH, STEPS, rate, seed)
    if scheme in SHIPPED and seed == SEEDS[0]:
        safetensors.torch.save_file(model.state_dict(), kept_weights(folder, scheme))
    result["loss"] = [score(model, report, length, STRIDE) for length in LENGTHS]
    result["cut"] = scored(model, report, lambda length: cut)
    result["by_distance"] = by_distance(model, report)
    if scheme == "rope":
        result |= causes(model, report)
        result |= rescues(model, scale, rate, seed, ids, report)
    if scheme == "t5":
        result["bias"] = t5_bias(model)
    if scheme == "learned":
        unit = F.normalize(model.table.weight.detach(), dim=-1)
        result["table"] = rounded((unit @ unit.mT).tolist(), 2)  # (L, L)
    result["cpu_seconds"] = round(time.process_time() - start, 1)
    return result


def kept_weights(folder: Path, scheme: str) -> Path:
    return folder / f"{scheme}.safetensors"


def causes(model, report) -> dict:
    """Plain RoPE: many keys at known distances; few keys, half at unknown ones."""
    w = model.frequencies
    return {
        "clamped": scored(model, report, lambda n: partial(clamped, frequencies=w)),
        "away": scored(
            model, report, lambda n: partial(away, frequencies=w, by=n - LENGTH)
        ),
    }


def rescues(model, base, rate, seed, ids, report) -> dict:
    """RoPE at each length with changed frequencies, and with a short training there."""
    plain, d = model.frequencies, WIDTH // HEADS
    changes = {
        "plain": lambda factor: plain,
        "interpolated": lambda factor: interpolated(plain, factor),
        "ntk": lambda factor: rope_frequencies(d, ntk_base(d, factor, base)),
    }
    losses = {name: [] for name in changes}
    short = {f"{name}_cut": [] for name in changes}
    tuned = {name: [] for name in changes}
    for name, change in changes.items():
        for length in LENGTHS:
            other = copy.deepcopy(model)
            other.frequencies = change(length / LENGTH)
            losses[name].append(score(other, report, length, STRIDE))
            with changed(other, cut):
                loss = score(other, report, length, STRIDE)
            short[f"{name}_cut"].append(loss)
            if length not in TUNED:
                continue
            fit(other, ids, length, TUNE_STEPS, rate / 4, 500 + seed)
            tuned[name].append(score(other, report, length, STRIDE))
    del losses["plain"], short["plain_cut"]  # they are the run's own
    return losses | short | {"tuned": tuned}


def t5_bias(model) -> list:
    """(H, T): the bias of each head by distance back, 0 to T − 1."""
    distance = -torch.arange(LENGTH)[None]
    return rounded(model.t5(distance)[:, 0].tolist())


def shuffled_run(scale, rate, seed, ids, report) -> dict:
    """T5's bias from the same characters without their order."""
    start = time.process_time()
    order = torch.Generator().manual_seed(2_000_000 + seed)
    ids, report = (x[torch.randperm(len(x), generator=order)] for x in (ids, report))
    model = started("t5", scale, seed, ids)
    result = {"seed": seed, "curve": fit(model, ids, LENGTH, STEPS, rate, seed)}
    result["loss"] = score(model, report, LENGTH, STRIDE)
    result |= {"bias": t5_bias(model), "by_distance": by_distance(model, report)}
    return result | {"cpu_seconds": round(time.process_time() - start, 1)}


def climb(grid, start, loss) -> float:
    """The best of a rising grid: on from `start` until both neighbours are worse."""
    found, new = {}, [grid.index(start)]
    while new:
        found |= {i: loss(grid[i]) for i in new}
        best = min(found, key=found.get)
        near = (best - 1, best + 1)
        new = [i for i in near if 0 <= i < len(grid) and i not in found]
    return grid[best]


def study(folder: Path) -> dict:
    """Run what is missing of the bench and return its trace."""
    folder = folder / training.digest(config())  # another study, other files
    folder.mkdir(parents=True, exist_ok=True)
    ids, choose, report = text()
    trace = {"length": LENGTH, "lengths": LENGTHS, "tuned_lengths": TUNED}
    trace["schemes"] = {}
    for scheme in tqdm(SCHEMES, desc="choices"):
        tried = {}

        def loss(scale, rate, scheme=scheme, tried=tried):
            key = f"trial-{scheme}-{scale:g}-{rate:g}"
            job = (scheme, scale, rate, ids, choose)
            tried[key] = training.kept(folder, key, lambda: trial(*job))
            return tried[key]["loss"]

        scale = 1.0
        if scheme in SCALES:
            scale = climb(*SCALES[scheme], lambda s, loss=loss: loss(s, RATE))
        rate = climb(RATES, RATE, lambda r, s=scale, loss=loss: loss(s, r))
        chosen = {"scale": scale, "rate": rate}
        trials = list(tried.values())
        trace["schemes"][scheme] = {"chosen": chosen, "trials": trials, "runs": []}
    for seed in tqdm(SEEDS, desc="seeds"):
        for scheme in SCHEMES:
            found = trace["schemes"][scheme]
            chosen = found["chosen"]
            job = (scheme, chosen["scale"], chosen["rate"], seed, ids, report, folder)
            found["runs"].append(
                training.kept(folder, f"run-{scheme}-{seed}", lambda job=job: run(*job))
            )
    trace["shuffled"] = []
    for seed in tqdm(SEEDS, desc="shuffled"):
        job = (*trace["schemes"]["t5"]["chosen"].values(), seed, ids, report)
        trace["shuffled"].append(
            training.kept(
                folder, f"shuffled-{seed}", lambda job=job: shuffled_run(*job)
            )
        )
    counts = 1 + torch.bincount(ids).double()  # (V,)
    surprise = -(counts / counts.sum()).log()[report].mean()
    trace["unigram_loss"] = round(surprise.item(), 4)
    return trace


def shipped(folder: Path) -> dict[str, Tensor]:
    """The weights to ship, named `<scheme>.<parameter>`."""
    folder = folder / training.digest(config())
    return {
        f"{scheme}.{name}": tensor
        for scheme in SHIPPED
        for name, tensor in safetensors.torch.load_file(
            kept_weights(folder, scheme)
        ).items()
    }


def main() -> None:
    folder = training.arguments(__doc__, NAME).folder
    corpus = tiny_shakespeare()
    if not corpus.is_full:
        raise SystemExit(f"the recorded runs want the whole text: {corpus.notice}")
    print(corpus)
    trace = study(folder) | {"characters": characters()}
    metrics = {}
    for scheme, found in trace["schemes"].items():
        columns = [[run["loss"][i] for run in found["runs"]] for i in (0, -1)]
        metrics[scheme] = [
            round(sum(c) / len(c), 4) if None not in c else "undefined" for c in columns
        ]
        print(f"{scheme}: {found['chosen']}, {metrics[scheme]}")
    runs = [r for s in trace["schemes"].values() for r in s["trials"] + s["runs"]]
    runs += trace["shuffled"]
    card = {
        "config": config(),
        "data": {
            "name": corpus.name,
            "source": corpus.source,
            "licence": corpus.licence,
            "is_full": corpus.is_full,
            "split": "the first 90 % to train, 5 % to choose, the last 5 % to report",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.positions",
        "metrics": {
            f"loss_at_{LENGTH}_and_{max(LENGTHS)}": metrics,
            "slowest_run_cpu_seconds": max(r["cpu_seconds"] for r in runs),
            "cpu_minutes": round(sum(r["cpu_seconds"] for r in runs) / 60, 1),
        },
        "licence": "MIT",
    }
    print(weights.save(NAME, card, tensors=shipped(folder), trace=trace))


if __name__ == "__main__":
    main()
