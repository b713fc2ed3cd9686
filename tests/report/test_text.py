"""Results in plain words say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.evaluation.baselines import BaselineResult
from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.evaluation.metrics import ClassificationMetrics, classification_metrics, log_probabilities
from flowgmm_cli.evaluation.reliability import expected_calibration_error
from flowgmm_cli.report import text as words


def metrics(right: int, n: int, confidence: float) -> ClassificationMetrics:
    """Two classes; all answers at one confidence."""
    labels = np.zeros(n, dtype=int)
    said = np.zeros(n, dtype=int)
    said[right:] = 1
    p = np.full((n, 2), 1 - confidence)
    p[np.arange(n), said] = confidence
    return classification_metrics(log_probabilities(p), labels, class_names=["a", "b"])


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [
        (0.8, "as high as it should be"),
        (0.95, "too sure of itself by 15.0 points"),
        (0.6, "too modest by 20.0"),
    ],
)
def test_the_verdict_on_confidence_has_the_right_sign(confidence: float, verdict: str) -> None:
    assert verdict in words.how_sure(metrics(80, 100, confidence))


def test_a_baseline_that_is_better_is_said_to_be() -> None:
    one = BaselineResult(0.9, 0.9, 0.9, 0.1, 0.1, 1.0)
    text = words.against_baselines(Evaluation("test", metrics(80, 100, 0.8), 0.0, {"knn": one}))
    assert "kNN did best with 90.0 %; this model has 10.0 points less." in text
    assert "chance" not in text
    near = BaselineResult(0.82, 0.9, 0.9, 0.1, 0.1, 1.0)
    text = words.against_baselines(Evaluation("test", metrics(80, 100, 0.8), 0.0, {"mlp": near}))
    assert "may be chance" in text
    assert words.against_baselines(Evaluation("test", metrics(80, 100, 0.8), 0.0)) == ""


def test_the_error_that_chance_makes_is_that_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=400)
    found = []
    for _ in range(200):
        right = rng.random(400) < confidence
        found.append(expected_calibration_error(confidence, right, bins=15))
    labels = np.where(rng.random(400) < confidence, 0, 1)
    p = np.stack([confidence, 1 - confidence], axis=1)
    one = classification_metrics(log_probabilities(p), labels)
    assert words.chance_ece(one) == pytest.approx(np.mean(found), rel=0.1)


def test_the_weakest_class_and_the_commonest_mistake_are_named() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    said = np.array([0] * 9 + [1] + [1] * 6 + [0] * 4)
    one = classification_metrics(
        log_probabilities(np.eye(2)[said] * 0.8 + 0.1), labels, class_names=["a", "b"]
    )
    text = words.weak_spots(one)
    assert "`b`: 60.0 % of its 10 rows" in text
    assert "take `b` for `a` (4 rows)" in text


def test_labels_beyond_the_budget_and_few_test_rows_are_stated() -> None:
    info = {"val_labels": True, "rows": {"val_labelled": 7}}
    said = words.caveats(info, Evaluation("test", metrics(8, 10, 0.8), 0.0), {"inexact_density": ["why"]})
    assert [any(part in one for one in said) for part in ("7 validation labels", "10 test rows", "why")] == [
        True
    ] * 3
