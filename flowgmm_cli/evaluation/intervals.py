"""Confidence intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    level: float  # coverage, for instance 0.95

    def to_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Compute Wilson's score interval (1927) for a share, sound for small `n` and shares near 0 and 1.

    >>> interval = wilson_interval(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} and {n}")
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(float(interval.low), float(interval.high), level)


def percentile_interval(values: npt.NDArray[np.floating[Any]], *, level: float) -> Interval:
    """Return the central `level` share of bootstrap `values` (Efron, 1979)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)
