"""Whether one model is better than another: differences with intervals, on the same rows or on others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.intervals import wilson_interval

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Difference:
    """Second minus first.

    Attributes:
        value: the difference.
        low, high: its confidence interval.
        level: coverage of the interval.
        p_value: two-sided, of no difference; None where there is no test.
    """

    value: float
    low: float
    high: float
    level: float
    p_value: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"difference": self.value, **{k: v for k, v in vars(self).items() if k != "value"}}


def paired_shares(first: BoolArray, second: BoolArray, *, level: float = 0.95) -> Difference:
    """Difference of the shares of right answers of two models on the same rows.

    The interval is Wald's with half a row added to each of the four cells (Agresti and Min, 2005), the
    p-value McNemar's exact one: rows on which both are right or both are wrong say nothing.

    Args:
        first, second: whether each model is right, `(N,)`, N > 0.
        level: coverage.
    """
    from scipy.stats import binomtest

    n = len(first)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    p_value = float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
    b, c, total = lost + 0.5, won + 0.5, n + 2.0
    centre = (c - b) / total
    half = _z(level) * math.sqrt(b + c - (c - b) ** 2 / total) / total
    return Difference((won - lost) / n, max(centre - half, -1.0), min(centre + half, 1.0), level, p_value)


def paired_means(first: FloatArray, second: FloatArray, *, level: float = 0.95) -> Difference:
    """Mean difference of a quantity of the same rows, with the t interval and test.

    Args:
        first, second: `(N,)`, N > 1.
        level: coverage.
    """
    from scipy.stats import t

    gap = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    n = len(gap)
    value, error = float(gap.mean()), float(gap.std(ddof=1)) / math.sqrt(n)
    half = float(t.ppf(0.5 + level / 2, n - 1)) * error
    p_value = float(2 * t.sf(abs(value) / error, n - 1)) if error > 0 else (1.0 if value == 0 else 0.0)
    return Difference(value, value - half, value + half, level, p_value)


def unpaired_shares(
    right_first: int, n_first: int, right_second: int, n_second: int, *, level: float = 0.95
) -> Difference:
    """Difference of two shares of different rows: Newcombe's hybrid of Wilson intervals (1998, method 10)."""
    p, q = right_first / n_first, right_second / n_second
    one = wilson_interval(right_first, n_first, level=level)
    two = wilson_interval(right_second, n_second, level=level)
    low = (q - p) - math.hypot(q - two.low, one.high - p)
    high = (q - p) + math.hypot(two.high - q, p - one.low)
    return Difference(q - p, max(low, -1.0), min(high, 1.0), level)


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
