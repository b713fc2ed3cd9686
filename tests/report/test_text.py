"""Results in plain words agree with the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.evaluation.calibration import calibration_error, reliability_table
from flowgmm_cli.evaluation.metrics import Evaluation, classification_metrics, log_probabilities
from flowgmm_cli.report.text import chance_ece, describe_confidence, describe_weaknesses, list_caveats


def evaluate(correct: int, n: int, confidence: float) -> Evaluation:
    """Two classes; all predictions have the same confidence."""
    predictions = (np.arange(n) >= correct).astype(int)
    p = np.full((n, 2), 1 - confidence)
    p[np.arange(n), predictions] = confidence
    labels = np.zeros(n, dtype=int)
    return Evaluation("test", classification_metrics(log_probabilities(p), labels, ["a", "b"]), 0.0)


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [
        (0.8, "its confidence is right"),
        (0.95, "overconfident by 15.0 points"),
        (0.6, "underconfident by 20.0"),
    ],
)
def test_the_verdict_on_confidence_has_the_right_sign(confidence: float, verdict: str) -> None:
    assert verdict in describe_confidence(evaluate(80, 100, confidence))


def test_the_ece_by_chance_is_that_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=400)
    errors = [
        calibration_error(reliability_table(confidence, rng.random(400) < confidence)) for _ in range(200)
    ]
    labels = np.where(rng.random(400) < confidence, 0, 1)
    p = np.stack([confidence, 1 - confidence], axis=1)
    metrics = classification_metrics(log_probabilities(p), labels)
    assert chance_ece(metrics) == pytest.approx(np.mean(errors), rel=0.1)


def test_the_weakest_class_and_the_most_frequent_mistake_are_named() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    predictions = np.array([0] * 9 + [1] + [1] * 6 + [0] * 4)
    p = log_probabilities(np.eye(2)[predictions] * 0.8 + 0.1)
    text = describe_weaknesses(classification_metrics(p, labels, class_names=["a", "b"]))
    assert "`b`: 60.0 % of its 10 rows" in text
    assert "take `b` for `a` (4 rows)" in text


def test_caveats_name_extra_labels_few_test_rows_and_an_inexact_density() -> None:
    warnings = [{"kind": "uninformative", "text": "a warning"}]
    info = {"val_labels": True, "rows": {"val_labelled": 7}, "warnings": warnings}
    expected = ["A warning.", "All 10 labelled test rows", "10 test rows", "7 validation labels", "a reason"]
    caveats = list_caveats(info, evaluate(8, 10, 0.8), {"inexact_density": ["a reason"]})
    for text, caveat in zip(expected, caveats, strict=True):
        assert text in caveat
