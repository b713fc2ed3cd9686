"""Score `input_knn`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.nearest import NearestRows
from flowgmm_cli.scores.values import Floats


class InputKnn(NearestRows):
    r"""Mean distance to the k nearest training rows in the flow's input space; higher = further out.

    .. math:: \frac{1}{k} \textstyle\sum_{i \le k} |v - v_{(i)}|

    (Sun et al., 2022, "Out-of-distribution detection with deep nearest neighbors", take the k-th distance.)
    Features have the scale that the recipe's transforms give them, the flow's own, unless asked for another.
    The model has no part in it.
    """

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Store training rows, labelled or not."""
        self.keep(train.x, generator)

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        return self.distances(rows.x)
