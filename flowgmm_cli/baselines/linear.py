"""Linear baselines: logistic regression, self-training with it, and linear discriminant analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.covariance import empirical_covariance, ledoit_wolf, shrunk_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression as Logistic
from sklearn.semi_supervised import SelfTrainingClassifier

from flowgmm_cli.baselines.base import Settings, SupervisedBaseline
from flowgmm_cli.data.array_types import FloatArray
from flowgmm_cli.evaluation.cross_validation import NO_ROWS, BaselineData, Index

MAX_SELF_TRAINING_CELLS = 8_000_000  # unlabelled rows * features: about a second for each of its fits


class LogisticRegression(SupervisedBaseline):
    """Multinomial logistic regression of the labelled rows."""

    candidates = tuple({"C": strength} for strength in (1.0, 0.001, 0.01, 0.1, 10.0, 100.0))
    threads = 1  # several make its small matrix products slower by far

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        return Logistic(C=settings["C"], max_iter=200, tol=1e-3)


class SelfTraining(LogisticRegression):
    """Logistic regression of the labels and then of its own confident predictions (Yarowsky, 1995)."""

    def _fit_all(self, data: BaselineData) -> Any:
        unlabelled = data.rng().permutation(data.unlabelled)
        others = unlabelled[: MAX_SELF_TRAINING_CELLS // data.x.shape[1]]
        self.settings = {**self.settings, "unlabelled": len(others)}
        return self._fit_both(self.settings, data, data.labelled, others)

    def search(self, data: BaselineData, ignore: Index = NO_ROWS) -> Settings:
        """Return C as logistic regression chooses it, and the best threshold with it."""
        settings = super().search(data, ignore)
        unlabelled = data.rng().permutation(data.unlabelled)[:2000]

        def predict(pair: tuple[float, float]) -> FloatArray:
            changed = {**settings, "threshold": pair[1]}
            predictions = []
            for rows, held_out in data.splits:  # the held-out rows count as unlabelled rows
                model = self._fit_both(changed, data, rows, np.concatenate([unlabelled, held_out]))
                predictions.append(self.probabilities(model, data.x[held_out]))
            return np.concatenate(predictions)

        pairs = [(settings["C"], threshold) for threshold in (0.7, 0.8, 0.9, 0.95)]
        _, threshold = data.search(pairs, predict, (settings["C"], 0.9), ignore=ignore)
        return {**settings, "threshold": threshold}

    def _fit_both(self, settings: Settings, data: BaselineData, labelled: Index, others: Index) -> Any:
        if len(np.unique(data.labels[labelled])) < 2:
            return self._fit_rows(settings, data, labelled)
        logistic = self.estimator(settings, data, len(labelled))
        model = SelfTrainingClassifier(logistic, threshold=settings["threshold"], max_iter=10)
        targets = np.concatenate([data.labels[labelled], np.full(len(others), -1)])
        return model.fit(data.x[np.concatenate([labelled, others])], targets)


class LDA(SupervisedBaseline):
    """Linear discriminant analysis with a shrunk covariance of the classes (Ledoit and Wolf, 2004)."""

    candidates = tuple({"shrinkage": shrinkage} for shrinkage in ("ledoit_wolf", 0.1, 0.5, 0.9))
    temperatures = (1.0, 2.0, 4.0, 8.0)

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        covariance = ClassCovariance(settings["shrinkage"], data.variances)
        return LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=covariance)

    def _fit_rows(self, settings: Settings, data: BaselineData, rows: Index) -> Any:
        if len(rows) == len(np.unique(data.labels[rows])):  # scikit-learn refuses a single row of each class
            rows = np.repeat(rows, 2)
        return super()._fit_rows(settings, data, rows)


class ClassCovariance:
    """Covariance of the rows of a class, shrunk to the `variances` of all rows, which equal rows get.

    The shrinkage of scikit-learn gives a single row no variance. If each class has a single row, the pooled
    covariance is then 0.
    """

    def __init__(self, shrinkage: str | float, variances: FloatArray) -> None:
        self.shrinkage = shrinkage
        self.scale = np.sqrt(variances)

    def fit(self, x: FloatArray) -> ClassCovariance:
        """Estimate the covariance of the rows `x`, `(n, D)`."""
        if (x == x[0]).all():
            covariance = np.eye(x.shape[1])
        elif self.shrinkage == "ledoit_wolf":
            covariance = ledoit_wolf(x / self.scale)[0]
        else:
            covariance = shrunk_covariance(empirical_covariance(x / self.scale), self.shrinkage)
        self.covariance_ = covariance * np.outer(self.scale, self.scale)
        return self
