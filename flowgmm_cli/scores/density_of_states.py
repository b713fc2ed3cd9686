"""Score `density_of_states`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Score, ScoreInputs, iterate_batches
from flowgmm_cli.scores.entropy import Entropy
from flowgmm_cli.scores.latent_knn import LatentKnn
from flowgmm_cli.scores.latent_radius import LatentRadius
from flowgmm_cli.scores.nll import Nll
from flowgmm_cli.scores.specs import DensityOfStatesConfig, KnnConfig, NoParameters
from flowgmm_cli.scores.values import Floats, array, finite, rows_of

_CHUNK = 256  # few enough that a block of differences stays in the cache
_FARTHEST = 1e15  # in standard deviations; the squares of what is beyond might leave float32


class DensityOfStates:
    r""":math:`-\log \hat q(t(x))`: how rare a row's statistics are; higher = rarer = further out.

    t(x) is :math:`-\log p(x)`, the flow's log-determinant, the latent radius, the entropy of the posterior
    and the latent kNN distance, each standardised; q is a kernel density estimate with Gaussian kernels of
    Scott's bandwidth over training rows (Morningstar et al., 2021, "Density of states estimation for
    out-of-distribution detection"). What no single statistic shows, such as a high density far from every
    training row, their combination may.
    """

    def __init__(self, config: DensityOfStatesConfig) -> None:
        self.config = config
        plain = NoParameters()
        self.parts: dict[str, Score] = {
            "nll": Nll(plain),
            "latent_radius": LatentRadius(plain),
            "entropy": Entropy(plain),
            "latent_knn": LatentKnn(KnnConfig.model_validate({})),
        }
        self.fitted: dict[str, npt.NDArray[Any]] = {}

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Fit the statistics to half of the training rows, and store those of the others.

        A row that the neighbours are looked for among is at distance 0 from itself, and held-out rows are
        what thresholds come from: neither may be a point of the density.
        """
        order = generator.permutation(len(train))
        half = (len(order) + 1) // 2
        for part in self.parts.values():
            part.fit(rows_of(train, order[:half]), held_out, model, generator)
        states = self._states(rows_of(train, order[half:][: self.config.rows] if len(order) > 1 else order))
        # The outermost hundredths are drawn in: one extreme row would make all others equal.
        inner = np.clip(states, *np.quantile(states, [0.01, 0.99], axis=0))
        middle, deviation = inner.mean(axis=0), inner.std(axis=0)
        scale = np.where((deviation > 0) & np.isfinite(deviation), deviation, 1.0)
        self.fitted = {"middle": middle, "scale": scale}
        self.fitted["points"] = self._standard(states)

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        points = self.fitted["points"]
        count, size = points.shape
        width = self.config.bandwidth * count ** (-1 / (size + 4))
        states = self._standard(self._states(rows)) / width
        points = np.ascontiguousarray(points.T) / width
        found = np.empty(len(states))
        for batch in iterate_batches(len(states), _CHUNK):
            squared = np.zeros((len(states[batch]), count))
            for column in range(size):
                difference = states[batch, column, None] - points[column]
                squared += np.square(difference, out=difference)
            nearest = squared.min(axis=1)
            squared -= nearest[:, None]
            squared *= -0.5
            found[batch] = nearest / 2 - np.log(np.exp(squared, out=squared).sum(axis=1))
        return finite(found)

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """See `flowgmm_cli.api.Score`."""
        values, arrays = {}, dict(self.fitted)
        for name, part in self.parts.items():
            values[name], own = part.state()
            arrays |= {f"{name}.{key}": value for key, value in own.items()}
        return values, arrays

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `flowgmm_cli.api.Score`."""
        self.fitted = {name: arrays[name] for name in ("middle", "scale", "points")}
        for name, part in self.parts.items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): one for key, one in arrays.items() if key.startswith(prefix)}
            part.load_state(values[name], own)

    def _states(self, rows: ScoreInputs) -> Floats:
        statistics = [part(rows) for part in self.parts.values()]
        return np.stack([*statistics, finite(array(rows.latents.log_det))], axis=1)

    def _standard(self, states: Floats) -> Floats:
        with np.errstate(over="ignore"):
            scaled: Floats = (states - self.fitted["middle"]) / self.fitted["scale"]
        clipped: Floats = np.clip(scaled, -_FARTHEST, _FARTHEST)
        return clipped
