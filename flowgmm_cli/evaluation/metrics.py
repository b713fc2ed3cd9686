"""Evaluation of a classifier's probabilities against true labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.calibration import ReliabilityBin, calibration_error, reliability_table
from flowgmm_cli.evaluation.intervals import Interval, percentile_interval, wilson_interval

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

SCHEMA = "flowgmm/eval/1"
METRICS = (
    "accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "bits_per_dim", "density_nll", "ece",
    "adaptive_ece",
)  # fmt: skip


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest."""

    name: str
    precision: float  # share of correct predictions among those of this class; 0 without any
    recall: float  # share of correct predictions among the rows of this class; 0 without any
    f1: float  # harmonic mean of both
    support: int  # rows of this class
    predicted: int  # rows predicted as this class


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of a classifier."""

    n: int
    accuracy: float  # share of correct predictions
    balanced_accuracy: float  # mean recall of the classes that occur
    macro_f1: float  # mean F1 of the classes that occur or are predicted
    nll: float  # mean negative log-probability of the true class, in nats
    brier: float  # mean squared distance between probabilities and the one-hot truth, 0..2
    ece: float  # expected calibration error, 15 bins of equal width
    adaptive_ece: float  # the same with bins of equally many rows
    per_class: tuple[ClassMetrics, ...]  # a row for each class
    confusion: tuple[tuple[int, ...], ...]  # `confusion[i][j]` rows of class i predicted as class j
    reliability: tuple[ReliabilityBin, ...]  # the bins behind `ece`
    intervals: dict[str, Interval]  # confidence intervals by metric name

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ClassificationMetrics:
        """Restore the result of `to_dict`; other keys are ignored. Raises `KeyError` or `TypeError`."""
        scalars = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "adaptive_ece")
        return cls(
            n=int(value["n"]),
            **{name: float(value[name]) for name in scalars},
            per_class=tuple(ClassMetrics(**row) for row in value["per_class"]),
            confusion=tuple(tuple(int(count) for count in row) for row in value["confusion"]),
            reliability=tuple(ReliabilityBin(**row) for row in value["reliability"]),
            intervals={name: Interval(**ends) for name, ends in value["intervals"].items()},
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

    Logarithms keep the likelihood of a confident mistake, whose probability may round to 0; use
    `log_probabilities` to convert probabilities.

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
    check_scores(log_p, labels)
    n, classes = log_p.shape
    p = np.exp(log_p)
    predictions = log_p.argmax(1)
    correct, confidence = predictions == labels, p.max(1)
    confusion = confusion_matrix(labels, predictions, classes)
    names = [str(k) for k in range(classes)] if class_names is None else list(class_names)
    columns = (*precision_recall_f1(confusion), confusion.sum(1), confusion.sum(0))
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    intervals = {"accuracy": wilson_interval(int(correct.sum()), n, level=level)}
    if resamples:
        draws = resample_confusion(confusion, rng=np.random.default_rng(seed), resamples=resamples)
        intervals["balanced_accuracy"] = percentile_interval(mean_recall(draws), level=level)
        intervals["macro_f1"] = percentile_interval(macro_f1(draws), level=level)
    return ClassificationMetrics(
        n=n,
        accuracy=float(correct.mean()),
        balanced_accuracy=float(mean_recall(confusion)),
        macro_f1=float(macro_f1(confusion)),
        nll=nll(log_p, labels),
        brier=brier(p, labels),
        ece=calibration_error(confidence, correct, bins=bins),
        adaptive_ece=calibration_error(confidence, correct, bins=bins, binning="mass"),
        per_class=tuple(ClassMetrics(*row) for row in rows),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        reliability=tuple(reliability_table(confidence, correct, bins=bins)),
        intervals=intervals,
    )


def check_scores(scores: FloatArray, labels: IntArray) -> None:
    """Raise ValueError unless `scores` is `(N, K)`, N > 0, without NaN, and `labels` `(N,)` in `0..K-1`."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"need scores (N, K) and labels (N,), N > 0; got {scores.shape} and {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels must lie in 0..{scores.shape[1] - 1}, got {labels.min()}..{labels.max()}")


def log_probabilities(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """Return logarithms of probabilities `(N, K)`, scaled to sum 1, clipped at 2.2e-16 as in `log_loss`."""
    p = np.asarray(probabilities, dtype=np.float64)
    p = p / p.sum(1, keepdims=True)
    result: npt.NDArray[np.float64] = np.log(np.clip(p, np.finfo(np.float64).eps, 1.0))
    return result


def confusion_matrix(labels: IntArray, predictions: IntArray, classes: int) -> npt.NDArray[np.int64]:
    """Count rows by true and predicted class, `(K, K)`."""
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def precision_recall_f1(
    confusion: IntArray,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the metrics of each class, `(..., K)`, from confusion matrices `(..., K, K)`; 0 / 0 is 0."""
    correct = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return (
        correct / np.maximum(predicted, 1),
        correct / np.maximum(support, 1),
        2 * correct / np.maximum(predicted + support, 1),
    )


def mean_recall(confusion: IntArray) -> npt.NDArray[np.float64]:
    """Compute the balanced accuracy over the classes that occur, `(...)`, of matrices `(..., K, K)`."""
    _, recall, _ = precision_recall_f1(confusion)
    occurs = confusion.sum(-1) > 0
    return np.asarray(recall.sum(-1) / np.maximum(occurs.sum(-1), 1))


def macro_f1(confusion: IntArray) -> npt.NDArray[np.float64]:
    """Average F1 over the classes that occur or are predicted, `(...)`, of matrices `(..., K, K)`."""
    _, _, f1 = precision_recall_f1(confusion)
    occurs = confusion.sum(-1) + confusion.sum(-2) > 0
    return np.asarray(f1.sum(-1) / np.maximum(occurs.sum(-1), 1))


def resample_confusion(
    confusion: IntArray, *, rng: np.random.Generator, resamples: int = 1000
) -> npt.NDArray[np.int64]:
    """Draw confusion matrices of bootstrap resamples, `(resamples, K, K)`.

    Resampling rows with replacement draws the cells from a multinomial, so the cost does not depend on the
    number of rows.
    """
    total = int(confusion.sum())
    draws = rng.multinomial(total, confusion.ravel() / total, size=resamples)
    return draws.reshape(resamples, *confusion.shape).astype(np.int64)


def nll(log_probabilities: FloatArray, labels: IntArray) -> float:
    """Compute the mean negative log-probability of the true class, in nats (log loss)."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def brier(probabilities: FloatArray, labels: IntArray) -> float:
    r"""Compute the mean of :math:`\sum_k (p_k - [y = k])^2`, between 0 and 2 (Brier, 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


@dataclass(frozen=True)
class BaselineResult:
    """Results of a baseline on the test rows."""

    accuracy: float  # these five as in `ClassificationMetrics`
    balanced_accuracy: float
    macro_f1: float
    nll: float
    ece: float
    seconds: float  # time for choosing settings, fitting and predicting
    settings: dict[str, Any] = field(default_factory=dict)  # chosen by cross-validation

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Evaluation:
    """Results of a model on a split."""

    split: str
    classification: ClassificationMetrics  # of the calibrated probabilities
    density_nll: float  # mean `-log p(x)` in nats per row
    baselines: Mapping[str, BaselineResult] = field(default_factory=dict)  # on the same rows, by name
    bits_per_dim: float | None = None  # density_nll in bits per pixel; None if rows are not discrete pixels

    def metrics(self) -> dict[str, float | None]:
        """Return the scalars, by name."""
        values = {**vars(self.classification), **vars(self)}
        return {name: values[name] for name in METRICS}

    def to_dict(self, run: str) -> dict[str, Any]:
        """Return the JSON object of `flowgmm eval --json`."""
        details = self.classification.to_dict()
        return {
            "schema": SCHEMA,
            "run": run,
            "split": self.split,
            "n": self.classification.n,
            "metrics": self.metrics(),
            **{name: details[name] for name in ("intervals", "per_class", "confusion", "reliability")},
            "baselines": {name: result.to_dict() for name, result in self.baselines.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evaluation:
        """Restore the result of `to_dict`. Raises `KeyError`, `TypeError` or `ValueError` otherwise."""
        metrics = value["metrics"]
        return cls(
            value["split"],
            ClassificationMetrics.from_dict({**value, **metrics}),
            float(metrics["density_nll"]),
            {name: BaselineResult(**result) for name, result in value["baselines"].items()},
            None if metrics.get("bits_per_dim") is None else float(metrics["bits_per_dim"]),
        )


def evaluate(
    split: str,
    log_probabilities: npt.NDArray[np.float64],
    log_density: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
    baselines: Mapping[str, BaselineResult] | None = None,
    pixels: int | None = None,
) -> Evaluation:
    """Compare predictions with labels `(N,)`; rows without a label (-1) are left out.

    `log_probabilities` are `log p(k | x)`, `(N, K)`, `log_density` is `log p(x)`, `(N,)`; `pixels` is the
    number of discrete pixels in a row, None where the density is that of real numbers.
    """
    known = labels >= 0
    density_nll = float(-log_density[known].mean())
    return Evaluation(
        split,
        classification_metrics(log_probabilities[known], labels[known], class_names=class_names),
        density_nll,
        baselines or {},
        None if pixels is None else bits_per_dim(density_nll, pixels),
    )


def bits_per_dim(nll: float, pixels: int) -> float:
    r"""Convert nats for a row of D discrete pixels to bits per pixel, :math:`-\log P(v) / (D \log 2)`.

    >>> bits_per_dim(math.log(256) * 784, 784)
    8.0
    """
    return nll / (pixels * math.log(2))
