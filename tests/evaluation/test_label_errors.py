"""Labels that look wrong: the rule of confident learning, by hand and on planted errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.evaluation_file import CrossFittedPredictions
from flowgmm_cli.evaluation.label_errors import (
    class_thresholds,
    find_label_errors,
    load_label_errors,
    suggest_classes,
)
from flowgmm_cli.runs import Run


def predictions(p: np.typing.NDArray[np.float64], labels: list[int]) -> CrossFittedPredictions:
    """Predictions for rows called 0, 1, ... with classes a, b, ..."""
    count = np.arange(len(p))
    return CrossFittedPredictions(
        hashes=count.astype(np.uint64),
        labels=np.array(labels),
        predictions=p.argmax(1),
        log_probability=np.log(p[count, labels]),
        class_names=tuple("abc"[: p.shape[1]]),
        log_probabilities=np.log(p),
        rows=count,
        folds=count % 2,
        ids=tuple(map(str, count)),
    )


def test_a_label_looks_wrong_if_another_class_reaches_its_threshold() -> None:
    a = np.array([0.9, 0.8, 0.1, 0.4, 0.2, 0.45])
    labels = [0, 0, 0, 1, 1, 1]
    p = np.stack([a, 1 - a], axis=1)
    np.testing.assert_allclose(class_thresholds(p, np.array(labels)), [0.6, 0.65])  # by hand
    # row 2 is surely a b; no class of rows 3 and 5 reaches its threshold
    assert suggest_classes(p, np.array(labels)).tolist() == [-1, -1, 1, -1, -1, -1]
    errors = find_label_errors(predictions(p, labels))  # too few labels for another calibration
    (row,) = errors.to_dicts()
    assert (row["id"], row["label"], row["suggested"]) == ("2", "a", "b")
    assert (row["p_label"], row["p_suggested"]) == (pytest.approx(0.1), pytest.approx(0.9))
    assert errors.share == pytest.approx(1 / 6)


def test_planted_errors_come_first() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    logits = 3 * np.eye(3)[truth] + rng.normal(size=(300, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = truth.copy()
    labels[:60] = (truth[:60] + rng.integers(1, 3, 60)) % 3
    errors = find_label_errors(predictions(p, labels.tolist()))
    wrong = np.isin(errors.places, np.arange(60))
    assert wrong.sum() >= 50
    assert wrong.mean() > 0.8
    assert wrong[:30].all()
    assert (errors.suggested[wrong] == truth[errors.places[wrong]]).all()
    assert (np.diff(errors.table()["p_label"]) >= 0).all()
    assert len(errors.first(7)) == 7


def test_uncertain_predictions_are_calibrated_to_the_right_classes() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(300) % 3
    logits = 4 * np.eye(3)[truth] + 1.5 * rng.normal(size=(300, 3))
    wrong = np.arange(300) < 60
    labels = np.where(wrong, (truth + rng.integers(1, 3, 300)) % 3, truth)
    p = np.exp(0.3 * logits)  # as a calibration to these labels makes them
    p /= p.sum(1, keepdims=True)
    at_first = suggest_classes(p, labels) >= 0
    errors = find_label_errors(predictions(p, labels.tolist()))
    assert wrong[errors.places].sum() > at_first[wrong].sum()
    assert wrong[errors.places].sum() >= 50
    assert wrong[errors.places].mean() > 0.85
    assert np.median(errors.table()["p_suggested"]) > 0.8 > np.median(p.max(1)[errors.places])


def test_a_class_without_labels_is_never_suggested() -> None:
    p = np.array([[0.2, 0.1, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    errors = find_label_errors(predictions(p, [0, 0, 1, 1]))
    assert len(errors) == 0


def test_a_run_without_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not seen") as error:
        load_label_errors(Run(tmp_path))
    assert "calibration.on=cross_fit" in str(error.value.hint)
