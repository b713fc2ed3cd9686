"""The model beside the baselines: the same rows, each held out once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from flowgmm_cli.api import Component, Config
from flowgmm_cli.baselines import linear
from flowgmm_cli.baselines.base import ChoosesSettings
from flowgmm_cli.baselines.run import ComparedRows, compare_with_baselines, predict_baselines
from flowgmm_cli.baselines.specs import SPECS
from flowgmm_cli.evaluation.cross_validation import assign_folds
from flowgmm_cli.evaluation.evaluation_file import CrossFittedPredictions, StoredPredictions
from flowgmm_cli.evaluation.metrics import Evaluation, classification_metrics
from flowgmm_cli.plugins.registry import registry

CLASSES = tuple("0123456789")


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """200 rows, 80 of them with a label in 4 folds: rows, true classes, folds."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:200]
    folds = np.full(200, -1)
    folds[:80] = assign_folds(y[order][:80], 4, rng=np.random.default_rng(1))
    return (x[order] / 16).astype(np.float32), y[order], folds


def test_held_out_rows_are_predicted_without_their_labels(digits: Any) -> None:
    x, y, folds = digits
    labels = np.where(folds >= 0, y, -1)
    work = {"classes": 10, "seed": 0, "folds": folds, "names": ["logistic_regression"]}
    result = predict_baselines(x, labels, x[100:], **work)["logistic_regression"]
    baseline = linear.LogisticRegression(Config(), classes=10, seed=0)
    baseline.fit(x, labels)
    for fold in range(4):
        fitted, own = (folds >= 0) & (folds != fold), folds == fold
        strength = baseline.settings_without(np.flatnonzero(own))["C"]
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
        expected = model.fit(x[fitted], y[fitted]).predict_proba(x[own])
        np.testing.assert_allclose(result.cross_fitted[own[:80]], expected, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "mlp")) for name in SPECS]
)
def test_settings_of_a_fold_are_chosen_by_the_labels_of_the_others(digits: Any, name: str) -> None:
    x, y, folds = digits
    labels = np.where(folds >= 0, y, -1)
    baseline = registry().build(
        Component(kind="baseline", use=name, config=SPECS[name].config()), classes=10, seed=0
    )
    assert isinstance(baseline, ChoosesSettings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        baseline.fit(x, labels)
        chosen = dict(baseline.settings)
        again = baseline.settings_without(np.empty(0, dtype=np.intp))
        assert again.items() <= chosen.items()  # no label is left out
        everything = baseline.settings_without(np.flatnonzero(labels >= 0))
        baseline.fit(x, labels, {**again, **everything})  # the default of a search without labels
    assert baseline.predict_proba(x[:5]).shape == (5, 10)


def stored(y: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    predictions = np.where(right, y, (y + 1) % 10)
    hashes = np.zeros(len(y), dtype=np.uint64)
    common = {"hashes": hashes, "labels": y, "predictions": predictions, "class_names": CLASSES}
    return {**common, "log_probability": np.log(np.where(right, 0.9, 0.05))}


def compare(digits: Any, split: str, cross_fitted: Any, held_out: Any, names: list[str]) -> Evaluation:
    x, y, folds = digits
    x_held_out = x[100:] if held_out else x[:0]
    compared = ComparedRows(x, np.where(folds >= 0, y, -1), cross_fitted, x_held_out, held_out)
    metrics = classification_metrics(np.log(np.full((2, 10), 0.1)), np.array([0, 1]))
    return compare_with_baselines(Evaluation(split, metrics, None), compared, classes=10, seed=0, names=names)


@pytest.mark.parametrize(("split", "counted"), [("test", 180), ("val", 80), ("cross_fitted", 80)])
def test_every_held_out_label_counts_once_and_those_of_validation_do_not(
    digits: Any, split: str, counted: int
) -> None:
    _, y, folds = digits
    rows = np.flatnonzero(folds >= 0)
    cross_fitted = CrossFittedPredictions(
        **stored(y[:80], np.ones(80, dtype=bool)),
        log_probabilities=np.zeros((80, 10)), rows=rows, folds=folds[rows], ids=("",) * 80,
    )  # fmt: skip
    held_out = None if split == "cross_fitted" else StoredPredictions(**stored(y[100:], y[100:] > 4))
    names = ["knn", "logistic_regression"]
    result = compare(digits, split, cross_fitted, held_out, names)
    assert list(result.baselines) == names
    assert result.verdict.n == counted
    for baseline in result.baselines.values():
        cross = baseline.cross_fitted
        assert cross.difference.difference == pytest.approx(cross.accuracy - 1)
        if held_out is None:
            assert baseline.accuracy == cross.accuracy
        else:
            model = (y[100:] > 4).mean()
            assert baseline.difference.difference == pytest.approx(baseline.accuracy - model)


def test_without_labels_that_were_held_out_there_is_no_verdict(digits: Any) -> None:
    _, y, _ = digits
    held_out = StoredPredictions(**stored(y[100:], y[100:] > 4))
    result = compare(digits, "val", None, held_out, ["knn"])
    assert result.verdict is None
    assert result.baselines["knn"].cross_fitted is None
