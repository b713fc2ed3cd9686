"""Mahalanobis distances, `mahalanobis` and `class_mahalanobis`, and the Gaussian behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.scores.base import TensorScore, nearest_distance, to_numpy
from flowgmm_cli.scores.specs import MahalanobisConfig

_MAX_FULL_RANK = 1024  # dimensions up to which all directions are computed
_MAX_RANK = 512  # directions of more dimensions
_MIN_VARIANCE = 1e-9  # as a share of the mean variance: that of a constant feature is 0


@dataclass(frozen=True)
class Gaussian:
    r"""A centred Gaussian with covariance :math:`U \mathrm{diag}(\lambda - \sigma^2) U^T + \sigma^2 I`."""

    directions: npt.NDArray[np.float32]  # U, orthonormal columns, float32 `(D, r)`
    variances: Floats  # lambda along them, float64 `(r,)`
    residual: float  # sigma^2, the variance in every other direction; without meaning if r = D

    @property
    def full_rank(self) -> bool:
        """True with a variance for every direction."""
        return bool(self.directions.shape[1] == len(self.directions))

    def whiten(self, rows: Tensor) -> Tensor:
        """Return coordinates along the directions `(N, r)` of rows `(N, D)`, in standard deviations."""
        deviations = torch.from_numpy(self.variances).sqrt()
        return rows @ torch.from_numpy(self.directions).double() / deviations

    def mahalanobis(self, rows: Tensor) -> Tensor:
        r"""Return squared Mahalanobis lengths :math:`d^T S^{-1} d` of centred rows `(N, D)`, `(N,)`."""
        within = self.whiten(rows).square().sum(1)
        if self.full_rank:
            return within
        along = rows @ torch.from_numpy(self.directions).double()
        beyond = (rows.square().sum(1) - along.square().sum(1)).clamp(min=0)
        return within + beyond / self.residual

    def log_prob(self, rows: Tensor) -> Tensor:
        """Return the log-density in nats of centred rows, `(N,)`."""
        size, rank = self.directions.shape
        log_volume = np.log(self.variances).sum() + (size - rank) * math.log(self.residual)
        constant: float = float(log_volume) + size * math.log(2 * math.pi)
        return (self.mahalanobis(rows) + constant) * -0.5

    def state(self) -> dict[str, Array]:
        """Return arrays for `from_state`."""
        return {"directions": self.directions, "variances": self.variances, "rest": np.array(self.residual)}

    @classmethod
    def from_state(cls, arrays: Mapping[str, Array]) -> Gaussian:
        """Restore the result of `state`; other arrays are ignored."""
        return cls(arrays["directions"], arrays["variances"], float(arrays["rest"]))


def fit_gaussian(
    rows: Floats, *, shrinkage: Literal["ledoit_wolf", "none"], generator: Generator, rank: int | None = None
) -> Gaussian:
    """Fit the covariance of rows `(N, D)` minus their mean, or each minus the mean of its class.

    `ledoit_wolf` shrinks the covariance towards a sphere by the share that Ledoit and Wolf (2004) found to be
    best, which makes it regular even with fewer rows than dimensions. `rank` is the number of directions;
    None for all, or for the first 512 of more than 1,024 dimensions, whose decomposition is randomised.
    """
    count, size = rows.shape
    rank = min(rank or (size if size <= _MAX_FULL_RANK else _MAX_RANK), size)
    mean = float((rows**2).sum() / (count * size)) or 1.0
    variances, directions = _principal_components(rows, rank, generator)
    remaining = size - rank
    residual = max(mean * size - variances.sum(), 0.0) / remaining if remaining else 0.0
    if shrinkage == "ledoit_wolf":
        from sklearn.covariance import ledoit_wolf_shrinkage

        share = 1.0  # a single row determines nothing but the scale
        if count > 1:  # in units in which fourth powers cannot overflow
            share = float(ledoit_wolf_shrinkage(rows / math.sqrt(mean), assume_centered=True))
        variances, residual = (1 - share) * variances + share * mean, (1 - share) * residual + share * mean
    floor = _MIN_VARIANCE * mean
    return Gaussian(directions.astype(np.float32), np.maximum(variances, floor), max(residual, floor))


def _principal_components(rows: Floats, rank: int, generator: Generator) -> tuple[Floats, Floats]:
    """Return variances `(r,)` and directions `(D, r)`."""
    count, size = rows.shape
    if size <= _MAX_FULL_RANK:
        variances, directions = np.linalg.eigh(rows.T @ rows / count)
        return np.maximum(variances[::-1][:rank], 0.0), directions[:, ::-1][:, :rank]
    from sklearn.utils.extmath import randomized_svd

    seed = int(generator.integers(2**31))
    _, singular, components = randomized_svd(rows, min(rank, count), n_iter=4, random_state=seed)
    return singular**2 / count, components.T


class Mahalanobis(TensorScore):
    r""":math:`\sqrt{(x - m)^T S^{-1} (x - m)}` in the flow's input space; higher = further out.

    m and S are mean and covariance of the training rows (Mahalanobis, 1936), S shrunk towards a sphere
    (Ledoit and Wolf, 2004). The score does not use the model.
    """

    config: MahalanobisConfig

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Fit mean and covariance."""
        x = to_numpy(train.x)
        mean = x.mean(axis=0)
        gaussian = fit_gaussian(x - mean, shrinkage=self.config.shrinkage, generator=generator)
        self.fitted = {"mean": mean, **gaussian.state()}

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        return Gaussian.from_state(self.fitted).mahalanobis(rows.x.double() - self.constant("mean")).sqrt()


class ClassMahalanobis(TensorScore):
    r""":math:`\min_k \sqrt{(z - m_k)^T S^{-1} (z - m_k)}` in the latent space; higher = further out.

    Means of the classes that the model predicts for its training rows, and one covariance around them (Lee et
    al., 2018), shrunk towards a sphere (Ledoit and Wolf, 2004). Unlike the mixture's own distances these
    depend on where the rows really are.
    """

    config: MahalanobisConfig

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Fit class means and the covariance around them, without rows that have infinite latents."""
        z, classes = to_numpy(train.latents.z), to_numpy(train.log_posterior).argmax(axis=1)
        usable = np.isfinite(z).all(axis=1)
        if usable.any():
            z, classes = z[usable], classes[usable]
        z = np.nan_to_num(z)
        present, classes = np.unique(classes, return_inverse=True)
        means = np.stack([z[classes == index].mean(axis=0) for index in range(len(present))])
        gaussian = fit_gaussian(z - means[classes], shrinkage=self.config.shrinkage, generator=generator)
        self.fitted = {"means": means, **gaussian.state()}

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        gaussian, z, means = Gaussian.from_state(self.fitted), rows.latents.z.double(), self.constant("means")
        if gaussian.full_rank:  # one product for all classes
            return nearest_distance(gaussian.whiten(z), gaussian.whiten(means))
        return torch.stack([gaussian.mahalanobis(z - mean) for mean in means]).amin(0).sqrt()
