r"""Forecast of the accuracy with more labels: an inverse power law through the points of a curve.

.. math:: \text{error}(n) = c + a \, n^{-b}

Draws of labels vary, so the interval is that of a single training: the law is fitted again to resampled
seeds, and the spread of the seeds is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.formatting import pluralise

LEVEL = 0.9
"""Probability that the interval holds the accuracy of a training."""
MIN_COUNTS = 3
"""Numbers of labels that a law needs, one for each parameter."""
FLAT = 0.005
"""Gain below which more labels hardly help."""
_DRAWS = 200
_EXPONENTS = np.geomspace(0.05, 2, 40)


@dataclass(frozen=True)
class Forecast:
    """Accuracy with the most labels of a curve, and with `more` beside them.

    `low` and `high` hold the accuracy of a training with the probability `LEVEL`.
    """

    labels: int
    more: int
    accuracy: float
    forecast: float
    low: float
    high: float

    @property
    def is_flat(self) -> bool:
        """True if more labels will hardly help."""
        return self.forecast - self.accuracy < FLAT

    def describe(self) -> str:
        """Describe the forecast on one line."""
        numbers = f"{self.accuracy:.3f} -> {self.forecast:.3f} ({self.low:.3f} to {self.high:.3f})"
        text = f"{pluralise(self.more, 'more label')}: {numbers}"
        return f"{text}; more labels will hardly help" if self.is_flat else text


def fit_forecast(accuracies: Mapping[int, Mapping[int, float]]) -> Forecast | None:
    """Forecast the accuracy with a quarter more labels, at least 10; None with too few points.

    Args:
        accuracies: number of labels -> seed -> accuracy.
    """
    counts = sorted(accuracies)
    seeds = sorted({seed for values in accuracies.values() for seed in values})
    if len(counts) < MIN_COUNTS or len(seeds) < 2:
        return None
    n = np.array(counts, float)
    more = max(10, round(counts[-1] / 4))
    target = np.array([n[-1], n[-1] + more])
    table = np.array([[accuracies[count].get(seed, np.nan) for count in counts] for seed in seeds])
    now, then = fit_power_law(n, table, target).tolist()
    last = table[:, -2:]  # the spread falls with the number of labels
    freedom = max(1, int(np.isfinite(last).sum()) - 2)
    spread = np.sqrt(np.nansum((last - np.nanmean(last, axis=0)) ** 2) / freedom)
    rng = np.random.default_rng(0)
    resampled = [
        fit_power_law(n, table[rng.integers(len(seeds), size=len(seeds))], target)[1] for _ in range(_DRAWS)
    ]
    draws = np.array(resampled) + spread * rng.standard_t(freedom, (_DRAWS, _DRAWS))
    low, high = np.clip(np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), 0, 1).tolist()
    return Forecast(counts[-1], more, now, then, low, high)


def fit_power_law(n: Floats, accuracies: Floats, target: Floats) -> Floats:
    """Return the accuracies at `target` of the law with the least squares for each exponent.

    Args:
        n: numbers of labels `(P,)`.
        accuracies: of each seed, `(S, P)`, NaN without a run.
        target: numbers of labels `(T,)`.
    """
    from scipy.optimize import nnls

    weights = np.sqrt(np.isfinite(accuracies).sum(0))
    known = weights > 0
    errors = 1 - np.nanmean(accuracies[:, known], axis=0)
    best, least = np.full(len(target), np.nan), np.inf
    for exponent in _EXPONENTS:
        terms = np.stack([np.ones(known.sum()), (n[known] / n[0]) ** -exponent], axis=1)
        factors, residual = nnls(terms * weights[known, None], errors * weights[known])
        if residual < least:
            least = residual
            best = 1 - factors[0] - factors[1] * (target / n[0]) ** -exponent
    return best
