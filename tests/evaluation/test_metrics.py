from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from flowgmm_cli.evaluation.metrics import Evaluation, classification_metrics, evaluate, log_probabilities

Array = npt.NDArray[Any]


def problem(seed: int, n: int = 300, classes: int = 4, sharpness: float = 2.0) -> tuple[Array, Array]:
    """Log-probabilities that are right more often than not, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = sharpness * (rng.normal(size=(n, classes)) + np.eye(classes)[labels])
    return logits - np.log(np.exp(logits).sum(1, keepdims=True)), labels


@pytest.mark.parametrize("seed", range(2))
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
    result = classification_metrics(log_probabilities(np.eye(5)[predictions]), labels)
    assert result.balanced_accuracy == pytest.approx(0.75)
    expected = reference.f1_score(labels, predictions, average="macro", zero_division=0)
    assert result.macro_f1 == pytest.approx(expected)


def test_shares_of_no_rows_are_none_and_averages_say_how_many_classes_they_have() -> None:
    labels, predictions = np.array([0, 1, 1]), np.array([0, 0, 2])
    result = classification_metrics(log_probabilities(np.eye(4)[predictions]), labels)
    rows = [(row.precision, row.recall, row.f1, row.support, row.predicted) for row in result.per_class]
    assert rows == [
        (0.5, 1.0, pytest.approx(2 / 3), 1, 2),
        (None, 0.0, 0.0, 2, 0),
        (0.0, None, 0.0, 0, 1),
        (None, None, None, 0, 0),
    ]
    assert result.averaged_over == {"balanced_accuracy": 2, "macro_f1": 3}
    assert result.describe_averages() == (
        "balanced accuracy is the mean of 2 of 4 classes, macro F1 that of 3"
    )
    assert classification_metrics(log_probabilities(np.eye(3)), np.arange(3)).describe_averages() == ""


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
    result = classification_metrics(log_p, labels)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "adaptive_ece"):
        assert 0 <= getattr(result, name) <= 1
        if name in result.intervals:
            assert 0 <= result.intervals[name].low <= result.intervals[name].high <= 1
    order = np.random.default_rng(seed).permutation(n)
    again = classification_metrics(log_p[order], labels[order])
    assert again.confusion == result.confusion
    assert again.nll == pytest.approx(result.nll)
    assert again.ece == pytest.approx(result.ece)


def test_an_evaluation_survives_json() -> None:
    log_p, labels = problem(0)
    labels[:50] = -1
    names = ["Spörts", "b", "c", "d"]
    before = evaluate("val", log_p, np.full(300, -2.0), labels, names, pixels=64)
    text = json.dumps(before.to_dict("a run"), allow_nan=False)
    after = Evaluation.from_dict(json.loads(text))
    assert after == before
    assert json.loads(text)["averaged_over"] == {"balanced_accuracy": 4, "macro_f1": 4}
    assert [row.name for row in after.classification.per_class] == names
    assert set(after.classification.intervals) == {"accuracy", "balanced_accuracy", "macro_f1"}
    assert sum(row.count for row in after.classification.reliability) == after.classification.n == 250
    assert after.bits_per_dim == pytest.approx(2 / 64 / np.log(2))
    with pytest.raises((KeyError, ValueError)):
        Evaluation.from_dict({**json.loads(text), "n": None})
    for damage in ({"n": 0}, {"metrics": {**json.loads(text)["metrics"], "accuracy": 1.5}}):
        with pytest.raises(ValueError, match="an accuracy is a share"):
            Evaluation.from_dict({**json.loads(text), **damage})


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


def test_many_classes_have_no_matrix_in_json_but_its_cells_and_intervals() -> None:
    labels = np.arange(2000)
    log_p = np.log(np.full((2000, 2000), 1 / 4000) + np.eye(2000)[(labels + (labels < 500)) % 2000] / 2)
    metrics = classification_metrics(log_p, labels)
    assert metrics.accuracy == metrics.balanced_accuracy == 0.75
    assert metrics.intervals["balanced_accuracy"].low < 0.75 < metrics.intervals["balanced_accuracy"].high
    values = Evaluation("test", metrics, 0.0).to_dict("a run")
    assert values["confusion"] is None
    assert list(values["confusion_cells"][:2]) == [(0, 1, 1), (1, 2, 1)]
    assert len(values["confusion_cells"]) == 2000


def test_intervals_of_averages_agree_with_resampled_rows() -> None:
    log_p, labels = problem(1, classes=3, sharpness=1)
    result = classification_metrics(log_p, labels)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(200):
        rows = rng.integers(0, len(labels), len(labels))
        draws.append(classification_metrics(log_p[rows], labels[rows], with_intervals=False))
    for name in ("balanced_accuracy", "macro_f1"):
        ends = np.quantile([getattr(draw, name) for draw in draws], [0.025, 0.975])
        interval = result.intervals[name]
        assert [interval.low, interval.high] == pytest.approx(ends.tolist(), abs=0.015)
        assert interval.level == 0.95
