"""What runs, and on what: a notebook's set-up, its seeds, the memory that a call holds.

Nothing here knows about models, data or a chapter.
"""

import json
import logging
import os
import platform
import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.profiler import profile

from lib.checks import is_whole
from lib.figures import theme


def setup(seed: int = 0) -> None:
    """Make a notebook's results repeatable and its figures look like the book's.

    Seeds ``random``, ``numpy`` and ``torch``; takes as many threads as
    ``OMP_NUM_THREADS`` says (one in the tests); silences the progress bars and notices
    that libraries print while they load; sets the figure theme.
    """
    seed_all(seed)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="IProgress not found")
    theme.apply()


def seed_all(seed: int) -> None:
    """Seed every generator of random numbers that the book uses.

    Raises:
        ValueError: `seed` is not a whole number of at least 0.
    """
    if not is_whole(seed, 0):
        raise ValueError(f"seed: expected a whole number of at least 0, got {seed!r}")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def peak(call: Callable[[], torch.Tensor]) -> float:
    """The most that torch holds during a call beyond what it held, in MB of 10⁶ bytes.

    By the allocations that the profiler records: the same number in every run. The
    output does not count.
    """
    with profile(profile_memory=True) as recorded:
        output = call()
    held = output.untyped_storage().nbytes()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        events = json.loads(file.read_text("utf8"))["traceEvents"]
    events = [e for e in events if e["name"] == "[memory]"]
    events.sort(key=lambda e: e["ts"])
    sizes = np.cumsum([e["args"]["Bytes"] for e in events])
    return round(float(max(sizes.max(), held) - held) / 1e6, 2)


def processor() -> str:
    """What this machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(": ")[1] for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
