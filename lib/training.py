"""One loop that trains every model of the book, and how a killed run goes on.

A run is a function of its seed: what a step draws follows from (seed, step) alone, so
a killed run continues bit for bit and several processes can share a batch. Models live
in `models`, their optimisers in `optimisers`, what a run reads in `data`, what it ships
in `weights`.
"""

import argparse
import atexit
import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from lib.checks import is_whole


def schedule(step: int, steps: int, warm_up: int = 0, final: float = 0.0) -> float:
    """The share of the full rate at a step, counted from 0.

    Linear up to 1 over `warm_up` steps, then half a cosine down towards `final`, which
    step `steps` would have. Loshchilov and Hutter, 2017.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / (steps - warm_up)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def processes() -> tuple[int, int]:
    """This process's number, from 0, and how many there are; `torchrun` says so."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group()  # NCCL between GPUs, gloo between CPUs
        atexit.register(dist.destroy_process_group)
    return int(os.environ.get("RANK", 0)), world


def device() -> torch.device:
    """This process's GPU where there is one, otherwise the CPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def fit(
    model: nn.Module,
    batch: Callable[[int, torch.Generator], tuple[Tensor, ...]],
    loss: Callable[..., Tensor | tuple[Tensor, Tensor | int]],
    steps: int,
    optimisers: list[Optimizer],
    *,
    pieces: int = 1,
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
    """Train `model` in place, leave it in evaluation mode and return the run's trace.

    Args:
        batch: `batch(step, generator)` gives the tensors of a step (from 0), with the
            items along their first axis. It draws from the generator, which is on the
            model's device and seeded by (seed, step), and from nothing else.
        loss: `loss(model, *tensors)`, in bfloat16 on a GPU: a mean over items. Where
            the mean is over something else, such as the tokens that are no padding
            (`ignore_index`), the pair (sum, number): parts of a batch have different
            numbers of them, and a mean of means is not the mean.
        optimisers: with their full rates, of which `schedule` gives a step its share.
        pieces: equal parts of a process's items that pass through the model one after
            the other before a step (gradient accumulation): the same step in less
            memory.
        clip: the largest global norm of the gradients; `math.inf` leaves them alone.
        ema: the share that a step keeps of the running average of the weights; at
            first less, (1 + step) / (10 + step). `evaluate` reads the average, and
            in the end `model` holds it.
        evaluate: gives what JSON can hold, before the first step, every
            `evaluate_every` steps and after the last.
        every: steps between two entries of the trace.
        folder: where `resume.pt` is kept, written at most every `save_every` seconds.
            The same call goes on where a killed one was, bit for bit.
        config: what else makes the run what it is; another run's file is refused.

    Under `torchrun` each process takes its part of every batch (DDP), and the first
    one evaluates and writes. Processes and pieces change a step by rounding alone,
    unless batch norm or dropout is in the model.

    Returns:
        "step", "loss", "norm", "rate": lists, the loss and the gradients' norm before
        clipping as means over the steps since the last entry; "evaluations": what
        `evaluate` gave, with its "step" and the seconds until then; "seconds" and
        "cpu_seconds" of this process.

    Raises:
        ValueError, TypeError: an argument, or what `batch` or `loss` gives, is wrong;
            `resume.pt` cannot be written, is damaged, or is of another run.
        FloatingPointError: a loss or a gradient was not finite; the message names the
            step and the last good checkpoint.
    """
    for name, value, least in (
        ("steps", steps, 1),
        ("every", every, 1),
        ("pieces", pieces, 1),
        ("seed", seed, 0),
    ):
        if not is_whole(value, least) or value >= 2**32:
            raise ValueError(
                f"{name}: expected a whole number from {least}, got {value!r}"
            )
    if not 0 <= warm_up < steps:
        raise ValueError(f"warm_up: expected 0 to {steps - 1} steps, got {warm_up!r}")
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"ema: expected a share between 0 and 1, got {ema!r}")
    rank, world = processes()
    where = next(model.parameters()).device
    average = copy.deepcopy(model) if ema else model
    parts = {"model": model, "average": average}
    parts |= {f"optimiser {i}": o for i, o in enumerate(optimisers)}
    groups = [group for o in optimisers for group in o.param_groups]
    run = {"steps": steps, "seed": seed, "clip": clip, "ema": ema, "config": config}
    run |= {"schedule": [warm_up, final], "every": [every, evaluate_every]}
    run["parameters"] = {name: [*p.shape] for name, p in model.named_parameters()}
    run["optimisers"] = [{k: g[k] for k in g if k != "params"} for g in groups]
    run = json.loads(json.dumps(run))  # as it comes back from a file
    columns = ("step", "loss", "norm", "rate")
    trace = {name: [] for name in (*columns, "evaluations")}
    trace |= {"seconds": 0.0, "cpu_seconds": 0.0}
    file = None if folder is None else Path(folder) / "resume.pt"
    start = saved = _load(file, run, parts, trace) if file and file.exists() else None
    groups = [group for o in optimisers for group in o.param_groups]  # new ones
    net = DistributedDataParallel(model) if world > 1 else model
    generator = torch.Generator(where)
    began = time.monotonic() - trace["seconds"]
    cpu_began = time.process_time() - trace["cpu_seconds"]
    seen, last_save = [], -math.inf

    hidden = True if rank else None  # None: where there is no terminal
    bar = tqdm(initial=start or 0, total=steps, disable=hidden)
    with torch.random.fork_rng([where] if where.type == "cuda" else []), bar:
        for step in range(start or 0, steps + 1):  # so many steps are done
            due = step == steps or step % (evaluate_every or steps) == 0
            if (due or step % every == 0) and step != start:
                if seen:
                    means = _means(seen, step, world, saved, file)
                    entry = (step, *means, groups[0]["lr"])
                    for name, value in zip(columns, entry, strict=True):
                        trace[name].append(value)
                    bar.set_postfix(loss=means[0], refresh=False)
                    seen = []
                trace["seconds"] = round(time.monotonic() - began, 1)
                trace["cpu_seconds"] = round(time.process_time() - cpu_began, 1)
                if rank == 0 and evaluate and due:
                    average.eval()
                    with torch.no_grad():
                        found = json.loads(json.dumps(evaluate(average)))
                    spent = {key: trace[key] for key in ("seconds", "cpu_seconds")}
                    trace["evaluations"].append({"step": step, **spent, **found})
                old = time.monotonic() - last_save >= save_every
                if rank == 0 and file and (old or step == steps):
                    _save(file, {"run": run, "step": step, "trace": trace}, parts)
                    saved, last_save = step, time.monotonic()
            if step == steps:
                break
            model.train()
            generator.manual_seed(_seed(seed, step))  # the same in every process
            share = _share(batch(step, generator), rank, world, pieces, where)
            torch.manual_seed(_seed(seed, step, 1 + rank))  # for dropout and the like
            for group, full in zip(groups, run["optimisers"], strict=True):
                group["lr"] = full["lr"] * schedule(step, steps, warm_up, final)
            seen.append(_step(net, loss, share, optimisers, clip, world))
            if ema:
                update = get_ema_multi_avg_fn(min(ema, (1 + step) / (10 + step)))
                update([*average.parameters()], [*model.parameters()], None)
                for kept, now in zip(average.buffers(), model.buffers(), strict=True):
                    kept.copy_(now)
            bar.update()
    model.load_state_dict(average.state_dict())
    model.eval()
    return trace


def _step(net: nn.Module, loss, pieces, optimisers, clip: float, world: int) -> Tensor:
    """One step; its loss and the norm of its gradients before clipping, (2,)."""
    net.zero_grad()
    total, number = 0.0, torch.zeros((), device=pieces[0][0].device)
    for i, tensors in enumerate(pieces):
        alone = world > 1 and i + 1 < len(pieces)  # processes talk after the last one
        with net.no_sync() if alone else nullcontext():
            with torch.autocast("cuda", torch.bfloat16, enabled=tensors[0].is_cuda):
                value = loss(net, *tensors)
            # A mean counts once: parts are equal, and so their means' mean is that of all.
            pair = isinstance(value, tuple) and len(value) == 2
            value, n = value if pair else (value, 1)
            if not isinstance(value, Tensor) or value.ndim:
                raise TypeError(
                    f"loss: expected a tensor of no axes, got {value!r:.80}"
                )
            value.backward()
        total, number = total + value.detach().float(), number + n
    if world > 1:
        dist.all_reduce(number)
    share = world / number  # DDP has taken the mean over the processes
    torch._foreach_mul_([p.grad for p in net.parameters() if p.grad is not None], share)
    norm = nn.utils.clip_grad_norm_(net.parameters(), clip)
    for optimiser in optimisers:
        optimiser.step()
    return torch.stack([total * share, norm.float()])


def _means(seen: list[Tensor], step: int, world: int, saved, file) -> list[float]:
    """Mean loss and gradient norm of the last steps, all of which must be finite."""
    values = torch.stack(seen)  # (steps, 2), read from the device once
    if world > 1:
        dist.all_reduce(values)
    values = values.cpu().double() / world  # not every device has float64
    good = values.isfinite().all(1).tolist()
    if not all(good):
        kept = file if saved is None else f"{file}, of step {saved}"
        raise FloatingPointError(
            f"step {step - len(good) + good.index(False)}: the loss or its gradient is "
            f"not finite; last good checkpoint: {kept}"
        )
    return [round(value, 5) for value in values.mean(0).tolist()]


def _seed(*numbers: int) -> int:
    """32 bits from several numbers: torch ignores the upper half of a longer seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _share(
    tensors: Any, rank: int, world: int, pieces: int, where: torch.device
) -> list[list[Tensor]]:
    """This process's part of a batch in so many pieces, on the model's device."""
    if not isinstance(tensors, tuple) or not all(
        isinstance(t, Tensor) and t.ndim for t in tensors
    ):
        raise TypeError(f"batch: expected a tuple of tensors, got {tensors!r:.80}")
    sizes = sorted({len(t) for t in tensors})
    parts = world * pieces
    if len(sizes) != 1 or sizes[0] == 0 or sizes[0] % parts:
        raise ValueError(
            f"batch: expected tensors of one length, a multiple of {parts}, got {sizes}"
        )
    return [
        [
            t.chunk(parts)[rank * pieces + i].to(where, non_blocking=True)
            for t in tensors
        ]
        for i in range(pieces)
    ]


def _save(file: Path, facts: dict, parts: dict) -> None:
    """Write a resume file, whole or not at all."""
    partial = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(facts | {k: p.state_dict() for k, p in parts.items()}, partial)
        os.replace(partial, file)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"folder: {file} cannot be written ({error})") from error


def _load(file: Path, run: dict, parts: dict, trace: dict) -> int:
    """Fill the parts and the trace from a resume file; the number of steps done.

    A private file that is never shipped. `weights_only` reads tensors, numbers and
    text, and no code of a pickle runs.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        differ = [key for key in run if found["run"][key] != run[key]]
    except Exception as error:  # of a damaged file torch says this or that
        raise ValueError(f"{file}: damaged, remove it ({error})") from error
    if differ:
        raise ValueError(
            f"{file}: of another run, with other {', '.join(differ)}; remove it or give "
            "another folder"
        )
    for key, part in parts.items():
        part.load_state_dict(found[key])
    trace.update(found["trace"])
    return found["step"]


def arguments(
    doc: str, name: str, *options: tuple[str, dict], argv: list[str] | None = None
) -> argparse.Namespace:
    """The command line of `python -m train.<name>`: `--folder`, and `options`.

    Each option is (flag, keywords of `add_argument`). Torch takes one thread unless
    OMP_NUM_THREADS says otherwise, so that a run repeats on another machine.
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
    return parser.parse_args(argv)


def kept(folder: Path, key: str, job: Callable[[], Any]) -> Any:
    """What `job` gives, from `<folder>/<key>.pt` if it was computed before.

    Tensors, numbers and text, in lists, tuples and dicts; nothing else is read back.
    """
    path = Path(folder) / f"{key}.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(job(), partial)
        os.replace(partial, path)
    return torch.load(path, weights_only=True)


def digest(config: Any) -> str:
    """Twelve hexadecimal digits of a configuration, to name its folder."""
    text = json.dumps(config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
