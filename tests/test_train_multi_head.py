"""train.multi_head: what it measures, how it chooses, that a killed study goes on."""

import copy
from types import SimpleNamespace

import nbformat
import pytest
import torch

from lib import weights
from train import multi_head as study

TINY = {
    "2 heads": (8, 2, 0, 2, None),
    "1 head and MLP": (8, 1, 4, 1, (1e-2, 5, 0)),
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(study, "SETTINGS", TINY)
    monkeypatch.setattr(study, "SCHEDULES", ((1e-2, 4, 0), (1e-2, 6, 2)))
    monkeypatch.setattr(study, "SHIPPED", {"2 heads": 1})


def test_answers_are_the_symbols_back():
    tokens, answers = study.sequences(3, torch.Generator().manual_seed(0))
    for b in range(3):
        for place in range(6, study.T):
            found = answers[b, place - 6].tolist()
            assert found == [tokens[b, place - k] for k in (1, 2, 4, 6)]


def test_what_is_right_is_counted(monkeypatch):
    """A model that names the symbols 1, 2 and 4 back, and for 6 back that of 1 back."""

    def model(tokens):
        _, T = tokens.shape
        said = torch.stack([tokens[:, 6 - k : T - k] for k in (1, 2, 4, 1)], -1)
        return torch.nn.functional.one_hot(said, study.SYMBOLS).float(), None

    one, two, four, six, every, differ = study.measure(model, 0)
    assert one == two == four == 1 and abs(six - 1 / 32) < 0.01
    assert every == six  # all four are right where the last one is
    assert differ == 0  # 1 and 6 back are then two symbols, and one of them is said


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on):
    _, trace = goes_on(study.study, study, "train", stops=[5])
    assert list(trace) == list(TINY)


def test_warm_up_and_fall_of_the_rate(monkeypatch):
    seen = []

    class Adam(torch.optim.Adam):
        def step(self):
            seen.append(self.param_groups[0]["lr"])

    monkeypatch.setattr(study.torch.optim, "Adam", Adam)
    study.train((8, 1, 0), (1.0, 10, 4), seed=0)
    assert seen[:2] == [0.25, 0.5 * (1 - 0.095)] and abs(seen[-1] - 0.145) < 1e-9


@pytest.mark.parametrize(
    ("right", "chosen", "tried"),
    [
        ([[0.1, 0.2], [0.9, 0.1], [0.4, 0.5]], 1, 3),  # the best mean
        ([[0.3, 0.3], [0.3, 0.3], [0.1, 0.1]], 0, 3),  # of equals the cheapest
        ([[0.9, 0.94], [0.96, 0.97], [1, 1]], 1, 2),  # enough: the search ends
        ([[0.9, 1.0], [0.94, 0.94], [0, 0]], 0, 3),  # one seed alone is not enough
    ],
)
def test_the_search(monkeypatch, tmp_path, right, chosen, tried):
    schedules = ((1, 1, 0), (2, 1, 0), (3, 1, 0))
    monkeypatch.setattr(study, "SCHEDULES", schedules)

    def run(folder, shape, schedule, seed, sequences_of):
        assert sequences_of == study.VALIDATION
        found = right[schedules.index(schedule)][study.TRIAL_SEEDS.index(seed)]
        return [0, 0, 0, 0, found, 0], {}

    monkeypatch.setattr(study, "run", run)
    best, trials = study.search(tmp_path, (8, 2, 0))
    assert best == schedules[chosen] and len(trials) == tried


def test_the_record_is_what_the_script_says():
    trace, card = weights.trace(study.NAME), weights.card(study.NAME)
    assert list(trace) == list(study.SETTINGS)
    assert card["config"]["schedules"] == [list(s) for s in study.SCHEDULES]
    for setting, (*shape, seeds, _) in study.SETTINGS.items():
        assert len(trace[setting]["runs"]) == seeds
        assert all(0 <= x <= 1 for run in trace[setting]["runs"] for x in run)
        if setting in study.SHIPPED:
            model = study.Echo(*shape)
            start = f"{setting}/1/"
            state = {
                key.removeprefix(start): tensor
                for key, tensor in weights.tensors(study.NAME).items()
                if key.startswith(start)
            }
            model.load_state_dict(state)
            found = study.measure(model, study.TEST)
            recorded = trace[setting]["runs"][0]
            assert max(abs(a - b) for a, b in zip(found, recorded, strict=True)) < 0.01


def test_the_page_labels_hand_made_maps_right():
    """Head 0 looks 4 back, head 1 half 1 and half 6 back, head 2 everywhere alike."""
    page = nbformat.read("notebooks/block/multi-head.ipynb", as_version=4)
    [source] = [c.source for c in page.cells if "def describe(" in c.source]
    B, T = 5, study.T
    maps = torch.full((B, 3, T, T), 1 / T, dtype=torch.float64)
    for query in range(6, T):
        maps[:, :2, query] = 0
        maps[:, 0, query, query - 4] = 1
        maps[:, 1, query, [query - 1, query - 6]] = 0.5
    names = {"torch": torch, "copy": copy, "BACK": study.BACK, "T": T}
    names |= {"TEST": (None, None), "SYMBOLS": study.SYMBOLS}
    exec(source, names)
    _, shares, entropy, distance = names["describe"](lambda tokens: (None, maps))
    expected = [[0, 0, 1, 0], [0.5, 0, 0, 0.5], [1 / T] * 4]
    torch.testing.assert_close(shares, torch.tensor(expected).double())
    torch.testing.assert_close(
        entropy, torch.tensor([0, 2, T]).double().clamp(min=1).log()
    )
    assert distance[0] == 4 and distance[1] == 3.5


def test_the_page_finds_a_head_that_copies():
    """Head 0 hands on what it meets; head 1 hands on the next symbol instead."""
    page = nbformat.read("notebooks/block/multi-head.ipynb", as_version=4)
    [source] = [c.source for c in page.cells if "def describe(" in c.source]
    names = {"torch": torch, "copy": copy, "SYMBOLS": 32}
    exec(source, names)
    eye = torch.eye(32)
    value = torch.cat([eye, torch.zeros(32, 32)], 1)  # (d, D), for each of two heads
    readout = torch.cat([eye, eye.roll(1, 0)], 1).repeat(4, 1)  # (4 S, D)
    model = SimpleNamespace(
        symbol=SimpleNamespace(weight=torch.cat([eye, eye], 1)),  # (S, D)
        readout=SimpleNamespace(weight=readout),
        attend=SimpleNamespace(
            num_heads=2,
            to_value=SimpleNamespace(weight=torch.cat([value, value])),
            to_output=SimpleNamespace(weight=torch.eye(64)),
        ),
    )
    assert names["copies"](model).tolist() == [1, 0]
