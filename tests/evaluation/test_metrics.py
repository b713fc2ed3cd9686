from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from flowgmm_cli.evaluation.metrics import (
    classification_metrics,
    confusion_matrix,
    log_probabilities,
    macro_f1,
    mean_recall,
    resample_confusion,
)

Array = npt.NDArray[Any]


def problem(seed: int, n: int = 300, classes: int = 4, sharpness: float = 2.0) -> tuple[Array, Array]:
    """Log-probabilities that are right more often than not, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = sharpness * (rng.normal(size=(n, classes)) + np.eye(classes)[labels])
    return logits - np.log(np.exp(logits).sum(1, keepdims=True)), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 4, 10])
def test_every_metric_agrees_with_scikit_learn(seed: int, classes: int) -> None:
    log_p, labels = problem(seed, classes=classes)
    result = classification_metrics(log_p, labels)
    p, predictions = np.exp(log_p), log_p.argmax(1)
    assert result.n == len(labels)
    assert result.accuracy == pytest.approx(reference.accuracy_score(labels, predictions))
    assert result.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predictions))
    assert result.macro_f1 == pytest.approx(reference.f1_score(labels, predictions, average="macro"))
    assert result.nll == pytest.approx(reference.log_loss(labels, p, labels=range(classes)))
    expected = reference.precision_recall_fscore_support(labels, predictions, labels=range(classes))
    for row, (precision, recall, f1, support) in zip(
        result.per_class, zip(*expected, strict=True), strict=True
    ):
        assert (row.precision, row.recall, row.f1) == pytest.approx((precision, recall, f1))
        assert row.support == support
    confusion = reference.confusion_matrix(labels, predictions, labels=range(classes))
    assert np.array_equal(result.confusion, confusion)


def test_brier_agrees_with_scikit_learn_for_two_classes_and_with_its_definition_for_more() -> None:
    log_p, labels = problem(0, classes=2)
    # scikit-learn counts one of two classes
    assert classification_metrics(log_p, labels).brier == pytest.approx(
        2 * reference.brier_score_loss(labels, np.exp(log_p[:, 1]))
    )
    by_hand = classification_metrics(np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]), np.array([0, 2])).brier
    assert by_hand == pytest.approx((0.25 + 0.09 + 0.04 + 0.01 + 0.64 + 0.81) / 2)


def test_absent_classes_are_left_out_as_scikit_learn_leaves_them_out() -> None:
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    confusion = confusion_matrix(labels, predictions, 5)
    assert mean_recall(confusion) == pytest.approx(0.75)
    expected = reference.f1_score(labels, predictions, average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(expected)


def test_a_never_predicted_and_a_never_seen_class_score_zero_without_a_warning() -> None:
    result = classification_metrics(np.log([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1]]), np.array([0, 1]))
    assert [row.f1 for row in result.per_class] == pytest.approx([2 / 3, 0, 0])
    assert [row.support for row in result.per_class] == [1, 1, 0]
    assert [row.predicted for row in result.per_class] == [2, 0, 0]


def test_a_confident_mistake_keeps_its_full_likelihood() -> None:
    result = classification_metrics(np.array([[0.0, -5000.0]]), np.array([1]))
    assert result.nll == 5000
    assert result.brier == 2


def test_log_probabilities_scale_and_bound_as_log_loss_does() -> None:
    p, labels = np.array([[2.0, 2.0], [1.0, 0.0]]), np.array([0, 1])
    log_p = log_probabilities(p)
    assert log_p[0] == pytest.approx(np.log([0.5, 0.5]))
    expected = reference.log_loss(labels, [[0.5, 0.5], [1.0, 0.0]])
    assert classification_metrics(log_p, labels).nll == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), classes=st.integers(2, 6))
def test_results_stay_in_range_and_do_not_depend_on_the_order_of_rows(
    seed: int, n: int, classes: int
) -> None:
    log_p, labels = problem(seed, n=n, classes=classes)
    result = classification_metrics(log_p, labels, resamples=20)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "adaptive_ece"):
        assert 0 <= getattr(result, name) <= 1
        if name in result.intervals:
            assert 0 <= result.intervals[name].low <= result.intervals[name].high <= 1
    order = np.random.default_rng(seed).permutation(n)
    again = classification_metrics(log_p[order], labels[order], resamples=20)
    assert again.confusion == result.confusion
    assert again.nll == pytest.approx(result.nll)
    assert again.ece == pytest.approx(result.ece)


def test_to_dict_is_plain_json_with_class_names() -> None:
    log_p, labels = problem(0)
    names = ["Spörts", "b", "c", "d"]
    result = json.loads(json.dumps(classification_metrics(log_p, labels, class_names=names).to_dict()))
    assert [row["name"] for row in result["per_class"]] == names
    assert set(result["intervals"]) == {"accuracy", "balanced_accuracy", "macro_f1"}
    assert sum(row["count"] for row in result["reliability"]) == result["n"] == 300


@pytest.mark.parametrize(
    ("log_p", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "N > 0"),
        (np.zeros((2, 2)), np.zeros(3, int), "labels"),
        (np.zeros(2), np.zeros(2, int), "need scores"),
        (np.array([[np.nan, 0.0]]), np.zeros(1, int), "NaN"),
        (np.zeros((1, 2)), np.array([-1]), r"0\.\.1"),
        (np.zeros((1, 2)), np.array([2]), r"0\.\.1"),
    ],
)
def test_input_that_does_not_fit_is_refused(log_p: Array, labels: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_metrics(log_p, labels)


def test_resampled_confusions_keep_the_number_of_rows_and_the_shares() -> None:
    confusion = np.array([[50, 10], [0, 40]])
    draws = resample_confusion(confusion, rng=np.random.default_rng(0), resamples=4000)
    assert draws.shape == (4000, 2, 2)
    assert (draws.sum((1, 2)) == 100).all()
    assert (draws[:, 1, 0] == 0).all()
    np.testing.assert_allclose(draws.mean(0), confusion, atol=0.4)
    np.testing.assert_allclose(draws.var(0), confusion * (1 - confusion / 100), rtol=0.1)
