"""Score `mahalanobis`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.gaussian import Gaussian, fit_gaussian
from flowgmm_cli.scores.specs import MahalanobisConfig
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite


class Mahalanobis(FittedArrays):
    r""":math:`\sqrt{(x - m)^T S^{-1} (x - m)}` in the flow's input space; higher = further out.

    m and S are mean and covariance of the training rows (Mahalanobis, 1936), S drawn towards a sphere
    (Ledoit and Wolf, 2004). The model has no part in it.
    """

    def __init__(self, config: MahalanobisConfig) -> None:
        super().__init__()
        self.shrinkage = config.shrinkage

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take mean and covariance."""
        x = array(train.x)
        mean = x.mean(axis=0)
        gaussian = fit_gaussian(x - mean, shrinkage=self.shrinkage, generator=generator)
        self.fitted = {"mean": mean, **gaussian.state()}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        gaussian = Gaussian.from_state(self.fitted)
        with np.errstate(over="ignore", invalid="ignore"):
            return finite(np.sqrt(gaussian.squared_distance(array(rows.x) - self.fitted["mean"])))
