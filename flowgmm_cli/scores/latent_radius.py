"""Score `latent_radius`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.specs import NoParameters
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite


class LatentRadius(FittedArrays):
    r""":math:`|r^2 - D| / \sqrt{2 D}`, :math:`r^2 = \min_c \sum_i (z_i - \mu_{ci})^2 / \sigma_{ci}^2`.

    The mass of a Gaussian in D dimensions lies on a shell: its squared radius is chi-squared with mean D and
    variance 2 D. Higher = further from the shell of the nearest component, to the inside or to the outside.
    """

    def __init__(self, config: NoParameters) -> None:
        super().__init__()

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take the components; of an ensemble the first member's, whose latents the rows have."""
        means, scales = model.parts[0].mixture.moments()
        self.fitted = {"means": array(means), "precisions": 1 / array(scales) ** 2}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, about |N(0, 1)| for rows of a perfect model."""
        size = self.fitted["means"].shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            squared = squared_radius(array(rows.latents.z), self.fitted["means"], self.fitted["precisions"])
            return finite(np.abs(squared - size) / math.sqrt(2 * size))


def squared_radius(z: Floats, means: Floats, precisions: Floats) -> Floats:
    """Squared distance of latents `(N, D)` to the nearest component, in its standard deviations: `(N,)`.

    Args:
        z: latents.
        means: of the components, `(C, D)`.
        precisions: their inverse variances, `(C, D)`.
    """
    nearest = np.full(len(z), np.inf)
    for mean, precision in zip(means, precisions, strict=True):
        nearest = np.fmin(nearest, ((z - mean) ** 2) @ precision)
    return nearest
