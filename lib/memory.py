"""What training holds and sends: measured in this process, and by formula.

Formulas are those of ZeRO (Rajbhandari et al., 2020, arXiv:1910.02054) for weights,
gradients and optimiser, of Korthikanti et al. (2023, arXiv:2205.05198) for activations.
"""

import ctypes
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib import checks

HEAD = 128  # width for each layer, near that of Llama: D = 128 L
VOCABULARY = 32_000
STAGES = (
    "nothing",
    "optimiser",
    "optimiser, gradients",
    "optimiser, gradients, weights",
)


def held(tensors: Iterable[Any]) -> int:
    """Bytes of these tensors' storages, each counted once; what is no tensor has none."""
    storages = {}
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            tensor = getattr(tensor, "_local_tensor", tensor)  # of a DTensor: its part
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def states(optimiser: torch.optim.Optimizer) -> int:
    """Bytes of what an optimiser keeps between steps."""
    return held(x for state in optimiser.state.values() for x in state.values())


def saved(call: Callable[[], Tensor], apart: Iterable[Tensor] = ()) -> int:
    """Bytes that a forward pass keeps for its backward pass: the activations.

    `apart` are tensors that are there anyway, such as the weights; each storage counts
    once. The graph of what `call` returns is dropped.
    """
    known = {x.untyped_storage().data_ptr() for x in apart}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = call()
    size = held(kept)
    del output
    return size


def resident() -> int | None:
    """Bytes of memory that this process holds now; None where the system does not say.

    What is free, but still with the allocator, is given back first (glibc).
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def written() -> int | None:
    """Bytes that this process has written so far, to sockets too; None if unknown.

    The difference of two readings is what was sent between them, headers included.
    """
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return int(next(x.split()[1] for x in lines if x.startswith("wchar")))


def plan(
    parameters: float,
    devices: int,
    *,
    shard: int = 0,
    tokens: int = 4096,
    checkpoint: bool = False,
) -> dict[str, float]:
    """Bytes that one device holds in mixed-precision training with Adam, and sends.

    Weights and gradients have 2 bytes a parameter, the optimiser 12: a float32 copy of
    the weights and two averages. The model has L layers of width D = 128 L, 12 L D²
    parameters; attention keeps no matrix (a fused kernel).

    Args:
        parameters: N, how many; devices: n, each with its own part of the batch.
        shard: what each device keeps only 1/n of: one of the places in `STAGES`.
        tokens: of one device in one forward pass.
        checkpoint: keep each layer's input alone, and compute the layer again.

    Returns:
        "weights", "gradients", "optimiser", "activations", "total": bytes held;
        "sent": bytes that a device sends in a step, by ring collectives in 2 bytes;
        "operations": floating-point operations of a device in a step.

    Raises:
        ValueError: an argument that is out of range; the message names it.
    """
    if not 0 < parameters < float("inf"):
        raise ValueError(f"parameters: got {parameters!r}, wants a number above 0")
    for name, value in {"devices": devices, "tokens": tokens}.items():
        checks.whole(name, value)
    if shard not in range(len(STAGES)):
        raise ValueError(f"shard: got {shard!r}, wants 0 to {len(STAGES) - 1}")
    N, n = parameters, devices
    L = max(1, round((N / 12 / HEAD**2) ** (1 / 3)))
    D = HEAD * L
    layer = 34 * D * tokens  # bytes of one layer's activations
    found = {
        "weights": 2 * N / (n if shard > 2 else 1),
        "gradients": 2 * N / (n if shard > 1 else 1),
        "optimiser": 12 * N / (n if shard > 0 else 1),
        "activations": (2 * D * L * tokens + layer if checkpoint else L * layer)
        + 6 * VOCABULARY * tokens,
    }
    if shard > 2 and n > 1:  # while a layer computes, it is whole, and its gradient
        found["weights"] += 2 * N / L
        found["gradients"] += 2 * N / L
    found["total"] = sum(found.values())
    found["sent"] = (3 if shard > 2 else 2) * (n - 1) / n * 2 * N
    found["operations"] = (8 if checkpoint else 6) * N * tokens
    return found
