"""train.attention: the page's network and tasks, what is measured, a killed study."""

import ast

import nbformat
import pytest
import torch
from torch import nn

from lib import weights
from lib.attention import attention
from train import attention as study

PAGE = "notebooks/block/attention.ipynb"


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(
        study, "READOUTS", {"linear": (0, False, 2), "MLP": (4, True, 4)}
    )
    monkeypatch.setattr(study, "READOUT_SEEDS", range(2))
    monkeypatch.setattr(study, "READOUT_EVERY", 2)
    monkeypatch.setattr(study, "READOUT_TEST", 16)
    monkeypatch.setattr(study, "SCALES", {"not scaled": 0, "scaled by d": 1})
    monkeypatch.setattr(study, "SCALE_SEEDS", range(1))
    monkeypatch.setattr(study, "SCALE_RATES", (1e-3,))
    monkeypatch.setattr(study, "SCALE_STEPS", 2)
    monkeypatch.setattr(study, "SCALE_EVERY", 1)
    monkeypatch.setattr(study, "SCALE_TEST", 16)
    monkeypatch.setattr(study, "WIDE", 8)


@pytest.fixture(scope="module")
def page():
    """What the page's cells define for its network and its tasks."""
    cells = [c.source for c in nbformat.read(PAGE, 4).cells if c.cell_type == "code"]
    wanted = {"attention", "lookup", "copy_after", "Reader", "ByPlace", "LETTERS", "T"}
    wanted |= {"COLOURS", "N, QUESTION", "SYMBOLS, M", "MARKER, ASK"}
    found = {}
    for node in ast.parse("\n".join(cells[1:])).body:
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0]).strip("()")
        else:
            name = getattr(node, "name", None)
        if name in wanted or isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), found)
    return found


@pytest.mark.parametrize("task", ["lookup", "copy_after"])
def test_tasks_are_those_of_the_page(page, task):
    ours, theirs = (
        make(50, torch.Generator().manual_seed(3))
        for make in (getattr(study, task), page[task])
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("hidden", [0, 5])
def test_networks_are_those_of_the_page(page, hidden):
    tokens, _, _ = study.copy_after(9, torch.Generator().manual_seed(0))
    logits = []
    for module in (vars(study), page):
        for attend in (module["attention"], module["ByPlace"](study.T)):
            torch.manual_seed(1)
            model = module["Reader"](
                [18, 10], 16, layers=2, hidden=hidden, attend=attend
            )
            logits.append(model(tokens)[0])
    assert torch.allclose(logits[0], logits[2]) and torch.equal(logits[1], logits[3])


def test_weights_by_place_ignore_what_the_tokens_hold():
    layer = study.ByPlace(4)
    nn.init.normal_(layer.scores)
    first, second = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    for given in (None, mask):
        weights_ = layer(first, first, first, given)[1]
        assert torch.equal(weights_, layer(second, second, second, given)[1])
        assert torch.allclose(weights_.sum(-1), torch.ones(3, 4).double())
    assert (weights_[:, ~mask] == 0).all()


@pytest.mark.parametrize("power", study.SCALES.values())
def test_scores_are_divided_by_this_power(power):
    query, key, value = torch.randn(3, 2, 6, 16, dtype=torch.float64)
    wanted = (query @ key.mT / 16**power).softmax(-1)
    assert torch.allclose(study.scaled(power, query, key, value)[1], wanted)


def test_the_answer_is_at_the_right_cell():
    tokens, answer, right = study.copy_after(40, torch.Generator().manual_seed(0))
    for row, symbol, place in zip(tokens[..., 0], answer, right, strict=True):
        assert row[place] == symbol and row[place - 1] == study.MARKER
        assert row[-1] == study.ASK and len(set(row.tolist())) == study.T
    tokens, answer, right = study.lookup(40, torch.Generator().manual_seed(0))
    for row, letter, place in zip(tokens, answer, right, strict=True):
        assert row[place].tolist() == [letter, row[-1, 1]]


def test_measure():
    tokens, answer, right = study.lookup(200, torch.Generator().manual_seed(0))

    def model(tokens, mask):
        said = torch.where(torch.arange(200) < 50, answer, (answer + 1) % 16)
        maps = torch.zeros(200, 7, 7)
        maps[:, -1].scatter_(1, right[:, None], 0.75)
        return nn.functional.one_hot(said, 16).float(), [maps]

    assert study.measure(model, tokens, answer, right) == [0.25, 0.75]


def test_a_killed_study_goes_on_to_the_same_result(tiny, monkeypatch, tmp_path):
    trace = study.study(tmp_path / "whole")
    train, calls = study.train, []

    def dies(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(study, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        study.study(tmp_path / "killed")
    monkeypatch.setattr(study, "train", train)
    assert study.study(tmp_path / "killed") == trace
    monkeypatch.setattr(study, "train", lambda *_: pytest.fail("trained again"))
    assert study.study(tmp_path / "killed") == trace
    steps = [step for step, *_ in trace["readouts"]["MLP"][1]]
    assert steps == [0, 2, 4] and len(trace["readouts"]["linear"]) == 2
    assert list(trace["scales"]["scaled by d"]) == ["0.001"]


def test_the_record_is_of_these_settings():
    record, card = weights.trace("attention"), weights.card("attention")
    assert card["config"]["readouts"]["settings"].keys() == study.READOUTS.keys()
    for name, runs in record["readouts"].items():
        assert len(runs) == len(study.READOUT_SEEDS)
        assert all(run[-1][0] == study.READOUTS[name][2] for run in runs)
    for by_rate in record["scales"].values():
        assert [float(rate) for rate in by_rate] == list(study.SCALE_RATES)
        assert all(len(runs) == len(study.SCALE_SEEDS) for runs in by_rate.values())


def test_attention_is_the_books():
    assert study.attention is attention
