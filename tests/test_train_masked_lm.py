"""train.masked_lm: what is read, how a run rests and goes on, what is measured."""

import shutil

import pytest
import torch

from lib import gaps, training, weights
from lib.data import livedoor
from lib.data.origin import Dataset
from lib.models.modernbert import ModernBert
from lib.tokenizers import sentencepiece
from train import masked_lm as study

SHIPPED = "masked-lm-embedded"


@pytest.fixture(scope="module")
def corpus():
    rows = livedoor.embedded_articles()
    return Dataset("livedoor", "this book", "CC BY 4.0", is_full=False, rows=rows)


@pytest.fixture(scope="module")
def articles(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    found = study.prepare(corpus, folder)
    again = study.prepare(None, folder)  # from the file: no corpus is read
    assert all(map(torch.equal, found["test"], again["test"]))
    return found


@pytest.fixture
def tiny(monkeypatch, tmp_path, corpus, articles):
    small = {"d_model": 16, "num_heads": 2, "layers": 2, "hidden": 8}
    monkeypatch.setattr(study, "MODEL", study.MODEL | small)
    sizes = {"BATCH": 4, "ROWS": 2, "STABLE": 12, "DECAY": 8, "WARM_UP": 2, "LOOK": 50}
    for name, value in sizes.items():
        monkeypatch.setattr(study, name, value)
    real, folder = weights.FOLDER, tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "sentencepiece").symlink_to(real / "sentencepiece")
    monkeypatch.setattr(weights, "FOLDER", folder)
    few = {"train": articles["train"][:40], "validation": articles["validation"][:3]}
    few["test"] = articles["test"][:4]
    monkeypatch.setattr(study, "prepare", lambda corpus, folder: few)
    monkeypatch.setattr(study, "livedoor", lambda: corpus)

    def command(*argv, place="runs"):
        study.main(["--folder", str(tmp_path / place), "--embedded", *argv])
        return weights.trace(SHIPPED) if SHIPPED in weights.names() else None

    return command


def test_the_splits_share_no_article(articles):
    texts = {k: {tuple(a.tolist()) for a in found} for k, found in articles.items()}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    for article in articles["test"]:
        assert article[0] == study.START and article[-1] == study.END
        assert (article == study.END).sum() == 2


def test_a_pass_reads_each_token_once(articles, monkeypatch):
    monkeypatch.setattr(study, "BATCH", 4)
    batches = study.Batches(articles["train"], 0.3, seed=0)
    generator = torch.Generator().manual_seed(0)
    steps = [batches(step, generator) for step in range(batches.steps)]
    ids = torch.cat([ids for _, ids, _ in steps])
    whole = torch.bincount(torch.cat(articles["train"]), minlength=study.MASK)
    read = torch.bincount(ids.flatten(), minlength=study.MASK)
    assert (read <= whole).all()
    assert (whole - read).sum() < 5 * study.LENGTH
    second = batches(batches.steps, generator)[1]
    assert not torch.equal(second, steps[0][1])
    again = study.Batches(articles["train"], 0.3, seed=0)(3, generator)[1]
    assert torch.equal(again, steps[3][1])
    for seen, ids, at in steps[:3]:
        assert torch.equal(seen[~at], ids[~at])
        assert abs(at.double().mean() - 0.3) < 0.08
    with pytest.raises(ValueError, match="articles: got 20 tokens"):
        study.Batches([torch.arange(20)], 0.3, 0)


def test_a_run_rests_goes_on_and_ends(tiny, capsys):
    trace = tiny("--most", "5")
    first = weights.tensors(SHIPPED)
    assert [(s["kind"], s["steps"]) for s in trace["sittings"]] == [("stable", 5)]
    trace = tiny()  # what is left of the stable part
    trace = tiny(place="elsewhere")  # another machine: nothing but what is shipped
    trace = tiny()
    kinds = [(s["kind"], s["steps"], s["finished"]) for s in trace["sittings"]]
    assert kinds == [("stable", 5, True), ("stable", 7, True), ("decay", 8, True)]
    assert "all steps are done" in capsys.readouterr().out
    rates = [s["curve"]["rate"][-1] for s in trace["sittings"]]
    assert rates[0] == rates[1] == study.RATES["rate"] and rates[2] < rates[0] / 10
    assert any((first[k] != v).any() for k, v in weights.tensors(SHIPPED).items())
    card = weights.card(SHIPPED)
    assert card["metrics"]["steps"] == card["metrics"]["of steps"] == 20
    model = ModernBert(**study.MODEL)
    state = {k: v.float() for k, v in weights.tensors(SHIPPED).items()}
    state["decoder.weight"] = state["model.embeddings.tok_embeddings.weight"]
    model.load_state_dict(state)
    found = study.summary(
        model, gaps.exam(study.prepare(0, 0)["test"], 128, 8000, stretches=2)
    )
    assert found == card["metrics"]["test"]


def test_a_killed_sitting_is_shipped_as_it_stands_and_goes_on(tiny, monkeypatch):
    whole = tiny(place="whole")["sittings"][0]
    shutil.rmtree(weights.FOLDER / SHIPPED)
    fit, kept = training.fit, training._save

    def stop(file, facts, parts):
        kept(file, facts, parts)
        if facts["step"] == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", stop)
    monkeypatch.setattr(
        training, "fit", lambda *a, **k: fit(*a, **k | {"save_every": 0.0})
    )
    with pytest.raises(KeyboardInterrupt):
        tiny()
    part = tiny("--now")["sittings"]
    assert [(s["steps"], s["finished"]) for s in part] == [(10, False)]
    monkeypatch.setattr(training, "_save", kept)
    again = tiny()["sittings"]
    assert len(again) == 1 and again[0]["finished"]
    assert again[0]["curve"] == whole["curve"] and again[0]["test"] == whole["test"]


def test_short_runs_and_measures_are_added(tiny, monkeypatch):
    trace = tiny("--only", "40-1", "--short-steps", "3")
    assert trace["short"]["40-1"]["share"] == 0.4 and not trace["sittings"]
    assert len(trace["short"]["40-1"]["by_article"]) == 4
    tiny("--most", "3")
    monkeypatch.setattr(study, "OTHER_MASKS", 2)
    trace = tiny("--measure")
    assert "40-1" in trace["short"] and len(trace["sittings"]) == 1
    found = trace["measured"]
    rows = found["fillers"]["by_article"]
    assert {len(values) for name in rows for values in rows[name].values()} == {4}
    mean = sum(
        n * x
        for n, x in zip(found["fillers"]["gaps"], rows["model"]["loss"], strict=True)
    ) / sum(found["fillers"]["gaps"])
    assert mean == pytest.approx(trace["sittings"][0]["test"]["loss"], abs=1e-3)
    # A model of three steps knows less than what it was counted from.
    assert sum(rows["bigram, both sides"]["loss"]) < sum(rows["model"]["loss"])
    assert len(found["masks"]) == 2 and found["masks"][0] != found["masks"][1]
    assert {*found["sides"]} == {"left", "right", "half of each", "both"}
    right = found["categories"]["right"]
    assert {len(r) for r in right.values()} == {found["categories"]["test"]}
    assert sum(right["TF-IDF, whole"]) > found["categories"]["test"] / 4
    trace = tiny()  # another checkpoint: its measures are not those of the old one
    assert "measured" not in trace and "40-1" in trace["short"]


def test_hours_are_not_spent_on_the_default_text_unasked(tiny, tmp_path, capsys):
    study.main(["--folder", str(tmp_path / "runs")])
    assert "nothing is trained" in capsys.readouterr().out
    assert SHIPPED not in weights.names()


# --- What is shipped -----------------------------------------------------------------


@pytest.fixture
def record():
    if study.NAME not in weights.names():
        pytest.skip("the run is not shipped yet")
    trace = weights.trace(study.NAME)
    if trace["sittings"][-1]["kind"] == "stable":
        pytest.skip("the run rests before its decay")
    return weights.card(study.NAME), trace


def test_the_shipped_record_is_whole(record):
    card, trace = record
    assert trace["recipe"] == study.recipe()
    steps = {kind: 0 for kind in trace["planned"]}
    assert trace["sittings"][-1]["finished"]
    for sitting in trace["sittings"]:
        steps[sitting["kind"]] += sitting["steps"]
    assert steps == trace["planned"] == {"stable": study.STABLE, "decay": study.DECAY}
    assert {*trace["short"]} == {*study.SHORT}
    assert {run["steps"] for run in trace["short"].values()} == {study.SHORT_STEPS}
    found, last = trace["measured"], trace["sittings"][-1]["test"]
    sizes = torch.tensor([n for n in found["fillers"]["gaps"] if n]).double()
    for key in ("loss", "top1", "top5"):
        by_article = torch.tensor(found["fillers"]["by_article"]["model"][key]).double()
        mean = (sizes * by_article).sum() / sizes.sum()
        assert mean.item() == pytest.approx(last[key], abs=1e-3)
    assert last["gaps"] == sizes.sum() and card["metrics"]["test"] == last
    assert len(found["masks"]) == study.OTHER_MASKS
    assert last["loss"] < trace["untrained"]["loss"]


def test_the_shipped_weights_give_the_recorded_losses(record):
    corpus = livedoor.livedoor()
    if not corpus.is_full:
        pytest.skip("wants the Livedoor News Corpus")
    _, trace = record
    processor = sentencepiece.load(weights.path(*study.PIECES))
    articles = sentencepiece.split(corpus.rows)[1]
    ids = [study.encoded(processor, article) for article in articles]
    assert len(ids) == trace["articles"]["test"]
    exam = gaps.exam(ids, study.LENGTH, study.MASK, stretches=2).first(24)
    state = {k: v.float() for k, v in weights.tensors(study.NAME).items()}
    state["decoder.weight"] = state["model.embeddings.tok_embeddings.weight"]
    model = ModernBert(**study.MODEL)
    model.load_state_dict(state)
    found = study.by_article(gaps.filled(model.eval(), exam)[0], exam)
    recorded = trace["measured"]["fillers"]["by_article"]["model"]["loss"][:12]
    assert found == pytest.approx(recorded, abs=5e-3)
