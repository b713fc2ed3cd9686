"""One Gaussian in many dimensions: principal directions, and a sphere for all that is beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flowgmm_cli.scores.values import Floats

_FULL = 1024  # dimensions up to which every direction is found
_RANK = 512  # directions kept of more than that
_FLOOR = 1e-9  # smallest variance, as a share of the mean one: a constant feature has none


@dataclass(frozen=True)
class Gaussian:
    r"""Covariance :math:`U \mathrm{diag}(\lambda - \sigma^2) U^T + \sigma^2 I`.

    Attributes:
        directions: U, orthonormal columns, float32 `(D, r)`.
        variances: lambda along them, float64 `(r,)`.
        rest: sigma^2, the variance in every direction beyond them; without a meaning where r = D.
    """

    directions: npt.NDArray[np.float32]
    variances: Floats
    rest: float

    @property
    def complete(self) -> bool:
        """Whether there is a variance for every direction."""
        return bool(self.directions.shape[1] == len(self.directions))

    def whitened(self, rows: Floats) -> Floats:
        """Coordinates along the directions `(N, r)` of rows `(N, D)`, in standard deviations."""
        found: Floats = (rows @ self.directions) / np.sqrt(self.variances)
        return found

    def squared_distance(self, differences: Floats) -> Floats:
        r"""Squared Mahalanobis lengths :math:`d^T S^{-1} d` of differences `(N, D)`, `(N,)`."""
        if self.complete:
            return squared_lengths(self.whitened(differences))
        along = differences @ self.directions
        beyond = np.maximum(squared_lengths(differences) - squared_lengths(along), 0.0)
        found: Floats = (along**2 / self.variances).sum(axis=1) + beyond / self.rest
        return found

    def log_prob(self, differences: Floats) -> Floats:
        """Log-density in nats of rows `mean + differences`, `(N,)`."""
        size, rank = self.directions.shape
        log_volume = np.log(self.variances).sum() + (size - rank) * math.log(self.rest)
        constant = float(log_volume) + size * math.log(2 * math.pi)
        found: Floats = -0.5 * (self.squared_distance(differences) + constant)
        return found

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays to restore it from."""
        return {"directions": self.directions, "variances": self.variances, "rest": np.array(self.rest)}

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Gaussian:
        """Restore what `state` returned; other arrays beside it are of no matter."""
        return cls(arrays["directions"], arrays["variances"], float(arrays["rest"]))


def squared_lengths(differences: Floats) -> Floats:
    """Squared Euclidean lengths of differences `(N, D)`, `(N,)`."""
    found: Floats = np.einsum("nd,nd->n", differences, differences)
    return found


def fit_gaussian(
    differences: Floats,
    *,
    shrinkage: Literal["ledoit_wolf", "none"],
    generator: np.random.Generator,
    rank: int | None = None,
) -> Gaussian:
    """Fit the covariance of rows that have been centred.

    Args:
        differences: rows minus their mean, or each minus the mean of its class, `(N, D)`.
        shrinkage: `ledoit_wolf` draws the covariance towards a sphere by the share that Ledoit and Wolf
            (2004) found to be best, which makes it regular even with fewer rows than dimensions.
        generator: of the search for the directions of very many dimensions.
        rank: number of directions; None for all, or for the first 512 of more than 1,024 dimensions.
    """
    count, size = differences.shape
    rank = min(rank or (size if size <= _FULL else _RANK), size)
    mean = float((differences**2).sum() / (count * size)) or 1.0
    variances, directions = _principal(differences, rank, generator)
    left = size - rank
    rest = max(mean * size - variances.sum(), 0.0) / left if left else 0.0
    if shrinkage == "ledoit_wolf":
        from sklearn.covariance import ledoit_wolf_shrinkage

        share = 1.0  # of one row nothing but a scale is known
        if count > 1:  # in units in which squares of squares cannot overflow
            share = float(ledoit_wolf_shrinkage(differences / math.sqrt(mean), assume_centered=True))
        variances, rest = (1 - share) * variances + share * mean, (1 - share) * rest + share * mean
    floor = _FLOOR * mean
    return Gaussian(directions.astype(np.float32), np.maximum(variances, floor), max(rest, floor))


def _principal(differences: Floats, rank: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Variances `(r,)` and directions `(D, r)`."""
    count, size = differences.shape
    if size <= _FULL:
        variances, directions = np.linalg.eigh(differences.T @ differences / count)
        return np.maximum(variances[::-1][:rank], 0.0), directions[:, ::-1][:, :rank]
    from sklearn.utils.extmath import randomized_svd

    seed = int(generator.integers(2**31))
    _, singular, rows = randomized_svd(differences, min(rank, count), n_iter=4, random_state=seed)
    return singular**2 / count, rows.T
