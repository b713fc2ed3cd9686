"""Support vector machine with a Gaussian kernel, and a softmax of its decision values."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.svm import SVC

from flowgmm_cli.baselines.base import Settings, SupervisedBaseline
from flowgmm_cli.evaluation.cross_validation import BaselineData
from flowgmm_cli.evaluation.metrics import FloatArray, Floats, IntArray


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
