"""train.peft on a tiny model: parts, targets, keepers, and a killed study that goes on."""

import copy
import json
import math
import re
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib import weights
from lib.adapters import answers
from lib.adapters.adapter import adapters, trained
from train import peft as script


class Words:
    """A tokenizer that gives each new word the next number."""

    def __init__(self):
        self.known = {}

    def encode(self, text, add_special_tokens=False):
        found = re.findall(r"<\|\w+\|>| ?\w+|\W", text)
        return [self.known.setdefault(word, len(self.known)) for word in found]


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=5000,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    return SimpleNamespace(
        model=model, tokenizer=Words(), source="drawn by lot", licence="none"
    )


@pytest.fixture
def bench(found, monkeypatch):
    for name, value in {
        "MOST": 4,
        "TUNE": 2,
        "LOOK": 2,
        "PIECES": 4,
        "LOOKED": 2,
        "SEEDS": range(2),
        "RANK": 4,
        "WIDTH": 4,
        "RANKS": (1, 4),
        "ALPHAS": (4.0, 16.0),
        "RATES": {name: rates[:1] for name, rates in script.RATES.items()},
    }.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script.run, "__defaults__", (4, 16.0, None))
    monkeypatch.setattr(script.short, "__defaults__", (4, 16.0))
    made = script.Bench(found)
    made.rows = {name: rows[:12] for name, rows in made.rows.items()}
    return made


def test_a_killed_study_goes_on(bench, goes_on):
    trace = goes_on(lambda f: script.study(bench, f), script, "run", {2, 5})
    assert set(trace["methods"]) == {*script.RATES, *script.SAME}
    sizes = {k: v["0"]["trained"] for k, v in trace["methods"].items()}
    assert sizes["full"] == sum(p.numel() for p in bench.model.parameters())
    assert sizes["LoRA on 4 bits"] == sizes["LoRA, all maps"] > sizes["LoRA, q and v"]
    for one in trace["methods"].values():
        path = one["0"]["path"]
        assert [step for step, *_ in path] == [0, 2, 4]
        assert path[0] == one["1"]["path"][0] or "4 bits" in str(one)
        assert len(one["0"]["exact"]) == 12 and len(one["0"]["prose"]) == 4
    assert set(trace["kept"]) == set(script.KEEPERS)
    assert len(trace["ranks"]["tuned"]["4"]) == 2
    assert json.loads(json.dumps(trace, allow_nan=False)) and script.minutes(trace) > 0


def test_the_start_model_is_left_alone_and_runs_repeat(bench):
    before = copy.deepcopy(bench.model.state_dict())
    runs = [script.run(bench, "LoRA, q and v", 1e-2, 1) for _ in range(2)]
    for one in runs:
        del one["cpu_seconds"], one["step seconds"]
    assert runs[0] == runs[1]
    script.run(bench, "full", 1e-3, 0, keeper="KL")
    assert all(v.equal(before[k]) for k, v in bench.model.state_dict().items())


def test_a_run_stops_at_the_target(bench, monkeypatch):
    start = bench.gain(bench.model)
    monkeypatch.setattr(script, "TARGET", start + 1)
    one = script.run(bench, "full", 1e-3, 0)
    assert one["path"][-1][0] == script.LOOK
    assert script.short(bench, "full", 3e-3, 0)["dev"] < start


def test_a_rate_at_which_training_breaks_is_not_chosen(bench):
    one = script.short(bench, "full", 1e30, 0)
    assert one["dev"] == script.DIVERGED
    with pytest.raises(FloatingPointError, match="rate 1e"):
        script.run(bench, "full", 1e30, 0)


def test_keepers(bench):
    ids = bench.own[:2]
    same = script.keeping("KL", bench.model, bench.model, ids)
    assert abs(same.item()) < 1e-5
    other = copy.deepcopy(bench.model)
    torch.nn.init.normal_(other.model.layers[0].mlp.down_proj.weight)
    assert script.keeping("KL", other, bench.model, ids) > 1e-4
    nats = script.keeping("rehearsal", bench.model, None, ids)
    assert nats.item() == pytest.approx(
        bench.model(ids, labels=ids).loss.item(), abs=1e-4
    )
    with pytest.raises(ValueError, match="keeper"):
        script.keeping("hope", bench.model, bench.model, ids)


def test_parts_and_methods(bench, tmp_path):
    trace = script.study(bench, tmp_path, ("ranks",))
    assert set(trace) == {"start", "rates", "chosen", "ranks"}
    assert set(trace["rates"]) == {script.ONE}
    for name in (*script.RATES, *script.SAME):
        model = script.adapted(name, copy.deepcopy(bench.model), bench.encode)
        assert trained(model) and bool(adapters(model)) == (
            name not in ("full", "soft prompt")
        )


def test_main_writes_a_record_when_all_is_there(
    bench, found, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    monkeypatch.setattr(script, "smollm2", lambda: found)
    monkeypatch.setattr(script, "Bench", lambda _: bench)
    folder = ["--folder", str(tmp_path / "runs")]
    script.main([*folder, "--only", "rates"])
    assert "no record without methods" in capsys.readouterr().out
    script.main(folder)
    assert set(weights.trace("peft")) >= {"start", "chosen", *script.PARTS}
    assert weights.card("peft")["metrics"]["cpu_minutes"] >= 0


# --- The task ----------------------------------------------------------------------


def test_the_task_is_split_and_asked_for():
    parts = answers.split()
    assert {k: len(v) for k, v in parts.items()} == {
        "test": 40,
        "dev": 24,
        "train": 398,
    }
    items = [row for rows in parts.values() for row in rows]
    assert len({q for _, q, _ in items}) == len(items)
    words = Words()
    (prompt, answer), *_ = answers.rows(words.encode, parts["test"])
    text = {i: word for word, i in words.known.items()}
    assert "".join(text[i] for i in answer) == f"{parts['test'][0][2]}{answers.END}"
    assert "".join(text[i] for i in prompt).startswith("<|im_start|>user\nWhat is")


def test_loss_and_score_by_hand(bench):
    rows = bench.rows["test"][:5]
    one = answers.score(bench.model, rows, 2)
    for (prompt, answer), nats, exact in zip(rows, *one.values(), strict=True):
        ids = torch.tensor([prompt + answer])
        logs = bench.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        wanted = -sum(log[i].item() for log, i in zip(logs, answer, strict=True))
        assert nats == pytest.approx(wanted, abs=1e-3)
        assert exact == (logs.argmax(-1).tolist() == answer)
    ids, labels = answers.batch(rows, 3, 0, 7)
    assert ids.equal(answers.batch(rows, 3, 0, 7)[0])
    parts = answers.loss(bench.model, ids, labels)
    assert parts.item() == pytest.approx(math.log(5000), abs=0.5)
    with pytest.raises(ValueError, match="all are masked"):
        answers.loss(bench.model, ids, torch.full_like(labels, -100))
