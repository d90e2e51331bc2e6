"""What every notebook's set-up cell does: seeds, threads, quiet libraries, figures.

Nothing here knows about models, data or a chapter.
"""

import logging
import os
import random
import warnings

import numpy as np
import torch

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
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: expected a whole number of at least 0, got {seed!r}")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
