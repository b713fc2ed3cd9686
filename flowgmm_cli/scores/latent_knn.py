"""Score `latent_knn`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.nearest import NearestRows
from flowgmm_cli.scores.values import Floats


class LatentKnn(NearestRows):
    r"""Mean distance to the k nearest training rows in the latent space; higher = further out.

    .. math:: \frac{1}{k} \textstyle\sum_{i \le k} |v - v_{(i)}|

    (Sun et al., 2022, "Out-of-distribution detection with deep nearest neighbors", take the k-th distance.)
    The latent space has the unit of the mixture, whose components have a standard deviation near 1, so
    features are not scaled unless asked for.
    """

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Store training rows, labelled or not."""
        self.keep(train.latents.z, generator)

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        return self.distances(rows.latents.z)
