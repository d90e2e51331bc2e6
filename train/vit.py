"""A small vision transformer on CIFAR-10, and what each part of its recipe is worth.

    OMP_NUM_THREADS=2 python -m train.vit --only short   # ten minutes on two cores
    OMP_NUM_THREADS=1 python -m train.vit   # the rest, about three and a half hours
    python -m train.vit --only run-1        # a part alone
    python -m train.vit --help

The 50,000 training images are split by a seed: 45,000 to train, 5,000 to decide on. The
test images are read once, after training, to report.

- The runs: a convolutional stem, 8×8 tokens, Muon, a running average of the weights,
  three seeds. The one of the highest validation accuracy is shipped; the trace keeps its
  validation accuracy, the similarity of its position embeddings and the attention
  rollout of six images as they grow, and what the others reached.
- The short runs: the same model and recipe with fewer steps, so that the pages can say
  what less time reaches. The trace keeps their validation accuracy and the time.
- The ladder: from a plain ViT to that model, one change a rung, three seeds each, all
  for the same number of steps. It reports validation accuracy.

All go on where they were killed; `--folder` says where they keep their state.
"""

import copy

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor, nn

from lib import training, weights
from lib.attention import rollout
from lib.data.cifar10 import Images, cifar10, pixels
from lib.models.vision import ViT, conv_stem
from lib.optimisers import adamw, muon

NAME = "vit"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SPLIT_SEED, VALIDATION = 0, 5_000
BATCH, SMOOTHING, PAD = 128, 0.1, 2
MODEL = {
    "stem": [[32, 64, 64, 96], [1, 2, 1, 2]],  # widths and strides
    "d_model": 96,
    "num_heads": 3,
    "layers": 4,
    "hidden": 192,
    "pool": "mean",
}
RATES = {"rate": 0.02, "decay": 0.05, "adamw_rate": 2e-3, "adamw_decay": 0.05}
EMA = 0.999
LOOKS, SHORT_LOOKS = 12, 2  # how often the validation images are classed in a run
WATCHED = 4  # validation images whose rollout is recorded, beside the photographs


def build(config: dict) -> ViT:
    """The model of a configuration; `stem` None makes patches of 4×4."""
    D = config["d_model"]
    stem = config["stem"]
    patches = nn.Conv2d(3, D, 4, stride=4) if stem is None else conv_stem(*stem, D)
    shape = (D, config["num_heads"], config["layers"], 10)
    rest = {"hidden": config["hidden"], "pool": config["pool"]}
    return ViT(patches, (8, 8), *shape, **rest)


def normalised(images: np.ndarray) -> Tensor:
    """uint8 (n, 32, 32, 3) -> float (n, 3, 32, 32), each channel about mean 0, std 1."""
    scaled = torch.from_numpy(images).float() / 255
    return ((scaled - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def photographs() -> Tensor:
    """Two photographs that scikit-learn ships, square and 32×32, normalised."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    found = []
    for name in ("china.jpg", "flower.jpg"):
        whole = Image.fromarray(load_sample_image(name))  # 640×427
        square = whole.crop((107, 0, 534, 427)).resize((32, 32), Image.LANCZOS)
        found.append(np.asarray(square))
    return normalised(np.stack(found))


class Data:
    """The training images padded for cropping, and the validation images."""

    def __init__(self, cifar: Images, where: torch.device):
        images, labels = pixels(cifar.train)
        seeded = torch.Generator().manual_seed(SPLIT_SEED)
        order = torch.randperm(len(labels), generator=seeded)
        held, kept = order[:VALIDATION], order[VALIDATION:]
        x, y = normalised(images), torch.from_numpy(labels)
        self.padded = F.pad(x[kept], 4 * (PAD,)).permute(0, 2, 3, 1).contiguous()
        self.padded, self.labels = self.padded.to(where), y[kept].to(where)
        self.held, self.held_labels = x[held].to(where), y[held].to(where)

    def batches(self, augmented: bool):
        """`batch` for `training.fit`: passes over the training images, shuffled."""
        N, per_pass = len(self.labels), len(self.labels) // BATCH
        orders = {}

        def batch(step: int, generator: torch.Generator):
            passed, at = divmod(step, per_pass)
            if passed not in orders:
                orders.clear()
                seeded = torch.Generator().manual_seed(passed)
                orders[passed] = torch.randperm(N, generator=seeded)
            picks = orders[passed][at * BATCH : (at + 1) * BATCH]
            picks = picks.to(self.labels.device)
            draw = generator if augmented else None
            return augment(self.padded[picks], draw), self.labels[picks]

        return batch


def augment(padded: Tensor, generator: torch.Generator | None) -> Tensor:
    """A crop of 32×32, mirrored or not; without a generator the middle.

    Shapes: (B, 36, 36, 3) -> (B, 3, 32, 32), channels last in memory.
    """
    B, where = len(padded), padded.device
    if generator is None:
        return padded[:, PAD:-PAD, PAD:-PAD].permute(0, 3, 1, 2)

    def draw(n: int) -> Tensor:
        return torch.randint(n, (B, 1), generator=generator, device=where)

    line = torch.arange(32, device=where)
    rows = draw(2 * PAD + 1) + line  # (B, 32)
    columns = draw(2 * PAD + 1) + torch.where(draw(2) == 1, line.flip(0), line)
    each = torch.arange(B, device=where)[:, None, None]
    x = padded[each, rows[:, :, None], columns[:, None, :]]  # (B, 32, 32, 3)
    return x.permute(0, 3, 1, 2)


def predict(model: nn.Module, images: Tensor, size: int = 500) -> Tensor:
    """Probabilities (n, 10), in float32."""
    model.eval()
    with torch.no_grad():
        parts = [model(part).float().softmax(-1) for part in images.split(size)]
    return torch.cat(parts)


def accuracy(model: nn.Module, cifar: Data, bfloat16: bool) -> float:
    """The share of the validation images that is classed right."""
    kind = cifar.held.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
        found = predict(model, cifar.held)
    return (found.argmax(-1) == cifar.held_labels).double().mean().item()


def watch(model: ViT, images: Tensor) -> dict:
    """Cosine similarity of the places (P, P), and each image's rollout (n, P)."""
    has_cls = model.cls is not None
    places = F.normalize(model.places.weight[has_cls:], dim=-1)  # (P, D)
    reached = rollout(model.encode(images)[1])  # (n, T, T)
    seen = reached[:, 0, 1:] if has_cls else reached.mean(1)  # (n, P)
    seen = seen / seen.sum(-1, keepdim=True)
    return {"places": rounded(places @ places.T, 2), "rollout": rounded(seen, 4)}


def rounded(x: Tensor, digits: int) -> list:
    return np.round(x.double().cpu().numpy(), digits).tolist()


def train(name, config, cifar, steps, folder, seed, watched=None, *, bfloat16, looks=0):
    """One run: the model with its averaged weights, and its trace of so many looks."""
    where = training.device()
    torch.manual_seed(seed)
    model = build(config["model"]).to(where, memory_format=torch.channels_last)
    if config["muon"]:
        optimisers = muon(model, model.head, **RATES)
    else:
        optimisers = [adamw(model, 1e-3, decay=0.05)]

    def loss(model, x, y):
        with torch.autocast(where.type, torch.bfloat16, enabled=bfloat16):
            logits = model(x)
        return F.cross_entropy(logits.float(), y, label_smoothing=config["smoothing"])

    def evaluate(model):
        found = {"accuracy": accuracy(model, cifar, bfloat16)}
        found["cores"] = training.processes()[1] * torch.get_num_threads()
        return found if watched is None else found | watch(model, watched)

    trace = training.fit(
        model,
        cifar.batches(config["augmented"]),
        loss,
        steps,
        optimisers,
        seed=seed,
        warm_up=min(200, steps // 10) if config["schedule"] else 0,
        final=0.0 if config["schedule"] else 1.0,
        ema=config["ema"],
        evaluate=evaluate if looks else None,
        every=20,
        evaluate_every=max(steps // max(looks, 1) // 20, 1) * 20,
        folder=folder / name,
        save_every=120.0,
        config=config | {"bfloat16": bfloat16, "batch": BATCH},
    )
    return model, trace


PLAIN = {
    "model": MODEL | {"stem": None, "pool": "cls"},
    "schedule": False,
    "muon": False,
    "ema": None,
    "smoothing": 0.0,
    "augmented": False,
}
# What each rung changes in the one below it.
RUNGS = {
    "plain ViT, AdamW": {},
    "+ warm-up and cosine": {"schedule": True},
    "+ convolutional stem": {"model": MODEL | {"pool": "cls"}},
    "+ Muon": {"muon": True},
    "+ mean pooling": {"model": MODEL},
    "+ smoothing, averaging": {"smoothing": SMOOTHING, "ema": EMA},
    "+ crop and mirror": {"augmented": True},
}
SHIPPED = {"model": MODEL} | {k: v for r in RUNGS.values() for k, v in r.items()}
SEEDS = (0, 1, 2)


def ladder(cifar, steps, folder, bfloat16) -> list[dict]:
    """Validation accuracy of each rung over the seeds, after the same steps."""
    config, found = copy.deepcopy(PLAIN), []
    for number, (name, change) in enumerate(RUNGS.items()):
        config |= change
        # A short run averages over a tenth of its steps.
        ema = config["ema"] and 1 - 10 / steps
        runs = []
        for seed in SEEDS:

            def job(seed=seed, config=config | {"ema": ema}, number=number):
                model, trace = train(
                    f"rung-{number}-{seed}",
                    config,
                    cifar,
                    steps,
                    folder / "runs",
                    seed,
                    bfloat16=bfloat16,
                )
                found = {key: trace[key] for key in ("loss", "cpu_seconds")}
                return found | {"accuracy": accuracy(model, cifar, bfloat16)}

            runs.append(training.kept(folder, f"rung-{number}-{seed}", job))
            print(name, seed, runs[-1]["accuracy"], flush=True)
        rung = {key: [run[key] for run in runs] for key in ("accuracy", "cpu_seconds")}
        found.append({"rung": name} | rung)
    return found


def wilson(right: int, n: int) -> list[float]:
    """The 95 % interval of a share, by Wilson (1927)."""
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return [round(float(bound), 4) for bound in interval]


def main() -> None:
    names = [f"run-{seed}" for seed in SEEDS]
    options = [
        ("--steps", {"type": int, "default": 12_000, "help": "of 128 images"}),
        ("--short-steps", {"type": int, "nargs": "+", "default": [540, 2_800]}),
        ("--ladder-steps", {"type": int, "default": 48}),
        (
            "--only",
            {"choices": ("ladder", "short", *names), "help": "one of the parts"},
        ),
        (
            "--float32",
            {"action": "store_true", "help": "for processors slow in bfloat16"},
        ),
    ]
    given = training.arguments(__doc__, NAME, *options)
    images = cifar10()
    print(repr(images))
    if not images.is_full:
        raise SystemExit("train.vit: wants CIFAR-10, which did not come")
    cifar = Data(images, training.device())
    bfloat16 = not given.float32
    watched = torch.cat((photographs(), cifar.held[:WATCHED].cpu()))
    watched = watched.to(training.device())
    trace, runs = {}, []
    if given.only in (None, "ladder"):
        name = training.digest([SHIPPED, given.ladder_steps, bfloat16])
        folder = given.folder / name
        trace["ladder"] = ladder(cifar, given.ladder_steps, folder, bfloat16)
    if given.only in (None, "short"):
        trace["short"] = {}
        for steps in given.short_steps:
            run = (f"short-{steps}", SHIPPED, cifar, steps, given.folder, 0)
            _, found = train(*run, bfloat16=bfloat16, looks=SHORT_LOOKS)
            trace["short"][steps] = found["evaluations"]
    for seed, name in zip(SEEDS, names, strict=True):
        if given.only in (None, name):
            run = (name, SHIPPED, cifar, given.steps, given.folder, seed, watched)
            runs.append(train(*run, bfloat16=bfloat16, looks=LOOKS))
    if given.only:
        print("not written: the checkpoint wants all parts")
    elif training.processes()[0] == 0:
        ship(runs, trace, cifar, images, given)


def half(model: nn.Module) -> dict[str, Tensor]:
    """Its state, floating tensors in float16."""
    state = model.state_dict().items()
    return {k: v.half() if v.is_floating_point() else v for k, v in state}


def ship(runs, trace, cifar, images, given) -> None:
    """Round to float16, measure what is left, and write the best run's checkpoint."""
    test, labels = pixels(images.test)
    test, labels = normalised(test).to(training.device()), torch.from_numpy(labels)
    seeds, predicted = [], []
    for seed, (model, run) in zip(SEEDS, runs, strict=True):
        model.load_state_dict(half(model))
        held = predict(model, cifar.held).argmax(-1) == cifar.held_labels
        predicted.append(predict(model, test).cpu().half())
        right = int((predicted[-1].argmax(-1) == labels).sum())
        found = {
            "seed": seed,
            "validation_accuracy": round(held.double().mean().item(), 4),
            "test_accuracy": right / len(labels),
            "test_interval_95": wilson(right, len(labels)),
            "cpu_minutes": round(run["cpu_seconds"] / 60, 1),
            "minutes": round(run["seconds"] / 60, 1),
        }
        print(found, flush=True)
        seeds.append(found)
    # The validation images choose; the test images only report.
    best = max(range(len(seeds)), key=lambda i: seeds[i]["validation_accuracy"])
    model, run = runs[best]
    metrics = seeds[best] | {
        "test_images": len(labels),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": given.steps,
        "passes": round(given.steps * BATCH / len(cifar.labels), 1),
        "device": training.device().type,
    }
    predictions = {
        "probabilities": predicted[best],
        "labels": labels.to(torch.uint8),
    }
    short = " ".join(map(str, given.short_steps))
    command = f"python -m train.vit --steps {given.steps} --short-steps {short}"
    cores = next(iter(trace["short"].values()))[0]["cores"]
    command = f"OMP_NUM_THREADS={cores} {command} --only short && {command}"
    weights.save(
        NAME,
        {
            "config": {
                **SHIPPED,
                "optimisers": RATES,
                "batch": BATCH,
                "mean": MEAN,
                "std": STD,
                "classes": images.classes,
                "split_seed": SPLIT_SEED,
                "ladder_steps": given.ladder_steps,
                "watched": ["china.jpg", "flower.jpg"] + WATCHED * ["validation"],
            },
            "data": repr(images),
            "command": command,
            "metrics": metrics,
            "licence": "CC BY 4.0",
        },
        half(model),
        trace | {"run": run, "seeds": seeds},
        {"predictions.safetensors": safetensors.torch.save(predictions)},
    )


if __name__ == "__main__":
    main()
