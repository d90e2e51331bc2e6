"""train.hybrid: what a sequence is, what is judged, that a killed study goes on."""

import math
from types import SimpleNamespace

import pytest
import torch

from lib import weights
from lib.data import livedoor
from lib.models.masked import MaskedLanguageModel
from train import hybrid as study


@pytest.fixture
def tiny(monkeypatch):
    small = {"d_model": 16, "num_heads": 2, "layers": 2}
    monkeypatch.setattr(study, "MODEL", study.MODEL | small)
    changes = {name: study.CHANGES[name] for name in ("hybrid", "Post-LN")}
    monkeypatch.setattr(study, "CHANGES", changes)


@pytest.fixture(scope="module")
def articles(tmp_path_factory):
    rows = livedoor.embedded_articles()
    folder = tmp_path_factory.mktemp("tokens")
    found = study.prepare(SimpleNamespace(rows=rows), folder)
    again = study.prepare(None, folder)  # from the file: no corpus is read
    for name in found:
        assert torch.equal(found[name].bodies, again[name].bodies)
    return found


@pytest.fixture(scope="module")
def exam(articles):
    return study.Exam(articles["report"], articles["train"])


def test_a_sequence_is_a_title_and_a_stretch_of_its_body(articles):
    train = articles["train"]
    picks = torch.tensor([3, 0, 3])
    ids = train.sequences(picks, torch.Generator().manual_seed(0))
    assert ids.shape == (3, study.LENGTH)
    for row, pick in zip(ids, picks.tolist(), strict=True):
        assert torch.equal(row[: study.TITLE], train.titles[pick])
        first = int(train.starts[pick])
        body = train.bodies[first : first + int(train.sizes[pick])]
        stretches = body.unfold(0, study.BODY, 1)  # every stretch of the body
        assert (stretches == row[study.TITLE :]).all(1).any()


def test_groups_share_no_article(articles):
    bodies = {
        name: {
            tuple(part.bodies[s : s + n].tolist())
            for s, n in zip(part.starts.tolist(), part.sizes.tolist(), strict=True)
        }
        for name, part in articles.items()
    }
    assert not bodies["train"] & bodies["report"]
    assert not bodies["train"] & bodies["choose"]
    assert not bodies["choose"] & bodies["report"]


def test_the_exam_is_fixed_and_masks_bodies_alone(articles, exam):
    again = study.Exam(articles["report"], articles["train"])
    assert torch.equal(exam.seen, again.seen) and torch.equal(exam.at, again.at)
    assert not exam.at[:, : study.TITLE].any()
    assert (exam.seen[exam.at] == study.MASK).all()
    assert torch.equal(exam.seen[~exam.at], exam.ids[~exam.at])
    assert abs(exam.at[:, study.TITLE :].double().mean() - study.JUDGED) < 0.02


def test_where_a_copy_stands(exam):
    row, column = exam.at.nonzero()[::7].T
    where = exam.where[::7]
    for b, q, found in zip(row.tolist(), column.tolist(), where.tolist(), strict=True):
        copies = (exam.seen[b] == exam.ids[b, q]).nonzero().flatten().tolist()
        if any(abs(k // 16 - q // 16) <= 1 for k in copies):
            wanted = "near"
        elif any(k < study.TITLE for k in copies):
            wanted = "title"
        else:
            wanted = "far" if copies else "nowhere"
        assert study.SEEN[found] == wanted


def test_other_titles_change_titles_alone(exam):
    other = exam.other_titles()
    assert torch.equal(other.seen[1:, : study.TITLE], exam.seen[:-1, : study.TITLE])
    assert torch.equal(other.seen[:, study.TITLE :], exam.seen[:, study.TITLE :])
    assert not torch.equal(other.seen, exam.seen)
    assert other.ids is exam.ids and other.at is exam.at


class Says(torch.nn.Module):
    """A model with a given answer: of ids (B, T) and places (B, T), logits (N, V)."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, seen, key_mask, at):
        return self.answer(seen, at)


def test_scores_of_known_models(exam):
    even = exam.score(Says(lambda seen, at: torch.zeros(int(at.sum()), 8001)))
    assert math.isclose(even["all"]["loss"], math.log(8001), abs_tol=1e-3)

    def knows(seen, at):
        rows = (exam.seen == seen[:, None]).all(-1).double().argmax(1)  # (B,)
        right = exam.ids[rows][at]  # (N,)
        return 100 * torch.nn.functional.one_hot(right, 8001).double()

    right = exam.score(Says(knows))
    assert right["all"]["top5"] == 1 and right["all"]["loss"] < 1e-3


def test_groups_add_up(exam):
    unigram = exam.unigram()
    parts = [unigram[name] for name in ("frequent", *study.SEEN) if name in unigram]
    assert sum(part["tokens"] for part in parts) == unigram["all"]["tokens"]
    assert unigram["all"]["loss"] < math.log(8001)


def test_a_killed_study_goes_on_to_the_same_result(tiny, articles, exam, goes_on):
    whole = goes_on(
        lambda folder: study.ablation(4, (0,), articles, exam, folder),
        study.training,
        "fit",
        stops=[2],
    )
    assert [run["name"] for run in whole] == ["hybrid", "Post-LN"]


def test_the_cost_is_measured(tiny, monkeypatch):
    monkeypatch.setattr(study, "CHANGES", {"hybrid": {}, "full": {"attention": "full"}})
    found = study.cost((64, 256), runs=2)
    for name in ("full", "hybrid"):
        assert all(n > 0 for n in found[name]["tokens_per_second"])
        small, large = found[name]["peak_mb"]
        assert 0 < small < large


# --- The shipped checkpoint ------------------------------------------------------


def test_the_shipped_model_is_the_one_of_its_card():
    card = weights.card("hybrid")
    model = MaskedLanguageModel(**card["config"]["model"])
    model.load_state_dict(weights.tensors("hybrid"))
    assert sum(p.numel() for p in model.parameters()) == card["metrics"]["parameters"]
    assert (
        card["config"]["model"] == study.MODEL | study.LONG[card["config"]["shipped"]]
    )
    assert card["config"]["rates"] == study.RATES


def test_the_trace_holds_every_run():
    trace = weights.trace("hybrid")
    found = {(run["name"], run["seed"]) for run in trace["ablation"]}
    assert found == {(name, seed) for name in study.CHANGES for seed in study.SEEDS}
    for run in trace["ablation"]:
        assert run["with_judging"] <= 240
    baselines = trace["baselines"]
    assert abs(baselines["untrained"]["all"]["loss"] / baselines["ln_V"] - 1) < 0.05
    assert list(trace["longer"]) == list(study.LONG)
    for run in trace["longer"].values():
        assert run["held_out"]["all"]["loss"] < baselines["unigram"]["all"]["loss"]
