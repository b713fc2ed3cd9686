"""Score `class_mahalanobis`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.gaussian import Gaussian, fit_gaussian, squared_lengths
from flowgmm_cli.scores.specs import MahalanobisConfig
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite


class ClassMahalanobis(FittedArrays):
    r""":math:`\min_k \sqrt{(z - m_k)^T S^{-1} (z - m_k)}` in the latent space; higher = further out.

    Means of the classes that the model predicts for its training rows, and one covariance around them (Lee et
    al., 2018), drawn towards a sphere (Ledoit and Wolf, 2004). Unlike the mixture's own distances these know
    where the rows really lie.
    """

    def __init__(self, config: MahalanobisConfig) -> None:
        super().__init__()
        self.shrinkage = config.shrinkage

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take class means and the covariance around them; rows with infinite latents do not count."""
        z, classes = array(train.latents.z), array(train.log_posterior).argmax(axis=1)
        usable = np.isfinite(z).all(axis=1)
        if usable.any():
            z, classes = z[usable], classes[usable]
        z = np.nan_to_num(z)
        present, classes = np.unique(classes, return_inverse=True)
        means = np.stack([z[classes == index].mean(axis=0) for index in range(len(present))])
        gaussian = fit_gaussian(z - means[classes], shrinkage=self.shrinkage, generator=generator)
        self.fitted = {"means": means, **gaussian.state()}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        gaussian, z, means = Gaussian.from_state(self.fitted), array(rows.latents.z), self.fitted["means"]
        distance: Callable[[Floats], Floats] = gaussian.squared_distance
        nearest = np.full(len(z), np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            if gaussian.complete:  # one product for all classes
                z, means, distance = gaussian.whitened(z), gaussian.whitened(means), squared_lengths
            for mean in means:
                nearest = np.minimum(nearest, distance(z - mean))
            return finite(np.sqrt(nearest))
