"""Scores of uncertainty between the classes: `entropy` and `max_posterior`.

Both use the posterior in a form that does not saturate: the gaps of the class log-densities.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.base import FAR, TensorScore


class TemperedScore(TensorScore):
    """A score of log-densities divided by the temperature of the model."""

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Copy the temperature of the calibrated model."""
        self.fitted = {"temperature": np.asarray(float(model.temperature))}


class PosteriorScore(TemperedScore):
    """A score of the tempered posterior of the classes."""

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        return self.score(class_gaps(self.log_joint(rows), float(self.fitted["temperature"])))

    def log_joint(self, rows: ScoreInputs) -> Tensor:
        """Return log-densities of the classes `(N, K)`, up to a constant of each row."""
        return rows.latents.class_log_prob

    @abstractmethod
    def score(self, gaps: Tensor) -> Tensor:
        """Compute the score `(N,)` from gaps `(N, K - 1)` at the fitted temperature, see `class_gaps`."""


class Entropy(PosteriorScore):
    r""":math:`-\sum_k p(k \mid x) \log p(k \mid x)`, tempered, in nats; higher = less certain.

    With the gaps :math:`d_k` and :math:`L = \log (1 + \sum_k e^{-d_k})` it is :math:`e^{-L} L + \sum_k
    e^{-d_k - L} (d_k + L)`, where `log1p` gives L: entropies of 1e-200 still differ.
    """

    def score(self, gaps: Tensor) -> Tensor:
        """Return `(N,)`, from 0 to log K."""
        total = torch.log1p(gaps.neg().exp().sum(1, keepdim=True))
        terms = (-gaps - total).exp() * (gaps + total)
        return ((-total).exp() * total).squeeze(1) + terms.sum(1)


class MaxPosterior(PosteriorScore):
    r""":math:`\log \frac{1 - p}{p}` with :math:`p = \max_k p(k \mid x)` tempered; higher = less certain.

    Rows have the order of :math:`1 - p` (Hendrycks and Gimpel, 2017), which would be 0 for all of the most
    certain rows of a high-dimensional mixture. With the gaps :math:`d_k` behind the most probable class it is
    :math:`\log \sum_{k > 1} e^{-d_k}`, at most :math:`\log (K - 1)`.
    """

    def score(self, gaps: Tensor) -> Tensor:
        """Return `(N,)`; 0 for all with a single class."""
        if not gaps.shape[1]:
            return gaps.sum(1)
        return (gaps[:, :1] - gaps).exp().sum(1).log() - gaps[:, 0]


class UnknownKind(TensorScore):
    """Log-odds of an unknown kind against the classes; rows have the order of `p_unknown`."""

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`; 0 for a model that knows of no unknown kinds."""
        log_odds = rows.latents.unknown_log_odds
        return torch.zeros_like(rows.log_density) if log_odds is None else log_odds.double()


def class_gaps(log_joint: Tensor, temperature: float) -> Tensor:
    r"""Compute the gaps of the other classes to the most probable one, rising, `(N, K - 1)`.

    They are :math:`(\max_j l_j - l_k) / T` in float64, at most 3e38, and all 0 for a row whose densities are
    NaN: nothing is known of its class.

    The label noise of the calibration is left out. It is the same for all rows: it would only hide the
    differences between certain rows, and hardly change their order.
    """
    falling = (log_joint.double() / temperature).sort(dim=1, descending=True).values
    gaps = falling[:, :1] - falling[:, 1:]
    return torch.where(gaps.isnan().any(1, keepdim=True), 0.0, gaps.clamp(max=FAR))
