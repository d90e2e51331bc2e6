"""train.feed_forward: the settings it compares, and that a killed study goes on."""

import math

import pytest
import torch

from lib import weights
from lib.layers import GatedMLP
from train import feed_forward as study


@pytest.fixture
def tiny(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(65, (3, 600), generator=generator)
    splits = dict(zip(("train", "validation", "test"), ids, strict=True))
    monkeypatch.setattr(study, "text_splits", lambda: ("x" * 65, splits))
    shape = {"layers": 1, "heads": 2, "context": 8, "steps": 3}
    monkeypatch.setattr(study, "SMALL", shape)
    monkeypatch.setattr(study, "SHIPPED", {**shape, "d_model": 8})
    monkeypatch.setattr(study, "SETTINGS", ((0, False, True), (2, True, False)))
    monkeypatch.setattr(study, "SEEDS", (0, 1))
    monkeypatch.setattr(study, "width_of", lambda *_: 8)
    return splits


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on):
    _, trace = goes_on(study.study, study, "train", stops=[6])
    assert all(len(cell["cpu_seconds"]) == 2 for cell in trace["comparison"])


def test_rates_are_chosen_on_the_validation_split_alone(tiny, monkeypatch, tmp_path):
    scored = []

    def one_run(splits, expansion, gated, residual, rate, seed, split):
        scored.append((seed, split))
        return {"loss": abs(rate - 1e-2), "cpu_seconds": 1.0}

    monkeypatch.setattr(study, "one_run", one_run)
    _, trace = study.study(tmp_path)
    assert {split for seed, split in scored if seed == study.TRIAL_SEED} == {
        "validation"
    }
    assert {split for seed, split in scored if seed != study.TRIAL_SEED} == {"test"}
    assert [cell["rate"] for cell in trace["comparison"]] == [1e-2, 1e-2]


def test_a_third_rate_lies_beyond_the_better_one(tiny, monkeypatch, tmp_path):
    def one_run(splits, expansion, gated, residual, rate, seed, split):
        best = 1e-3 if gated else 3e-2
        return {"loss": abs(math.log(rate / best)), "cpu_seconds": 1.0}

    monkeypatch.setattr(study, "one_run", one_run)
    _, trace = study.study(tmp_path)
    tried = [[rate for rate, _ in cell["trials"]] for cell in trace["comparison"]]
    assert tried == [[3e-3, 1e-2, 3e-2], [1e-3, 3e-3, 1e-2]]
    assert [cell["rate"] for cell in trace["comparison"]] == [3e-2, 1e-3]


def test_the_longer_check_chooses_its_rate_on_validation(tiny, monkeypatch, tmp_path):
    asked = []

    def one_run(splits, expansion, gated, residual, rate, seed, split, steps):
        asked.append((round(rate, 6), seed, split, steps))
        return {"loss": rate + seed}

    monkeypatch.setattr(study, "one_run", one_run)
    settings = ((0, False, True), (2, True, False))
    monkeypatch.setattr(study, "LONGER", {**study.LONGER, "settings": settings})
    comparison = [
        {"expansion": e, "gated": g, "residual": r, "rate": 0.01}
        for e, g, r in settings
    ]
    found = study.longer(tmp_path, comparison)
    assert list(found) == list(settings)
    assert found[settings[0]] == pytest.approx([0.003, 1.003, 2.003])
    tried, scored = asked[:2], asked[2:5]
    assert {split for _, _, split, _ in tried} == {"validation"}
    assert {seed for _, seed, _, _ in tried} == {study.TRIAL_SEED}
    assert scored == [(0.003, seed, "test", 2000) for seed in (0, 1, 2)]


def test_the_settings_are_what_they_are_called():
    bare = study.small_model(2, False, False, 8)
    plain, none = (study.small_model(e, False, True, 8) for e in (2, 0))
    gated = study.small_model(4, True, True, 12)
    assert isinstance(gated.parts[1].branch, GatedMLP)
    assert gated.parts[1].branch.up.out_features == 32  # two thirds of 48
    assert len(none.parts) == 2 and len(plain.parts) == 4
    x = torch.randn(1, 5, 8)
    with torch.no_grad():
        for model in (plain, bare):  # with branches of zero only the stream is left
            for parameter in model.parts.parameters():
                parameter.zero_()
        assert all(torch.equal(part(x), x) for part in plain.parts)
        assert not any(part(x).any() for part in bare.parts)


def test_the_shipped_names_are_those_of_the_same_function():
    model = study.shipped_model(3)
    for parameter in model.parameters():  # no norm is left at its start
        parameter.data += 0.1 * torch.randn_like(parameter)
    ours = study.as_language_model(model).double()
    ids = torch.randint(65, (2, 128))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), model.double()(ids))


def test_start_and_end_of_the_shipped_training():
    tensors = weights.tensors(study.NAME)
    start = study.as_language_model(study.shipped_model(study.SHIPPED_SEED))
    for key, tensor in start.state_dict().items():
        # other processors draw the same numbers but for the last digits
        torch.testing.assert_close(tensors[f"start/{key}"], tensor.half())
        assert tensors[f"trained/{key}"].shape == tensor.shape
    assert len(tensors) == 2 * len(start.state_dict())
