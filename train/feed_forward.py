"""What is the feed-forward network worth? The recorded runs of `block/feed-forward`.

    python -m train.feed_forward            # everything, about 12 minutes on one core
    python -m train.feed_forward --longer   # prints a check, about 17 minutes
    python -m train.feed_forward --help

Small causal transformers on the characters of tiny Shakespeare (public domain): the
first 90 % to train, the next 5 % to choose on, the last 5 % to report.

- One model of 4 layers, whose weights and whose start are shipped (float16), under the
  names of `lib.models.language.LanguageModel`, which computes the same: the page reads its hidden
  units and its residual stream.
- A comparison at equal parameters, 2 layers: no MLP, or an MLP of 1, 2 or 4 times the
  width, plain or gated, with and without residual connections. Where the MLP is
  smaller the whole model is wider, so that all have the same number of parameters.
  Each setting takes the best of three learning rates by one seed's validation loss:
  two that all settings try, and a third beyond the better one. Then five other seeds
  are trained and their test loss reported.
- With `--longer`, which ships nothing: does the order of four settings hold after ten
  times as many steps?

Every finished run is a file under `_build/train/feed-forward/`, so a killed command
goes on where it was.
"""

import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from lib import training, weights
from lib.attention import attention, causal_mask
from lib.data.shakespeare import ORIGIN, tiny_shakespeare
from lib.layers import MLP, GatedMLP, PreNorm, gelu
from lib.models.language import LanguageModel

NAME = "feed-forward"
VOCABULARY = 65
SHIPPED = {"d_model": 96, "layers": 4, "heads": 4, "context": 128, "steps": 1000}
SMALL = {"layers": 2, "heads": 2, "context": 64, "steps": 200}
BATCH, WARM_UP = 16, 30
SHIPPED_RATE, SHIPPED_SEED = 3e-3, 0
RATES = (3e-3, 1e-2)
BEYOND = {3e-3: 1e-3, 1e-2: 3e-2}  # the third rate, beyond the better one
TRIAL_SEED, SEEDS = 100, (0, 1, 2, 3, 4)
# expansion, gated, residual; the baseline without an MLP comes first
SETTINGS = (
    (0, False, True),
    *(
        (expansion, gated, residual)
        for residual in (True, False)
        for gated in (False, True)
        for expansion in (1, 2, 4)
    ),
)
TARGET = (4, 64)  # expansion and width of the plain model whose size all have
LONGER = {
    "steps": 2000,
    "settings": ((0, False, True), (1, False, True), (4, False, True), (4, True, True)),
    "shares": (1.0, 0.3),  # of the rate that was best in the short runs
    "seeds": (0, 1, 2),
}
CONFIG = {
    "shipped": {**SHIPPED, "rate": SHIPPED_RATE, "seed": SHIPPED_SEED, "expansion": 4},
    "comparison": SMALL,
    "batch": BATCH,
    "warm_up_steps": WARM_UP,
    "schedule": "linear rise, then cosine to a tenth",
    "optimiser": "Adam, betas (0.9, 0.99), gradients clipped at norm 1",
    "activation": "GELU, in the gate too",
    "rates": RATES,
    "third_rates": list(BEYOND.values()),
    "trial_seed": TRIAL_SEED,
    "seeds": SEEDS,
    "target": TARGET,
}


class SelfAttention(nn.Module):
    """Causal attention in several heads: (B, T, D) -> (B, T, D)."""

    def __init__(self, d_model: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        for layer in (self.qkv, self.out):
            nn.init.normal_(layer.weight, std=d_model**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, d)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, H, T, d) each
        mixed, _ = attention(query, key, value, causal_mask(x.shape[-2]))
        return self.out(mixed.transpose(1, 2).flatten(-2))  # (B, T, D)


class Bare(PreNorm):
    """`branch(norm(x))`: Pre-LN without its residual connection."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(self.norm(x))


class CharModel(nn.Module):
    """A causal transformer on characters: ids (B, T) -> logits (B, T, V).

    `mlp` makes the feed-forward branch of a layer, or is None for a model of attention
    alone. Its parts alternate, attention first. With an MLP and residual connections
    it is a `LanguageModel`; what is compared here has not always both.
    """

    def __init__(self, d_model, layers, heads, context, mlp, residual=True):
        super().__init__()
        wire = PreNorm if residual else Bare
        self.token = nn.Embedding(VOCABULARY, d_model)
        self.position = nn.Embedding(context, d_model)
        nn.init.normal_(self.token.weight, std=0.5)
        nn.init.normal_(self.position.weight, std=0.1)
        parts = []
        for _ in range(layers):
            parts.append(wire(SelfAttention(d_model, heads), nn.LayerNorm(d_model)))
            if mlp is not None:
                parts.append(wire(mlp(), nn.LayerNorm(d_model)))
        self.parts = nn.ModuleList(parts)
        self.norm = nn.LayerNorm(d_model)
        self.readout = nn.Linear(d_model, VOCABULARY, bias=False)
        nn.init.normal_(self.readout.weight, std=0.02)  # the loss starts near ln V

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.token(ids) + self.position.weight[: ids.shape[-1]]  # (B, T, D)
        for part in self.parts:
            hidden = part(hidden)  # (B, T, D)
        return self.readout(self.norm(hidden))  # (B, T, V)


@torch.no_grad()
def as_language_model(model: CharModel) -> LanguageModel:
    """The same function as a `LanguageModel`, with the tensors renamed."""
    letters, width = model.token.weight.shape
    heads, context = model.parts[0].branch.heads, len(model.position.weight)
    renamed = {"embed": model.token, "table": model.position}
    renamed |= {"norm": model.norm, "readout": model.readout}
    for i, (attend, mlp) in enumerate(
        zip(model.parts[::2], model.parts[1::2], strict=True)
    ):
        renamed |= {
            f"blocks.{i}.attention_norm": attend.norm,
            f"blocks.{i}.attention.to_output": attend.branch.out,
            f"blocks.{i}.mlp_norm": mlp.norm,
            f"blocks.{i}.mlp": mlp.branch,
        }
    state = {
        f"{start}.{name}": tensor
        for start, module in renamed.items()
        for name, tensor in module.state_dict().items()
    }
    for i, attend in enumerate(model.parts[::2]):
        for name, part in zip(
            ("to_query", "to_key", "to_value"),
            attend.branch.qkv.weight.chunk(3),
            strict=True,
        ):
            state[f"blocks.{i}.attention.{name}.weight"] = part
    found = LanguageModel(
        letters,
        width,
        heads,
        len(model.parts) // 2,
        positions="learned",
        length=context,
    )
    found.load_state_dict(state)
    return found


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def shipped_model(seed: int) -> CharModel:
    """The shipped model before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = SHIPPED["d_model"]
        return CharModel(
            width,
            SHIPPED["layers"],
            SHIPPED["heads"],
            SHIPPED["context"],
            lambda: MLP(width, 4 * width, gelu),
        )


def small_model(expansion, gated, residual, d_model, seed=0) -> CharModel:
    """A model of the comparison; gated, two thirds of the units make its size."""

    def mlp():
        if gated:
            return GatedMLP(d_model, round(2 * expansion * d_model / 3), gelu)
        return MLP(d_model, expansion * d_model, gelu)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CharModel(
            d_model,
            SMALL["layers"],
            SMALL["heads"],
            SMALL["context"],
            mlp if expansion else None,
            residual,
        )


def width_of(expansion: int, gated: bool) -> int:
    """The even width at which the model's size is nearest the target's."""
    target = count(small_model(TARGET[0], False, True, TARGET[1]))
    return min(
        range(48, 129, SMALL["heads"]),
        key=lambda d: abs(count(small_model(expansion, gated, True, d)) - target),
    )


def text_splits() -> tuple[str, dict[str, torch.Tensor]]:
    """The sorted characters, and the ids of train, validation and test."""
    corpus = tiny_shakespeare()
    if not corpus.is_full:
        raise SystemExit(f"the recorded runs want the whole text: {corpus.notice}")
    text = corpus.rows[0]["content"]
    letters = "".join(sorted(set(text)))
    if len(letters) != VOCABULARY:
        raise SystemExit(f"text: expected {VOCABULARY} characters, got {len(letters)}")
    index = {letter: i for i, letter in enumerate(letters)}
    ids = torch.tensor([index[letter] for letter in text])
    ends = [int(0.9 * len(ids)), int(0.95 * len(ids))]
    splits = dict(
        zip(("train", "validation", "test"), ids.tensor_split(ends), strict=True)
    )
    return letters, splits


def rate_at(step: int, steps: int, rate: float) -> float:
    rise = min(1.0, (step + 1) / WARM_UP)
    return rate * rise * (0.55 + 0.45 * math.cos(math.pi * step / steps))


@torch.no_grad()
def loss_on(model: CharModel, ids: torch.Tensor, context: int) -> float:
    """Nats per character over the split's windows of `context`, one after another."""
    windows = (len(ids) - 1) // context
    inputs = ids[: windows * context].view(windows, context)
    targets = ids[1 : windows * context + 1].view(windows, context)
    total = 0.0
    for x, y in zip(inputs.split(64), targets.split(64), strict=True):
        logits = model(x)  # (B, T, V)
        total += F.cross_entropy(
            logits.flatten(0, 1), y.flatten(), reduction="sum"
        ).item()
    return total / targets.numel()


def train(model: CharModel, ids, context, steps, rate, seed) -> list[list[float]]:
    """Train in place; returns [step, training loss] for every 25th batch."""
    order = torch.Generator().manual_seed(1_000_000 + seed)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=rate, betas=(0.9, 0.99), fused=True
    )
    curve = []
    for step in range(steps):
        starts = torch.randint(len(ids) - context, (BATCH,), generator=order)
        windows = ids[starts[:, None] + torch.arange(context + 1)]  # (B, T + 1)
        logits = model(windows[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimiser.param_groups[0]["lr"] = rate_at(step, steps, rate)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 25 == 0 or step + 1 == steps:
            curve.append([step, round(loss.item(), 4)])
    return curve


def one_run(
    splits,
    expansion,
    gated,
    residual,
    rate,
    seed,
    scored: str,
    steps: int | None = None,
) -> dict:
    """One run of the comparison and its loss on the split `scored`."""
    start, steps = time.process_time(), steps or SMALL["steps"]
    model = small_model(expansion, gated, residual, width_of(expansion, gated), seed)
    curve = train(model, splits["train"], SMALL["context"], steps, rate, seed)
    return {
        "loss": round(loss_on(model, splits[scored], SMALL["context"]), 4),
        "curve": curve,
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def ship(splits, folder: Path) -> tuple[dict, dict]:
    """Train the shipped model; its float16 tensors and its record."""
    model = shipped_model(SHIPPED_SEED)

    def job():
        start = time.process_time()
        curve = train(
            model,
            splits["train"],
            SHIPPED["context"],
            SHIPPED["steps"],
            SHIPPED_RATE,
            SHIPPED_SEED,
        )
        seconds = round(time.process_time() - start, 1)
        return {"curve": curve, "cpu_seconds": seconds}, model.state_dict()

    record, state = training.kept(folder, "shipped", job)
    model.load_state_dict(state)
    tensors = {}
    for name, net in (("start", shipped_model(SHIPPED_SEED)), ("trained", model)):
        for key, tensor in as_language_model(net).state_dict().items():
            tensors[f"{name}/{key}"] = tensor.half()
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    for split in ("validation", "test"):
        record[split] = round(loss_on(model, splits[split], SHIPPED["context"]), 4)
    return tensors, record


def study(folder: Path) -> tuple[dict, dict]:
    """Run what is missing; the tensors of the shipped model and the trace."""
    folder = folder / training.digest(CONFIG)  # another study, other files
    letters, splits = text_splits()
    tensors, shipped = ship(splits, folder)

    def run(setting, rate, seed, scored):
        expansion, gated, residual = setting
        key = f"{expansion}-{gated:d}-{residual:d}-{rate:g}-{seed}-{scored}"
        return training.kept(
            folder, key, lambda: one_run(splits, *setting, rate, seed, scored)
        )

    comparison = []
    for setting in tqdm(SETTINGS, desc="learning rates"):
        trials = {}
        for rate in RATES:
            trials[rate] = run(setting, rate, TRIAL_SEED, "validation")["loss"]
        third = BEYOND[min(trials, key=trials.get)]
        trials[third] = run(setting, third, TRIAL_SEED, "validation")["loss"]
        best = min(trials, key=trials.get)
        width = width_of(*setting[:2])
        comparison.append(
            {
                "expansion": setting[0],
                "gated": setting[1],
                "residual": setting[2],
                "d_model": width,
                "parameters": count(small_model(*setting, width)),
                "trials": sorted(trials.items()),
                "rate": best,
            }
        )
    jobs = [(cell, seed) for seed in SEEDS for cell in comparison]
    for cell, seed in tqdm(jobs, desc="five seeds"):
        setting = cell["expansion"], cell["gated"], cell["residual"]
        result = run(setting, cell["rate"], seed, "test")
        cell.setdefault("test", []).append(result["loss"])
        cell.setdefault("cpu_seconds", []).append(result["cpu_seconds"])
    counts = 1 + torch.bincount(splits["train"], minlength=VOCABULARY).double()
    unigram = -(counts / counts.sum()).log()[splits["test"]].mean().item()
    return tensors, {
        "letters": letters,
        "unigram_loss": round(unigram, 4),
        "shipped": shipped,
        "comparison": comparison,
    }


def longer(folder: Path, comparison: list[dict]) -> dict[tuple, list[float]]:
    """Setting -> test loss of each seed, at the rate that is better on validation."""
    folder = folder / training.digest([CONFIG, LONGER])
    _, splits = text_splits()
    best = {(c["expansion"], c["gated"], c["residual"]): c["rate"] for c in comparison}

    def loss(setting, rate, seed, scored):
        key = f"{'-'.join(map(str, setting))}-{rate:g}-{seed}-{scored}"
        job = (splits, *setting, rate, seed, scored, LONGER["steps"])
        return training.kept(folder, key, lambda: one_run(*job))["loss"]

    found = {}
    for setting in tqdm(LONGER["settings"], desc="longer"):
        rates = [share * best[setting] for share in LONGER["shares"]]
        rate = min(rates, key=lambda r: loss(setting, r, TRIAL_SEED, "validation"))
        found[setting] = [loss(setting, rate, s, "test") for s in LONGER["seeds"]]
    return found


def main() -> None:
    said = {"action": "store_true", "help": "the longer check, which ships nothing"}
    options = training.arguments(__doc__, NAME, ("--longer", said))
    folder = options.folder
    if options.longer:
        for setting, losses in longer(
            folder, weights.trace(NAME)["comparison"]
        ).items():
            print("expansion, gated, residual", setting, "test losses", losses)
        return
    tensors, trace = study(folder)
    comparison = trace["comparison"]
    card = {
        "config": CONFIG,
        "data": {
            "name": "tiny-shakespeare",
            "source": f"{ORIGIN}/input.txt",
            "licence": "public domain",
            "split": "first 90 % train, next 5 % validation, last 5 % test",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.feed_forward",
        "metrics": {
            "test_loss_nats_per_character": trace["shipped"]["test"],
            "validation_loss_nats_per_character": trace["shipped"]["validation"],
            "cpu_seconds": trace["shipped"]["cpu_seconds"],
            "comparison_cpu_seconds_per_run": max(
                max(cell["cpu_seconds"]) for cell in comparison
            ),
        },
        "licence": "MIT",
    }
    print(weights.save(NAME, card, tensors=tensors, trace=trace))


if __name__ == "__main__":
    main()
