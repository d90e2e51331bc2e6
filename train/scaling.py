"""Loss by size and by tokens read: the scaling plot of `language/pretraining`.

    python -m train.scaling            # about 45 CPU-minutes on one core

Tiny Shakespeare, characters: six sizes × three budgets of tokens × two seeds, each run with
a schedule of its own that ends at its budget. One pass over the training text has about
880,000 characters: the two smaller budgets read no character twice, 1 M reads one in eight
again (`passes` in each row). Recipe of `train/pretraining.py` without dropout; its rates
were chosen at 1.5 M weights and are *not* tuned for each size, so a small model may be some
hundredths better than here.

N counts the weights of the blocks, without embedding and readout, which a vocabulary of 65
hardly needs; C ≈ 6 N D floating-point operations, D the tokens read. Judged is the last
tenth of the *training* text; the validation split is not read.

Two fits. `law`: E + A / N^α + B / D^β over all runs (Hoffmann et al., 2022), by Huber's
loss of the logarithms, from many starts; with it the best N for an amount of computing.
`parabola`: of the loss in log N at one budget of tokens; its lowest point is a best size
only if it lies between the smallest and the largest size.

Minutes expected here, of one seed, the largest size first: 9 + 5 + 3 + 2 + 2 + 1.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import least_squares

from lib import runtime, training, weights
from lib.data.shakespeare import tiny_shakespeare
from lib.models.pretraining import language_model
from lib.optimisers import muon
from train import pretraining as study

NAME = "pretraining-scaling"
SIZES = ((32, 2, 2), (48, 2, 3), (64, 2, 3), (96, 3, 4), (128, 4, 4), (160, 5, 5))
BUDGETS = (250_000, 500_000, 1_000_000)  # tokens read
SEEDS, BATCH = range(2), 4
DELTA = 1e-3  # of Huber's loss, as in the paper


def weights_of_blocks(model) -> int:
    """N: the weights of matrices inside the blocks."""
    return sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)


def run(size: tuple, budget: int, seed: int, parts: dict, V: int, folder: Path) -> dict:
    """Train one size for one budget: its row of the plot."""
    D, heads, layers = size
    torch.manual_seed(seed)
    model = language_model(V, D, heads, layers)
    steps = budget // (BATCH * study.LENGTH)
    trace = training.fit(
        model,
        study.batches(parts["train"], BATCH, seed),
        lambda model, texts: study.loss(model, texts, False),
        steps,
        muon(model, model.readout, **study.RATES),
        seed=seed,
        warm_up=min(steps - 1, max(1, steps // 50)),
        every=max(steps // 50, 1),
        folder=folder,
        config=[size, budget, BATCH, study.RATES],
    )
    read = steps * BATCH * study.LENGTH
    return {
        "d_model": D,
        "layers": layers,
        "weights": weights_of_blocks(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": read,
        "passes": round(read / len(parts["train"]), 3),
        "seed": seed,
        "judged": round(study.judge(model, parts["judged"]), 4),
        "cpu_seconds": trace["cpu_seconds"],
        "curve": {key: trace[key] for key in ("step", "loss")},
    }


def law(rows: list[dict]) -> dict[str, float]:
    """E, A, α, B, β of the loss E + A / N^α + B / D^β: the best of many starts.

    Raises: ValueError for fewer than six runs, which five numbers always fit.
    """
    if len(rows) < 6:
        raise ValueError(f"rows: got {len(rows)} runs, wants at least 6")
    N, D, L = (np.log([r[k] for r in rows]) for k in ("weights", "tokens", "judged"))

    def parts(x):
        e, a, alpha, b, beta = x
        return e + 0 * N, a - alpha * N, b - beta * D

    def off(x):
        return np.logaddexp.reduce(parts(x), axis=0) - L

    starts = itertools.product((-1.0, 0.2), (1.0, 4.0), (0.2, 0.5), (1.0, 5.0), (0.5,))
    fits = (least_squares(off, x, loss="huber", f_scale=DELTA) for x in starts)
    found = min(fits, key=lambda fit: fit.cost)
    e, a, alpha, b, beta = found.x.tolist()
    return {"E": math.exp(e), "A": math.exp(a), "alpha": alpha, "B": math.exp(b)} | {
        "beta": beta
    }


def predicted(law: dict, N, D):
    """The law's loss at N weights and D tokens."""
    return law["E"] + law["A"] / N ** law["alpha"] + law["B"] / D ** law["beta"]


def best_size(law: dict, C: float) -> float:
    """The N that the law gives for C operations, where D = C / 6 N. In closed form."""
    a, b = law["alpha"], law["beta"]
    ratio = a * law["A"] / (b * law["B"])
    return (ratio * (C / 6) ** b) ** (1 / (a + b))


def parabola(rows: list[dict]) -> dict:
    """The lowest point of a parabola in log N, of the runs of one budget.

    "inside" says whether it lies between the smallest and the largest size, and the
    parabola opens upwards.
    """
    x, y = (np.array([r[k] for r in rows]) for k in ("weights", "judged"))
    x = np.log(x)
    c2, c1, c0 = np.polyfit(x, y, 2).tolist()
    at = -c1 / (2 * c2)
    inside = c2 > 0 and x.min() < at < x.max()
    return {"weights": math.exp(at) if inside else None, "inside": bool(inside)} | {
        "coefficients": [c2, c1, c0]
    }


def study_of(folder: Path, vocabulary: str, parts: dict) -> list[dict]:
    """All rows; only missing ones are run, the smaller first."""
    rows = []
    for seed, size, budget in itertools.product(SEEDS, SIZES, BUDGETS):
        settings = [size, budget, seed, BATCH, study.RATES, len(vocabulary)]
        key = training.digest(settings)
        job = lambda key=key, a=(size, budget, seed): run(  # noqa: E731
            *a, parts, len(vocabulary), folder / key
        )
        rows.append(training.kept(folder, key, job))
        print(*size, budget, seed, rows[-1]["judged"], flush=True)
    return rows


def main(argv: list[str] | None = None) -> None:
    embedded = {"action": "store_true", "help": "train on the book's own prose"}
    given = training.arguments(__doc__, "scaling", ("--embedded", embedded), argv=argv)
    corpus = tiny_shakespeare()
    print(corpus, flush=True)
    if not (corpus.is_full or given.embedded):
        print("nothing is trained: give --embedded to train on this text")
        return
    vocabulary, ids = study.encode(corpus.rows[0]["content"])
    rows = study_of(given.folder, vocabulary, study.split(ids, choose=True))
    found = law(rows)
    by_budget = [[r for r in rows if r["tokens"] == t] for t in _tokens(rows)]
    card = {
        "config": {
            "sizes (d_model, num_heads, layers)": SIZES,
            "budgets": BUDGETS,
            "batch": BATCH,
            "length": study.LENGTH,
            "rates": study.RATES,
            "seeds": len(SEEDS),
        },
        "data": {
            "name": corpus.name,
            "source": corpus.source,
            "licence": corpus.licence,
            "is_full": corpus.is_full,
            "split": "judged: the last tenth of the training text; validation not read",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.scaling",
        "metrics": {
            "law": {key: round(value, 4) for key, value in found.items()},
            "best size by budget": {
                some[0]["tokens"]: parabola(some)["weights"] for some in by_budget
            },
            "CPU-minutes": round(sum(r["cpu_seconds"] for r in rows) / 60, 1),
        },
        "licence": "MIT",
    }
    target = NAME if corpus.is_full else f"{NAME}-embedded"
    trace = {"rows": rows, "law": found, "processor": runtime.processor()}
    print(weights.save(target, card, None, trace))


def _tokens(rows: list[dict]) -> list[int]:
    return sorted({row["tokens"] for row in rows})


if __name__ == "__main__":
    main()
