"""The position bench: seven schemes in one small model, at the trained length and beyond.

    python -m train.positions             # everything, about 8 minutes on one core
    python -m train.positions --help

The model is a causal transformer over characters (2 layers, width 64, 4 heads, pre-norm),
the text is tiny Shakespeare. Only the scheme differs: none, sinusoidal, learned, Shaw, T5,
ALiBi, RoPE. Each first finds its own scale and learning rate on the split for choices,
with a seed of its own; three other seeds at that setting are then scored on the last part
of the text, which chose nothing.

Scored are the same characters at every length: the last 64 of each window, given the
characters of the window before them. A length of 64 gives 0 to 63 of them, a length of L
L − 64 to L − 1. So what changes with the length is only how much the model is given.
A learned table has no row beyond its length: the score there is null, not a loss.

Every finished run is a file under `_build/train/positions/`, so a killed command goes on
where it was.
"""

import argparse
import hashlib
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from lib import data, weights
from lib.layers import MLP, LayerNorm, PreNorm
from lib.positions import (
    SCHEMES,
    Learned,
    Shaw,
    T5Bias,
    alibi,
    alibi_slopes,
    distances,
    interpolated,
    ntk_base,
    rope,
    rope_frequencies,
    rope_turns,
    sinusoidal,
)

NAME = "positions"
LAYERS, WIDTH, HEADS = 2, 64, 4
LENGTH, BATCH = 64, 16
LENGTHS = (64, 128, 256, 512)
STEPS, TRIAL_STEPS = 600, 250
SEEDS, TRIAL_SEED = (0, 1, 2), 100
RATES = (4e-3, 8e-3, 1.6e-2)  # the middle one first, for the scales
# What "scale" is: the amplitude of the waves, the deviation of a table's start (token
# vectors start with deviation 1), the base of RoPE. Others have none.
SCALES = {
    "sinusoidal": (0.3, 1.0, 3.0),
    "learned": (0.02, 0.1, 0.3, 1.0),
    "shaw": (0.1, 0.3),
    "rope": (10_000.0, 100.0),
}
STRIDE = 512  # characters between the ends of two windows that are scored
CONFIG = {
    "model": f"{LAYERS} layers, d_model {WIDTH}, {HEADS} heads, pre-norm, hidden 256",
    "optimiser": "AdamW, betas (0.9, 0.99), weight decay 0.01, clip 1",
    "schedule": "20 steps up, then a cosine to a tenth",
    "schemes": SCHEMES,
    "length": LENGTH,
    "lengths": LENGTHS,
    "batch": BATCH,
    "steps": STEPS,
    "trial_steps": TRIAL_STEPS,
    "seeds": SEEDS,
    "trial_seed": TRIAL_SEED,
    "rates": RATES,
    "scales": SCALES,
    "stride": STRIDE,
    "shaw_reach": 32,
    "t5": "32 buckets, far 64, one table for all layers",
}


class Attention(nn.Module):
    """Causal self-attention with a place for each scheme: (B, T, D) -> (B, T, D)."""

    def __init__(self, scheme: str, scale: float):
        super().__init__()
        self.scheme = scheme
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        if scheme == "shaw":
            self.shaw = Shaw(32, WIDTH // HEADS, scale)
        self.place = None  # set by the model before each pass

    def forward(self, x):
        heads = self.qkv(x).unflatten(-1, (3, HEADS, -1)).transpose(1, 3)
        query, key, value = heads.unbind(2)  # (B, H, T, d) each
        place = self.place
        if self.scheme == "rope":
            query, key = rope(query, place["turns"]), rope(key, place["turns"])
        mask = place["causal"]  # (T, T) or (H, T, T), −∞ where a key comes later
        if self.scheme == "shaw":
            mask = mask + self.shaw(query, place["distance"])
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Model(nn.Module):
    """A character model with one of `SCHEMES`: ids (B, T) -> logits (B, T, V)."""

    def __init__(self, scheme: str, characters: int, scale: float = 1.0):
        super().__init__()
        self.scheme, self.scale = scheme, scale
        self.embed = nn.Embedding(characters, WIDTH)
        self.attentions = [Attention(scheme, scale) for _ in range(LAYERS)]
        self.blocks = nn.Sequential(
            *(
                PreNorm(branch, LayerNorm(WIDTH))
                for attention in self.attentions
                for branch in (attention, MLP(WIDTH, 4 * WIDTH))
            )
        )
        self.norm = LayerNorm(WIDTH)
        self.read = nn.Linear(WIDTH, characters)
        if scheme == "learned":
            self.table = Learned(LENGTH, WIDTH, scale)
        if scheme == "t5":
            self.bias = T5Bias(HEADS, bidirectional=False, far=LENGTH)
        self.frequencies = rope_frequencies(
            WIDTH // HEADS, scale if scheme == "rope" else 10_000.0
        )

    def forward(self, ids):
        T = ids.shape[1]
        x = self.embed(ids)  # (B, T, D)
        if self.scheme == "sinusoidal":
            x = x + self.scale * sinusoidal(T, WIDTH)
        if self.scheme == "learned":
            x = x + self.table(T)
        distance = distances(T, T)  # (T, T)
        causal = torch.zeros(T, T).masked_fill(distance > 0, float("-inf"))
        if self.scheme == "t5":
            causal = causal + self.bias(distance)  # (H, T, T)
        if self.scheme == "alibi":
            causal = causal + alibi(distance, alibi_slopes(HEADS))  # (H, T, T)
        place = {"causal": causal, "distance": distance}
        if self.scheme == "rope":
            place["turns"] = rope_turns(T, self.frequencies)
        for attention in self.attentions:
            attention.place = place
        return self.read(self.norm(self.blocks(x)))


def text() -> tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor]:
    """The alphabet, and ids to train (90 %), to choose (5 %) and to report (5 %)."""
    corpus = data.tiny_shakespeare()
    content = corpus.rows[0]["content"]
    alphabet = sorted(set(content))
    number = {c: i for i, c in enumerate(alphabet)}
    ids = torch.tensor([number[c] for c in content])
    a, b = int(0.9 * len(ids)), int(0.95 * len(ids))
    return alphabet, ids[:a], ids[a:b], ids[b:]


def trained(scheme, scale, rate, steps, seed, ids, characters):
    """One run: the model, and its training loss averaged over each 50 steps."""
    torch.manual_seed(seed)
    model = Model(scheme, characters, scale)
    order = torch.Generator().manual_seed(1_000_000 + seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    losses = []
    for step in range(steps):
        up = min(1.0, (step + 1) / 20)
        down = 0.55 + 0.45 * math.cos(math.pi * step / steps)
        optimiser.param_groups[0]["lr"] = rate * up * down
        start = torch.randint(len(ids) - LENGTH, (BATCH, 1), generator=order)
        batch = ids[start + torch.arange(LENGTH + 1)]  # (B, T + 1)
        logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    means = [sum(losses[i : i + 50]) / 50 for i in range(0, steps, 50)]
    return model.eval(), [round(m, 4) for m in means]


@torch.no_grad()
def score(model: Model, ids: torch.Tensor, length: int, stride: int = STRIDE):
    """Mean loss (nats a character) of the last 64 of each window of `length`.

    The windows end at the same characters whatever the length, so the scored ones are
    the same. None where the scheme is undefined at this length.
    """
    if model.scheme == "learned" and length > LENGTH:
        return None
    ends = torch.arange(max(LENGTHS), len(ids) - 1, stride)
    losses = []
    for end in ends.split(max(1, 8192 // length)):
        window = ids[end[:, None] + torch.arange(-length, 1)]  # (B, L + 1)
        logits = model(window[:, :-1])[:, -LENGTH:]
        target = window[:, -LENGTH:]
        loss = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        losses.append(loss.mean(1))
    return round(torch.cat(losses).mean().item(), 4)


def trial(scheme, scale, rate, ids, choose, characters) -> dict:
    start = time.process_time()
    model, _ = trained(scheme, scale, rate, TRIAL_STEPS, TRIAL_SEED, ids, characters)
    loss = score(model, choose, LENGTH)
    seconds = round(time.process_time() - start, 1)
    return {"scale": scale, "rate": rate, "loss": loss, "cpu_seconds": seconds}


def run(scheme, scale, rate, seed, ids, report, characters) -> dict:
    """One reported run: its curve, its losses by length, RoPE's rescues, T5's bias."""
    start = time.process_time()
    model, curve = trained(scheme, scale, rate, STEPS, seed, ids, characters)
    result = {"seed": seed, "curve": curve}
    result["loss"] = [score(model, report, length) for length in LENGTHS]
    if scheme == "rope":
        plain, d = model.frequencies, WIDTH // HEADS
        for name in ("interpolated", "ntk"):
            losses = []
            for length in LENGTHS:
                factor = length / LENGTH
                if name == "interpolated":
                    model.frequencies = interpolated(plain, factor)
                else:
                    base = ntk_base(d, factor, scale)
                    model.frequencies = rope_frequencies(d, base)
                losses.append(score(model, report, length))
            result[name] = losses
    if scheme == "t5":
        distance = torch.arange(-LENGTH + 1, 1)[None]  # (1, 64): the last is 0
        bias = model.bias(distance)[:, 0].flip(-1)  # (H, 64), by characters back
        result["bias"] = [[round(b, 4) for b in head] for head in bias.tolist()]
    if scheme == "learned":
        unit = F.normalize(model.table.weight, dim=-1)
        result["table"] = [[round(c, 3) for c in r] for r in (unit @ unit.T).tolist()]
    result["cpu_seconds"] = round(time.process_time() - start, 1)
    return result


def kept(folder: Path, key: str, job) -> dict:
    """The result of `job`, from its file if it was computed before."""
    path = folder / f"{key}.json"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(job()))
        os.replace(partial, path)
    return json.loads(path.read_text())


def study(folder: Path) -> dict:
    """Run what is missing of the bench and return its trace."""
    digest = hashlib.sha256(json.dumps(CONFIG, sort_keys=True).encode())
    folder = folder / digest.hexdigest()[:12]  # another study, other files
    folder.mkdir(parents=True, exist_ok=True)
    alphabet, ids, choose, report = text()
    size = len(alphabet)
    trace = {"lengths": LENGTHS, "schemes": {}}
    for scheme in tqdm(SCHEMES, desc="choices"):
        tried = []

        def attempt(scale, rate, scheme=scheme, tried=tried):
            key = f"trial-{scheme}-{scale:g}-{rate:g}"
            job = (scheme, scale, rate, ids, choose, size)
            tried.append(kept(folder, key, lambda: trial(*job)))

        for scale in SCALES.get(scheme, (1.0,)):
            attempt(scale, RATES[1])
        best = min(tried, key=lambda t: t["loss"])["scale"]
        for rate in (RATES[0], RATES[2]):
            attempt(best, rate)
        best = min(tried, key=lambda t: t["loss"])
        chosen = {"scale": best["scale"], "rate": best["rate"]}
        trace["schemes"][scheme] = {"chosen": chosen, "trials": tried, "runs": []}
    for seed in tqdm(SEEDS, desc="seeds"):
        for scheme in SCHEMES:
            found = trace["schemes"][scheme]
            chosen = found["chosen"]
            job = (scheme, chosen["scale"], chosen["rate"], seed, ids, report, size)
            found["runs"].append(
                kept(folder, f"run-{scheme}-{seed}", lambda job=job: run(*job))
            )
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("_build/train/positions"),
        help="where finished runs are kept (default: %(default)s); remove it to start "
        "again",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    corpus = data.tiny_shakespeare()
    print(corpus)
    trace = study(arguments.folder)
    at = [LENGTHS.index(length) for length in (LENGTH, max(LENGTHS))]
    metrics = {}
    for scheme, found in trace["schemes"].items():
        columns = [[run["loss"][i] for run in found["runs"]] for i in at]
        metrics[scheme] = [
            round(sum(c) / len(c), 4) if None not in c else "undefined" for c in columns
        ]
        print(f"{scheme}: {found['chosen']}, {metrics[scheme]}")
    runs = [r for s in trace["schemes"].values() for r in s["trials"] + s["runs"]]
    card = {
        "config": CONFIG,
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
    print(weights.save(NAME, card, trace=trace))


if __name__ == "__main__":
    main()
