"""One loop that trains every model of the book, its optimisers, and how it goes on.

A run is a function of its seed: what a step draws follows from (seed, step) alone, so
a killed run continues bit for bit, and several processes share one batch. Models live
in `models`, what a run may read in `data`, what it ships in `weights`.
"""

import argparse
import atexit
import copy
import hashlib
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of the paper: fast, to within 0.7 … 1.2


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U Vᵀ of the matrix U S Vᵀ, nearly: every singular value comes close to 1.

    Newton–Schulz: each round takes each singular value s to a s + b s³ + c s⁵, by
    matrix products alone. On a GPU in bfloat16, elsewhere in the matrix's own type,
    since many CPUs are slow in bfloat16. Jordan et al., 2024, "Muon".

    Shapes: (…, A, B) -> (…, A, B).
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the smaller products
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        square = x @ x.mT  # (…, A, A)
        x = a * x + (b * square + c * square @ square) @ x  # (…, A, B)
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(Optimizer):
    """Steps by the orthogonalised momentum of each matrix. Jordan et al., 2024.

    Parameters (A, …) count as matrices (A, B), a convolution's too. Each singular
    direction moves by lr · max(1, A/B)½. It is `torch.optim.Muon`, which takes matrices
    only and computes in bfloat16, twenty times slower on a CPU that lacks it.

    Raises:
        ValueError: a parameter has fewer than two axes.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, settings)
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise ValueError(f"params: expected matrices, got shape {(*p.shape,)}")

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            alike = defaultdict(list)  # one computation for all of a shape
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for params in alike.values():
                ahead = []
                for p in params:
                    state = self.state[p]
                    mean = state.setdefault("momentum", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - momentum)
                    ahead.append(p.grad.lerp(mean, momentum))  # Nesterov's
                updates = orthogonal(torch.stack(ahead).flatten(2))  # (n, A, B)
                size = math.sqrt(max(1, updates.shape[1] / updates.shape[2]))
                for p, update in zip(params, updates, strict=True):
                    p.mul_(1 - lr * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-lr * size)


def adamw(
    params: nn.Module | Iterable[nn.Parameter],
    rate: float = 1e-3,
    *,
    decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.95),
) -> AdamW:
    """AdamW whose weight decay spares vectors: biases and the gains of norms.

    Loshchilov and Hutter, 2019; `decay` is multiplied by the rate, as in torch.
    """
    params = list(params.parameters() if isinstance(params, nn.Module) else params)
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([g for g in groups if g["params"]], lr=rate, betas=betas, fused=True)


def muon(
    model: nn.Module,
    *ends: nn.Module,
    rate: float = 0.02,
    decay: float = 0.0,
    adamw_rate: float = 1e-3,
    adamw_decay: float = 0.05,
) -> list[Optimizer]:
    """`Muon` for the weights of linear maps and convolutions, AdamW for the rest.

    The rest is embeddings, norms, biases, bare parameters, and the modules `ends`: the
    paper leaves the input and the output of a network, such as `model.head`, to AdamW.

    Raises:
        ValueError: no weight is left for Muon.
    """
    spared = {p for end in ends for p in end.parameters()}
    spared |= {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    hidden = {m.weight for m in model.modules() if isinstance(m, kinds)} - spared
    if not hidden:
        raise ValueError("model: expected weights of linear maps, got none for Muon")
    ours = [p for p in model.parameters() if p in hidden]
    rest = [p for p in model.parameters() if p not in hidden]
    first = Muon(ours, lr=rate, weight_decay=decay)
    return [first, adamw(rest, adamw_rate, decay=adamw_decay)] if rest else [first]


def schedule(step: int, steps: int, warm_up: int = 0, final: float = 0.0) -> float:
    """The share of the full rate at a step, counted from 0.

    Linear up to 1 over `warm_up` steps, then half a cosine down towards `final`, which
    it would reach at step `steps`. Loshchilov and Hutter, 2017.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / (steps - warm_up)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def processes() -> tuple[int, int]:
    """This process's number, from 0, and how many there are; `torchrun` says so."""
    rank, world = (
        int(os.environ.get(k, d)) for k, d in (("RANK", 0), ("WORLD_SIZE", 1))
    )
    if world > 1 and not dist.is_initialized():
        dist.init_process_group()  # NCCL between GPUs, gloo between CPUs
        atexit.register(dist.destroy_process_group)
    return rank, world


def device() -> torch.device:
    """This process's GPU where there is one, otherwise the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(found)
    return found


def fit(
    model: nn.Module,
    batch: Callable[[int, torch.Generator], tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    steps: int,
    optimisers: list[Optimizer],
    *,
    seed: int = 0,
    warm_up: int = 0,
    final: float = 0.0,
    clip: float = 1.0,
    ema: float | None = None,
    evaluate: Callable[[nn.Module], dict[str, Any]] | None = None,
    every: int = 20,
    evaluate_every: int | None = None,
    folder: Path | None = None,
    save_every: float = 60.0,
    config: Any = None,
) -> dict[str, Any]:
    """Train `model` in place and return the run's trace.

    Args:
        batch: `batch(step, generator)` gives the tensors of a step (from 0), each with
            the items along its first axis. It draws from the generator, which lives on
            the model's device, so that it depends on the seed and the step alone.
        loss: `loss(model, *tensors)`, a mean over items; in bfloat16 on a GPU.
        optimisers: their rates are the full ones, which `schedule` multiplies.
        clip: the largest global norm of the gradients; `math.inf` leaves them.
        ema: share of the running average of the weights that a step keeps; less in the
            first steps, min(ema, (1 + step) / (10 + step)). `evaluate` reads the
            average, and `model` holds it in the end.
        evaluate: gives what JSON can hold, before the first step, every
            `evaluate_every` steps, and after the last; a multiple of `every`.
        every: steps between two entries of the trace.
        folder: where `resume.pt` is kept, written at most every `save_every` seconds.
            With it, the same call goes on where a killed one was.
        config: what else makes the run what it is; a resume file of another is refused.

    Under `torchrun` each process takes its part of the batch (DDP), and the first
    evaluates and writes.

    Returns:
        {"step", "loss", "norm", "rate": lists with one entry every `every` steps, loss
        and gradient norm as means since the last; "evaluations": what `evaluate` gave,
        with its "step"; "seconds", "cpu_seconds" of this process}.

    Raises:
        ValueError, TypeError: an argument, or what `batch` or `loss` gives, is wrong;
            the folder cannot be written; its run is another or damaged.
        FloatingPointError: a loss or gradient was not finite; the message names the
            step and the last good checkpoint.
    """
    _check(steps, warm_up, ema, every, evaluate_every)
    rank, world = processes()
    where = next(model.parameters()).device
    average = copy.deepcopy(model) if ema else model
    parts = {"model": model, "average": average}
    parts |= {f"optimiser {i}": o for i, o in enumerate(optimisers)}
    groups = [group for o in optimisers for group in o.param_groups]
    run = {
        "steps": steps,
        "seed": seed,
        "schedule": [warm_up, final],
        "clip": clip,
        "ema": ema,
        "every": [every, evaluate_every],
        "optimisers": [{k: g[k] for k in g if k != "params"} for g in groups],
        "parameters": {k: [*p.shape] for k, p in model.named_parameters()},
        "config": config,
    }
    run = json.loads(json.dumps(run))  # as it comes back from a file
    trace = {"step": [], "loss": [], "norm": [], "rate": [], "evaluations": []}
    trace |= {"seconds": 0.0, "cpu_seconds": 0.0}
    full = [group["lr"] for group in groups]
    file = None if folder is None else Path(folder) / "resume.pt"
    saved = _load(file, run, parts, trace) if file and file.exists() else None
    groups = [
        group for o in optimisers for group in o.param_groups
    ]  # loading: new ones
    net = DistributedDataParallel(model) if world > 1 else model
    generator = torch.Generator(where)
    began = time.monotonic() - trace["seconds"]
    cpu_began = time.process_time() - trace["cpu_seconds"]
    seen, last_save = [], -math.inf

    # Without a terminal (None) there is no bar.
    bar = tqdm(initial=saved or 0, total=steps, disable=rank > 0 or None)
    with torch.random.fork_rng([where] if where.type == "cuda" else []), bar:
        for step in range(saved or 0, steps + 1):  # so many steps are done
            if (step % every == 0 or step == steps) and step != saved:
                if seen:
                    means = _means(seen, step, world, f"step {saved}, {file}")
                    for key, value in zip(("loss", "norm"), means, strict=True):
                        trace[key].append(value)
                    trace["step"].append(step)
                    trace["rate"].append(groups[0]["lr"])
                    bar.set_postfix(loss=means[0], refresh=False)
                    seen = []
                due = step % (evaluate_every or steps) == 0 or step == steps
                if rank == 0 and evaluate and due:
                    average.eval()
                    with torch.no_grad():
                        trace["evaluations"].append({"step": step} | evaluate(average))
                trace["seconds"] = round(time.monotonic() - began, 1)
                trace["cpu_seconds"] = round(time.process_time() - cpu_began, 1)
                old = time.monotonic() - last_save >= save_every
                if rank == 0 and file and (old or step == steps):
                    _save(file, {"run": run, "step": step, "trace": trace}, parts)
                    saved, last_save = step, time.monotonic()
            if step == steps:
                break
            model.train()
            generator.manual_seed(_seed(seed, step))  # the same in every process
            tensors = _share(batch(step, generator), rank, world, where)
            torch.manual_seed(_seed(seed, step, 1 + rank))  # for dropout and the like
            for group, rate in zip(groups, full, strict=True):
                group["lr"] = rate * schedule(step, steps, warm_up, final)
            model.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=where.type == "cuda"):
                value = loss(net, *tensors)
            if not isinstance(value, Tensor) or value.ndim:
                raise TypeError(
                    f"loss: expected a tensor of no axes, got {value!r:.80}"
                )
            value.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
            for optimiser in optimisers:
                optimiser.step()
            if ema:
                _average(average, model, min(ema, (1 + step) / (10 + step)))
            seen.append(torch.stack([value.detach().float(), norm.detach().float()]))
            bar.update()
    model.load_state_dict(average.state_dict())
    return trace


def _check(steps, warm_up, ema, every, evaluate_every) -> None:
    for name, value in (("steps", steps), ("every", every)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name}: expected a whole number of at least 1, got {value!r}"
            )
    if not 0 <= warm_up < steps:
        raise ValueError(f"warm_up: expected 0 to {steps - 1} steps, got {warm_up!r}")
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"ema: expected a share between 0 and 1, got {ema!r}")
    if evaluate_every is not None and (evaluate_every < 1 or evaluate_every % every):
        raise ValueError(
            f"evaluate_every: expected a multiple of {every}, got {evaluate_every!r}"
        )


def _means(seen: list[Tensor], step: int, world: int, kept: str) -> list[float]:
    """Mean loss and gradient norm of the last steps; all must be finite."""
    values = torch.stack(seen).double()  # (steps, 2)
    if world > 1:
        dist.all_reduce(values)
        values /= world
    good = values.isfinite().all(1).tolist()
    if not all(good):
        bad = step - len(good) + good.index(False)
        raise FloatingPointError(
            f"step {bad}: the loss or its gradient is not finite; "
            f"last good checkpoint: {kept}"
        )
    return [round(value, 5) for value in values.mean(0).tolist()]


def _average(average: nn.Module, model: nn.Module, share: float) -> None:
    """Move the running average of the weights; buffers are copied."""
    pairs = [*average.parameters()], [*model.parameters()]
    get_ema_multi_avg_fn(share)(*pairs, None)
    for mean, buffer in zip(average.buffers(), model.buffers(), strict=True):
        mean.copy_(buffer)


def _seed(*numbers: int) -> int:
    """32 bits from several numbers: torch ignores the upper half of a longer seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _share(tensors: Any, rank: int, world: int, where: torch.device) -> list[Tensor]:
    """This process's part of a batch, on the model's device."""
    tensors = [tensors] if isinstance(tensors, Tensor) else tensors
    if not isinstance(tensors, tuple | list) or not all(
        isinstance(t, Tensor) and t.ndim for t in tensors
    ):
        raise TypeError(f"batch: expected a tuple of tensors, got {tensors!r:.80}")
    sizes = {len(t) for t in tensors}
    if len(sizes) != 1 or sizes == {0} or min(sizes) % world:
        raise ValueError(
            f"batch: expected tensors of equal length, a multiple of {world}, "
            f"got {sorted(sizes)}"
        )
    return [t.chunk(world)[rank].to(where, non_blocking=True) for t in tensors]


def _save(file: Path, facts: dict, parts: dict) -> None:
    """Write a resume file, whole or not at all."""
    partial = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(facts | {k: p.state_dict() for k, p in parts.items()}, partial)
        os.replace(partial, file)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"folder: {file} cannot be written ({error})") from error


def _load(file: Path, run: dict, parts: dict, trace: dict) -> int:
    """Fill parts and trace from a resume file; the number of steps done.

    It is a private file of tensors, numbers and text; `weights_only` loads nothing
    else, so no code of a pickle runs.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        differ = [k for k in run if found["run"].get(k) != run[k]]
    except Exception as error:
        raise ValueError(f"{file}: cannot be read ({error}); remove it") from error
    if differ:
        raise ValueError(
            f"{file}: of another run, which differs in {', '.join(differ)}; "
            "remove it or give another folder"
        )
    for key, part in parts.items():
        part.load_state_dict(found[key])
    trace.update(found["trace"])
    return found["step"]


def arguments(doc: str, name: str, *options: tuple[str, dict]) -> argparse.Namespace:
    """The command line of `python -m train.<name>`: `--folder`, and `options`.

    Each option is (flag, keywords of `add_argument`). Where OMP_NUM_THREADS says
    nothing, torch takes one thread, so that a run repeats on another machine.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m train.{name.replace('-', '_')}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("_build/train") / name,
        help="where finished parts are kept (default: %(default)s); remove it to start "
        "again",
    )
    for flag, keywords in options:
        parser.add_argument(flag, **keywords)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    return parser.parse_args()


def kept(folder: Path, key: str, job: Callable[[], Any]) -> Any:
    """What `job` gives, as JSON, from `<folder>/<key>.json` if it was computed before."""
    path = Path(folder) / f"{key}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(job(), ensure_ascii=False), encoding="utf8")
        os.replace(partial, path)
    return json.loads(path.read_text(encoding="utf8"))


def digest(config: Any) -> str:
    """Twelve hexadecimal digits of a configuration, to name its folder."""
    text = json.dumps(config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
