"""Score `nll`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.specs import NoParameters
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite


class Nll(FittedArrays):
    r""":math:`-\log p(x)` in nats, as the model has it; higher = less dense = further out.

    Nothing is fitted. Density is no measure of belonging: a simple row from elsewhere can be denser than
    every training row (Nalisnick et al., 2019, "Do deep generative models know what they don't know?").
    """

    def __init__(self, config: NoParameters) -> None:
        super().__init__()

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Nothing to do."""

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        return finite(-array(rows.log_density))
