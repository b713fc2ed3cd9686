"""Baselines that learn from the labelled rows alone: neighbours, a network, trees, a kernel."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from flowgmm_cli.baselines.base import Settings, SupervisedBaseline, smooth_votes
from flowgmm_cli.data.array_types import FloatArray, Floats, IntArray
from flowgmm_cli.evaluation.cross_validation import NO_ROWS, BaselineData, Index


class NearestNeighbours(SupervisedBaseline):
    """A vote of the nearest labelled rows, smoothed by a vote that all classes share."""

    candidates = tuple(
        {"neighbours": k, "metric": metric}
        for k in (1, 3, 5, 10, 20, 40)
        for metric in ("euclidean", "cosine")
    )
    needs_two_classes = False

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        k = min(settings["neighbours"], n)
        return KNeighborsClassifier(k, weights="distance", metric=settings["metric"])

    def probabilities(self, model: Any, x: FloatArray) -> Floats:
        """See `SupervisedBaseline`."""
        return smooth_votes(super().probabilities(model, x), model.n_neighbors)


class MLP(SupervisedBaseline):
    """A network with a hidden layer of 256 units."""

    candidates = tuple({"alpha": penalty} for penalty in (1.0, 10.0, 100.0))

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        scale = data.variance**0.5  # the same for all features, to keep the geometry
        epochs = int(np.clip(1_000_000 // n, 20, 150))
        # scikit-learn divides the penalty by the rows of a batch: a small last batch would undo the fit
        batch = -(-n // max(1, round(n / 200)))
        options = {"learning_rate_init": 3e-3, "max_iter": epochs, "batch_size": batch}
        network = MLPClassifier((256,), alpha=settings["alpha"], random_state=self.seed, **options)
        return make_pipeline(FunctionTransformer(partial(np.multiply, 1 / scale)), network)


class ExtraTrees(SupervisedBaseline):
    """Extremely randomised trees (Geurts et al., 2006), smoothed by a vote that all classes share.

    With few labels every leaf holds a single class, and the share of the trees is the probability. Few trees
    suffice to compare settings.
    """

    candidates = (
        {"max_features": "sqrt", "min_samples_leaf": 1, "n_estimators": 30},
        {"max_features": "sqrt", "min_samples_leaf": 3, "n_estimators": 30},
        {"max_features": 0.5, "min_samples_leaf": 1, "n_estimators": 30},
    )
    needs_two_classes = False
    temperatures = (1.0, 0.25, 0.35, 0.5, 0.7, 1.4)
    max_rows = 20_000

    def search(self, data: BaselineData, ignore: Index = NO_ROWS) -> Settings:
        """See `SupervisedBaseline`."""
        return {**super().search(data, ignore), "n_estimators": 100}

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        options = {key: settings[key] for key in self.candidates[0]}
        return ExtraTreesClassifier(random_state=self.seed, **options)

    def probabilities(self, model: Any, x: FloatArray) -> Floats:
        """See `SupervisedBaseline`."""
        return smooth_votes(super().probabilities(model, x), model.n_estimators)


class SVM(SupervisedBaseline):
    """A support vector machine, whose decision values become probabilities by a softmax with a temperature.

    Platt's sigmoid for each class, as in scikit-learn, needs more rows of a class than few labels give.
    """

    candidates = tuple(
        {"C": strength, "gamma_factor": factor}
        for strength in (1.0, 10.0, 100.0)
        for factor in (1.0, 0.3, 3.0)
    )
    max_rows = 5000  # the time grows with their square
    temperatures = (0.5, 0.125, 0.25, 1.0, 2.0)

    def estimator(self, settings: Settings, data: BaselineData, n: int) -> Any:
        """See `SupervisedBaseline`."""
        gamma = settings["gamma_factor"] / (data.x.shape[1] * data.variance)
        return SoftmaxSVC(SVC(C=settings["C"], gamma=gamma, random_state=self.seed))


class SoftmaxSVC:
    """A support vector machine with probabilities: the softmax of its decision values."""

    def __init__(self, svc: Any) -> None:
        self.svc = svc

    def fit(self, x: FloatArray, labels: IntArray) -> SoftmaxSVC:
        """Fit the machine."""
        self.classes_ = self.svc.fit(x, labels).classes_
        return self

    def predict_proba(self, x: FloatArray) -> Floats:
        """Return probabilities `(M, K)` of the classes it was fitted to."""
        decision = self.svc.decision_function(x)
        if decision.ndim == 1:  # two classes
            decision = np.stack([-decision, decision], axis=1)
        return np.asarray(softmax(decision, axis=1))
