"""lib.runtime: seeds repeat a run, and the memory of a call is that of its tensors."""

import random

import numpy as np
import pytest
import torch

from lib import runtime


def test_seeds_repeat_what_is_drawn():
    def draw(seed):
        runtime.seed_all(seed)
        return random.random(), np.random.rand(), torch.rand(1).item()

    first, again, other = draw(3), draw(3), draw(4)
    assert first == again and all(map(float.__ne__, first, other))


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match=f"seed.*got {seed!r}"):
        runtime.seed_all(seed)


def test_the_peak_is_what_is_held_at_once_beside_the_output():
    def call(parts):
        total = torch.zeros(1000)  # 4 kB
        for _ in range(parts):  # 1 MB and its double, both gone before the next
            total = total + 2 * torch.ones(250_000).sum()
        return total

    assert runtime.peak(lambda: torch.ones(250_000)) == 0
    assert runtime.peak(lambda: torch.ones(250_000) + 1) == 1
    assert runtime.peak(lambda: call(5)) == runtime.peak(lambda: call(1))
    assert 1 <= runtime.peak(lambda: call(1)) < 1.1


def missing(path):
    raise FileNotFoundError(path)


def test_the_processor_has_a_name(monkeypatch):
    assert runtime.processor().strip()
    said = "vendor_id\t: Maker\nmodel name\t: Maker 9 at 3 GHz\nmodel name\t: another\n"
    monkeypatch.setattr(runtime.Path, "read_text", lambda *_: said)
    assert runtime.processor() == "Maker 9 at 3 GHz"
    monkeypatch.setattr(runtime.platform, "processor", lambda: "arm")
    for read in (lambda _: "Hardware\t: board\n", missing):
        monkeypatch.setattr(runtime.Path, "read_text", read)
        assert runtime.processor() == "arm"
    monkeypatch.setattr(runtime.platform, "processor", lambda: "")
    monkeypatch.setattr(runtime.platform, "machine", lambda: "x86_64")
    assert runtime.processor() == "x86_64"
