"""Metrics of a classifier's probabilities against true labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.intervals import (
    Interval,
    confusion_bootstrap,
    percentile_interval,
    wilson_interval,
)
from flowgmm_cli.evaluation.reliability import (
    ReliabilityBin,
    expected_calibration_error,
    reliability_table,
)

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest.

    Attributes:
        name: the class.
        precision: share of the rows predicted as this class that are of it; 0 if none is.
        recall: share of the rows of this class that are predicted as it; 0 if there are none.
        f1: harmonic mean of both.
        support: rows of this class.
        predicted: rows predicted as this class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class ClassificationMetrics:
    """What `classification_metrics` finds.

    Attributes:
        n: number of rows.
        accuracy: share of right predictions.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean F1 of the classes that occur or are predicted.
        nll: mean negative log-probability of the true class, in nats.
        brier: mean squared distance between probabilities and the one-hot truth, 0..2.
        ece: expected calibration error, 15 bins of equal width.
        adaptive_ece: the same with bins of equally many rows.
        per_class: a row for each class.
        confusion: `confusion[i][j]` rows of class i predicted as class j.
        reliability: the bins behind `ece`.
        intervals: confidence intervals by metric name.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    nll: float
    brier: float
    ece: float
    adaptive_ece: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[ReliabilityBin, ...]
    intervals: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scalars = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        return {
            **scalars,
            "per_class": [row.to_dict() for row in self.per_class],
            "confusion": [list(row) for row in self.confusion],
            "reliability": [row.to_dict() for row in self.reliability],
            "intervals": {name: interval.to_dict() for name, interval in self.intervals.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ClassificationMetrics:
        """Restore what `to_dict` gave; other keys are ignored. Raises `KeyError` or `TypeError` otherwise."""
        scalars = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "adaptive_ece")
        return cls(
            n=int(value["n"]),
            **{name: float(value[name]) for name in scalars},
            per_class=tuple(ClassMetrics(**row) for row in value["per_class"]),
            confusion=tuple(tuple(int(count) for count in row) for row in value["confusion"]),
            reliability=tuple(ReliabilityBin(**row) for row in value["reliability"]),
            intervals={name: Interval(**one) for name, one in value["intervals"].items()},
        )


def classification_metrics(
    log_probabilities: FloatArray,
    labels: IntArray,
    *,
    class_names: Sequence[str] | None = None,
    bins: int = 15,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> ClassificationMetrics:
    """Evaluate log-probabilities `(N, K)` against labels `(N,)` in `0..K-1`.

    Logarithms, because the likelihood of a confident mistake would be lost in a probability of 0; from
    probabilities use `log_probabilities`.

    Args:
        log_probabilities: rows whose exponentials sum to 1.
        labels: true classes.
        class_names: names for `per_class`; default the indices.
        bins: number of calibration bins.
        level: coverage of the intervals.
        resamples: bootstrap draws behind the intervals of balanced accuracy and macro-F1; 0 leaves them out.
        seed: of the bootstrap.

    Raises:
        ValueError: no rows, or shapes or values that do not fit.
    """
    log_p = np.asarray(log_probabilities, dtype=np.float64)
    labels = np.asarray(labels)
    check(log_p, labels)
    n, classes = log_p.shape
    p = np.exp(log_p)
    predictions = log_p.argmax(1)
    correct = predictions == labels
    confidence = p.max(1)
    confusion = confusion_matrix(labels, predictions, classes)
    precision, recall, f1 = precision_recall_f1(confusion)
    names = [str(k) for k in range(classes)] if class_names is None else list(class_names)
    support, predicted = confusion.sum(1), confusion.sum(0)
    intervals = {"accuracy": wilson_interval(int(correct.sum()), n, level=level)}
    if resamples:
        draws = confusion_bootstrap(confusion, rng=np.random.default_rng(seed), resamples=resamples)
        intervals["balanced_accuracy"] = percentile_interval(balanced_accuracy(draws), level=level)
        intervals["macro_f1"] = percentile_interval(macro_f1(draws), level=level)
    return ClassificationMetrics(
        n=n,
        accuracy=float(correct.mean()),
        balanced_accuracy=float(balanced_accuracy(confusion)),
        macro_f1=float(macro_f1(confusion)),
        nll=nll(log_p, labels),
        brier=brier(p, labels),
        ece=expected_calibration_error(confidence, correct, bins=bins),
        adaptive_ece=expected_calibration_error(confidence, correct, bins=bins, binning="mass"),
        per_class=tuple(
            ClassMetrics(
                names[k],
                float(precision[k]),
                float(recall[k]),
                float(f1[k]),
                int(support[k]),
                int(predicted[k]),
            )
            for k in range(classes)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        reliability=tuple(reliability_table(confidence, correct, bins=bins)),
        intervals=intervals,
    )


def check(scores: FloatArray, labels: IntArray) -> None:
    """Raise ValueError unless `scores` is `(N, K)`, N > 0, without NaN, and `labels` `(N,)` in `0..K-1`."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"need scores (N, K) and labels (N,), N > 0; got {scores.shape} and {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels must lie in 0..{scores.shape[1] - 1}, got {labels.min()}..{labels.max()}")


def log_probabilities(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """Logarithms of probabilities `(N, K)`, which are first scaled to sum 1 and kept above 2.2e-16.

    scikit-learn's `log_loss` uses the same bound.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    p = p / p.sum(1, keepdims=True)
    result: npt.NDArray[np.float64] = np.log(np.clip(p, np.finfo(np.float64).eps, 1.0))
    return result


def confusion_matrix(labels: IntArray, predictions: IntArray, classes: int) -> npt.NDArray[np.int64]:
    """Counts `(K, K)`, true class by predicted class."""
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def precision_recall_f1(
    confusion: IntArray,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Per class, of confusion matrices `(..., K, K)`: three arrays `(..., K)`; a share of nothing is 0."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return (
        right / np.maximum(predicted, 1),
        right / np.maximum(support, 1),
        2 * right / np.maximum(predicted + support, 1),
    )


def balanced_accuracy(confusion: IntArray) -> npt.NDArray[np.float64]:
    """Mean recall over the classes that occur, of confusion matrices `(..., K, K)`: shape `(...)`."""
    _, recall, _ = precision_recall_f1(confusion)
    occurs = confusion.sum(-1) > 0
    return np.asarray(recall.sum(-1) / np.maximum(occurs.sum(-1), 1))


def macro_f1(confusion: IntArray) -> npt.NDArray[np.float64]:
    """Mean F1 over the classes that occur or are predicted, of matrices `(..., K, K)`: shape `(...)`."""
    _, _, f1 = precision_recall_f1(confusion)
    occurs = confusion.sum(-1) + confusion.sum(-2) > 0
    return np.asarray(f1.sum(-1) / np.maximum(occurs.sum(-1), 1))


def nll(log_probabilities: FloatArray, labels: IntArray) -> float:
    """Mean negative log-probability of the true class, in nats (log loss)."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def brier(probabilities: FloatArray, labels: IntArray) -> float:
    r"""Mean of :math:`\sum_k (p_k - [y = k])^2`, between 0 and 2 (Brier, 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())
