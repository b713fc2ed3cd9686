"""Base class of the baselines that fit a scikit-learn classifier to the labelled rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from flowgmm_cli.api import Config
from flowgmm_cli.evaluation.cross_validation import BaselineData, Index
from flowgmm_cli.evaluation.metrics import FloatArray, Floats, IntArray

Settings = Mapping[str, Any]


class SupervisedBaseline:
    """A classifier of the labelled rows, with the settings of the best cross-validated accuracy.

    Attributes:
        candidates: the settings to compare; the first where cross-validation is impossible.
        threads: largest number of threads of a fit; None = all.
        settings: those of the last fit.
    """

    candidates: ClassVar[Sequence[Settings]] = ()
    threads: ClassVar[int | None] = None

    def __init__(self, config: Config, *, classes: int, seed: int) -> None:
        self.classes = classes
        self.seed = seed
        self.settings: Settings = {}

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """Return a new classifier of scikit-learn for `n` labelled rows."""
        raise NotImplementedError

    def fit(self, x: FloatArray, labels: IntArray, settings: Settings | None = None) -> None:
        """See `flowgmm_cli.api.Baseline`."""
        data = BaselineData(np.asarray(x), np.asarray(labels), self.seed)
        with threadpool_limits(limits=self.threads):
            self.settings = dict(self.search(data) if settings is None else settings)
            self._model = self._fit_rows(self.settings, data, data.labelled)

    def predict_proba(self, x: FloatArray) -> FloatArray:
        """See `flowgmm_cli.api.Baseline`."""
        return self.probabilities(self._model, np.asarray(x))

    def search(self, data: BaselineData) -> Settings:
        """Return the candidate with the best cross-validated accuracy."""

        def predict(settings: Settings) -> FloatArray:
            return np.concatenate(
                [
                    self.probabilities(self._fit_rows(settings, data, rows), data.x[held_out])
                    for rows, held_out in data.splits
                ]
            )

        return data.search(self.candidates, predict, self.candidates[0])

    def probabilities(self, model: Any, x: FloatArray) -> Floats:
        """Return a fitted classifier's probabilities `(M, K)`, 0 for classes it was not fitted to."""
        result = np.zeros((len(x), self.classes))
        result[:, model.classes_] = model.predict_proba(x)
        return result

    def _fit_rows(self, settings: Settings, data: BaselineData, rows: Index) -> Any:
        return self.estimator(settings, data, len(rows)).fit(data.x[rows], data.labels[rows])
