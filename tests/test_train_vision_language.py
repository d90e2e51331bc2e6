"""train.vision_language: pictures kept once, answers, controls, a killed study."""

from types import SimpleNamespace

import numpy as np
import pooch
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lib import weights
from lib.data import easy_vqa, scenes
from lib.data.origin import Dataset, Unreachable
from lib.models import connectors
from lib.pretrained.origin import Pretrained
from train import vision_language as study

WORDS = "question what colour shape is there how many where the a picture answer : ? nothing"
EASY = [
    ("colour", "what color is the circle?", "red"),
    ("shape", "what is the red shape?", "circle"),
    ("yes/no", "is there a red shape?", "yes"),
    ("yes/no", "is there a blue shape?", "no"),
]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=112
    )
    return Pretrained(Dinov2Model(config).eval(), None, "tiny", "tiny", "MIT")


@pytest.fixture(scope="module")
def language():
    words = sum([*study.ANSWERS.values(), *study.EASY.values()], ())
    words = sorted({*" ".join(words).split(), *WORDS.split()})
    known = {word: i for i, word in enumerate(["[UNK]", *words])}
    plain = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=96,
    )
    model = LlamaForCausalLM(config)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    return Pretrained(model, tokenizer, "tiny", "tiny", "MIT")


@pytest.fixture
def tiny(monkeypatch, tmp_path, encoder, language):
    def few(split, rounds, seed):
        rows = scenes.scenes(split, rounds, seed).rows
        kinds = [
            [row for row in rows if row["kind"] == kind][:3] for kind in study.ANSWERS
        ]
        return SimpleNamespace(rows=[row for one in kinds for row in one])

    def easy(split="train"):
        rows = [
            {"kind": k, "question": q, "answer": a, "file": f"{i}.png"}
            for i in range(4)
            for k, q, a in EASY
        ]
        return Dataset(f"easy-VQA ({split})", "here", "MIT", True, rows)

    def drawn(files, size):
        return np.stack([np.full((size, size, 3), int(f[0]), np.uint8) for f in files])

    values = {"FEW": 4, "STEPS": 6, "LOOK": 2, "WARM_UP": 1, "BATCH": 4, "ROUNDS": 2}
    values |= {"HELD_BACK": 3, "ASKED": 10, "PICTURES": 3, "PART": 2, "ALIGN": 2}
    values |= {"vit_s": lambda: encoder, "smollm2": lambda: language, "scenes": few}
    names = ("mlp", "mlp, 1 token", "mlp, longer")
    values |= {"ARMS": {n: study.ARMS[n] for n in names}, "SEEDS": range(2)}
    for name, value in values.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(easy_vqa, "easy_vqa", easy)
    monkeypatch.setattr(easy_vqa, "pictures", drawn)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")


def prepared(encoder, language):
    data = study.prepare(encoder)
    sheets = [*data.train, data.back, *data.judged.values()]
    return study.Reader(language, sheets), data


def test_pictures_are_seen_once_and_whole(tiny, encoder, monkeypatch, tmp_path):
    first = study.prepare(encoder)
    parts = sorted(tmp_path.glob("cache/*/vectors.safetensors"))
    assert len(parts) == 5 + 2 * 2  # rounds, splits; two parts of each easy-VQA split

    def never(*given):
        raise AssertionError("seen again")

    monkeypatch.setattr(connectors, "features", never)
    again = study.prepare(encoder)
    assert torch.equal(again.back.features, first.back.features)
    with pytest.raises(AssertionError, match="seen again"):
        study.prepare(Pretrained(encoder.model, None, "tiny", "another", "MIT"))
    parts[0].write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="seen again"):
        study.prepare(encoder)


def test_what_is_asked(tiny, encoder):
    data = study.prepare(encoder)
    scene, easy = data.train
    assert len(scene.rows) == 2 * 15 - 3 and len(data.back.rows) == 3
    asked = [(row["file"], row["kind"]) for row in easy.rows]
    assert len(asked) == len({*asked}) == 3 * 3  # one question of each kind
    assert len(easy.features) == 3
    assert {row["words"] for row in easy.rows} == {"A red circle."}
    judged = data.judged["easy-VQA"]
    assert sorted(row["kind"] for row in judged.rows) == sorted([*study.EASY] * 3)
    for sheet in (scene, easy, data.back, *data.judged.values()):
        assert len(sheet.rows) == len(sheet.picture)
        assert all(row["answer"] in row["known"] for row in sheet.rows)
    seen = torch.cat([sheet.features.flatten(0, 1) for sheet in data.train])
    assert seen.mean(0).abs().max() < 1e-3
    assert abs(seen.std() - 1) < 0.1


def test_answers_are_those_of_plain_text(tiny, encoder, language):
    """Word vectors in the picture's place; the language model reads the words."""
    reader, data = prepared(encoder, language)
    table = reader.language.get_input_embeddings()
    rows = data.judged["test"].rows
    words = reader.ids(study.TOLD.format(words="red circle"))
    vectors = table(torch.tensor([words] * len(rows)))  # (N, 2, D)
    before, after = study.PROMPT.split(study.IMAGE)
    logs = []
    with torch.no_grad():
        for row in rows:
            prompt = reader.ids(before.format(question=row["question"]))
            prompt, known = [*prompt, *words, *reader.ids(after)], reader.known(row)
            found = []
            for answer in known:
                ids = torch.tensor([[*prompt, *answer]])
                said = reader.language(ids).logits[0, len(prompt) - 1 :]
                total = 0.0
                for j, token in enumerate(answer):
                    others = [t[j] for t in known if t[:j] == answer[:j] and len(t) > j]
                    shares = said[j, sorted({*others})].softmax(0)
                    total += shares[sorted({*others}).index(token)].log().item()
                found.append(total)
            assert np.exp(found).sum() == pytest.approx(1, abs=1e-5)
            logs.append(found)
        for one, found in zip(reader.likely(vectors, rows), logs, strict=True):
            assert one == pytest.approx(found, abs=1e-4)
        right = [
            -x[r["known"].index(r["answer"])] for x, r in zip(logs, rows, strict=True)
        ]
        assert reader.losses(vectors, rows).tolist() == pytest.approx(right, abs=1e-4)
        sheet = data.judged["test"]
        told = [row | {"words": "red circle"} for row in rows]
        chosen = [max(range(len(x)), key=x.__getitem__) for x in logs]
        assert study.spoken(reader, sheet._replace(rows=told)) == chosen


def test_what_a_picture_means(tiny, encoder, language):
    reader, data = prepared(encoder, language)
    table = reader.language.get_input_embeddings().weight
    scene, easy = data.train
    for sheet in (scene, easy):
        four, one = (study.meant(reader, sheet, tokens) for tokens in (4, 1))
        assert four.shape == (len(sheet.rows), 4, 16) and one.shape[1:] == (1, 16)
        for row, squares, whole in zip(sheet.rows, four, one, strict=True):
            objects = row.get("objects", ())
            said = " ".join(f"{o.colour} {o.shape}" for o in objects) or "red circle"
            assert torch.allclose(whole[0], table[reader.ids(said)].mean(0))
            for place, found in zip(study.scene_words.PLACES, squares, strict=True):
                there = [f"{o.colour} {o.shape}" for o in objects if o.place == place]
                words = there[0] if there else "nothing" if objects else "red circle"
                assert torch.allclose(found, table[reader.ids(words)].mean(0))


def test_the_first_stage_comes_near_its_closed_form(
    tiny, encoder, language, monkeypatch
):
    reader, data = prepared(encoder, language)
    monkeypatch.setattr(study, "ALIGN", 60)
    monkeypatch.setattr(study, "RATE", 1e-2)
    wanted = torch.cat([study.meant(reader, sheet, 4) for sheet in data.train])
    x = torch.cat([sheet.features[sheet.picture] for sheet in data.train])
    linear = connectors.Linear(64, 16, 4, reader.scale)
    before = (linear(x) - wanted).square().mean()
    study.align(linear, 4, 0, reader, data)
    after = (linear(x) - wanted).square().mean()
    solved = connectors.Linear(64, 16, 4)
    solved.map = study.closed_form(reader, data)
    best = (solved(x) - wanted).square().mean()
    assert best < before and after - best < 0.5 * (before - best)


def test_a_killed_study_goes_on_and_is_shipped(tiny, goes_on, tmp_path):
    def traces(folder):
        return study.study(folder)[0]

    whole = goes_on(traces, study, "answered", (2, 9))
    assert whole.keys() == {*study.ARMS, "controls"}
    first, second = whole["mlp"]
    assert [e["step"] for e in first["evaluations"]] == [0, 2, 4]
    assert first["loss"] != second["loss"]
    longer = whole["mlp, longer"][0]
    assert [e["step"] for e in longer["evaluations"]] == [0, 2]
    assert (
        longer["evaluations"][0]["held back"] == first["evaluations"][-1]["held back"]
    )
    splits = {*study.SPLITS, "easy-VQA"}
    assert {*first["chosen"]} == {*first["aligned"]} == {*longer["shuffled"]} == splits
    assert "aligned" not in whole["mlp, 1 token"][0] and "shuffled" not in first
    assert {*whole["controls"]["true words"]} == {*study.TOLD_OF}
    study.main(["--folder", str(tmp_path / "whole")])
    card, trace = weights.card(study.NAME), weights.trace(study.NAME)
    right = card["metrics"]["mlp"]["right"]["test"]
    exam, chosen = trace["exam"]["test"], first["chosen"]["test"]
    same = [a == b for a, b in zip(exam["right"], chosen, strict=True)]
    assert right[0] == round(sum(same) / len(same), 4)
    assert card["metrics"].keys() >= {"closed form", "untrained", "true words"}
    found = weights.tensors(study.NAME)
    assert found["closed form.map.weight"].shape == (16, 64)
    state = {
        k.removeprefix("mlp, longer."): v.float()
        for k, v in found.items()
        if k.startswith("mlp, longer.")
    }
    connectors.TwoLayers(64, 16, 4).load_state_dict(state)
    assert not any(key.startswith("mlp.") for key in found)  # shipped once


def test_the_longer_runs_go_on_where_the_others_ended(
    tiny, encoder, language, tmp_path
):
    reader, data = prepared(encoder, language)
    first = study.run("mlp", 0, reader, data, tmp_path / "a")
    start = {k: v.clone() for k, v in first["tensors"].items()}
    longer = study.run("mlp, longer", 0, reader, data, tmp_path / "b", start)
    looks = longer["trace"]["evaluations"]
    assert looks[0]["held back"] == first["trace"]["evaluations"][-1]["held back"]
    assert study.config("mlp, longer")["steps"] == 2
    assert any((longer["tensors"][k] != v).any() for k, v in start.items())


def test_without_the_package(tiny, monkeypatch, tmp_path, capsys):
    def missing(split):
        raise Unreachable("its package is not installed")

    monkeypatch.setattr(easy_vqa, "easy_vqa", missing)
    study.main(["--folder", str(tmp_path / "runs")])
    assert "nothing is trained: its package" in capsys.readouterr().out


@pytest.mark.skipif(study.NAME not in weights.names(), reason="not trained yet")
def test_the_record_is_of_these_settings():
    record, card = weights.trace(study.NAME), weights.card(study.NAME)
    for arm in study.ARMS:
        config = study.config(arm)
        assert card["config"][arm] == config
        assert len(record[arm]) == len(study.SEEDS)
        last = [run["evaluations"][-1]["step"] for run in record[arm]]
        assert last == [config["steps"]] * len(study.SEEDS)
    for split in (*study.SPLITS, "easy-VQA"):
        assert len(record["exam"][split]["right"]) == study.ASKED
    found = weights.tensors(study.NAME)
    for arm in study.SHIPPED:
        state = {
            k.removeprefix(f"{arm}."): v.float()
            for k, v in found.items()
            if k.startswith(f"{arm}.")
        }
        study.ARMS[arm].kind(384, 576, 4).load_state_dict(state)
