"""train.rag: its text, prompts, ranks, and a killed study; on stand-ins for the models."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib import weights
from lib.data.questions import questions
from lib.retrieval import book, measure
from train import rag as study


class Tokenizer:
    padding_side = "right"

    def apply_chat_template(self, chat, **_):
        return chat[0]["content"]

    def __call__(self, texts, **_):
        longest = max(map(len, texts))
        return {"input_ids": torch.zeros(len(texts), longest, dtype=torch.long)}

    def encode(self, text):
        return [ord(c) % 50 for c in text[:30]]

    def decode(self, row, **_):
        return f" says {row[0].item()} \nmore"


class Model:
    def eval(self):
        return self

    def generate(self, input_ids, **_):
        self.calls = getattr(self, "calls", 0) + 1
        return torch.cat([input_ids, torch.full((len(input_ids), 1), 7)], 1)


def vectors(found, texts, prefix=""):
    vectors.asked += len(texts)
    made = [np.random.default_rng(len(t)).standard_normal(8) for t in texts]
    return torch.nn.functional.normalize(torch.tensor(np.stack(made)).float(), dim=-1)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    vectors.asked = 0
    monkeypatch.setattr(study, "FOLDER", tmp_path / "train")
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    fake = SimpleNamespace(name="fake")
    monkeypatch.setattr(study.minilm, "minilm", lambda: fake)
    monkeypatch.setattr(study.minilm, "embed", vectors)
    monkeypatch.setattr(study.e5, "embed", vectors)
    monkeypatch.setattr(study, "asked", lambda *_: SimpleNamespace(found=fake))
    reader = SimpleNamespace(model=Model(), tokenizer=Tokenizer())
    monkeypatch.setattr(study, "smollm2", lambda: reader)
    book.shipped.cache_clear()
    yield reader
    book.shipped.cache_clear()


def test_the_text_is_made_once_and_then_refreshed(tiny):
    study.main(["--only", "text"])
    once = vectors.asked
    found = weights.tensors("rag-text")
    passages = weights.card("rag-text")["config"]["passages"]
    assert found["minilm"].shape == (passages, 8) and found["e5"].shape == (135, 8)
    assert found["minilm"].dtype == torch.float16
    assert [*book.shipped()] == book.read()
    study.text_part()
    assert vectors.asked == once + 30  # the Japanese questions are not kept


def test_pieces_of_another_text_go(tiny, monkeypatch):
    study.main(["--only", "text"])
    monkeypatch.setitem(study.PARTS, "hnsw", lambda: [])
    for name in ("answers-none-0", "hnsw-1000"):
        (study.FOLDER / f"{name}.pt").write_bytes(b"")
    study.main(["--only", "hnsw"])
    assert (study.FOLDER / "answers-none-0.pt").exists()
    (study.FOLDER / "text.txt").write_text("another")
    study.main(["--only", "hnsw"])
    assert [f.name for f in study.FOLDER.glob("*.pt")] == ["hnsw-1000.pt"]


def test_rankings_and_ranks(tiny):
    study.main(["--only", "text"])
    found = study.searched()
    orders = found["orders"]
    assert {len(order) for order in orders["vectors"]} == {study.DEPTH}
    ranks = study.right_ranks(found["passages"], orders["BM25"])
    assert len(ranks) == 99 and sum(r == 1 for r in ranks) > 50
    assert all(isinstance(r, int) and r >= 0 for r in ranks)
    place = found["passages"][5].place
    assert study.measure.first_right([place], place) == 1


def test_the_prompts_of_each_condition(tiny):
    study.main(["--only", "text"])
    made = study.prompts_of(study.searched())
    rows = [row for row in questions("book") if row["answers"]][:: study.EVERY]
    assert {len(texts) for texts in made.values()} == {len(rows)} and len(made) == 7
    for row, right, wrong, out in zip(
        rows, made["right"], made["wrong"], made["wrong, way out"], strict=True
    ):
        assert measure.contains(right, row["answers"])
        given = wrong.split(study.PART)[0]
        assert given and not measure.contains(given, row["answers"])
        assert out == wrong + study.OUT
    assert made["none"][0] == study.ALONE + rows[0]["question"]
    assert study.prompt("q?", ["a", "b"]) == f"a\n\nb\n\n{study.PART}q?"


def test_answers_are_first_lines_in_their_order_and_kept(tiny):
    said = study.write(tiny, ["long prompt", "x", "middle"] * 4, "some")
    assert said == ["says 7"] * 12 and tiny.model.calls == 2
    study.main(["--only", "text"])
    first, more = study.answers_part(), study.more_part()
    calls = tiny.model.calls
    assert len(first) == 4 and len(more) == 5 and len(more["nowhere"]) == 20
    assert study.answers_part() == first and tiny.model.calls == calls


def test_parts_stand_beside_each_other(tiny, monkeypatch):
    study.main(["--only", "text"])
    for name in study.PARTS:
        monkeypatch.setitem(study.PARTS, name, lambda name=name: [name])
    study.main(["--only", "answers"])
    study.main(["--only", "hnsw"])
    assert weights.trace("rag") == {"answers": ["answers"], "hnsw": ["hnsw"]}
    study.save({"more": []}, "another text")
    assert weights.trace("rag") == {"more": []}
    study.main([])
    assert [*weights.trace("rag")] == [*study.PARTS]


def test_ten_are_read_again(tiny, monkeypatch):
    study.main(["--only", "text"])
    logs = lambda model, encode, passage, asks: [-float(len(passage))] * len(asks)  # noqa: E731
    monkeypatch.setattr(study.rank, "question_logs", logs)
    found = study.rerank_part()
    passages = study.searched()["passages"]
    assert len(found) == 99
    for row in found:
        assert len(row["order"]) == study.TOP
        assert row["logs"] == [-float(len(passages[i].whole)) for i in row["order"]]


def test_a_graph_against_all(tiny, monkeypatch):
    monkeypatch.setattr(study, "SIZES", (200,))
    monkeypatch.setattr(study, "QUERIES", 20)
    table = torch.randn(500, 50, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(study, "glove", lambda: SimpleNamespace(vectors=table))
    assert np.allclose(np.linalg.norm(study.phrases(5, 0), axis=1), 1)
    (row,) = study.hnsw_part()
    assert row["vectors"] == 200 and row["bytes"] > row["bytes flat"]
    assert row["search"]["160"]["recall"] > 0.95
    assert study.hnsw_part() == [row]  # kept, times included


def test_help_names_the_minutes(capsys):
    with pytest.raises(SystemExit):
        study.main(["--help"])
    said = capsys.readouterr().out
    assert "35 minutes" in said and all(part in said for part in study.PARTS)
