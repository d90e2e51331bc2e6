"""How induction heads form: the record of `language/in-context`.

    python -m train.induction            # everything, about 15 minutes on one core

A transformer of attention alone (no MLP) reads sequences of two kinds, half and half:
*text*, a chain in which a token's successors have fixed probabilities, and *repeats*,
random tokens of which a piece of 8 to 24 comes again and again. The chain is learned in
the weights; the repeats can only be foretold from what stands in the same sequence.

Three arms of five seeds. **Two layers**. **One layer**, the control: a head cannot find
the token that follows an earlier copy, since no layer before it has told a token which
one precedes it. **One layer, smeared keys**: each key is a learned mixture with the key of
the token before, which does what the first layer is needed for (Olsson et al., 2022,
argument 2). If induction is what the drop of the loss is, the third arm has it too.

In-context score: the mean loss of places 48–63 less that of places 4–7, counted from 0, on
held-out sequences of both kinds (Olsson et al. take the 500th token less the 50th). At
places 4–7 nothing can have come again, at 48–63 everything has. The score of each kind is
recorded too: a network that tells text from repeats by the tokens so far has gained
something on both without having found a copy. Sizes, periods and rate
were fixed by trials with one other seed; all five seeds are reported.

To be tested on the page: the final in-context scores of five against five seeds by the
exact Mann–Whitney test, two-sided, with Holm's correction for the two comparisons with
"one layer"; the steps of `formed` and `dropped` by the exact permutation test of
Spearman's correlation over the ten runs in which both happen.

Every finished run is a file under `_build/train/induction/`, and a killed run goes on from
its last minute.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lib import training, weights
from lib.lens import heads, hooks, measures
from lib.models.language import LanguageModel

NAME = "induction"
V, T, D, HEADS = 64, 64, 64, 4
PERIODS = 8, 24  # tokens after which a sequence repeats, the ends included
SPREAD = 0.05  # Dirichlet: the smaller, the fewer successors a token has
EARLY, LATE = slice(3, 7), slice(47, 63)  # the losses of places 4–7 and 48–63
ARMS = {"two layers": (2, False), "one layer": (1, False)}
ARMS |= {"one layer, smeared keys": (1, True)}
SEEDS, STEPS, EVERY, BATCH, RATE, WARM_UP = range(5), 1500, 20, 64, 3e-3, 50
HELD_OUT, PERIOD, TRIALS = 128, 20, 32  # sequences of each held-out set; its period


def successors() -> Tensor:
    """The chain: (V, V), row by row the probability of the token after, summed up."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.full((V, V), SPREAD)
    draws = torch._standard_gamma(alpha, generator=generator)
    return (draws / draws.sum(-1, keepdim=True)).cumsum(-1)


CHAIN = successors()


def text(B: int, generator: torch.Generator) -> Tensor:
    """B sequences of the chain: (B, T)."""
    lots = torch.rand(B, T, generator=generator)
    tokens = [(lots[:, 0] * V).long()]
    for lot in lots.T[1:]:
        below = (CHAIN[tokens[-1]] < lot[:, None]).sum(-1)  # (B,)
        tokens.append(below.clamp(max=V - 1))
    return torch.stack(tokens, 1)


def repeats(B: int, generator: torch.Generator) -> Tensor:
    """B sequences of random tokens, each with a period of its own: (B, T)."""
    low, high = PERIODS
    period = torch.randint(low, high + 1, (B, 1), generator=generator)
    tokens = torch.randint(V, (B, high), generator=generator)
    return tokens.gather(1, torch.arange(T) % period)


def mixture(B: int, generator: torch.Generator) -> Tensor:
    """Text and repeats in turn: (B, T)."""
    both = text(B // 2, generator), repeats(B // 2, generator)
    return torch.stack(both, 1).flatten(0, 1)


class Nothing(nn.Module):
    """In the place of an MLP: adds nothing to the stream."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Smeared(nn.Module):
    """Keys that each hold a learned share of the key before: (B, T, D) -> the same."""

    def __init__(self, to_key: nn.Linear):
        super().__init__()
        self.to_key, self.share = to_key, nn.Parameter(torch.zeros(HEADS))

    def forward(self, x: Tensor) -> Tensor:
        key = self.to_key(x)  # (B, T, D)
        before = F.pad(key, (0, 0, 1, 0))[:, :-1]  # (B, T, D), 0 before the first
        share = self.share.sigmoid().repeat_interleave(D // HEADS)  # (D,)
        return share * key + (1 - share) * before


def network(layers: int, smeared: bool) -> LanguageModel:
    """The book's language model, with RoPE, without its MLPs."""
    model = LanguageModel(V, D, HEADS, layers, positions="rope")
    model.embed.weight.data.mul_(0.1)  # small, as in the trials
    for block in model.blocks:
        block.mlp_norm, block.mlp = nn.Identity(), Nothing()
        if smeared:
            block.attention.to_key = Smeared(block.attention.to_key)
    return model


def floor() -> float:
    """The loss on the held-out text of whoever knows the chain, in nats."""
    tokens = held_out()[0][::2]  # (B, T), text alone
    chain = CHAIN.diff(dim=-1, prepend=torch.zeros(V, 1))  # (V, V)
    return round(-chain[tokens[:, :-1], tokens[:, 1:]].log().mean().item(), 4)


def losses(model: nn.Module, ids: Tensor) -> Tensor:
    """The loss of each token but the first, in nats: (B, T) -> (B, T − 1)."""
    logits = model(ids)[:, :-1]  # (B, T − 1, V)
    return F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")


def held_out() -> tuple[Tensor, Tensor]:
    """A mixture (B, T), and random tokens twice (B, 2 P): none of them trained on."""
    generator = torch.Generator().manual_seed(1_000_003)
    mixed = mixture(HELD_OUT, generator)
    return mixed, measures.repeated(torch.arange(V), TRIALS, PERIOD, generator)


def evaluate(model: nn.Module) -> dict:
    """Losses by kind, the in-context score, and each head's two scores."""
    mixed, twice = held_out()
    loss = losses(model, mixed)  # (B, T − 1)
    gain = loss[:, LATE].mean(1) - loss[:, EARLY].mean(1)  # (B,)
    with heads.reading_attention(model) as maps:
        again = losses(model, twice)[:, PERIOD:].mean()
    previous = measures.at_offset(2 * PERIOD, -1)
    wanted = measures.after_same(twice)[:, None]  # (B, 1, 2P, 2P)
    found = {
        "text": loss[::2].mean(),
        "repeats": loss[1::2].mean(),
        "again": again,
        "in_context": gain.mean(),
        "in_context_text": gain[::2].mean(),
        "in_context_repeats": gain[1::2].mean(),
        "previous": [measures.share(m, previous).mean(0) for m in maps.values()],
        "induction": [
            measures.share(m, wanted.expand_as(m)).mean(0) for m in maps.values()
        ],
    }
    return {key: rounded(value) for key, value in found.items()}


def rounded(value: Tensor | list) -> float | list:
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return [rounded(v) for v in value] if value.ndim else round(value.item(), 4)


def without(model: nn.Module) -> dict:
    """What `evaluate` finds with each head's output put to its mean: "layer.head" -> it."""
    mixed, _ = held_out()
    with heads.reading_heads(model) as mixes:
        model(mixed)
    found = {}
    for layer, mix in mixes.items():
        for head in range(HEADS):
            mean = mix[..., head, :].mean((0, 1))  # (d,)
            with heads.replacing_heads(model, {(layer, head): hooks.to(mean)}):
                found[f"{layer}.{head}"] = evaluate(model)
    return found


def run(arm: str, seed: int, folder: Path) -> dict:
    """Train one network: its trace, what each head is worth in the end, its weights."""
    torch.manual_seed(seed)
    model = network(*ARMS[arm])
    trace = training.fit(
        model,
        lambda step, generator: (mixture(BATCH, generator),),
        lambda net, ids: losses(net, ids).mean(),
        STEPS,
        [torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98))],
        seed=seed,
        warm_up=WARM_UP,
        final=1.0,
        evaluate=evaluate,
        every=EVERY,
        evaluate_every=EVERY,
        folder=folder,
        config=CONFIG,
    )
    with torch.no_grad():
        trace["without"] = without(model)
    return {"trace": trace, "tensors": model.state_dict()}


def formed(evaluations: list[dict]) -> int | None:
    """The first step at which a head's induction score is above one half."""
    best = [max(max(layer) for layer in e["induction"]) for e in evaluations]
    return next(
        (e["step"] for e, b in zip(evaluations, best, strict=True) if b > 0.5), None
    )


def dropped(evaluations: list[dict]) -> int | None:
    """The first step at which repeated tokens cost less than half of ln V."""
    half = math.log(V) / 2
    return next((e["step"] for e in evaluations if e["again"] < half), None)


CONFIG = {
    "network": "network of train/induction.py",
    "sizes": {"vocabulary": V, "length": T, "d_model": D, "num_heads": HEADS},
    "arms": {arm: [*settings] for arm, settings in ARMS.items()},
    "data": {"periods": [*PERIODS], "spread": SPREAD},
    "training": {"steps": STEPS, "batch": BATCH, "rate": RATE, "warm_up": WARM_UP},
    "seeds": len(SEEDS),
}


def study(folder: Path) -> tuple[dict, dict]:
    """Run what is missing; arm -> one trace a seed, and the tensors of arm "two layers"."""
    traces, tensors = {arm: [] for arm in ARMS}, {}
    for seed in tqdm(SEEDS, desc="seeds"):  # all arms of a seed, so a part is a study
        for arm in ARMS:
            key = training.digest([arm, seed, CONFIG, HELD_OUT, PERIOD, TRIALS])
            job = lambda key=key, arm=arm, seed=seed: run(  # noqa: E731
                arm, seed, folder / key
            )
            found = training.kept(folder, key, job)
            traces[arm].append(found["trace"])
            if arm == "two layers" and seed == 0:
                tensors = found["tensors"]
    return traces, tensors


def main() -> None:
    traces, tensors = study(training.arguments(__doc__, NAME).folder)
    metrics = {"text_floor": floor()}
    for arm, runs in traces.items():
        evaluations = [trace["evaluations"] for trace in runs]
        metrics[arm] = {
            "in_context": [e[-1]["in_context"] for e in evaluations],
            "repeats": [e[-1]["repeats"] for e in evaluations],
            "text": [e[-1]["text"] for e in evaluations],
            "formed": [formed(e) for e in evaluations],
            "dropped": [dropped(e) for e in evaluations],
            "cpu_minutes": [round(trace["cpu_seconds"] / 60, 1) for trace in runs],
        }
    card = {
        "config": CONFIG,
        "data": {
            "name": "a chain of tokens; random tokens repeated",
            "source": "drawn by train/induction.py",
            "licence": "MIT",
            "split": "sequences to train and to report on have different seeds",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.induction",
        "metrics": metrics,
        "licence": "MIT",
    }
    weights.save(NAME, card, tensors, traces)


if __name__ == "__main__":
    main()
