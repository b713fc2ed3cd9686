"""Scores of uncertainty between the classes: `entropy` and `max_posterior`.

Both use the posterior in a form that does not saturate: the gaps of the class log-densities.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import ScoreInputs, iterate_batches
from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.scores.base import ArrayScore, to_finite, to_numpy

_BLOCK = 2**22  # entries of a temporary array; 32 MiB


class TemperedScore(ArrayScore):
    """A score of log-densities divided by the temperature of the model."""

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Copy the temperature of the calibrated model."""
        self.fitted = {"temperature": np.asarray(float(model.temperature))}


class PosteriorScore(TemperedScore):
    """A score of the tempered posterior of the classes."""

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, in chunks of rows."""
        temperature, result = float(self.fitted["temperature"]), np.empty(len(rows))
        for part in iterate_batches(len(rows), max(1, _BLOCK // rows.log_posterior.shape[1])):
            result[part] = self.score(class_gaps(self.log_joint(rows, part), temperature))
        return to_finite(result)

    def log_joint(self, rows: ScoreInputs, part: slice) -> Tensor:
        """Return log-densities of some of the rows and the classes `(n, K)`, up to a constant of each row."""
        return rows.latents.class_log_prob[part]

    @abstractmethod
    def score(self, gaps: Floats) -> Floats:
        """Compute the score `(N,)` from gaps `(N, K)` at the fitted temperature, see `class_gaps`."""


class Entropy(PosteriorScore):
    r""":math:`-\sum_k p(k \mid x) \log p(k \mid x)`, tempered, in nats; higher = less certain."""

    def score(self, gaps: Floats) -> Floats:
        """Return `(N,)`, from 0 to log K."""
        return entropy_of_gaps(gaps)


class MaxPosterior(PosteriorScore):
    r""":math:`\log \frac{1 - p}{p}` with :math:`p = \max_k p(k \mid x)` tempered; higher = less certain.

    Rows have the order of :math:`1 - p` (Hendrycks and Gimpel, 2017), which would be 0 for all of the most
    certain rows of a high-dimensional mixture. With the gaps :math:`d_k` behind the most probable class it is
    :math:`\log \sum_{k > 1} e^{-d_k}`, at most :math:`\log (K - 1)`.
    """

    def score(self, gaps: Floats) -> Floats:
        """Return `(N,)`; 0 for all with a single class."""
        others = np.sort(gaps, axis=1)[:, 1:]
        if not others.shape[1]:
            return np.zeros(len(others))
        first = others[:, :1]
        with np.errstate(invalid="ignore"):  # inf - inf where all others are impossible
            total = np.nan_to_num(np.exp(first - others), nan=1.0).sum(axis=1)
        return np.asarray(np.log(total) - first[:, 0])


class UnknownKind(TemperedScore):
    r"""Log-odds of the nameless components against the classes, tempered; higher = rather of an unknown kind.

    .. math:: \log \sum_m e^{l_m / T} - \log \sum_k e^{l_k / T}

    over the nameless components m and the classes k. Rows have the order of `Model.p_unknown`, which
    saturates.
    """

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`; 0 for a model without nameless components."""
        if rows.latents.unknown_log_prob is None:
            return np.zeros(len(rows))
        temperature = float(self.fitted["temperature"])
        named, nameless = rows.latents.class_log_prob, rows.latents.unknown_log_prob
        log_odds = (nameless / temperature).logsumexp(1) - (named / temperature).logsumexp(1)
        return to_finite(to_numpy(log_odds))


def class_gaps(class_log_prob: Tensor, temperature: float) -> Floats:
    r"""Compute the gaps of the classes to the most probable one, :math:`(\max_j l_j - l_k) / T`, `(N, K)`.

    The posterior is the softmax of the negative gaps, and at least one gap of a row is 0. All are 0 for a row
    whose densities are NaN: nothing is known of its class.

    The label noise of the calibration is left out. It is the same for all rows: it would only hide the
    differences between certain rows, and hardly change their order.
    """
    log_joint = to_numpy(class_log_prob)
    with np.errstate(invalid="ignore"):
        gaps: Floats = (log_joint.max(axis=1, keepdims=True) - log_joint) / temperature
    gaps[np.isnan(gaps).any(axis=1)] = 0.0
    return gaps


def entropy_of_gaps(gaps: Floats) -> Floats:
    r"""Compute the entropy in nats of the softmax of `-gaps` `(N, K)`, whose smallest entry in each row is 0.

    With :math:`L = \log \sum_k e^{-d_k}` it is :math:`\sum_k e^{-d_k - L} (d_k + L)`, where `log1p` gives L:
    entropies of 1e-200 still differ.

    >>> even, certain = entropy_of_gaps(np.array([[0.0, 0.0], [0.0, 50.0]]))
    >>> print(f"{even:.6f} {certain:.3e}")
    0.693147 9.837e-21
    """
    others = np.sort(gaps, axis=1)[:, 1:]  # all but the most probable class
    total = np.log1p(np.exp(-others).sum(axis=1))
    with np.errstate(invalid="ignore"):
        terms = np.exp(-others - total[:, None]) * (others + total[:, None])
    terms[np.isinf(others)] = 0.0  # impossible classes
    return np.asarray(np.exp(-total) * total + terms.sum(axis=1))
