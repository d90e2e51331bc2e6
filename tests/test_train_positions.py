"""The position bench in small: every part of it runs, and a killed one goes on."""

import pytest
import torch

from train import positions as bench


@pytest.fixture
def tiny(monkeypatch):
    """Two layers of width 8 on made text, two schemes a side, three steps."""
    small = {
        "WIDTH": 8, "HEADS": 2, "LENGTH": 8, "BATCH": 2, "SCORED": 4,
        "LENGTHS": (8, 16, 32), "TUNED": (16,), "STEPS": 2,
        "TRIAL_STEPS": dict.fromkeys(bench.SCHEMES, 1),
        "TUNE_STEPS": 1, "SEEDS": (0, 1),
        "STRIDE": 64, "SCALES": {"rope": ((10.0, 100.0), 10.0)},
        "RATES": (0.008, 0.016),
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    ids = torch.randint(7, (4000,), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(bench, "text", lambda: ids.tensor_split([2000, 3000]))
    return ids


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on):
    trace = goes_on(bench.study, bench, "run", stops=[6])
    runs = [len(found["runs"]) for found in trace["schemes"].values()]
    assert runs == [2] * len(bench.SCHEMES)


def test_what_the_trace_holds(tiny, tmp_path):
    trace = bench.study(tmp_path)
    assert set(trace["schemes"]) == set(bench.SCHEMES)
    for scheme, found in trace["schemes"].items():
        for run in found["runs"]:
            beyond = run["loss"][1:]
            assert (beyond == [None, None]) == (scheme == "learned"), scheme
            shape = torch.tensor(run["by_distance"]["weight"]).shape
            assert shape == (bench.LAYERS, 2, 4)
    (rope, _) = trace["schemes"]["rope"]["runs"]
    assert rope["interpolated"][0] == rope["ntk"][0] == rope["loss"][0]
    assert {len(losses) for losses in rope["tuned"].values()} == {1}
    (t5, _) = trace["schemes"]["t5"]["runs"]
    assert torch.tensor(t5["bias"]).shape == (2, 8)
    assert torch.tensor(trace["shuffled"][0]["bias"]).shape == (2, 8)


def test_the_same_characters_at_every_length(tiny):
    ends = [bench.windows(tiny, length, 64)[:, -5:] for length in bench.LENGTHS]
    assert ends[0].shape == (62, 5)
    for other in ends[1:]:
        assert torch.equal(other, ends[0])
    assert torch.equal(ends[0][0], tiny[28:33])


def test_a_model_without_context_scores_the_same_at_every_length(tiny):
    model = bench.started("none", 1.0, 0, tiny)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.to_output.weight)
    losses = {bench.score(model, tiny, length, 64) for length in bench.LENGTHS}
    assert max(losses) - min(losses) <= 1e-4


@pytest.mark.parametrize("peak", [0, 2, 4])
def test_climb_ends_at_the_peak(peak):
    tried = []

    def loss(x):
        tried.append(x)
        return abs(x - peak)

    assert bench.climb((0, 1, 2, 3, 4), 2, loss) == peak
    assert len(tried) == len(set(tried))
    assert {max(0, peak - 1), min(4, peak + 1)} <= set(tried)
