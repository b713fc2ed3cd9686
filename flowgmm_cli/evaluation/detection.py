"""How well a score tells out-of-distribution rows (the positives) from in-distribution rows.

A higher score means further out. Everything depends on the order of the scores alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.intervals import Interval, percentile_interval, wilson_interval

_BINS = 2000  # distinct scores told apart in a bootstrap: its cost does not grow with the number of rows
_BLOCK = 100  # resamples held at once

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


def detection_intervals(
    scores_in: FloatArray,
    scores_out: FloatArray,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Confidence intervals of the metrics of `detection_metrics`, by name.

    Of the AUROC by DeLong's variance; of the others by a percentile bootstrap over the rows of each side, in
    which scores are told apart by 2,000 equally filled bins of all of them.

    Args:
        scores_in: of in-distribution rows `(N,)`.
        scores_out: of out-of-distribution rows `(M,)`.
        rng: source of randomness of the bootstrap.
        level: coverage.
        resamples: number of draws.

    Raises:
        ValueError: no rows on one side, or a NaN.
    """
    count_in, count_out = _histograms(scores_in, scores_out)
    n_in, n_out = int(count_in.sum()), int(count_out.sum())
    draws: dict[str, list[npt.NDArray[np.float64]]] = {"aupr_in": [], "aupr_out": [], "fpr95": []}
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        # resampling rows draws the bins from a multinomial
        some_in = rng.multinomial(n_in, count_in / n_in, size=size)
        some_out = rng.multinomial(n_out, count_out / n_out, size=size)
        draws["aupr_in"].append(_areas(some_out, some_in))
        draws["aupr_out"].append(_areas(some_in[:, ::-1], some_out[:, ::-1]))
        draws["fpr95"].append(_false_alarms(some_in[:, ::-1], some_out[:, ::-1], tpr=0.95))
    found = {name: percentile_interval(np.concatenate(one), level=level) for name, one in draws.items()}
    return {"auroc": auroc_interval(scores_in, scores_out, level=level), **found}


def auroc_interval(negatives: FloatArray, positives: FloatArray, *, level: float = 0.95) -> Interval:
    r"""DeLong's interval (DeLong et al., 1988) of `auroc`, symmetric in the log-odds of the area.

    The variance is :math:`s_{10}^2 / m + s_{01}^2 / n`: each positive's share of the negatives below it
    varies between positives, and likewise for negatives. Computed from ranks (Sun and Xu, 2014). Where one
    side lies above the other altogether there is no variance to be seen: the interval is then Wilson's for a
    share that was never missed in as many rows as the smaller side has.
    """
    negatives, positives = np.sort(_checked(negatives)), np.sort(_checked(positives))
    area = auroc(negatives, positives)
    below = _shares_below(negatives, positives)
    above = 1 - _shares_below(positives, negatives)
    variance = sum(float(one.var(ddof=1)) / len(one) for one in (below, above) if len(one) > 1)
    smaller = min(len(negatives), len(positives))
    if not variance:
        return wilson_interval(round(area * smaller), smaller, level=level)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    half = z * math.sqrt(variance) / (area * (1 - area))
    log_odds = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-min(max(log_odds + side, -700.0), 700.0))) for side in (-half, half))
    return Interval(low, high, level)


def _shares_below(ordered: FloatArray, scores: FloatArray) -> npt.NDArray[np.float64]:
    """Share of rising scores below each of `scores`, ties counted half."""
    left, right = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    found: npt.NDArray[np.float64] = (left + right) / (2 * len(ordered))
    return found


def _histograms(
    scores_in: FloatArray, scores_out: FloatArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of each side by rising score, in one bin for each distinct score or 2,000 equally filled ones."""
    scores_in, scores_out = _checked(scores_in), _checked(scores_out)
    together = np.concatenate([scores_in, scores_out])
    lowest = np.unique(together)
    if len(lowest) > _BINS:
        places = np.linspace(0, len(together), _BINS, endpoint=False).astype(np.intp)
        lowest = np.unique(np.sort(together)[places])
    found = [
        np.bincount(np.searchsorted(lowest, side, side="right") - 1, minlength=len(lowest))
        for side in (scores_in, scores_out)
    ]
    return found[0].astype(np.int64), found[1].astype(np.int64)


def _areas(negatives: npt.NDArray[np.int64], positives: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Average precision of counts `(resamples, bins)`, the most suspicious bin first."""
    true, false = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    precision = true / np.maximum(true + false, 1)
    found: npt.NDArray[np.float64] = (positives * precision).sum(axis=1) / true[:, -1]
    return found


def _false_alarms(
    negatives: npt.NDArray[np.int64], positives: npt.NDArray[np.int64], *, tpr: float
) -> npt.NDArray[np.float64]:
    """Share of negatives flagged with `tpr` of the positives, of counts as in `_areas`."""
    true, false = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    needed = np.ceil(np.round(tpr * true[:, -1], 9))
    first = (true >= needed[:, None]).argmax(axis=1)
    found: npt.NDArray[np.float64] = np.take_along_axis(false, first[:, None], axis=1)[:, 0] / false[:, -1]
    return found


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
