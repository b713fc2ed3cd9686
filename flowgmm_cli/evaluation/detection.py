"""How well a score tells out-of-distribution rows (the positives) from in-distribution rows.

A higher score means further out. Everything depends on the order of the scores alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DetectionMetrics:
    """What `detection_metrics` finds.

    Attributes:
        auroc: probability that an out-of-distribution row scores higher than an in-distribution row.
        aupr_in: average precision with in-distribution rows as positives.
        aupr_out: average precision with out-of-distribution rows as positives.
        fpr95: share of in-distribution rows flagged where 95 % of the out-of-distribution rows are.
        n_in: number of in-distribution rows.
        n_out: number of out-of-distribution rows.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95: float
    n_in: int
    n_out: int

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return dict(vars(self))


def detection_metrics(scores_in: FloatArray, scores_out: FloatArray) -> DetectionMetrics:
    """Compare scores of in-distribution rows `(N,)` with those of out-of-distribution rows `(M,)`.

    Infinite scores keep their place in the order.

    Raises:
        ValueError: no rows on one side, or a NaN.
    """
    return DetectionMetrics(
        auroc=auroc(scores_in, scores_out),
        aupr_in=average_precision(-np.asarray(scores_out), -np.asarray(scores_in)),
        aupr_out=average_precision(scores_in, scores_out),
        fpr95=fpr_at_tpr(scores_in, scores_out, tpr=0.95),
        n_in=len(scores_in),
        n_out=len(scores_out),
    )


def auroc(negatives: FloatArray, positives: FloatArray) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney, 1947); a tie counts one half.

    >>> auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    0.875
    """
    negatives, positives = _checked(negatives), _checked(positives)
    negatives = np.sort(negatives)
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")
    return float((below.sum() + up_to.sum()) / (2 * len(negatives) * len(positives)))


def average_precision(negatives: FloatArray, positives: FloatArray) -> float:
    r""":math:`\sum_t (R_t - R_{t-1}) P_t` over falling thresholds, without interpolation."""
    true_positives, false_positives = _counts(negatives, positives)
    precision = true_positives / (true_positives + false_positives)
    steps = np.diff(true_positives, prepend=0) / true_positives[-1]
    return float((steps * precision).sum())


def fpr_at_tpr(negatives: FloatArray, positives: FloatArray, *, tpr: float) -> float:
    """Smallest share of negatives flagged by a threshold that flags at least `tpr` of the positives."""
    true_positives, false_positives = _counts(negatives, positives)
    # Compared as counts: 0.95 * 20 is not exactly 19 in floating point.
    needed = np.ceil(round(tpr * true_positives[-1], 9))
    first = int(np.searchsorted(true_positives, needed))
    return float(false_positives[first] / false_positives[-1])


def _counts(
    negatives: FloatArray, positives: FloatArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positives and negatives at or above each distinct score, from the highest score down."""
    negatives, positives = _checked(negatives), _checked(positives)
    thresholds = np.unique(np.concatenate([negatives, positives]))[::-1]
    above_positive = len(positives) - np.searchsorted(np.sort(positives), thresholds, side="left")
    above_negative = len(negatives) - np.searchsorted(np.sort(negatives), thresholds, side="left")
    return above_positive.astype(np.int64), above_negative.astype(np.int64)


def _checked(scores: FloatArray) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError(f"scores must be a non-empty vector without NaN, got shape {values.shape}")
    return values
