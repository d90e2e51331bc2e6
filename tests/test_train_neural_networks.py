"""train.neural_networks: the page's spirals, nets side by side, choices, a killed study."""

import ast

import nbformat
import pytest
import torch
import torch.nn.functional as F

from lib import weights
from train import neural_networks as study

PAGE = "notebooks/basics/neural-networks.ipynb"


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def page():
    """What the page's cells define, its imports and its functions."""
    cells = [c.source for c in nbformat.read(PAGE, 4).cells if c.cell_type == "code"]
    found = {}
    for node in ast.parse("\n".join(cells[1:])).body:
        wanted = isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)
        wanted |= isinstance(node, ast.FunctionDef)
        wanted |= ast.unparse(node).startswith(("Node.", "Value."))
        if wanted and not ast.unparse(node).startswith("def my_"):
            exec(ast.unparse(node), found)
    return found


def test_spirals_are_those_of_the_page(page):
    for n in (1, 40, 201):
        ours, theirs = (
            make(n, torch.Generator().manual_seed(n))
            for make in (study.spirals, page["spirals"])
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_seeds_of_a_setting_do_not_meet():
    """Side by side as alone: the accuracies of two seeds, and their gradients."""
    data = study.two_spirals(30, [3, 5], 20)
    how = torch.optim.SGD, 0.1, 15, 8
    both = study.run(data, [6], [3, 5], *how)
    for i, seed in enumerate((3, 5)):
        alone = study.run(tuple(x[i : i + 1] for x in data), [6], [seed], *how)
        for key in both:
            assert both[key][i] == pytest.approx(alone[key][0])


def test_a_net_is_the_pages(page):
    parameters = study.start([0], [2, 7, 5, 2], study.SIZES["as He and others"])
    x, y = study.spirals(20, torch.Generator().manual_seed(0))
    nodes = [page["Node"](p.detach()[0].squeeze(0)) for p in parameters]
    loss = page["cross_entropy"](page["net"](nodes, x), y)
    page["backward_tensors"](loss)
    ours = study.loss_of(study.forward(parameters, x[None], torch.relu), y[None])
    assert torch.allclose(ours, loss.data)
    for g, node in zip(torch.autograd.grad(ours, parameters), nodes, strict=True):
        assert torch.allclose(g.reshape(node.grad.shape), node.grad)


def test_the_loss_is_a_sum_over_seeds():
    logits, labels = torch.randn(3, 10, 2), torch.randint(2, (3, 10))
    each = [F.cross_entropy(a, b) for a, b in zip(logits, labels, strict=True)]
    assert torch.allclose(study.loss_of(logits, labels), sum(each))


def test_sizes_of_the_start():
    for size, wanted in zip(study.SIZES.values(), (1 / 300, 2 / 100), strict=True):
        w, b, *_ = study.start([0, 1], [100, 400], size)
        assert w.shape == (2, 100, 400) and not b.any()
        assert w.var().item() == pytest.approx(wanted, rel=0.05)


def test_own_words():
    x, y, x_new, _ = study.own_words(10, [0, 1], 5)
    assert x.shape == (2, 10, 78) and x_new.shape == (2, 5, 78)
    assert torch.equal(x[..., 0], 2.0 * y - 1) and (x[..., 1:3] == 1).all()
    words = torch.cat([x, x_new], 1)[..., 3:]
    assert (words.sum(1) <= 1).all()  # each occurs once
    assert torch.equal(x[..., 3:].sum(-1), torch.where(y == 1, 1.0, 5.0))


def test_unequal_features_differ_by_a_thousand():
    x, y, x_new, _ = study.unequal(2000, [0], 10)
    spread = x[0].std(0)
    assert 900 < spread[-1] / spread[0] < 1100
    assert set(y.unique().tolist()) == {0, 1} and x_new.shape == (1, 10, 20)


def test_a_run_that_is_not_finite_is_not_right():
    logits, labels = torch.tensor([[[1.0, 0]], [[float("nan"), 0]]]), torch.zeros(2, 1)
    assert study._right(logits, labels) == [1.0, 0.0]


def test_of_equals_the_middle_rate_is_chosen():
    same, less = [0.25, 0.75], [0.1, 0.2]
    assert study.best({1.0: [0.5, 0.5], 0.1: same, 10.0: less}) == 0.1
    assert study.best({10.0: same, 1.0: [0.5, 0.5], 0.1: same, 0.01: less}) == 1.0
    assert study.best({0.1: [0.5], 1.0: [0.6]}) == 1.0


def test_wrong_labels_are_in_training_only(monkeypatch):
    seen = []
    monkeypatch.setattr(study, "run", lambda data, *_, **__: seen.append(data) or {})
    study.overfit(0), study.overfit(5)
    (_, y, *new), (_, changed, *other) = seen
    assert (y != changed).sum(1).tolist() == [5] * len(study.SEEDS)
    assert all(torch.equal(a, b) for a, b in zip(new, other, strict=True))


@pytest.fixture
def tiny(monkeypatch):
    for name, value in {
        "POINTS": 12,
        "HELD_OUT": 8,
        "BATCH": 4,
        "STEPS": 3,
        "SEEDS": range(2),
        "TUNING": range(100, 102),
        "FRESH": range(2),
        "NETS": {"one linear layer": [], "ReLU, 3": [3]},
        "FEW": 10,
        "WRONG": 2,
        "LOOKS": (0, 2),
        "DEPTHS": (1, 2),
        "DEPTH_RATES": (0.1, 0.2),
        "WIDTH": 3,
        "LONGER": 2,
        "RATES": (0.1, 1.0),
        "PROBLEMS": {"two spirals": (study.two_spirals, [3], 12, 8, 4, 2)},
    }.items():
        monkeypatch.setattr(study, name, value)


def test_a_killed_study_goes_on_to_the_same_result(tiny, monkeypatch, tmp_path):
    trace = study.study(tmp_path / "whole")
    fit, calls = study.fit, []

    def dies(*arguments, **more):
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(arguments)
        return fit(*arguments, **more)

    monkeypatch.setattr(study, "fit", dies)
    with pytest.raises(KeyboardInterrupt):
        study.study(tmp_path / "killed")
    monkeypatch.setattr(study, "fit", fit)
    trace.pop("cpu_minutes")
    again = study.study(tmp_path / "killed")
    assert again.pop("cpu_minutes") >= 0 and again == trace
    monkeypatch.setattr(study, "fit", lambda *_, **__: pytest.fail("trained again"))
    again.pop("cpu_minutes", None)
    assert study.study(tmp_path / "killed") | again == study.study(tmp_path / "killed")
    assert [len(trace["overfit"]["runs"]["2"]["train"][0])] == [3]  # 0, 2, the end
    assert len(trace["depth"]["gradients"]["as nn.Linear"]) == 3  # layers


def test_the_record_is_of_these_settings():
    record, card = weights.trace("neural-networks"), weights.card("neural-networks")
    assert list(record["spirals"]) == list(study.NETS)
    assert card["config"]["optimisers"]["rates"] == list(study.RATES)
    assert list(record["depth"]["runs"]) == list(study.SIZES)
    for found in record["optimisers"].values():
        assert list(found) == list(study.OPTIMISERS)
        assert all(one["rate"] in study.RATES for one in found.values())
        assert all(len(one["held_out"]) == len(study.FRESH) for one in found.values())


# --- The engine of the page ----------------------------------------------------------------


def test_each_operation_of_the_engine_is_autograds(page):
    x = torch.randn(3, 4)
    w, b = torch.randn(4, 2), torch.randn(1, 2)
    ways = [
        lambda x, w, b: x @ w + b,
        lambda x, w, b: ((x @ w) * b).relu(),
        lambda x, w, b: (x @ w + b).tanh() * (x @ w),
        lambda x, w, b: (x @ w).log_softmax() * b,
    ]
    torch_ways = [*ways[:3], lambda x, w, b: (x @ w).log_softmax(-1) * b]
    for ours, theirs in zip(ways, torch_ways, strict=True):
        nodes = [page["Node"](v) for v in (x, w, b)]
        page["backward_tensors"](ours(*nodes).sum())
        leaves = [v.clone().requires_grad_() for v in (x, w, b)]
        wanted = torch.autograd.grad(theirs(*leaves).sum(), leaves, allow_unused=True)
        for node, g in zip(nodes, wanted, strict=True):
            assert torch.allclose(node.grad, torch.zeros(1) if g is None else g)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (3, 1), (1, 1), (), (5, 3, 2), (1,)])
def test_broadcasting_is_folded(page, shape):
    a, b = torch.randn(3, 2), torch.randn(shape)
    nodes = page["Node"](a), page["Node"](b)
    page["backward_tensors"]((nodes[0] * nodes[1]).sum())
    leaves = a.requires_grad_(), b.requires_grad_()
    (leaves[0] * leaves[1]).sum().backward()
    assert torch.allclose(nodes[0].grad, a.grad)
    assert torch.allclose(nodes[1].grad, b.grad)
    assert nodes[1].grad.shape == b.shape


def test_a_second_walk_adds_up_in_what_was_given(page):
    a = page["Value"](3.0)
    square = a * a
    for times in (1, 2, 3):
        page["backward"](square)
        assert a.grad == 6.0 * times and square.grad == 1.0
