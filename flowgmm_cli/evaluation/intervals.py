"""Confidence intervals of shares, and of differences of two models with their tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from flowgmm_cli.data.array_types import Bools, FloatArray

LEVEL = 0.95  # coverage of all confidence intervals


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    level: float = LEVEL  # coverage


def wilson_interval(successes: int, n: int) -> Interval:
    """Compute Wilson's score interval (1927) for a share, sound for small `n` and shares near 0 and 1.

    >>> interval = wilson_interval(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def percentile_interval(values: FloatArray) -> Interval:
    """Return the central share of bootstrap `values` (Efron, 1979)."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Difference:
    """Second minus first."""

    difference: float
    low: float  # low, high: its confidence interval
    high: float
    level: float = LEVEL  # coverage of the interval
    p_value: float | None = None  # two-sided p-value of the hypothesis of no difference; None without a test

    @property
    def significant(self) -> bool:
        """True if the interval does not contain 0."""
        return self.low > 0 or self.high < 0


def compare_accuracies(first: Bools, second: Bools) -> Difference:
    """Compare the accuracies of two models on the same rows, by masks of their correct predictions `(N,)`.

    The interval is Wald's with half a row added to each of the four cells (Agresti and Min, 2005), the
    p-value McNemar's exact one, which rests on the rows that only one of the models gets right.
    """
    from scipy.stats import binomtest

    n = len(first)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    p_value = float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
    b, c, total = lost + 0.5, won + 0.5, n + 2.0
    centre = (c - b) / total
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * math.sqrt(b + c - (c - b) ** 2 / total) / total
    return Difference((won - lost) / n, max(centre - half, -1.0), min(centre + half, 1.0), p_value=p_value)


def compare_means(first: FloatArray, second: FloatArray) -> Difference:
    """Compare the means of a quantity of the same rows `(N,)`, N > 1, by the t test and its interval."""
    from scipy.stats import ttest_1samp

    gap = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    value = float(gap.mean())
    if gap.min() == gap.max():  # no variance
        return Difference(value, value, value, p_value=float(value == 0))
    test = ttest_1samp(gap, 0.0)
    low, high = test.confidence_interval(LEVEL)
    return Difference(value, float(low), float(high), p_value=float(test.pvalue))


def compare_independent_accuracies(
    correct_first: int, n_first: int, correct_second: int, n_second: int
) -> Difference:
    """Compare accuracies on different rows by Newcombe's hybrid of Wilson intervals (1998, method 10)."""
    p, q = correct_first / n_first, correct_second / n_second
    first = wilson_interval(correct_first, n_first)
    second = wilson_interval(correct_second, n_second)
    low = (q - p) - math.hypot(q - second.low, first.high - p)
    high = (q - p) + math.hypot(second.high - q, p - first.low)
    return Difference(q - p, max(low, -1.0), min(high, 1.0))
