"""Score `typicality`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.specs import TypicalityConfig
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite


class Typicality(FittedArrays):
    r""":math:`|-\log p(x) - H|`, where H is the mean of :math:`-\log p` over held-out rows.

    Nearly all rows of a high-dimensional distribution have a density near :math:`e^{-H}`, its typical set; a
    row far denser than that is as strange as one far less dense (Nalisnick et al., 2019, "Detecting
    out-of-distribution inputs to deep generative models using typicality", for batches of one). Higher =
    less typical = further out.
    """

    def __init__(self, config: TypicalityConfig) -> None:
        super().__init__()
        self.centre = config.centre

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take H; rows whose density is not a number do not count."""
        nll = -array(held_out.log_density)
        nll = nll[np.isfinite(nll)]
        middle = np.mean if self.centre == "mean" else np.median
        self.fitted = {"centre": np.array(middle(nll) if len(nll) else 0.0)}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        return finite(np.abs(-array(rows.log_density) - self.fitted["centre"]))
