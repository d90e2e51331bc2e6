"""train.arithmetic: the three cuts, what is held out, what is right, a killed study."""

import pytest
import torch

from lib import weights
from train import arithmetic as study


@pytest.mark.parametrize("name", study.CUTS)
def test_a_cut_comes_back(name):
    cut = study.Cut(name)
    for a, b in [(100, 100), (352, 871), (999, 999), (500, 507), (104, 896)]:
        asked, answer = cut.encode(a, b)
        assert cut.decode(asked) == f"{a}+{b}=" and cut.decode(answer) == f"{a + b}."


def test_how_numbers_are_cut():
    digits, bpe, whole = map(study.Cut, study.CUTS)
    assert digits.number("1223") == ["1", "2", "2", "3"]
    assert whole.number("1223") == ["1", "223"] and whole.number("352") == ["352"]
    assert whole.number("1007") == ["1", "0", "0", "7"]
    assert len(bpe.number("1223")) < 4 and "".join(bpe.number("1223")) == "1223"
    assert len(bpe.names) == 3 + 10 + study.MERGES


def test_the_test_sums_are_never_drawn():
    test = study.held_out()
    assert len({tuple(pair) for pair in test.tolist()}) == study.TEST
    assert test.min() >= study.LOW and test.max() < study.HIGH
    forbidden = test @ torch.tensor([study.HIGH, 1])
    drawn = study.draw(5000, forbidden, torch.Generator().manual_seed(0))
    assert len(drawn) == 5000
    assert not {tuple(x) for x in drawn} & {tuple(x) for x in test.tolist()}


@pytest.mark.parametrize("name", study.CUTS)
def test_only_answers_are_targets(name):
    cut, pairs = study.Cut(name), [[352, 871], [100, 101]]
    ids, targets = study.batch(cut, pairs)
    for row, aims, (a, b) in zip(ids, targets, pairs, strict=True):
        asked = len(cut.encode(a, b)[0])
        aimed = aims[aims != -100]
        assert cut.decode(aimed.tolist()) == f"{a + b}."
        assert row[asked : asked + len(aimed)].equal(aimed)
        assert (aims[: asked - 1] == -100).all()


@pytest.mark.parametrize("name", study.CUTS)
def test_an_answer_is_right_if_its_text_is(name):
    """A model that knows the sums but for those whose first number is even."""
    cut = study.Cut(name)
    pairs = [[352, 871], [101, 202], [999, 999], [100, 100]]
    known = {}
    for a, b in pairs:
        asked, _ = cut.encode(a, b)
        known[tuple(asked)] = cut.encode(a, b if a % 2 else b - 1)[1]

    def model(ids):
        logits = torch.zeros(*ids.shape, len(cut.names))
        for i, row in enumerate(ids.tolist()):
            for asked, answer in known.items():
                if tuple(row[: len(asked)]) == asked:
                    at = len(row) - len(asked)
                    token = answer[at] if at < len(answer) else cut.ids["."]
                    logits[i, -1, token] = 1
        return logits

    said = study.answers(model, cut, pairs)
    assert said == ["1222", "303", "1998", "199"]
    assert study.measure(model, cut, pairs) == 0.5


def test_a_killed_study_goes_on_to_the_same_result(monkeypatch, goes_on):
    monkeypatch.setattr(study, "SEEDS", range(2))
    monkeypatch.setattr(study, "STEPS", 3)
    monkeypatch.setattr(study, "WARM_UP", 1)
    monkeypatch.setattr(study, "EVERY", 2)
    monkeypatch.setattr(study, "TEST", 8)
    monkeypatch.setattr(study, "BATCH", 4)
    monkeypatch.setattr(study, "SHAPE", {"d_model": 8, "num_heads": 2, "layers": 1})
    monkeypatch.setattr(study.time, "process_time", lambda: 0.0)
    trace = goes_on(study.study, study, "train", stops=[3])
    assert list(trace["runs"]) == list(study.CUTS)
    assert [step for step, _ in trace["runs"]["BPE pieces"][1]["curve"]] == [0, 2]


def test_the_shipped_record_is_of_this_script():
    card, trace = weights.card("arithmetic"), weights.trace("arithmetic")
    assert card["config"]["steps"] == study.STEPS
    assert card["config"]["cuts"] == list(study.CUTS)
    for runs in trace["runs"].values():
        assert len(runs) == len(study.SEEDS)
        assert all(run["curve"][-1][0] == study.STEPS for run in runs)
    assert trace["cpu_minutes"] <= 60
