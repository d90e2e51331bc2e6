"""train.ablations: each arm lacks its part alone, and a tiny study end to end."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import weights
from lib.layers import MLP
from lib.models.language import SelfAttention
from lib.models.pretraining import DroppedMLP, NormedAttention
from lib.optimisers import Muon
from train import ablations as study

V = 11


def short_text():
    text = "".join(f"line {i}: {'abc' * (i % 7)}\n" for i in range(700))
    about = {"name": "lines", "source": "here", "licence": "none", "is_full": False}
    return SimpleNamespace(rows=[{"content": text}], **about)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(study, "SHAPE", {"d_model": 16, "num_heads": 2, "layers": 2})


def made(*without):
    torch.manual_seed(0)
    return study.network(V, without)


@pytest.mark.parametrize("arm", study.ARMS)
def test_an_arm_lacks_its_parts_and_no_others(small, arm):
    without = study.ARMS[arm]
    model = made(*without)
    assert (model.positions == "rope") != ("RoPE" in without)
    for block in model.blocks:
        kinds = type(block.attention), type(block.mlp)
        assert kinds[0] is (SelfAttention if "QK-norm" in without else NormedAttention)
        assert kinds[1] is (MLP if "ReLU²" in without else DroppedMLP)
    tied = model.readout.weight is model.embed.weight
    assert tied == ("untied head" in without)
    several = study.optimisers(model, without, 1e-3)
    assert any(isinstance(o, Muon) for o in several) == ("Muon" not in without)
    taken = [p for o in several for g in o.param_groups for p in g["params"]]
    assert len(taken) == len({*taken}) and {*taken} == {*model.parameters()}


@pytest.mark.parametrize("arm", study.ARMS)
def test_every_arm_is_causal_begins_near_chance_and_learns_a_text(small, arm):
    model = made(*study.ARMS[arm])
    ids = torch.randint(V, (4, 33), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 20:] = 0
    torch.testing.assert_close(model(ids)[:, :20], model(changed)[:, :20])

    def loss():
        return F.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:])

    first = loss().item()
    assert abs(first - torch.tensor(V).log().item()) < 0.4
    several = study.optimisers(model, study.ARMS[arm], 5e-3)
    for _ in range(40):
        model.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in several:
            optimiser.step()
    assert value.item() < first - 0.5


def test_an_unknown_part(small):
    with pytest.raises(ValueError, match=r"^without: got \['Adam'\], wants some of"):
        made("Adam")


def test_a_tiny_study(small, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    sizes = {"SEEDS": range(2), "BATCH": 2, "TIMED": 1, "ADAMW_RATES": (1e-3, 2e-3)}
    for name, value in (sizes | {"MINUTES": 1e-9}).items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "ARMS", {"whole": (), "no Muon": ("Muon",)})
    ran, run = [], study.run

    def counted(*arguments):
        ran.append(arguments[:2])
        return run(*arguments)

    monkeypatch.setattr(study, "run", counted)
    monkeypatch.setattr(study, "tiny_shakespeare", short_text)
    given = ["--embedded", "--folder", str(tmp_path / "state")]
    study.main(given)
    (name,) = weights.names()
    trace = weights.trace(name)
    assert {*trace["seconds_a_step"]} == {*study.ARMS} and len(trace["tuning"]) == 2
    assert [(r["arm"], r["seed"]) for r in trace["runs"]] == [
        (arm, seed) for seed in range(2) for arm in study.ARMS
    ]
    chosen = min(trace["tuning"], key=lambda r: r["watched"])["rate"]
    assert {r["rate"] for r in trace["runs"]} == {chosen}
    assert len(ran) == 6
    study.main(given)
    assert len(ran) == 6 and weights.trace(name)["runs"] == trace["runs"]


def test_the_shipped_record_has_every_run_at_the_chosen_rate():
    if study.NAME not in weights.names():
        pytest.skip("not recorded yet")
    trace, config = weights.trace(study.NAME), weights.card(study.NAME)["config"]
    assert config["shape"] == study.SHAPE and config["minutes"] == study.MINUTES
    runs = {(run["arm"], run["seed"]): run for run in trace["runs"]}
    assert list(runs) == [(arm, seed) for seed in study.SEEDS for arm in study.ARMS]
    assert [run["rate"] for run in trace["tuning"]] == [*study.ADAMW_RATES]
    chosen = min(trace["tuning"], key=lambda run: run["watched"])["rate"]
    for (arm, _), run in runs.items():
        assert run["rate"] == chosen and run["steps"] == trace["steps"][arm]
        assert run["steps"] == int(60 * study.MINUTES / trace["seconds_a_step"][arm])
