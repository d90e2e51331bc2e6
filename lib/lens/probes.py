"""Probes: what can be read from states by a linear map, and what that is worth.

Logistic regression is scikit-learn's. Here is what keeps its score honest: folds that
split no group, control tasks, and the length of the labels' code. What a direction
*does* in the model lives in `causal`.
"""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lib import checks

# The inverse of the penalty on squared weights of scaled states: small, since a probe of
# some hundred words has more weights than words.
STRENGTH = 0.01


def fitted(X, y, strength: float = STRENGTH) -> Pipeline:
    """A linear probe: states (N, D), scaled to variance 1, to labels (N,).

    Its `predict` and `predict_proba` are scikit-learn's.

    Raises ValueError for states that are not (N, D), of another number than the labels
    or not finite, and for labels of one class alone.
    """
    X, y = _checked(X, y)
    probe = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
    return make_pipeline(StandardScaler(), probe).fit(X, y)


def held_out(
    X, y, groups: Sequence[Hashable], folds: int = 5, strength: float = STRENGTH
) -> np.ndarray:
    """What a probe says of each row that was fitted without the row's group: (N,).

    `groups` (N,) names what must not stand on both sides: the sentence of a word, the
    picture of a patch. Raises ValueError as `fitted`, also where a fold leaves one class,
    and for fewer groups than folds.
    """
    X, y = _checked(X, y)
    owner = np.unique([str(group) for group in groups], return_inverse=True)[1]
    if len(owner) != len(y):
        raise ValueError(f"groups: got {len(owner)} entries, wants one a row, {len(y)}")
    checks.whole("folds", folds, 2)
    if owner.max() + 1 < folds:
        raise ValueError(
            f"groups: got {owner.max() + 1} different ones, wants at least one for "
            f"each of {folds} folds"
        )
    found = np.empty_like(y)
    cut = GroupKFold(folds, shuffle=True, random_state=0)
    for train, test in cut.split(X, y, owner):
        found[test] = fitted(X[train], y[train], strength).predict(X[test])
    return found


def control(y, types: Sequence[Hashable], seed: int = 0) -> np.ndarray:
    """A control task: one label for each *type*, drawn by lot, as often as in `y`.

    All rows of a type (the same word, say) have the same label, so the labels can be
    learned by heart and in no other way. Raises ValueError for another number of types.
    Source: Hewitt and Liang (2019), arXiv:1909.03368.
    """
    y, names = np.asarray(y), [*types]
    if len(names) != len(y):
        raise ValueError(f"types: got {len(names)} entries, wants one a row, {len(y)}")
    rng = np.random.default_rng(seed)
    lot = {name: y[rng.integers(len(y))] for name in dict.fromkeys(names)}
    return np.array([lot[name] for name in names], y.dtype)


class Score(NamedTuple):
    """Shares of rows that are right: of the task, and of each control task."""

    task: float
    controls: tuple[float, ...]

    @property
    def selectivity(self) -> float:
        """The task's share less the mean of the controls'."""
        return self.task - float(np.mean(self.controls))


def selectivity(
    X,
    y,
    types: Sequence[Hashable],
    groups: Sequence[Hashable],
    *,
    seeds: int = 3,
    folds: int = 5,
    strength: float = STRENGTH,
) -> Score:
    """The task and `seeds` control tasks by the same probe in the same folds.

    Raises as `held_out` and `control`.
    """
    checks.whole("seeds", seeds)
    y = np.asarray(y)
    asked = [y, *(control(y, types, seed) for seed in range(seeds))]
    task, *others = (
        float((held_out(X, one, groups, folds, strength) == one).mean())
        for one in asked
    )
    return Score(task, tuple(others))


# --- Minimum description length --------------------------------------------------

PORTIONS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0)  # about those of the source


class Code(NamedTuple):
    """Bits that the labels cost, sent in portions; and without any probe."""

    bits: float
    uniform: float

    @property
    def compression(self) -> float:
        """How many times shorter than N log₂ K: above 1, the states help."""
        return self.uniform / self.bits


def online_code(
    X, y, portions: Sequence[float] = PORTIONS, strength: float = STRENGTH
) -> Code:
    """The length of the labels' online code, in the order of the rows.

    Both sides have the states. The first portion of labels is sent at log₂ K bits each;
    every later one by a probe that was fitted on all before it. A class that has not
    come yet has the share of one label among those seen. Rows of one group stand side
    by side, and groups in an order drawn beforehand.

    Raises ValueError as `fitted`; for portions that do not rise to 1; and where the
    first one holds a single class.
    Source: Voita and Titov (2020), arXiv:2003.12298, section 2.2.
    """
    X, y = _checked(X, y)
    if [*portions] != sorted({*portions}) or portions[-1] != 1 or portions[0] <= 0:
        raise ValueError(f"portions: got {portions}, wants shares that rise to 1")
    classes, codes = np.unique(y, return_inverse=True)
    N, K = len(y), len(classes)
    ends = [round(share * N) for share in portions]
    if len(set(codes[: ends[0]])) < 2:
        raise ValueError(
            f"portions: the first {ends[0]} labels are of one class, or none"
        )
    bits = ends[0] * np.log2(K)
    for start, end in pairwise(ends):
        probe = fitted(X[:start], codes[:start], strength)
        shares = np.full((end - start, K), 1 / start)
        shares[:, probe.classes_] += probe.predict_proba(X[start:end])
        shares /= shares.sum(1, keepdims=True)
        bits -= np.log2(shares[np.arange(end - start), codes[start:end]]).sum()
    return Code(float(bits), float(N * np.log2(K)))


# --- Directions ------------------------------------------------------------------


def direction(probe: Pipeline) -> Tensor:
    """The unit vector (D,) of the states along which a probe of two classes rises.

    It points to the second of `probe.classes_`. Raises ValueError for more classes.
    """
    scale, linear = probe[0].scale_, probe[-1]
    if len(linear.classes_) != 2:
        raise ValueError(f"probe: got {len(linear.classes_)} classes, wants 2")
    found = torch.tensor(linear.coef_[0] / scale, dtype=torch.float32)
    return found / found.norm()


def between_means(X, y) -> Tensor:
    """The unit vector (D,) from the mean of the first class to that of the second.

    Raises ValueError as `fitted`, and for more than two classes.
    """
    X, y = _checked(X, y)
    if len(classes := np.unique(y)) != 2:
        raise ValueError(f"y: got {len(classes)} classes, wants 2")
    found = X[y == classes[1]].mean(0) - X[y == classes[0]].mean(0)
    return torch.tensor(found / np.linalg.norm(found), dtype=torch.float32)


def _checked(X, y) -> tuple[np.ndarray, np.ndarray]:
    X, y = checks.array(X), np.asarray(y)
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise ValueError(
            f"X, y: got shapes {X.shape} and {y.shape}, wants (N, D) and (N,)"
        )
    if not np.isfinite(X).all():
        raise ValueError("X: a number is not finite")
    if len(names := np.unique(y).tolist()) < 2:
        labels = f"all {len(y)} labels are {names[0]!r}" if names else "there are none"
        raise ValueError(f"y: a probe tells classes apart, and {labels}")
    return X, y
