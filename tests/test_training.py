"""lib.training: a run repeats, goes on after a kill, and is the same in two processes."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from lib import training

ROOT = Path(__file__).parent.parent
STEPS = 40
# A run as a script of train/ makes it: <script> <folder> <dropout> <seconds a batch>.
SCRIPT = """
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lib import training
from lib.optimisers import muon

folder, dropout, nap = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
norm = nn.BatchNorm1d(32) if dropout else nn.LayerNorm(32)
model = nn.Sequential(
    nn.Linear(8, 32), norm, nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 4)
).double()

def batch(step, generator):
    time.sleep(nap)
    x = torch.randn(16, 8, generator=generator, dtype=torch.double)
    return x, (x[:, :4] + x[:, 4:]).argmax(1)

def loss(model, x, y):
    return F.cross_entropy(model(x), y)

def evaluate(model):
    return {"weight": model[0].weight.sum().item()}

optimisers = muon(model, model[-1])
trace = training.fit(
    model, batch, loss, 40, optimisers, seed=3, warm_up=5, ema=0.9, evaluate=evaluate,
    every=4, evaluate_every=8, folder=folder, save_every=0,
)
if training.processes()[0] == 0:
    torch.save([trace, model.state_dict()], folder / "end.pt")
"""


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def launched(text, folder, *arguments, launcher=()):
    """A script in a process of its own; its first argument is the folder."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(text)
    command = [sys.executable, *launcher, str(script), str(folder), *arguments]
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True)


def started(folder, dropout, nap=0.0, launcher=()):
    return launched(SCRIPT, folder, dropout, str(nap), launcher=launcher)


def finished(folder, dropout):
    """The run, or its rest, in this process: its trace and its weights."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script", str(folder), dropout, "0"])
        exec(SCRIPT, {})
    return torch.load(folder / "end.pt", weights_only=True)


def without_times(trace):
    kept = {k: v for k, v in trace.items() if not k.endswith("seconds")}
    if "evaluations" in kept:
        kept["evaluations"] = [without_times(e) for e in kept["evaluations"]]
    return kept


def test_killed_and_resumed_equals_uninterrupted(tmp_path, capsys):
    file, deadline = tmp_path / "killed" / "resume.pt", time.monotonic() + 200
    process = started(file.parent, "0.2", nap=0.05)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        if file.exists() and torch.load(file, weights_only=True)["step"] >= 8:
            break
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert 8 <= torch.load(file, weights_only=True)["step"] < STEPS
    trace, weights = finished(file.parent, "0.2")
    expected, expected_weights = finished(tmp_path / "whole", "0.2")
    assert without_times(trace) == without_times(expected)
    assert weights.keys() == expected_weights.keys()
    assert all(weights[key].equal(expected_weights[key]) for key in weights)
    assert capsys.readouterr().err == ""  # no bar where there is no terminal


def test_two_processes_equal_one(tmp_path):
    process = started(tmp_path / "two", "0", launcher=TORCHRUN)
    expected, expected_weights = finished(tmp_path / "one", "0")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    trace, weights = torch.load(tmp_path / "two" / "end.pt", weights_only=True)
    assert trace["step"] == expected["step"] and trace["rate"] == expected["rate"]
    for key in ("loss", "norm"):
        assert trace[key] == pytest.approx(expected[key], abs=2e-5)  # rounded to 1e-5
    for key, value in expected_weights.items():
        torch.testing.assert_close(weights[key], value, atol=1e-9, rtol=0)


# Labels whose last five are no labels, so that one process has three, the other one.
UNEVEN = """
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lib import training

def loss(model, x, y):
    total = F.cross_entropy(model(x), y, ignore_index=-100, reduction="sum")
    return total, (y != -100).sum()

for pieces in (1, 2, 4):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x, y = torch.randn(8, 4), torch.tensor([0, 1, 2, -100, -100, -100, -100, 1])
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    trace = training.fit(
        model, lambda *_: (x, y), loss, 5, [sgd], final=1.0, clip=1e9, every=1,
        pieces=pieces,
    )
    if training.processes()[0] == 0:
        torch.save([trace, model.state_dict()], Path(sys.argv[1]) / f"{pieces}.pt")
"""


def by_hand():
    """The same five steps, written out."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x, y = torch.randn(8, 4), torch.tensor([0, 1, 2, -100, -100, -100, -100, 1])
    losses = []
    for _ in range(5):
        loss = nn.functional.cross_entropy(model(x), y, ignore_index=-100)
        gradients = torch.autograd.grad(loss, [*model.parameters()])
        losses.append(loss.item())
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
    return losses, model.state_dict()


@pytest.mark.parametrize("processes", [1, 2])
def test_unequal_numbers_of_labels_change_nothing(tmp_path, processes):
    if processes == 1:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["script", str(tmp_path)])
            exec(UNEVEN, {})
    else:
        process = launched(UNEVEN, tmp_path, launcher=TORCHRUN)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    losses, weights = by_hand()
    for pieces in (1, 2, 4):  # eight parts of two processes: some without any label
        trace, found = torch.load(tmp_path / f"{pieces}.pt", weights_only=True)
        for key, value in weights.items():
            torch.testing.assert_close(found[key], value, atol=1e-6, rtol=0)
        assert trace["loss"] == pytest.approx(losses, abs=1.1e-5)


# Small runs in this process.


def line(start=0.0):
    """One weight and a bias, with nothing random in them."""
    model = nn.Linear(1, 1, dtype=torch.double)
    nn.init.constant_(model.weight, start)
    nn.init.zeros_(model.bias)
    return model


def points(step, generator):
    x = torch.randn(4, 1, generator=generator, dtype=torch.double)
    return x, 3 * x + 1


def squares(model, x, y):
    return (model(x) - y).square().mean()


def fitted(model=None, *, batch=points, loss=squares, steps=20, rate=0.1, **more):
    model = line() if model is None else model
    sgd = torch.optim.SGD(model.parameters(), lr=rate)
    return model, training.fit(model, batch, loss, steps, [sgd], **more)


def test_a_run_learns_and_its_trace_tells():
    model, trace = fitted(
        steps=200, warm_up=10, evaluate=lambda m: {"weight": m.weight.item()}
    )
    assert model.weight.item() == pytest.approx(3, abs=0.01)
    assert trace["step"] == list(range(20, 201, 20))
    assert trace["loss"][0] > 1 > 0.01 > trace["loss"][-1]
    assert trace["rate"][0] == 0.1 * training.schedule(19, 200, 10)
    assert [e["step"] for e in trace["evaluations"]] == [0, 200]
    assert trace["evaluations"][0]["weight"] == 0
    assert trace["evaluations"][1]["weight"] == model.weight.item()
    assert json.loads(json.dumps(trace)) == trace
    assert not model.training


def test_seed_and_step_decide_what_is_drawn():
    seen = {}

    def loss(model, x, y):
        noise = torch.rand(1).item()  # as dropout draws
        seen.setdefault(seed, []).append((x[0].item(), noise))
        return squares(model, x, y)

    for seed in (0, 1, 2**32 - 1):
        fitted(loss=loss, seed=seed, steps=5)
    draws = [draw for run in seen.values() for step in run for draw in step]
    assert len(set(draws)) == 30
    first, seed = seen[0], 0
    seen.clear()
    model, state = line(), torch.get_rng_state()
    fitted(model, loss=loss, seed=0, steps=5, every=1)
    assert seen[0] == first
    assert torch.get_rng_state().equal(state)  # the caller's own draws go on


def test_average_is_the_formula():
    weights = []

    def batch(step, generator):
        weights.append(model.weight.item())
        return points(step, generator)

    model = line(0.5)
    evaluated = []
    fitted(
        model,
        batch=batch,
        ema=0.6,
        clip=math.inf,
        evaluate=lambda m: evaluated.append(m.weight.item()) or {},
    )
    last = line(0.5)
    fitted(last, clip=math.inf)
    average = weights[0]
    for step, weight in enumerate([*weights[1:], last.weight.item()]):
        share = min(0.6, (1 + step) / (10 + step))
        average = share * average + (1 - share) * weight
    assert model.weight.item() == pytest.approx(average, abs=1e-12)
    assert evaluated == [0.5, model.weight.item()]


def test_clipping_bounds_a_step_and_the_trace_has_the_norm_before():
    model, trace = fitted(steps=1, rate=1.0, clip=0.25)
    moved = math.hypot(model.weight.item(), model.bias.item())
    assert moved == pytest.approx(0.25, abs=1e-6)
    assert trace["norm"][0] > 1


def test_a_step_is_clipped_to_a_norm_of_one_unless_told():
    lengths = []
    for more in ({}, {"clip": math.inf}):
        model, trace = fitted(steps=1, rate=1.0, **more)
        lengths.append(math.hypot(model.weight.item(), model.bias.item()))
    assert lengths[0] == pytest.approx(1, abs=1e-5)
    assert lengths[1] == pytest.approx(trace["norm"][0], abs=1e-5) and lengths[1] > 2


class Recorded(nn.Module):
    """A line behind a batch norm, which notes in which mode it was called."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1, dtype=torch.double)
        self.map = line(0.5)
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return self.map(self.norm(x))

    def __deepcopy__(self, memo):  # the average notes its calls in the same list
        twin = Recorded()
        twin.load_state_dict(self.state_dict())
        twin.modes = self.modes
        return twin


@pytest.mark.parametrize("ema", [None, 0.5])
def test_steps_are_in_training_mode_and_evaluations_are_not(ema):
    def evaluate(model):
        assert not torch.is_grad_enabled()
        model(torch.ones(2, 1, dtype=torch.double))
        return {}

    model, _ = fitted(
        Recorded().eval(), ema=ema, steps=4, evaluate=evaluate, evaluate_every=2
    )
    assert model.modes == [False, True, True, False, True, True, False]
    assert not model.training and not model.norm.training


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_average_has_the_last_buffers_of_batch_norm(ema):
    mean, variance, batches, evaluated = 0.0, 1.0, [], []

    def batch(step, generator):
        x, y = points(step, generator)
        batches.append(5 * x + 2)
        return batches[-1], y

    def evaluate(model):
        evaluated.append(model.norm.running_mean.item())
        return {}

    model, _ = fitted(
        Recorded(), batch=batch, ema=ema, steps=6, evaluate=evaluate, evaluate_every=1
    )
    expected = [mean]
    for x in batches:  # torch's momentum of 0.1; the variance is the unbiased one
        mean = 0.9 * mean + 0.1 * x.mean().item()
        variance = 0.9 * variance + 0.1 * x.var().item()
        expected.append(mean)
    assert evaluated == pytest.approx(expected)
    assert model.norm.running_mean.item() == pytest.approx(mean)
    assert model.norm.running_var.item() == pytest.approx(variance)
    assert model.norm.num_batches_tracked == 6


class Clock:
    """In the place of `time`: it stands still unless it is moved on."""

    def __init__(self):
        self.wall = self.cpu = 1000.0

    def monotonic(self):
        return self.wall

    def process_time(self):
        return self.cpu

    def pass_by(self, wall, cpu=0.0):
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu


def times(trace):
    rows = [*trace["evaluations"], trace]
    return [(row["seconds"], row["cpu_seconds"]) for row in rows]


def test_the_trace_has_the_seconds_of_all_starts(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training, "time", clock)
    stops = [13]

    def batch(step, generator):
        clock.pass_by(2.0, 0.5)
        if step in stops:
            raise KeyboardInterrupt
        return points(step, generator)

    more = {"evaluate": lambda m: {}, "evaluate_every": 5, "every": 5}
    more |= {"batch": batch, "folder": tmp_path, "save_every": 0.0}
    with pytest.raises(KeyboardInterrupt):
        fitted(**more)
    clock.pass_by(500.0, 100.0)  # the time between the starts is not the run's
    stops.clear()
    _, trace = fitted(**more)
    expected = [(0, 0), (10, 2.5), (20, 5), (30, 7.5), (40, 10), (40, 10)]
    assert times(trace) == expected
    clock.pass_by(500.0, 100.0)
    assert times(fitted(**more)[1]) == expected


@pytest.mark.parametrize(
    ("more", "steps", "expected"),
    [
        ({"save_every": 7.0}, 20, [0, 4, 8, 12, 16, 20]),
        ({"save_every": 8.0}, 20, [0, 4, 8, 12, 16, 20]),
        ({"save_every": 0.0}, 3, [0, 1, 2, 3]),
        ({}, 62, [0, 30, 60, 62]),  # a minute unless given
    ],
)
def test_a_checkpoint_is_written_as_often_as_told(
    more, steps, expected, tmp_path, monkeypatch
):
    clock, saved, save = Clock(), [], training._save
    monkeypatch.setattr(training, "time", clock)

    def noted(file, facts, parts):
        saved.append(facts["step"])
        save(file, facts, parts)

    def batch(step, generator):
        clock.pass_by(2.0)
        return points(step, generator)

    monkeypatch.setattr(training, "_save", noted)
    fitted(batch=batch, steps=steps, every=1, folder=tmp_path, **more)
    assert saved == expected


def test_the_trace_has_means_over_the_steps_since_the_last_entry():
    weight, losses, norms, rates = 0.5, [], [], []
    xs = [1.0, -2.0, 0.5, 3.0, 1.5]  # one point a step, of y = 0
    for step, x in enumerate(xs):
        gradient = 2 * weight * x * x
        losses.append((weight * x) ** 2)
        norms.append(abs(gradient))
        rates.append(0.05 * (0.2 + 0.8 * (1 + math.cos(math.pi * step / 5)) / 2))
        weight -= rates[-1] * gradient
    model = nn.Linear(1, 1, bias=False, dtype=torch.double)
    nn.init.constant_(model.weight, 0.5)
    _, trace = fitted(
        model,
        batch=lambda step, _: (torch.tensor([[xs[step]]]).double(), torch.zeros(1, 1)),
        steps=5,
        rate=0.05,
        final=0.2,
        clip=math.inf,
        every=2,
    )
    assert model.weight.item() == pytest.approx(weight, abs=1e-12)
    assert trace["step"] == [2, 4, 5]
    for key, values in (("loss", losses), ("norm", norms)):
        means = [(values[0] + values[1]) / 2, (values[2] + values[3]) / 2, values[4]]
        assert trace[key] == pytest.approx(means, abs=6e-6)
    assert trace["rate"] == pytest.approx([rates[1], rates[3], rates[4]])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def batch(step, generator):
        x, y = points(step, generator)
        return x, y / (step != 13)

    with pytest.raises(FloatingPointError) as stopped:
        fitted(batch=batch, every=5, folder=tmp_path, save_every=0)
    message = str(stopped.value)
    assert message.startswith("step 13: ")
    assert message.endswith(f"last good checkpoint: {tmp_path}/resume.pt, of step 10")
    model, trace = fitted(every=5, folder=tmp_path)  # mended, it goes on from there
    assert trace["step"] == [5, 10, 15, 20] and model.weight.isfinite()
    with pytest.raises(FloatingPointError, match=r"step 13: .* checkpoint: None"):
        fitted(batch=batch)


def test_a_finished_run_is_not_repeated(tmp_path):
    model, trace = fitted(folder=tmp_path, ema=0.5)
    again, same = fitted(
        folder=tmp_path, ema=0.5, batch=lambda *_: pytest.fail("it trained again")
    )
    assert same == trace and torch.equal(again.weight, model.weight)
    assert [file.name for file in tmp_path.iterdir()] == ["resume.pt"]


def test_another_runs_file_is_refused_and_says_what_differs(tmp_path):
    fitted(folder=tmp_path, config={"data": "a"})
    for change, name in (
        ({"steps": 30}, "steps"),
        ({"seed": 1}, "seed"),
        ({"clip": 2.0}, "clip"),
        ({"ema": 0.5}, "ema"),
        ({"warm_up": 3}, "schedule"),
        ({"final": 0.1}, "schedule"),
        ({"every": 5}, "every"),
        ({"evaluate_every": 5}, "every"),
        ({"rate": 0.2}, "optimisers"),
        ({"model": nn.Linear(1, 1, False, dtype=torch.double)}, "parameters"),
        ({"config": {"data": "b"}}, "config"),
    ):
        change = {"config": {"data": "a"}} | change
        with pytest.raises(ValueError, match=f"resume.pt: of another run.* {name};"):
            fitted(folder=tmp_path, **change)
    same = {"seed": 0, "clip": 1.0, "ema": None, "warm_up": 0, "final": 0.0}
    same |= {"every": 20, "evaluate_every": None, "config": {"data": "a"}}
    fitted(folder=tmp_path, **same)  # the defaults, written out
    (tmp_path / "resume.pt").write_bytes(b"PK and then nothing")
    with pytest.raises(ValueError, match=r"resume\.pt: damaged"):
        fitted(folder=tmp_path)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"steps": 0}, ValueError, "steps: expected a whole number from 1, got 0"),
        ({"steps": 2.5}, ValueError, "steps: .* got 2.5"),
        ({"every": 0}, ValueError, "every: .* got 0"),
        ({"pieces": 0}, ValueError, "pieces: .* from 1, got 0"),
        ({"pieces": 3}, ValueError, r"batch: .* a multiple of 3, got \[4\]"),
        ({"seed": -1}, ValueError, "seed: expected a whole number from 0, got -1"),
        ({"seed": 2**32}, ValueError, "seed: "),
        ({"warm_up": 20}, ValueError, "warm_up: expected 0 to 19 steps, got 20"),
        ({"ema": 1.0}, ValueError, "ema: .* got 1.0"),
        ({"batch": lambda *_: [1, 2]}, TypeError, r"batch: .* got \[1, 2\]"),
        ({"batch": lambda *_: torch.ones(2)}, TypeError, "batch: .* a tuple"),
        (
            {"batch": lambda *_: (torch.ones(2), torch.ones(3))},
            ValueError,
            r"batch: .* one length, .* got \[2, 3\]",
        ),
        ({"batch": lambda *_: (torch.ones(0),)}, ValueError, r"batch: .* got \[0\]"),
        ({"loss": lambda m, x, y: 1.0}, TypeError, "loss: .* got 1.0"),
        ({"loss": lambda m, x, y: m(x)}, TypeError, "loss: .* no axes"),
        ({"loss": lambda m, x, y: (m(x), 4)}, TypeError, "loss: .* no axes"),
        ({"loss": lambda m, x, y: (m(x).sum(), 4, 1)}, TypeError, "loss: .* no axes"),
        ({"evaluate": lambda m: {"w": m.weight}}, TypeError, "not JSON serializable"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        fitted(**change)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"folder: .*resume\.pt cannot be written"):
        fitted(folder=tmp_path / "file", batch=lambda *_: pytest.fail("too late"))


def test_the_bar_shows_time_left_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        fitted()
        assert bool(re.search(r"20/20 \[\d\d:\d\d<", stream.getvalue())) == shown
        assert ("loss=" in stream.getvalue()) == shown


def test_schedule_is_a_line_and_then_torchs_cosine():
    assert [training.schedule(s, 100, 4) for s in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert training.schedule(52, 100, 4, final=0.2) == pytest.approx(0.6)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30, eta_min=0.1)
    for step in range(30):
        assert training.schedule(step, 30, 0, 0.1) == pytest.approx(
            optimiser.param_groups[0]["lr"]
        )
        optimiser.step()
        cosine.step()


# What the scripts of train/ share.

SCRIPTS = [
    file.stem
    for file in sorted((ROOT / "train").glob("*.py"))
    if "training.arguments(" in file.read_text("utf8")
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_tells_all(name, monkeypatch, capsys):
    script = import_module(f"train.{name}")
    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    told = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"usage: python -m train.{name} " in told
    assert script.__doc__.strip() in told and "--folder" in told


def test_arguments():
    count = ("--steps", {"type": int, "default": 5})
    given = training.arguments("what", "a-b", count, argv=["--folder", "x"])
    assert given.folder == Path("x") and given.steps == 5
    assert training.arguments("what", "a-b", argv=[]).folder == Path("_build/train/a-b")


@pytest.mark.parametrize(("said", "threads"), [(None, 1), ("3", 3)])
def test_a_script_takes_the_threads_that_it_is_told(said, threads, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    try:
        torch.set_num_threads(2)
        training.arguments("what", "a-b", argv=[])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_kept_runs_once(tmp_path):
    jobs = iter([{"語": 1, "w": torch.ones(2)}, {"語": 2}])
    for _ in range(2):
        found = training.kept(tmp_path / "new", "a-0.5", lambda: next(jobs))
        assert found["語"] == 1 and found["w"].equal(torch.ones(2))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a-0.5.pt"]
    assert training.digest({"a": 1, "b": 2}) == training.digest({"b": 2, "a": 1})
    assert training.digest({"a": 1}) != training.digest({"a": 2})
    # printf '{"a": 2, "b": [1, "x"]}' | sha256sum
    assert training.digest({"b": [1, "x"], "a": 2}) == "78ebeaf16648"


SCRIPTS = sorted(f.stem for f in ROOT.glob("train/[a-z]*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_does(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"train.{name}").main()
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out
