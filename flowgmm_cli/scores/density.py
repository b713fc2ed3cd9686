"""Scores of density: `nll`, `typicality`, `latent_radius` and `density_of_states`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import Score, ScoreInputs, iterate_batches
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.files import select_prefix
from flowgmm_cli.scores.base import State, TensorScore, take_rows, to_finite, to_numpy
from flowgmm_cli.scores.neighbours import LatentKnn
from flowgmm_cli.scores.posterior import Entropy
from flowgmm_cli.scores.specs import DensityOfStatesConfig, KnnConfig, TypicalityConfig

_BATCH_ROWS = 256  # small enough for a block of differences to stay in the cache
_MAX_STANDARDISED = 1e15  # in standard deviations; squares of larger numbers might overflow float32


class Nll(TensorScore):
    r""":math:`-\log p(x)` in nats under the model; higher = less dense = further out.

    Nothing is fitted. Density does not measure membership: a simple row from another distribution can be
    denser than every training row (Nalisnick et al., 2019, arXiv:1810.09136).
    """

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        return -rows.log_density.double()


class Typicality(TensorScore):
    r""":math:`|-\log p(x) - H|`, where H is the mean of :math:`-\log p` over held-out rows.

    Nearly all rows of a high-dimensional distribution have a density near :math:`e^{-H}`, its typical set; a
    row far denser than that is as strange as one far less dense (Nalisnick et al., 2019, "Detecting
    out-of-distribution inputs to deep generative models using typicality", for batches of one). Higher =
    less typical = further out.
    """

    config: TypicalityConfig

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Compute H, without rows whose density is not finite."""
        nll = -to_numpy(held_out.log_density)
        nll = nll[np.isfinite(nll)]
        average = np.mean if self.config.centre == "mean" else np.median
        self.fitted = {"centre": np.array(average(nll) if len(nll) else 0.0)}

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        return (-rows.log_density.double() - float(self.fitted["centre"])).abs()


class LatentRadius(TensorScore):
    r""":math:`|r^2 - D| / \sqrt{2 D}`, :math:`r^2 = \min_c \sum_i (z_i - \mu_{ci})^2 / \sigma_{ci}^2`.

    The mass of a Gaussian in D dimensions lies on a shell: its squared radius is chi-squared with mean D and
    variance 2 D. Higher = further from the shell of the nearest component, inwards or outwards.
    """

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Copy the components; those of an ensemble's first member, whose latents the rows have."""
        means, scales = model.parts[0].mixture.moments()
        self.fitted = {"means": to_numpy(means), "precisions": 1 / to_numpy(scales) ** 2}

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`, about |N(0, 1)| for rows of a perfect model."""
        z, means, precisions = rows.latents.z.double(), self.constant("means"), self.constant("precisions")
        size = means.shape[1]
        squares = z.square() @ precisions.T - 2 * z @ (precisions * means).T
        nearest = (squares + (precisions * means.square()).sum(1)).amin(1)
        return (nearest - size).abs() / math.sqrt(2 * size)


class DensityOfStates:
    r""":math:`-\log \hat q(t(x))`, the rarity of a row's statistics; higher = rarer = further out.

    t(x) is :math:`-\log p(x)`, the flow's log-determinant, the latent radius, the entropy of the posterior
    and the latent kNN distance, each standardised; q is a kernel density estimate with Gaussian kernels of
    Scott's bandwidth over training rows (Morningstar et al., 2021, "Density of states estimation for
    out-of-distribution detection"). The combination may show what no single statistic shows, such as a high
    density far from every training row.
    """

    def __init__(self, config: DensityOfStatesConfig) -> None:
        self.config = config
        self.statistics: dict[str, Score] = {
            "nll": Nll(),
            "latent_radius": LatentRadius(),
            "entropy": Entropy(),
            "latent_knn": LatentKnn(KnnConfig.model_validate({})),
        }
        self.fitted: dict[str, Array] = {}

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Fit the statistics to half of the training rows, and store those of the other half.

        A row is at distance 0 from itself in the search for neighbours, and thresholds come from held-out
        rows: neither may be a point of the density.
        """
        order = generator.permutation(len(train))
        half = (len(order) + 1) // 2
        for score in self.statistics.values():
            score.fit(take_rows(train, order[:half]), held_out, model, generator)
        states = self._states(take_rows(train, order[half:][: self.config.rows] if len(order) > 1 else order))
        # clipped at the outermost hundredths: one extreme row would make all others equal
        inner = np.clip(states, *np.quantile(states, [0.01, 0.99], axis=0))
        middle, deviation = inner.mean(axis=0), inner.std(axis=0)
        scale = np.where((deviation > 0) & np.isfinite(deviation), deviation, 1.0)
        self.fitted = {"middle": middle, "scale": scale}
        self.fitted["points"] = self._standardise(states)

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        count, size = self.fitted["points"].shape
        bandwidth = self.config.bandwidth * count ** (-1 / (size + 4))
        points = torch.from_numpy(self.fitted["points"] / bandwidth)
        states = torch.from_numpy(self._standardise(self._states(rows)) / bandwidth)
        result = np.empty(len(states))
        for batch in iterate_batches(len(states), _BATCH_ROWS):
            distance = torch.cdist(states[batch], points, compute_mode="donot_use_mm_for_euclid_dist")
            result[batch] = -distance.square().mul(-0.5).logsumexp(dim=1).numpy()
        return to_finite(result)

    def state(self) -> State:
        """See `flowgmm_cli.api.Score`."""
        values, arrays = {}, dict(self.fitted)
        for name, score in self.statistics.items():
            values[name], own = score.state()
            arrays |= {f"{name}.{key}": array for key, array in own.items()}
        return values, arrays

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See `flowgmm_cli.api.Score`."""
        self.fitted = {name: arrays[name] for name in ("middle", "scale", "points")}
        for name, score in self.statistics.items():
            score.load_state(values[name], select_prefix(f"{name}.", arrays))

    def _states(self, rows: ScoreInputs) -> Floats:
        statistics = [score(rows) for score in self.statistics.values()]
        return np.stack([*statistics, to_finite(to_numpy(rows.latents.log_det))], axis=1)

    def _standardise(self, states: Floats) -> Floats:
        with np.errstate(over="ignore"):
            scaled = (states - self.fitted["middle"]) / self.fitted["scale"]
        return np.clip(scaled, -_MAX_STANDARDISED, _MAX_STANDARDISED)
