"""Score `entropy`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.specs import NoParameters
from flowgmm_cli.scores.tempered import gaps, temperature_of
from flowgmm_cli.scores.values import FittedArrays, Floats, finite


class Entropy(FittedArrays):
    r""":math:`-\sum_k p(k \mid x) \log p(k \mid x)` of the tempered posterior, in nats; higher = more doubt.

    With the gaps :math:`d_k \ge 0` behind the most probable class and :math:`L = \log \sum_k e^{-d_k}` it is
    :math:`\sum_k e^{-d_k - L} (d_k + L)`, where L is found by `log1p`: entropies of 1e-200 still differ.
    """

    def __init__(self, config: NoParameters) -> None:
        super().__init__()

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take the temperature of the model."""
        self.fitted = {"temperature": temperature_of(model)}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, from 0 to log K."""
        return finite(entropy(gaps(rows.latents, float(self.fitted["temperature"]))))


def entropy(behind: Floats) -> Floats:
    """Entropy in nats of the softmax of `-behind` `(N, K)`, whose smallest entry in each row is 0.

    >>> even, sure = entropy(np.array([[0.0, 0.0], [0.0, 50.0]]))
    >>> print(f"{even:.6f} {sure:.3e}")
    0.693147 9.837e-21
    """
    rest = np.sort(behind, axis=1)[:, 1:]  # all but the most probable class
    total = np.log1p(np.exp(-rest).sum(axis=1))
    with np.errstate(invalid="ignore"):
        terms = np.exp(-rest - total[:, None]) * (rest + total[:, None])
    terms[np.isinf(rest)] = 0.0  # a class that is ruled out
    found: Floats = np.exp(-total) * total + terms.sum(axis=1)
    return found
