"""train.scaling: the fits find what was put in, and a tiny study end to end."""

import itertools
import math
from types import SimpleNamespace

import pytest

from lib import weights
from train import scaling as study

LAW = {"E": 1.2, "A": 30.0, "alpha": 0.4, "B": 80.0, "beta": 0.45}


def short_text():
    text = "".join(f"line {i}: {'abc' * (i % 7)}\n" for i in range(700))
    about = {"name": "lines", "source": "here", "licence": "none", "is_full": False}
    return SimpleNamespace(rows=[{"content": text}], **about)


def rows(noise=0.0):
    sizes, budgets = (2e4, 8e4, 3e5, 1e6, 3e6), (2.5e5, 1e6, 4e6)
    return [
        {
            "weights": N,
            "tokens": D,
            "judged": study.predicted(LAW, N, D) + noise * (-1) ** i,
        }
        for i, (N, D) in enumerate(itertools.product(sizes, budgets))
    ]


def test_the_law_is_found_again():
    found = study.law(rows())
    for N, D in itertools.product((5e4, 2e6), (5e5, 2e6)):
        wants = study.predicted(LAW, N, D)
        assert study.predicted(found, N, D) == pytest.approx(wants, rel=0.01)
    with pytest.raises(ValueError, match=r"^rows: got 5 runs, wants at least 6"):
        study.law(rows()[:5])


def test_the_best_size_is_where_the_law_is_lowest():
    for C in (1e12, 1e14):
        best = study.best_size(LAW, C)
        at = study.predicted(LAW, best, C / 6 / best)
        for factor in (0.8, 1.25):
            N = best * factor
            assert study.predicted(LAW, N, C / 6 / N) > at
    assert study.best_size(LAW, 1e14) > study.best_size(LAW, 1e12)


def test_a_parabola_has_a_lowest_point_inside_or_none():
    def some(middle):
        return [
            {"weights": N, "judged": 1 + 0.1 * math.log(N / middle) ** 2}
            for N in (1e4, 1e5, 1e6)
        ]

    found = study.parabola(some(2e5))
    assert found["inside"] and found["weights"] == pytest.approx(2e5, rel=1e-6)
    assert study.parabola(some(1e7))["weights"] is None
    down = [{"weights": N, "judged": -(math.log(N) ** 2)} for N in (1e4, 1e5, 1e6)]
    assert not study.parabola(down)["inside"]


def test_a_tiny_study(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    for name, value in {
        "SIZES": ((8, 2, 1), (16, 2, 1), (16, 2, 2)),
        "BUDGETS": (512, 1024),
        "SEEDS": range(1),
        "BATCH": 1,
    }.items():
        monkeypatch.setattr(study, name, value)
    ran, run = [], study.run
    monkeypatch.setattr(study, "run", lambda *a: ran.append(a[:2]) or run(*a))
    monkeypatch.setattr(study, "tiny_shakespeare", short_text)
    given = ["--embedded", "--folder", str(tmp_path / "state")]
    study.main(given)
    (name,) = weights.names()
    found = weights.trace(name)
    assert len(found["rows"]) == len(ran) == 6
    for row, (size, budget) in zip(found["rows"], ran, strict=True):
        assert row["tokens"] == budget and row["d_model"] == size[0]
        assert row["weights"] == 12 * size[0] ** 2 * size[2]
        assert 1 < row["judged"] < 6 and 0 < row["passes"] < 1
    study.main(given)
    assert len(ran) == 6


def test_the_shipped_law_is_that_of_the_shipped_runs():
    if study.NAME not in weights.names():
        pytest.skip("not recorded yet")
    trace = weights.trace(study.NAME)
    sizes = [(row["d_model"], row["layers"], row["seed"]) for row in trace["rows"]]
    wants = itertools.product(study.SEEDS, study.SIZES, study.BUDGETS)
    assert sizes == [(D, layers, seed) for seed, (D, _, layers), _ in wants]
    again = study.law(trace["rows"])
    for row in trace["rows"]:
        N, D = row["weights"], row["tokens"]
        found = study.predicted(trace["law"], N, D)
        assert found == pytest.approx(study.predicted(again, N, D), abs=2e-3)
        assert abs(row["judged"] - found) < 0.5
