"""lib.lens.probes: honest scores, control tasks, codes, directions."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lib.lens import probes

RNG = np.random.default_rng(0)
N, D = 240, 12


@pytest.fixture(scope="module")
def rows():
    """States that hold a class along one direction; 40 types in 60 groups."""
    y = RNG.integers(0, 2, N)
    X = RNG.normal(size=(N, D))
    X[:, 3] += 4.0 * y
    return X, y, RNG.integers(0, 40, N), np.arange(N) // 4


def test_a_probe_is_scikit_learns(rows):
    X, y, *_ = rows
    scaler = StandardScaler().fit(X)
    theirs = LogisticRegression(C=probes.STRENGTH, max_iter=200, tol=1e-3)
    theirs.fit(scaler.transform(X), y)
    ours = probes.fitted(torch.tensor(X), y)
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(scaler.transform(X)), atol=1e-6
    )


def test_no_group_stands_on_both_sides(rows):
    """Labels by lot for each group: found where a group is split, else by chance."""
    *_, groups = rows
    states = RNG.normal(size=(60, 50))[groups] + 0.01 * RNG.normal(size=(N, 50))
    y = RNG.integers(0, 2, 60)[groups]
    whole = (probes.held_out(states, y, groups, strength=1.0) == y).mean()
    split = (probes.held_out(states, y, range(N), strength=1.0) == y).mean()
    assert whole < 0.7 < 0.9 < split


def test_a_control_task_is_a_label_for_a_type(rows):
    _, y, types, _ = rows
    lot = probes.control(y, types, 1)
    assert all(len({*lot[types == t]}) == 1 for t in set(types))
    assert {*lot} == {0, 1} and (lot == probes.control(y, types, 1)).all()
    assert (lot != probes.control(y, types, 2)).any()


def test_selectivity_is_high_without_types_and_low_with_them(rows):
    X, y, types, groups = rows
    score = probes.selectivity(X, y, types, groups, seeds=2)
    assert score.task > 0.9 and len(score.controls) == 2
    assert score.selectivity == pytest.approx(score.task - np.mean(score.controls))
    names = np.eye(40)[types]  # states that are the type: all is learned by heart
    by_heart = probes.selectivity(names, y, types, groups, strength=10.0)
    assert min(by_heart.controls) > 0.9 > 0.3 > by_heart.selectivity


def test_a_code_by_hand():
    """The second half at the shares of a probe that was fitted on the first."""
    X, y = RNG.normal(size=(40, 3)), np.arange(40) % 2
    probe = probes.fitted(X[:20], y[:20])
    shares = (probe.predict_proba(X[20:]) + 1 / 20) / (1 + 2 / 20)
    bits = 20 - np.log2(shares[np.arange(20), y[20:]]).sum()
    found = probes.online_code(X, y, (0.5, 1.0))
    assert found.bits == pytest.approx(bits)
    assert found.uniform == 40
    assert found.compression == pytest.approx(40 / bits)


def test_a_code_is_short_for_what_is_there_and_not_for_lots(rows):
    X, y, *_ = rows
    code = lambda y: probes.online_code(X, y, strength=1.0).compression  # noqa: E731
    assert code(y) > 1.5
    assert code(RNG.permutation(y)) < 1.05


def test_a_class_that_comes_late_costs_bits_and_no_error():
    X = RNG.normal(size=(60, 3))
    y = np.array(["a", "b"] * 20 + ["c"] * 20)
    found = probes.online_code(X, y, (0.3, 0.6, 1.0))
    assert np.isfinite(found.bits) and found.uniform == pytest.approx(60 * np.log2(3))


def test_directions(rows):
    X, y, *_ = rows
    mean = probes.between_means(X, y)
    probe = probes.direction(probes.fitted(X, y))
    for found in (mean, probe):
        assert found.norm().item() == pytest.approx(1, abs=1e-5)
        assert found.argmax() == 3 and found[3] > 0.8
    scores = probes.fitted(X, y).decision_function(X)
    along = X @ probe.numpy()
    assert np.corrcoef(scores, along)[0, 1] == pytest.approx(1)


BAD = {
    "one class": (lambda X, y: probes.fitted(X, y * 0), "all 240 labels are 0"),
    "no labels": (lambda X, y: probes.fitted(X[:0], y[:0]), "there are none"),
    "lengths": (lambda X, y: probes.fitted(X, y[1:]), r"\(240, 12\) and \(239,\)"),
    "NaN": (lambda X, y: probes.fitted(X * np.nan, y), "not finite"),
    "axes": (lambda X, y: probes.fitted(X[None], y), r"wants \(N, D\)"),
    "few groups": (lambda X, y: probes.held_out(X, y, y), "at least one for each of 5"),
    "groups": (lambda X, y: probes.held_out(X, y, y[1:]), "wants one a row, 240"),
    "types": (lambda X, y: probes.control(y, y[1:]), "wants one a row, 240"),
    "folds": (lambda X, y: probes.held_out(X, y, range(240), 1), "folds: got 1"),
    "portions": (
        lambda X, y: probes.online_code(X, y, (0.5, 0.4, 1)),
        "wants shares that rise to 1",
    ),
    "first": (
        lambda X, y: probes.online_code(X, np.sort(y)),
        "of one class, or none",
    ),
    "classes": (
        lambda X, y: probes.direction(probes.fitted(X, np.arange(240) % 3)),
        "got 3 classes, wants 2",
    ),
    "means": (
        lambda X, y: probes.between_means(X, np.arange(240) % 3),
        "got 3 classes, wants 2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(rows, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(*rows[:2])


def test_a_fold_that_leaves_one_class_is_named():
    y = np.array([0] * 39 + [1])
    with pytest.raises(ValueError, match="all 32 labels are 0"):
        probes.held_out(RNG.normal(size=(40, 3)), y, range(40))
