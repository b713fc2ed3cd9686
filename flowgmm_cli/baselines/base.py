"""Base class of the baselines that fit a scikit-learn classifier to the labelled rows alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from sklearn.dummy import DummyClassifier
from threadpoolctl import threadpool_limits

from flowgmm_cli.api import Config
from flowgmm_cli.data.array_types import FloatArray, Floats, IntArray
from flowgmm_cli.evaluation.cross_validation import NO_ROWS, BaselineData, Index

Settings = Mapping[str, Any]


@runtime_checkable
class ChoosesSettings(Protocol):
    """A baseline that keeps the cross-validation of its last search."""

    def settings_without(self, rows: Index) -> Settings:
        """Return the settings that the search would have chosen if the labels at `rows` did not count."""
        ...


class SupervisedBaseline(ABC):
    """A classifier of the labelled rows, with the settings of the best cross-validated accuracy.

    Attributes:
        candidates: the settings to compare; the first where cross-validation is impossible.
        temperatures: divisors of the log-probabilities, of which the likeliest is chosen with the settings.
        threads: largest number of threads of a fit; None = all.
        max_rows: largest number of rows of a fit, a sample of more; None = all.
        needs_two_classes: the estimator refuses rows of a single class.
        settings: those of the last fit.
        data: rows and folds of the last search.
    """

    candidates: ClassVar[Sequence[Settings]] = ()
    temperatures: ClassVar[Sequence[float]] = ()
    threads: ClassVar[int | None] = None
    max_rows: ClassVar[int | None] = None
    needs_two_classes: ClassVar[bool] = True

    def __init__(self, config: Config, *, classes: int, seed: int) -> None:
        self.classes = classes
        self.seed = seed
        self.settings: Settings = {}

    @abstractmethod
    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """Return a new classifier of scikit-learn for `n` labelled rows."""

    def fit(self, x: FloatArray, labels: IntArray, settings: Settings | None = None) -> None:
        """See `flowgmm_cli.api.Baseline`."""
        data = BaselineData(np.asarray(x), np.asarray(labels), self.seed)
        if settings is None:
            self.data = data
        with threadpool_limits(limits=self.threads):
            self.settings = dict(self.search(data) if settings is None else settings)
            self._model = self._fit_all(data)

    def _fit_all(self, data: BaselineData) -> Any:
        """Return a classifier fitted to all labelled rows with the settings."""
        return self._fit_rows(self.settings, data, data.labelled)

    def predict_proba(self, x: FloatArray) -> FloatArray:
        """See `flowgmm_cli.api.Baseline`."""
        return temper(self.probabilities(self._model, np.asarray(x)), self.settings.get("temperature", 1.0))

    def settings_without(self, rows: Index) -> Settings:
        """See `ChoosesSettings`."""
        with threadpool_limits(limits=self.threads):
            return self.search(self.data, rows)

    def search(self, data: BaselineData, ignore: Index = NO_ROWS) -> Settings:
        """Return the best settings by cross-validation, in which the labels of some rows do not count."""

        def predict(index: int) -> Floats:
            parts = []
            for rows, held_out in data.splits:
                model = self._fit_rows(self.candidates[index], data, rows)
                parts.append(self.probabilities(model, data.x[held_out]))
            return np.concatenate(parts)

        best = data.search(range(len(self.candidates)), predict, 0, ignore=ignore)
        if not self.temperatures:
            return self.candidates[best]
        _, temperature = data.search(
            [(best, value) for value in self.temperatures],
            lambda pair: temper(np.asarray(data.predictions[best]), pair[1]),
            (best, 1.0),
            ignore=ignore,
        )
        return {**self.candidates[best], "temperature": temperature}

    def probabilities(self, model: Any, x: FloatArray) -> Floats:
        """Return a fitted classifier's probabilities `(M, K)`, 0 for classes it was not fitted to."""
        result = np.zeros((len(x), self.classes))
        result[:, model.classes_] = model.predict_proba(x)
        return result

    def _fit_rows(self, settings: Settings, data: BaselineData, rows: Index) -> Any:
        if self.max_rows and len(rows) > self.max_rows:
            rows = data.rng().choice(rows, self.max_rows, replace=False)
        if self.needs_two_classes and len(np.unique(data.labels[rows])) < 2:
            # a fold without the only label of the other class
            return DummyClassifier().fit(data.x[rows], data.labels[rows])
        return self.estimator(settings, data, len(rows)).fit(data.x[rows], data.labels[rows])


def temper(probabilities: Floats, temperature: float) -> Floats:
    """Divide log-probabilities `(M, K)` by a temperature; 1 changes nothing.

    >>> temper(np.array([[0.2, 0.8]]), temperature=0.5).round(3)
    array([[0.059, 0.941]])
    """
    if temperature == 1:
        return probabilities
    powers = (probabilities / probabilities.max(1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powers / powers.sum(1, keepdims=True))


def smooth_votes(shares: Floats, voters: int) -> Floats:
    """Add a vote that all classes share to the shares of the votes, `(M, K)`: none is 0 afterwards.

    >>> smooth_votes(np.array([[1.0, 0.0]]), voters=4)
    array([[0.9, 0.1]])
    """
    return np.asarray((voters * shares + 1 / shares.shape[1]) / (voters + 1))
