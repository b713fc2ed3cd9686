"""Score `max_posterior`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.specs import NoParameters
from flowgmm_cli.scores.tempered import gaps, temperature_of
from flowgmm_cli.scores.values import FittedArrays, Floats, finite


class MaxPosterior(FittedArrays):
    r""":math:`\log \frac{1 - p}{p}` with :math:`p = \max_k p(k \mid x)` tempered; higher = less sure.

    Rows have the order that :math:`1 - p` would give them (Hendrycks and Gimpel, 2017), but there the
    surest rows of a high-dimensional mixture would all be 0. With the gaps :math:`d_k` behind the most
    probable class it is :math:`\log \sum_{k > 1} e^{-d_k}`, at most :math:`\log (K - 1)`.
    """

    def __init__(self, config: NoParameters) -> None:
        super().__init__()

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take the temperature of the model."""
        self.fitted = {"temperature": temperature_of(model)}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`; 0 for all where there is but one class."""
        rest = np.sort(gaps(rows.latents, float(self.fitted["temperature"])), axis=1)[:, 1:]
        if not rest.shape[1]:
            return np.zeros(len(rest))
        first = rest[:, :1]
        with np.errstate(invalid="ignore"):  # all others ruled out: inf - inf
            beyond = np.nan_to_num(np.exp(first - rest), nan=1.0).sum(axis=1)
        return finite(np.log(beyond) - first[:, 0])
