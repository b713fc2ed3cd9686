"""Separation of out-of-distribution rows (the positives) from in-distribution rows by a score.

A higher score means further out. Every metric depends only on the order of the scores, and infinite scores
keep their place in it; `sklearn.metrics` refuses those, and takes one bootstrap draw at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from flowgmm_cli.data.array_types import FloatArray, Floats, Ints
from flowgmm_cli.evaluation.intervals import LEVEL, Interval, percentile_interval, wilson_interval

MAX_BINS = 2000  # distinct scores in a bootstrap: its cost does not grow with the number of rows
_BATCH_RESAMPLES = 100  # resamples in memory at a time


@dataclass(frozen=True)
class DetectionMetrics:
    """Metrics of a score."""

    auroc: float  # probability that an out-of-distribution row scores higher than an in-distribution row
    aupr_in: float  # average precision with in-distribution rows as positives
    aupr_out: float  # average precision with out-of-distribution rows as positives
    fpr95: float  # share of in-distribution rows flagged where 95 % of the out-of-distribution rows are


def detection_metrics(scores_in: FloatArray, scores_out: FloatArray) -> DetectionMetrics:
    """Compare scores of in-distribution rows `(N,)` with those of out-of-distribution rows `(M,)`.

    Raises:
        ValueError: no rows on one side, or a NaN.
    """
    metrics = metrics_of_counts(*count_rows(scores_in, scores_out))
    values = {name: float(value[0]) for name, value in metrics.items()}
    return DetectionMetrics(auroc(scores_in, scores_out), **values)


def auroc(negatives: FloatArray, positives: FloatArray) -> float:
    """Compute the area under the ROC curve by ranks (Mann and Whitney, 1947); a tie counts one half.

    >>> auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    0.875
    """
    return float(_share_below(_check(negatives), _check(positives)).mean())


def detection_intervals(
    scores_in: FloatArray, scores_out: FloatArray, *, rng: np.random.Generator, resamples: int = 1000
) -> dict[str, Interval]:
    """Compute confidence intervals of the metrics of `detection_metrics`, by name.

    The interval of the AUROC uses DeLong's variance; the others come from a percentile bootstrap with
    `resamples` draws over the rows of each side, on scores in at most 2,000 equally filled bins.

    Raises:
        ValueError: no rows on one side, or a NaN.
    """
    sides = [counts[0] for counts in count_rows(scores_in, scores_out, max_bins=MAX_BINS)]
    batches = []
    for start in range(0, resamples, _BATCH_RESAMPLES):
        size = min(_BATCH_RESAMPLES, resamples - start)
        # resampling rows draws the bins from a multinomial
        draws = [rng.multinomial(counts.sum(), counts / counts.sum(), size=size) for counts in sides]
        batches.append(metrics_of_counts(*draws))
    return {"auroc": auroc_interval(scores_in, scores_out)} | {
        name: percentile_interval(np.concatenate([batch[name] for batch in batches])) for name in batches[0]
    }


def auroc_interval(negatives: FloatArray, positives: FloatArray) -> Interval:
    r"""Compute DeLong's interval (DeLong et al., 1988) of `auroc`, symmetric in the log-odds of the area.

    The variance is :math:`s_{10}^2 / m + s_{01}^2 / n`: each positive's share of the negatives below it
    varies between positives, and likewise for negatives. Computed from ranks (Sun and Xu, 2014). Where all
    rows of one side lie above the other the variance is 0: the interval is then Wilson's for a share without
    an error in as many rows as the smaller side has.
    """
    from scipy.special import expit, logit

    negatives, positives = _check(negatives), _check(positives)
    below, above = _share_below(negatives, positives), 1 - _share_below(positives, negatives)
    area = float(below.mean())
    variance = sum(float(share.var(ddof=1)) / len(share) for share in (below, above) if len(share) > 1)
    if not variance:
        smaller = min(len(negatives), len(positives))
        return wilson_interval(round(area * smaller), smaller)
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * math.sqrt(variance) / (area * (1 - area))
    return Interval(float(expit(logit(area) - half)), float(expit(logit(area) + half)))


def count_rows(
    scores_in: FloatArray, scores_out: FloatArray, *, max_bins: int | None = None
) -> tuple[Ints, Ints]:
    """Count the rows of each side by rising score, each `(1, bins)`: a bin for each distinct score.

    With more than `max_bins` distinct scores there are that many equally filled bins.
    """
    sides = (_check(scores_in), _check(scores_out))
    scores = np.sort(np.concatenate(sides))
    lowest = np.unique(scores)
    if max_bins is not None and len(lowest) > max_bins:
        lowest = np.unique(scores[np.linspace(0, len(scores), max_bins, endpoint=False).astype(np.intp)])
    bins = (np.searchsorted(lowest, side, side="right") - 1 for side in sides)
    count_in, count_out = (np.bincount(side, minlength=len(lowest))[None] for side in bins)
    return count_in, count_out


def metrics_of_counts(count_in: Ints, count_out: Ints) -> dict[str, Floats]:
    """Compute the metrics of counts `(resamples, bins)` by rising score, each `(resamples,)`."""
    flagged_in, flagged_out = (counts[:, ::-1].cumsum(axis=1) for counts in (count_in, count_out))
    # the first threshold that flags 95 %, compared as counts: 0.95 * 20 is not exactly 19 in floating point
    needed = np.ceil(np.round(0.95 * flagged_out[:, -1:], 9))
    first = (flagged_out >= needed).argmax(axis=1)[:, None]
    return {
        "aupr_in": _average_precision(count_out, count_in),
        "aupr_out": _average_precision(count_in[:, ::-1], count_out[:, ::-1]),
        "fpr95": np.asarray(np.take_along_axis(flagged_in, first, axis=1)[:, 0] / flagged_in[:, -1]),
    }


def _average_precision(negatives: Ints, positives: Ints) -> Floats:
    r"""Compute :math:`\sum_t (R_t - R_{t-1}) P_t`, without interpolation.

    Both are counts `(resamples, bins)`, the bin flagged first in front.
    """
    true, false = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    precision = true / np.maximum(true + false, 1)
    return np.asarray((positives * precision).sum(axis=1) / true[:, -1])


def _share_below(others: FloatArray, scores: FloatArray) -> Floats:
    """Return the share of `others` below each of `scores`; ties count one half."""
    ordered = np.sort(others)
    left, right = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(ordered)))


def _check(scores: FloatArray) -> Floats:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError(f"scores must be a non-empty vector without NaN, got shape {values.shape}")
    return values
