"""How rare a score is among held-out rows, also beyond the largest of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.scores.values import FAR, Floats, finite

_KNOTS = 1000  # values kept
_SHARE = 0.1  # of the rows, those whose excesses the tail is fitted to
_HEAVIEST = 0.9  # a tail of shape 1 has no mean


@dataclass(frozen=True)
class Tail:
    r"""The negative logarithm of the share of held-out rows that score at least t, smooth and rising in t.

    Between held-out values it is interpolated. Beyond the largest, v, the excesses are taken for generalised
    Pareto (Pickands, 1975), :math:`g(t) = g(v) + \frac{1}{\xi} \log(1 + \xi (t - v) / \beta)`: a row twice as
    far out stays further out, where an empirical share would be 0 for both. Below the smallest it falls
    towards 0.

    Attributes:
        values: rising held-out values `(n,)`, float64.
        rarity: g at these, `(n,)`, rising and above 0.
        scale: beta at the largest value.
        shape: xi, from 0 (exponential) to 0.9.
    """

    values: Floats
    rarity: Floats
    scale: float
    shape: float

    @classmethod
    def fit(cls, scores: Floats) -> Tail:
        """Fit to the scores of held-out rows `(n,)`."""
        ordered = np.sort(finite(scores))
        values, first, counts = np.unique(ordered, return_index=True, return_counts=True)
        # Of equal values each counts as the middle one; 1/(n + 1) is kept for what has not been seen.
        above = len(ordered) - first - (counts - 1) / 2
        rarity = -np.log(above / (len(ordered) + 1))
        scale, shape = _excess(ordered)
        if len(values) > _KNOTS:
            # even in rarity as well as in rank, so that the thin upper end is kept row by row
            ranks = np.linspace(0, len(values) - 1, _KNOTS // 2)
            rare = np.searchsorted(rarity, np.linspace(rarity[0], rarity[-1], _KNOTS // 2))
            kept = np.unique(np.concatenate([ranks.round().astype(int), rare.clip(max=len(values) - 1)]))
            values, rarity = values[kept], rarity[kept]
        return cls(values, rarity, scale, shape)

    def __call__(self, scores: Floats) -> Floats:
        """Rarity of scores `(N,)`: 0 is nothing special, 3 is one row in twenty."""
        scores = finite(scores)
        found: Floats = np.interp(scores, self.values, self.rarity)
        low, high = self.values[0], self.values[-1]
        with np.errstate(over="ignore"):
            beyond = np.minimum(np.maximum(scores - high, 0) / self.scale, FAR)
            growth = beyond if self.shape == 0 else np.log1p(self.shape * beyond) / self.shape
            fall = np.exp(np.minimum(scores - low, 0) / self.scale)
        return np.where(
            scores > high, self.rarity[-1] + growth, np.where(scores < low, self.rarity[0] * fall, found)
        )

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays to restore it from."""
        return {
            "values": self.values,
            "rarity": self.rarity,
            "excess": np.array([self.scale, self.shape]),
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Tail:
        """Restore what `state` returned."""
        scale, shape = (float(one) for one in arrays["excess"])
        return cls(arrays["values"], arrays["rarity"], scale, shape)


def _excess(ordered: Floats) -> tuple[float, float]:
    r"""Scale at the largest value, and shape, of a generalised Pareto tail, by probability-weighted moments.

    Hosking and Wallis (1987): with the mean :math:`a_0` of the m excesses y over a high value and
    :math:`a_1 = \frac{1}{m} \sum_i (1 - p_i) y_{(i)}` is :math:`\xi = 2 - a_0 / (a_0 - 2 a_1)`. A negative
    shape, a tail with an end, is taken for 0: beyond every end there may be rows.
    """
    count = min(len(ordered) - 1, max(10, round(_SHARE * len(ordered))))
    largest = ordered[-1]
    spread = float(ordered.std()) if np.isfinite(ordered.std()) else float(abs(largest))
    fallback = spread or abs(float(largest)) * 1e-6 or 1.0
    if count < 1:
        return fallback, 0.0
    start = ordered[-count - 1]
    excess = ordered[-count:] - start
    mean = float(excess.mean())
    if not 0 < mean < FAR / 1e6:
        return fallback, 0.0
    places = (np.arange(1, count + 1) - 0.35) / count
    weighted = float(((1 - places) * excess).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    shape = min(max(shape, 0.0), _HEAVIEST)
    return mean * (1 - shape) + shape * float(largest - start), shape
