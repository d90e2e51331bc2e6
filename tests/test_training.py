"""lib.training: a run repeats, goes on after a kill, and is the same in two processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
STEPS = 40
# A run as a script of train/ makes it: `python -c SCRIPT <folder> <dropout> <naps>`.
SCRIPT = """
import json, sys, time
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import nn
from lib import training

folder, dropout, nap = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout),
    nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 4),
) if dropout else nn.Sequential(
    nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 4)
)

def batch(step, generator):
    time.sleep(nap)
    x = torch.randn(16, 8, generator=generator)
    return x, (x[:, :4] + x[:, 4:]).argmax(1)

def loss(model, x, y):
    return F.cross_entropy(model(x), y)

def evaluate(model):
    return {"weight": model[0].weight.sum().item()}

trace = training.fit(
    model, batch, loss, 40, training.muon(model, model[-1]), seed=3, warm_up=5,
    ema=0.9, evaluate=evaluate, every=4, evaluate_every=8, folder=folder, save_every=0,
)
if training.processes()[0] == 0:
    torch.save([trace, model.state_dict()], folder / "end.pt")
"""


def environment() -> dict:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder, dropout=0.2, nap=0.0, launcher=("-c", SCRIPT)):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, *launcher, str(folder), str(dropout), str(nap)]
    return subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True
    )


def finish(process, folder):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == "", errors  # no bar without a terminal, no warning
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped: its trace and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    return finish(start(folder), folder)


def without_times(trace):
    return {k: v for k, v in trace.items() if not k.endswith("seconds")}


def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path):
    process = start(tmp_path, nap=0.05)
    file, deadline = tmp_path / "resume.pt", time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if file.exists() and torch.load(file, weights_only=True)["step"] >= 8:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stopped = torch.load(file, weights_only=True)["step"]
    assert 8 <= stopped < STEPS
    trace, state = finish(start(tmp_path), tmp_path)
    assert without_times(trace) == without_times(whole[0])
    assert state.keys() == whole[1].keys()
    assert all(torch.equal(state[key], whole[1][key]) for key in state)


def test_two_processes_equal_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = start(two, 0, launcher=(*launcher, str(script)))
    expected = finish(start(one, 0), one)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    found = torch.load(two / "end.pt", weights_only=True)
    for key in ("loss", "norm"):
        torch.testing.assert_close(
            torch.tensor(found[0][key]),
            torch.tensor(expected[0][key]),
            atol=1e-3,
            rtol=0,
        )
    for key, value in expected[1].items():
        torch.testing.assert_close(found[1][key], value, atol=1e-4, rtol=0)
