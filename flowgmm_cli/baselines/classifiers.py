"""Baselines of other kinds that learn from the labelled rows: nearest neighbours, a network."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from flowgmm_cli.baselines.base import Settings, SupervisedBaseline
from flowgmm_cli.evaluation.cross_validation import BaselineData
from flowgmm_cli.evaluation.metrics import FloatArray, Floats


class NearestNeighbours(SupervisedBaseline):
    """A vote of the nearest labelled rows, smoothed by a vote that all classes share."""

    candidates = tuple(
        {"neighbours": k, "metric": metric}
        for k in (1, 3, 5, 10, 20, 40)
        for metric in ("euclidean", "cosine")
    )

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        k = min(settings["neighbours"], n)
        return KNeighborsClassifier(k, weights="distance", metric=settings["metric"])

    def probabilities(self, model: Any, x: FloatArray) -> Floats:
        """See `SupervisedBaseline`."""
        votes = model.n_neighbors * super().probabilities(model, x)
        return np.asarray((votes + 1 / self.classes) / (model.n_neighbors + 1))


class MLP(SupervisedBaseline):
    """A network with a hidden layer of 256 units."""

    candidates = tuple({"alpha": penalty} for penalty in (1.0, 10.0, 100.0))

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        scale = max(float(data.x.std()), 1e-12)  # the same for all features, to keep the geometry
        epochs = int(np.clip(1_000_000 // n, 20, 150))
        options = {"learning_rate_init": 3e-3, "max_iter": epochs, "random_state": self.seed}
        network = MLPClassifier((256,), alpha=settings["alpha"], **options)
        return make_pipeline(FunctionTransformer(partial(np.multiply, 1 / scale)), network)
