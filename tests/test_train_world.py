"""train.world: a tiny run from beginning to end, and that it goes on after a kill."""

import pytest
import torch
import torch.nn.functional as F

from lib import training, weights, world
from train import world as study


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    sizes = {"STEPS": 4, "LOOKS": 2, "FEW": 1, "MOST": 2, "JUDGED": 30, "BATCH": 2}
    sizes |= {"FOR_TOKENIZER": 300, "VOCABULARY": 400, "WARM_UP": 0.25}
    sizes |= {"MODEL": {"d_model": 16, "num_heads": 2, "layers": 1}}
    for name, value in sizes.items():
        monkeypatch.setattr(study, name, value)
    fitted = []
    fit = training.fit

    def counted(*arguments, **keywords):
        fitted.append(keywords["seed"])
        return fit(*arguments, **keywords)

    monkeypatch.setattr(training, "fit", counted)

    def run():
        fitted.clear()
        study.main(["--folder", str(tmp_path / "state")])
        return list(fitted)

    return run


def test_a_tiny_run_is_shipped_whole_and_repeated_never(tiny):
    assert tiny() == [0]
    model, tokenizer = world.load()
    assert len(tokenizer.vocabulary) == 400
    trace, card = weights.trace(world.NAME), weights.card(world.NAME)
    assert [e["step"] for e in trace["run"]["evaluations"]] == [0, 2, 4]
    for name in ("trained", "untrained"):
        found = trace["examined"][name]
        assert 3 < found["bits_per_byte"] < 6
        assert {*found["all"]} == {*study.GROUPS}
        for group, kinds in found["kinds"].items():
            n = sum(row["n"] for row in kinds.values())
            assert found["all"][group]["n"] == n > 40
    assert card["metrics"]["examination"] == trace["examined"]["trained"]["all"]
    assert world.complete(model, tokenizer, ["Where"])[0]
    before = weights.tensors(world.NAME)
    assert tiny() == []
    after = weights.tensors(world.NAME)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_judge_is_the_mean_over_all_tokens():
    torch.manual_seed(0)
    model = study.language_model(50, 16, 2, 1).eval()
    ids = torch.randint(50, (study.LENGTH * 3 + 1,))
    texts = ids.unfold(0, study.LENGTH + 1, study.LENGTH)
    nats = F.cross_entropy(model(texts[:, :-1]).mT, texts[:, 1:]).item()
    found = study.judge(model, ids, size=2 * len(ids))
    assert found["nats"] == pytest.approx(nats, abs=1e-4)
    bits = nats / 2 / torch.log(torch.tensor(2.0)).item()
    assert found["bits_per_byte"] == pytest.approx(bits, abs=1e-3)


def test_the_text_is_of_whole_documents_and_repeats():
    tokenizer = world.train_tokenizer(["a b c " * 9], 300)
    ids = study.text(tokenizer, 5000)
    assert len(ids) == 5000 and torch.equal(ids, study.text(tokenizer, 5000))
    assert (ids == tokenizer.end).sum() > 5
