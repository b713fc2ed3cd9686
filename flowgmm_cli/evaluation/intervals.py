"""Confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: lower end.
        high: upper end.
        level: coverage, for instance 0.95.
    """

    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {"low": self.low, "high": self.high, "level": self.level}


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share, sound for small `n` and shares near 0 and 1 (Wilson, 1927).

    >>> interval = wilson_interval(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} and {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    # At shares of exactly 0 and 1 rounding would leave an end a hair off.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high, level)


def bootstrap_interval(
    statistic: Callable[[IntArray], float],
    n: int,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """Percentile bootstrap over rows (Efron, 1979).

    Args:
        statistic: takes row positions `(n,)`, drawn with replacement, and returns a number.
        n: number of rows.
        rng: source of randomness.
        level: coverage.
        resamples: number of draws.
    """
    values = [statistic(rng.integers(0, n, size=n)) for _ in range(resamples)]
    return percentile_interval(np.asarray(values), level=level)


def percentile_interval(values: FloatArray, *, level: float) -> Interval:
    """The central `level` share of bootstrap `values`."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def confusion_bootstrap(
    confusion: IntArray, *, rng: np.random.Generator, resamples: int = 1000
) -> npt.NDArray[np.int64]:
    """Confusion matrices of bootstrap resamples, `(resamples, K, K)`.

    Resampling rows with replacement draws the cells from a multinomial: the rows themselves, and so their
    number, do not matter to the cost.
    """
    total = int(confusion.sum())
    draws = rng.multinomial(total, confusion.ravel() / total, size=resamples)
    return draws.reshape(resamples, *confusion.shape).astype(np.int64)
