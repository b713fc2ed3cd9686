"""Score `likelihood_ratio`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.gaussian import Gaussian, fit_gaussian
from flowgmm_cli.scores.images import pixels
from flowgmm_cli.scores.specs import LikelihoodRatioConfig
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite


class LikelihoodRatio(FittedArrays):
    r""":math:`\log p_0(x) - \log p(x)`, where :math:`p_0` is a background model; higher = further out.

    Both densities are high for images with large even areas, whatever they show; the difference is left with
    what they show (Ren et al., 2019, "Likelihood ratios for out-of-distribution detection"). Their background
    is a second network of the same kind; this one is small: a Gaussian of pixels with a low-rank covariance
    (probabilistic PCA, Tipping and Bishop, 1999), fitted to training images in which a share of the pixels
    is replaced by draws from their whole range.
    """

    def __init__(self, config: LikelihoodRatioConfig) -> None:
        super().__init__()
        self.config = config

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Fit the background."""
        images = pixels(train)
        low, high = images.min(), images.max()
        mutated = np.where(
            generator.random(images.shape) < self.config.mutation,
            generator.uniform(low, high, images.shape),
            images,
        )
        mean = mutated.mean(axis=0)
        background = fit_gaussian(
            mutated - mean, shrinkage="none", generator=generator, rank=self.config.rank
        )
        self.fitted = {"mean": mean, **background.state()}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, in nats."""
        background = Gaussian.from_state(self.fitted)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = background.log_prob(pixels(rows) - self.fitted["mean"]) - array(rows.log_density)
        return finite(ratio)
