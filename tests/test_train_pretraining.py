"""train.pretraining: its parts of the text, its measure, that nothing is run twice."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lib import training, weights
from lib.models.pretraining import language_model
from lib.optimisers import Muon
from train import pretraining as study

TEXT = "".join(f"line {i}: {'abc' * (i % 7)}\n" for i in range(900))


def small(vocabulary=20):
    torch.manual_seed(0)
    return language_model(vocabulary, 16, 2, 1).eval()


def test_a_text_is_read_back_from_its_ids():
    vocabulary, ids = study.encode(TEXT)
    assert list(vocabulary) == sorted(set(TEXT))
    assert "".join(vocabulary[i] for i in ids.tolist()) == TEXT


@pytest.mark.parametrize("N", [1000, 1_115_394])
def test_parts_follow_each_other_and_choosing_leaves_the_validation_split_alone(N):
    ids = torch.arange(N)
    for choose in (False, True):
        parts = study.split(ids, choose)
        assert list(parts) == ["train", "watched", "judged"]
        together = torch.cat(list(parts.values()))
        assert torch.equal(together, ids[: len(together)])
        first = parts["judged"][0]
        assert first == int(N * 0.9) * (9 if choose else 10) // 10
        assert len(together) == (int(N * 0.9) if choose else N)


def test_a_pass_reads_each_character_once():
    ids, size = torch.arange(256 * 12 + 100), 3
    batch = study.batches(ids, size, seed=0)
    passes = [[batch(3 * p + s, None)[0] for s in range(3)] for p in range(2)]
    for steps in passes:
        targets = torch.cat(steps)[:, 1:].flatten().sort().values
        assert torch.equal(targets, torch.arange(len(targets)) + targets[0])
    first, second = (torch.cat(steps).flatten().tolist() for steps in passes)
    assert first != second
    assert torch.equal(batch(4, None)[0], study.batches(ids, size, 0)(4, None)[0])
    other = study.batches(ids, size, 1)(4, None)[0]
    assert not torch.equal(batch(4, None)[0], other)
    with pytest.raises(ValueError, match=r"ids: got 500 characters, wants 1025"):
        study.batches(ids[:500], size, 0)


@pytest.mark.parametrize("N", [2, 30, 256, 257, 258, 700])
@pytest.mark.parametrize("stride", [256, 128])
def test_judge_predicts_each_character_once_with_the_context_it_says(N, stride):
    model, ids = small(), torch.randint(20, (N,))
    total = 0.0
    for target in range(1, N):
        begin = (target - 1) // stride * stride  # of the new part of its window
        start = max(0, begin + stride - 256) if stride < 256 else begin
        start = min(start, begin)
        logits = model(ids[None, start:target])[0, -1]
        total += F.cross_entropy(logits, ids[target]).item()
    found = study.judge(model, ids, stride)
    assert found == pytest.approx(total / (N - 1), abs=1e-5)


def test_a_uniform_model_has_the_loss_of_its_vocabulary():
    model = small()
    torch.nn.init.zeros_(model.readout.weight)
    ids = torch.randint(20, (600,))
    for stride in (256, 128, 64):
        assert study.judge(model, ids, stride) == pytest.approx(2.99573, abs=1e-4)


def test_muon_in_bfloat16_steps_almost_as_muon():
    steps = []
    for kind in (Muon, study.MuonInHalf):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.zeros(12, 8))
        weight.grad = torch.randn(12, 8)
        kind([weight], lr=1.0).step()
        steps.append(weight.detach().clone())
    assert (steps[0] - steps[1]).norm() < 0.1 * steps[0].norm()
    model = small()
    for half in (False, True):
        first, second = study.optimisers(model, model.readout, study.RATES, half)
        taken = [
            p for o in (first, second) for g in o.param_groups for p in g["params"]
        ]
        assert {*taken} == {*model.parameters()} and len(taken) == len({*taken})
        assert type(first) is (study.MuonInHalf if half else Muon)
        assert first.defaults["lr"] == study.RATES["rate"]
        assert first.defaults["weight_decay"] == study.RATES["decay"]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    recipe = {
        "model": {"d_model": 16, "num_heads": 2, "layers": 1},
        "dropout": {"dropout": 0.1},
        "batch": 2,
        "steps": 4,
        "rates": study.RATES,
    }
    monkeypatch.setattr(
        study, "RECIPES", {"long": recipe, "five": recipe | {"steps": 3}}
    )
    monkeypatch.setattr(study, "RUNS", ["long-0", "five-0", "long-1"])
    monkeypatch.setattr(study, "WRITTEN", 5)
    fitted = []
    fit = training.fit

    def counted(*arguments, **keywords):
        fitted.append(keywords["seed"])
        return fit(*arguments, **keywords)

    monkeypatch.setattr(training, "fit", counted)

    def run(*options, folder="state"):
        fitted.clear()
        study.main(["--embedded", "--folder", str(tmp_path / folder), *options])
        return list(fitted)

    return run


def the_run():
    (name,) = weights.names()  # on the embedded default the name says so
    return name, weights.trace(name)["runs"]


def test_finished_runs_are_kept_and_the_others_added(tiny):
    assert tiny("--only", "five-0") == [0]
    name, runs = the_run()
    assert list(runs) == ["five-0"]
    assert "model.safetensors" not in weights.card(name)["files"]
    assert tiny("--only", "long-0") == [0]
    assert list(the_run()[1]) == ["long-0", "five-0"]
    before = weights.tensors(name)
    # Another folder, as in another session: what was shipped is not run again.
    assert tiny(folder="new") == [1]
    runs = the_run()[1]
    assert list(runs) == study.RUNS
    assert tiny(folder="new") == tiny() == []
    after = weights.tensors(name)
    assert all(torch.equal(after[key], before[key]) for key in before)
    card = weights.card(name)
    model = language_model(len(card["config"]["vocabulary"]), **card["config"]["model"])
    model.load_state_dict(after)
    assert all(value.dtype == torch.float16 for value in after.values())
    run = runs["long-0"]
    assert run["looks"][0]["step"] == 0 and len(run["looks"][-1]["text"]) == 5
    assert 1 < run["judged"]["blocks"] < 5 and run["recipe"] == study.recipe_of(
        "long-0"
    )
    assert run["curve"]["step"] == [1, 2, 3, 4]


def test_another_recipe_is_another_run(tiny, monkeypatch):
    assert tiny("--only", "five-0") == [0]
    monkeypatch.setitem(study.RECIPES["five"], "steps", 2)
    assert tiny("--only", "five-0") == [0]
    assert the_run()[1]["five-0"]["curve"]["step"] == [1, 2]


def test_choosing_ships_nothing(tiny):
    assert tiny("--only", "five-0", "--choose") == [0]
    assert not weights.names()
    assert tiny("--only", "five-0", "--choose") == []


def test_hours_are_not_spent_on_the_default_unasked(tmp_path, monkeypatch, capsys):
    default = SimpleNamespace(is_full=False)
    monkeypatch.setattr(study, "tiny_shakespeare", lambda: default)
    study.main(["--folder", str(tmp_path)])
    assert "nothing is trained: give --embedded" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_shipped_runs_have_the_recipes_of_the_script():
    if study.NAME not in weights.names():
        pytest.skip("not trained yet")
    runs, card = weights.trace(study.NAME)["runs"], weights.card(study.NAME)
    assert runs == study.shipped(study.NAME)
    model = language_model(len(card["config"]["vocabulary"]), **card["config"]["model"])
    model.load_state_dict(weights.tensors(study.NAME))
    for name, run in runs.items():
        assert run["name"] == name and run["judged"]["characters"] == 111_539
        assert run["judged"]["sliding"] < run["judged"]["blocks"]
        assert [look["step"] for look in run["looks"]][-1] == run["curve"]["step"][-1]
