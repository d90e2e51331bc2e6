"""train.translation: batches, resuming, scores, and the checkpoint that it shipped."""

import functools
import json
import os
from pathlib import Path

import pytest
import torch
from hub import Hub
from sacrebleu.metrics import BLEU
from test_data import run_python

from lib import training, weights
from lib.data import multi30k
from lib.models.encoder_decoder import PAD, EncoderDecoder
from lib.tokenizers import sentencepiece
from train import translation

TINY = translation.SMALL | {
    "model": translation.SMALL["model"]
    | {"source_vocabulary": 120, "target_vocabulary": 120, "d_model": 16, "layers": 1},
    "batch": 16,
    "steps": 12,
    "trial_steps": 6,
    "warm_up": 2,
    "tried": translation.TRIED,
    "beams": [2],
}


@pytest.fixture(scope="module")
def splits():
    splits, facts = translation.load("grammar")
    assert facts["is_full"] is False
    return {
        k: pairs[:64] if k == "train" else pairs[:12] for k, pairs in splits.items()
    }


@pytest.fixture(scope="module")
def processor(splits):
    whole, _ = translation.load("grammar")
    return sentencepiece.load(translation.vocabulary(whole["train"], 120))


def test_the_vocabulary_reserves_its_first_ids(processor):
    pieces = [processor.id_to_piece(i) for i in range(4)]
    assert pieces == ["<pad>", "<unk>", "<s>", "</s>"]
    assert processor.get_piece_size() == 120


def test_an_epoch_has_each_pair_once_and_batches_of_like_length(processor, splits):
    batches = translation.Batches(processor, splits["train"], 16, seed=3)
    epoch = batches.epoch(0)
    assert sorted(i for batch in epoch for i in batch) == list(range(64))
    assert epoch != batches.epoch(1)
    again = translation.Batches(processor, splits["train"], 16, seed=3)
    for step in (0, 3, 4, 9):
        source, target = batches(step)
        for one, other in zip((source, target), again(step), strict=True):
            assert torch.equal(one, other)
        assert (target[:, 0] == translation.BOS).all()
        assert ((source == translation.EOS).sum(1) == 1).all()
        assert ((target == PAD).sum() / target.numel()) < 0.2


def test_a_killed_study_goes_on_to_the_same_result(splits, monkeypatch, goes_on):
    fit = functools.partial(training.fit, save_every=0.0)
    monkeypatch.setattr(translation.training, "fit", fit)
    facts = {"name": "grammar", "licence": "CC BY 4.0", "is_full": False}
    _, _, trace, _ = goes_on(
        lambda folder: translation.study(splits, facts, TINY, folder),
        translation.Batches,
        "__call__",
        stops=[4, 10, 18],  # in each trial, and in the run
    )
    # What a page relies on.
    assert trace["chosen"] in trace["tried"]
    assert trace["test"]["systems"]["beam"]["BLEU"]["interval"] >= 0
    assert set(trace["validation"]["bleu"]) == {"1", "2"}
    assert len(trace["run"]["step"]) == len(trace["run"]["loss"])


def test_other_seeds_are_trained_and_scored_as_the_shipped_one(
    splits, monkeypatch, tmp_path
):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    facts = {"name": "grammar", "licence": "CC BY 4.0", "is_full": False}
    card, tensors, trace, pieces = translation.study(splits, facts, TINY, tmp_path)
    weights.save("translation", card, tensors, trace, {"unigram.model": pieces})
    found = translation.again([0, 1], splits, tmp_path)
    shipped = trace["test"]["systems"]
    for name in ("greedy", "beam"):
        assert found["0"][name]["BLEU"]["score"] == shipped[name]["BLEU"]["score"]
    assert found["0"]["loss"] == trace["test"]["loss"] != found["1"]["loss"]
    assert translation.again([1], splits, tmp_path) == {"1": found["1"]}  # kept


def test_translations_do_not_depend_on_the_batch(processor, splits):
    torch.manual_seed(0)
    model = EncoderDecoder(**TINY["model"]).double().eval()
    sentences = [source for source, _ in splits["test"]]
    longest = max(sentences, key=lambda s: len(processor.encode(s)))  # it sets the room
    for beams in (1, 2):
        together, scores = translation.translate(model, processor, sentences, beams)
        for i, sentence in enumerate(sentences[:4]):
            one, score = translation.translate(
                model, processor, [sentence, longest], beams
            )
            assert (one[0], score[0]) == (together[i], scores[i])


def test_scores_are_those_of_sacrebleu():
    references = ["Ein Hund rennt im Park .", "Zwei Katzen schlafen ."] * 10
    worse = ["Ein Hund schläft im Park .", "Zwei Katzen schlafen ."] * 10
    found = translation.scores({"a": references, "b": worse}, references, "13a")
    assert found["systems"]["a"]["BLEU"]["score"] == 100
    expected = BLEU().corpus_score(worse, [references]).score
    assert found["systems"]["b"]["BLEU"]["score"] == round(expected, 2)
    assert found["systems"]["b"]["BLEU"]["p"] < 0.05
    assert "bs:1000" in found["signatures"]["BLEU"].replace(" ", "")


def test_tanaka_is_read_from_a_folder(tmp_path):
    for stem in ("train", "dev", "test"):
        (tmp_path / f"{stem}.en").write_text("he ran .\nshe sang .\n")
        (tmp_path / f"{stem}.ja").write_text("彼 は 走 っ た 。\n彼女 は 歌 っ た 。\n")
    splits, facts = translation.load(f"tanaka={tmp_path}")
    assert splits["validation"][1] == ("she sang .", "彼女 は 歌 っ た 。")
    assert facts["name"] == "tanaka"
    with pytest.raises(FileNotFoundError):
        translation.load(f"tanaka={tmp_path / 'none'}")
    with pytest.raises(ValueError, match="data: got 'wmt', wants multi30k, grammar"):
        translation.load("wmt")


# --- The shipped model -----------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    card = weights.card("translation")
    model = EncoderDecoder(**card["config"]["model"]).eval()
    # One table serves as three, and is stored once.
    missing, unexpected = model.load_state_dict(
        weights.tensors("translation"), strict=False
    )
    assert sorted(missing) == ["readout.weight", "target_embed.weight"]
    assert not unexpected
    processor = sentencepiece.load(weights.path("translation", "unigram.model"))
    return model, processor


def test_the_shipped_model_repeats_its_recorded_translations(shipped):
    model, processor = shipped
    rows = weights.trace("translation")["test"]["examples"]
    assert 10 <= len(rows) <= 20
    texts, _ = translation.translate(model, processor, [r["source"] for r in rows])
    assert (
        sum(t == r["greedy"] for t, r in zip(texts, rows, strict=True)) >= len(rows) - 1
    )
    recorded = weights.trace("translation")["test"]
    for system in ("copy", "untrained"):
        assert recorded["systems"][system]["BLEU"]["score"] < 5
    assert recorded["systems"]["greedy"]["BLEU"]["score"] > 20
    assert recorded["loss"] < recorded["untrained_loss"] - 4


LOAD = """
import json
from lib.data import multi30k
found = multi30k.multi30k()
rows = [r for r in found if r["split"] == "test"][:100]
print(json.dumps([found.is_full, [[r["en"], r["de"]] for r in rows]]))
"""


@pytest.mark.skipif(
    not os.environ.get("HUB")
    or not Path(os.environ["HUB"], "datasets", multi30k.NAME).is_dir(),
    reason="HUB names no folder that holds Multi30k",
)
def test_the_shipped_model_has_its_recorded_bleu_on_the_first_100_pairs(
    shipped, tmp_path
):
    with Hub(os.environ["HUB"], cache=tmp_path / "cache") as hub:
        process = run_python(LOAD, home=tmp_path, **hub.environment)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    is_full, pairs = json.loads(out)
    assert is_full and len(pairs) == 100
    sources, references = map(list, zip(*pairs, strict=True))
    texts, _ = translation.translate(*shipped, sources)
    recorded = weights.trace("translation")["test"]["first_100"]["greedy"]
    assert abs(BLEU().corpus_score(texts, [references]).score - recorded) < 0.5
