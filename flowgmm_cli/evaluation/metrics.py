"""Evaluation of a classifier's probabilities against true labels, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Bools, FloatArray, Floats, IntArray, Ints
from flowgmm_cli.evaluation.calibration import ReliabilityBin, calibration_error, reliability_table
from flowgmm_cli.evaluation.class_counts import BLOCK, ClassCounts, bootstrap_averages
from flowgmm_cli.evaluation.intervals import Difference, Interval, compare_accuracies, wilson_interval
from flowgmm_cli.evaluation.unknown_rows import UnknownRows
from flowgmm_cli.evaluation.verdict import Verdict

SCHEMA = "flowgmm/eval/1"
METRICS = (
    "accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "bits_per_dim", "density_nll", "ece",
    "adaptive_ece",
)  # fmt: skip
MAX_MATRIX_CLASSES = 1000
"""Number of classes up to which JSON has the confusion matrix."""


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest."""

    name: str
    precision: float | None  # share of correct predictions among those of this class; None without any
    recall: float | None  # share of correct predictions among the rows of this class; None without any
    f1: float | None  # harmonic mean of both, 0 without one of them; None without both
    support: int  # rows of this class
    predicted: int  # rows predicted as this class


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of a classifier."""

    n: int
    accuracy: float  # share of correct predictions
    balanced_accuracy: float  # mean recall of the classes that occur
    macro_f1: float  # mean F1 of the classes that occur or are predicted
    nll: float  # mean negative log-probability of the true class, in nats (log loss)
    brier: float  # mean squared distance between probabilities and the one-hot truth, 0..2 (Brier, 1950)
    ece: float  # expected calibration error, 15 bins of equal width
    adaptive_ece: float  # the same with bins of equally many rows
    per_class: tuple[ClassMetrics, ...]  # a row for each class
    confusion_cells: tuple[tuple[int, int, int], ...]  # true class, predicted class and number of the rows
    reliability: tuple[ReliabilityBin, ...]  # the bins behind `ece`
    intervals: dict[str, Interval]  # confidence intervals by metric name

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """The confusion matrix: `confusion[i][j]` rows of class i are predicted as class j."""
        matrix = np.zeros((len(self.per_class), len(self.per_class)), dtype=np.int64)
        true, predicted, counts = zip(*self.confusion_cells, strict=True)
        matrix[true, predicted] = counts
        return tuple(map(tuple, matrix.tolist()))

    @property
    def averaged_over(self) -> dict[str, int]:
        """Number of classes that an average over classes has, by metric."""
        return {
            "balanced_accuracy": sum(row.recall is not None for row in self.per_class),
            "macro_f1": sum(row.f1 is not None for row in self.per_class),
        }

    def describe_averages(self) -> str:
        """Return the numbers of classes that averages have; empty if they have all classes."""
        classes, over = len(self.per_class), self.averaged_over
        if set(over.values()) == {classes}:
            return ""
        return (
            f"balanced accuracy is the mean of {over['balanced_accuracy']:,} of {classes:,} classes, "
            f"macro F1 that of {over['macro_f1']:,}"
        )


def classification_metrics(
    log_probabilities: FloatArray,
    labels: IntArray,
    class_names: Sequence[str] | None = None,
    *,
    with_intervals: bool = True,
) -> ClassificationMetrics:
    """Evaluate log-probabilities `(N, K)` against labels `(N,)` in `0..K-1`.

    Logarithms keep the likelihood of a confident mistake, whose probability may round to 0; use
    `log_probabilities` to convert probabilities. `class_names` are the names for `per_class`, default the
    indices. The intervals of balanced accuracy and macro-F1 come from a bootstrap of the rows; without
    intervals, or with very many different pairs of true and predicted class, only the accuracy has its own.

    Raises:
        ValueError: no rows, or shapes or values that do not fit.
    """
    log_p, labels = np.asarray(log_probabilities, dtype=np.float64), np.asarray(labels)
    if log_p.ndim != 2 or labels.shape != log_p.shape[:1] or not log_p.size:
        raise ValueError(f"need scores (N, K) and labels (N,), N > 0; got {log_p.shape} and {labels.shape}")
    n, classes = log_p.shape
    if np.isnan(log_p).any():
        raise ValueError("scores contain NaN")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    predictions, confidence, brier = log_p.argmax(1), np.empty(n), np.empty(n)
    for part in iterate_batches(n, max(1, BLOCK // classes)):
        p = np.exp(log_p[part])
        confidence[part] = p.max(1)
        p[np.arange(len(p)), labels[part]] -= 1
        brier[part] = (p**2).sum(1)
    correct = predictions == labels
    table = reliability_table(confidence, correct)
    cells, counts = np.unique(labels.astype(np.int64) * classes + predictions, return_counts=True)
    names = [str(k) for k in range(classes)] if class_names is None else class_names
    of_classes = ClassCounts.from_cells(cells, counts[None], classes)
    averages = {name: float(values[0]) for name, values in of_classes.averages().items()}
    intervals = {"accuracy": wilson_interval(int(correct.sum()), n)}
    if with_intervals:
        intervals |= bootstrap_averages(cells, counts, classes)
    return ClassificationMetrics(
        n=n,
        accuracy=float(correct.mean()),
        **averages,
        nll=nll(log_p, labels),
        brier=float(brier.mean()),
        ece=calibration_error(table),
        adaptive_ece=calibration_error(reliability_table(confidence, correct, binning="mass")),
        per_class=tuple(_class_metrics(names, of_classes)),
        confusion_cells=tuple(
            (*divmod(cell, classes), count)
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)
        ),
        reliability=tuple(table),
        intervals=intervals,
    )


def _class_metrics(names: Sequence[str], of_classes: ClassCounts) -> Iterator[ClassMetrics]:
    support, predicted = of_classes.support[0], of_classes.predicted[0]
    counts = (predicted, support, support + predicted)
    shares = [
        [value if count else None for value, count in zip(values[0].tolist(), count.tolist(), strict=True)]
        for values, count in zip(of_classes.precision_recall_f1(), counts, strict=True)
    ]
    for row in zip(names, *shares, support.tolist(), predicted.tolist(), strict=True):
        yield ClassMetrics(*row)


def log_probabilities(probabilities: FloatArray) -> Floats:
    """Return logarithms of probabilities `(N, K)`, scaled to sum 1, clipped at 2.2e-16 as in `log_loss`."""
    p = np.asarray(probabilities, dtype=np.float64)
    p = p / p.sum(1, keepdims=True)
    return np.asarray(np.log(np.clip(p, np.finfo(np.float64).eps, 1.0)))


def nll(log_probabilities: FloatArray, labels: IntArray) -> float:
    """Compute the mean negative log-probability of the true class, in nats (log loss)."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean()) + 0.0  # no -0


@dataclass(frozen=True)
class BaselineMetrics:
    """Metrics of a baseline on some rows."""

    accuracy: float  # these five as in `ClassificationMetrics`
    balanced_accuracy: float
    macro_f1: float
    nll: float
    ece: float
    difference: Difference | None = None  # accuracy minus that of the model on the same rows

    @classmethod
    def measure(cls, log_p: FloatArray, labels: IntArray, model: Bools | None = None) -> BaselineMetrics:
        """Compare log-probabilities `(N, K)` with labels `(N,)`, and with the model's correct rows."""
        metrics = classification_metrics(log_p, labels, with_intervals=False)
        difference = None if model is None else compare_accuracies(model, log_p.argmax(1) == labels)
        averages = metrics.balanced_accuracy, metrics.macro_f1
        return cls(metrics.accuracy, *averages, metrics.nll, metrics.ece, difference)


@dataclass(frozen=True)
class BaselineResult(BaselineMetrics):
    """Results of a baseline on the rows of an evaluation."""

    cross_fitted: BaselineMetrics | None = None  # on cross-fitted rows, if there are any
    seconds: float = 0.0  # time for choosing settings, fitting and predicting
    settings: dict[str, Any] = field(default_factory=dict)  # chosen by cross-validation


@dataclass(frozen=True)
class CrossFitted:
    """Metrics of labelled training rows, each predicted by a model that has not seen its label."""

    n: int
    left_out: int  # labelled rows that cannot be held out: each is the only row of its class
    metrics: Mapping[str, float]  # those of `ClassificationMetrics`, by name
    intervals: Mapping[str, Interval]  # their confidence intervals

    @classmethod
    def summarise(cls, classification: ClassificationMetrics, labelled: int) -> CrossFitted:
        """Summarise the metrics of these rows, out of all `labelled` rows."""
        n, values = classification.n, vars(classification)
        metrics = {name: float(values[name]) for name in METRICS if name in values}
        return cls(n, labelled - n, metrics, classification.intervals)


@dataclass(frozen=True)
class Evaluation:
    """Results of a model on a split, or on cross-fitted rows."""

    split: str
    classification: ClassificationMetrics  # of the calibrated probabilities
    density_nll: float | None  # mean `-log p(x)` in nats per row; None for cross-fitted rows
    baselines: Mapping[str, BaselineResult] = field(default_factory=dict)  # on the same rows, by name
    bits_per_dim: float | None = None  # density_nll in bits per pixel; None if rows are not discrete pixels
    cross_fitted: CrossFitted | None = None  # None if no label was held out in training
    verdict: Verdict | None = None  # on the model beside the baselines; None without them
    basis: Mapping[str, str] = field(default_factory=dict)  # digests of the rows, `data`, and of the `model`
    unknown: UnknownRows | None = None  # None for a model that knows of none

    def metrics(self) -> dict[str, float | None]:
        """Return the scalars, by name."""
        values = {**vars(self.classification), **vars(self)}
        return {name: values[name] for name in METRICS}

    def to_dict(self, run: str) -> dict[str, Any]:
        """Return the JSON object of `flowgmm eval --json`."""
        details, classes = asdict(self.classification), len(self.classification.per_class)
        return {
            "schema": SCHEMA,
            "run": run,
            "split": self.split,
            "n": self.classification.n,
            "metrics": self.metrics(),
            "averaged_over": self.classification.averaged_over,
            "intervals": details["intervals"],
            "per_class": details["per_class"],
            "confusion": self.classification.confusion if classes <= MAX_MATRIX_CLASSES else None,
            "confusion_cells": details["confusion_cells"],
            "reliability": details["reliability"],
            "baselines": {name: asdict(result) for name, result in self.baselines.items()},
            "cross_fitted": None if self.cross_fitted is None else asdict(self.cross_fitted),
            "verdict": None if self.verdict is None else asdict(self.verdict),
            "basis": dict(self.basis),
            "unknown": None if self.unknown is None else asdict(self.unknown),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evaluation:
        """Restore the result of `to_dict`; other keys are ignored. Raises `KeyError` or `ValueError`."""
        values = {**value, **value["metrics"]}
        restored = TypeAdapter(cls).validate_python({**values, "classification": values})
        if restored.classification.n < 1 or not 0 <= restored.classification.accuracy <= 1:
            raise ValueError("an accuracy is a share of one row or more")
        return restored


def evaluate(
    split: str,
    log_probabilities: Floats,
    log_density: Floats,
    labels: Ints,
    class_names: Sequence[str],
    pixels: int | None = None,
    unknown: Mapping[str, Any] | None = None,
    p_unknown: FloatArray | None = None,
) -> Evaluation:
    """Compare predictions with labels `(N,)`; rows without a label (-1) are left out.

    `log_probabilities` are `log p(k | x)`, `(N, K)`, `log_density` is `log p(x)`, `(N,)`; `pixels` is the
    number of discrete pixels in a row, None where the density is that of real numbers. `unknown` are facts of
    the training on unknown kinds, and `p_unknown` their probabilities, `(N,)`; both None without any.
    """
    known = labels >= 0
    metrics = classification_metrics(log_probabilities[known], labels[known], class_names)
    nats = float(-log_density[known].mean())
    bits = None if pixels is None else nats / (pixels * math.log(2))
    rows = UnknownRows.measure(unknown, None if p_unknown is None else p_unknown[known])
    return Evaluation(split, metrics, nats, bits_per_dim=bits, unknown=rows)
