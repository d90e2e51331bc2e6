"""train.contrastive: its data, its arms, what is measured, a killed study."""

import pytest
import torch

from lib import training, weights
from lib.data.scenes import ALL, NEVER
from train import contrastive as study


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    for name, value in {"STEPS": 4, "LOOK": 4, "WARM_UP": 1, "BATCH": 8}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "SEEDS", range(1))
    monkeypatch.setattr(study, "ROUNDS", 1)
    monkeypatch.setattr(study, "GALLERY", 12)
    small = {"d_model": 8, "num_heads": 2, "layers": [1, 1], "width": 8}
    monkeypatch.setattr(study, "MODEL", small)
    arms = {name: dict(study.ARMS[name]) for name in ("sigmoid", "scale 5")}
    monkeypatch.setattr(study, "ARMS", arms)
    real = study.single
    monkeypatch.setattr(study, "single", lambda split: real(split)[:6])


def test_what_is_judged():
    for split in ("test", "new place", "new pair"):
        rows = study.gallery(split)
        assert len(rows) == study.GALLERY
        assert not any(row["answer"] == "no" for row in rows)
        assert all(len(row["objects"]) == 1 for row in study.single(split))
    for row in study.single("new pair"):
        (one,) = row["objects"]
        assert NEVER[one.shape] == one.colour
    assert len(study.named()) == 2 * len(ALL) == len(set(study.named()))
    drawn = study.pixels(study.single("test")[:2])
    assert drawn.shape == (2, 3, 32, 32) and -1 <= drawn.min() < drawn.max() <= 1


def test_equal_captions_are_all_right():
    rows = [{"caption": text} for text in ("a", "b", "a")]
    vectors = torch.eye(3)
    given = vectors[[2, 1, 0]]  # the first finds the third's text before its own
    assert study.rank_of(rows, vectors, given, "caption").tolist() == [0, 0, 0]


def test_a_small_batch_sees_as_many_pairs():
    small, full = study.config("batch 16"), study.config("softmax")
    for key in ("steps", "warm_up", "look"):
        assert small[key] * small["batch"] == full[key] * full["batch"]


def test_arms(tiny):
    model = study.network("scale 5", 20)
    assert model.scale().item() == pytest.approx(5) and model.bias is None
    assert not any(p.requires_grad for p in model.scale.parameters())
    assert study.network("sigmoid", 20).bias.item() == -10
    assert study.config("sigmoid")["batch"] == 8


def test_a_killed_study_goes_on_and_is_shipped(tiny, goes_on, tmp_path):
    def traces(folder):
        return study.study(folder)[0]

    whole = goes_on(traces, study, "look", (2, 4))
    assert whole.keys() == study.ARMS.keys()
    for (trace,) in whole.values():
        assert [e["step"] for e in trace["evaluations"]] == [0, 4]
        assert trace["retrieval"].keys() == {"test", "new place", "new pair"}
        ranks = trace["retrieval"]["new pair"]
        assert len(ranks) == 4 and all(len(found) == 12 for found in ranks.values())
        assert all(len(x) == 6 for x in trace["zero_shot"]["test"].values())
    (fixed,) = whole["scale 5"]
    assert {e["scale"] for e in fixed["evaluations"]} == {5.0}
    study.main(["--folder", str(tmp_path / "whole")])
    card = weights.card(study.NAME)
    words = card["config"]["words"]
    found = weights.tensors(study.NAME)
    state = {
        k.removeprefix("sigmoid."): v.float()
        for k, v in found.items()
        if k.startswith("sigmoid.")
    }
    study.network("sigmoid", len(words) + 2).load_state_dict(state)
    study.main(["--folder", str(tmp_path / "one"), "--only", "sigmoid"])


def test_a_step_is_of_pairs(tiny, monkeypatch, tmp_path):
    seen = []

    def fit(model, batch, *others, **more):
        seen.append(batch(0, torch.Generator().manual_seed(0)))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        study.study(tmp_path)
    ((pictures, ids),) = seen
    _, drawn, known = study.prepare(tmp_path)
    for picture, row in zip(pictures, ids, strict=True):
        (at,) = [i for i, one in enumerate(drawn) if torch.equal(one, picture)]
        wide = torch.nn.functional.pad(row, (0, known.shape[2] - len(row)))
        assert any(torch.equal(wide, texts[at]) for texts in known)


@pytest.mark.skipif(study.NAME not in weights.names(), reason="not trained yet")
def test_the_record_is_of_these_settings():
    record, card = weights.trace(study.NAME), weights.card(study.NAME)
    for arm in study.ARMS:
        assert card["config"][arm] == study.config(arm)
        assert len(record[arm]) == len(study.SEEDS)
        steps = study.config(arm)["steps"]
        assert all(r["evaluations"][-1]["step"] == steps for r in record[arm])
    words = study.Words(card["config"]["words"])
    assert [*words.ids] == card["config"]["words"]
    model = study.network("softmax", len(words))
    state = {
        k.removeprefix("softmax."): v.float()
        for k, v in weights.tensors(study.NAME).items()
        if k.startswith("softmax.")
    }
    model.load_state_dict(state)
    with torch.no_grad():
        found = study.look(model.eval(), words, study.gallery("test"))
    wanted = record["softmax"][0]["evaluations"][-1]
    assert found["recall"] == pytest.approx(wanted["recall"], abs=0.02)
    assert found["gap"] == pytest.approx(wanted["gap"], abs=0.01)
