"""Simple methods on the same vectors and the same labelled rows: what a model has to beat.

Each one chooses its settings by cross-validation on the labelled rows alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.evaluation.metrics import classification_metrics, log_probabilities
from flowgmm_cli.evaluation.spreading import label_spreading
from flowgmm_cli.evaluation.tuning import Problem, choose, split_by_split

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
Index = npt.NDArray[np.intp]
Progress = Callable[[int, int, str], None]
Method = Callable[[Problem], tuple[FloatArray, dict[str, Any]]]

SELF_TRAINING_CELLS = 8_000_000  # unlabelled rows * features: about a second for each of its fits


@dataclass(frozen=True)
class BaselineResult:
    """How a baseline does on the test rows.

    Attributes:
        accuracy, balanced_accuracy, macro_f1, nll, ece: see `ClassificationMetrics`.
        seconds: time for choosing settings, fitting and predicting.
        settings: what cross-validation chose.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    nll: float
    ece: float
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def run_baselines(
    x_train: FloatArray,
    labels: IntArray,
    x_test: FloatArray,
    y_test: IntArray,
    *,
    seed: int,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, BaselineResult]:
    """Fit the baselines on `x_train` and evaluate them on the test rows.

    Args:
        x_train: all training rows `(N, D)`, labelled or not.
        labels: their visible labels `(N,)`, -1 where there is none.
        x_test: test rows `(M, D)`.
        y_test: true labels `(M,)`.
        seed: of folds, subsamples and initial weights.
        names: which ones, out of `BASELINES`; default all.
        progress: `progress(done, total, name)`, called before each one and at the end.

    Returns:
        Results by name, in the order asked for.

    Raises:
        UsageError: an unknown name.
        ValueError: labels of fewer than two classes.
    """
    names = list(BASELINES) if names is None else list(names)
    for name in names:
        if name not in BASELINES:
            allowed = ", ".join(BASELINES)
            raise UsageError(
                f"unknown baseline `{name}`{did_you_mean(name, BASELINES)}", hint=f"one of {allowed}"
            )
    visible = np.asarray(labels, dtype=np.int64)
    if len(np.unique(visible[visible >= 0])) < 2:
        raise ValueError("baselines need labelled rows of at least two classes")
    problem = Problem(
        x=np.ascontiguousarray(x_train, dtype=np.float32),
        labels=visible,
        x_test=np.ascontiguousarray(x_test, dtype=np.float32),
        classes=int(max(visible.max(), np.max(y_test))) + 1,
        seed=seed,
    )
    report = progress or (lambda done, total, what: None)
    results: dict[str, BaselineResult] = {}
    for done, name in enumerate(names):
        report(done, len(names), name)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: a baseline that stops early is still one
            probabilities, settings = BASELINES[name](problem)
        seconds = time.perf_counter() - start
        found = classification_metrics(log_probabilities(probabilities), np.asarray(y_test), resamples=0)
        results[name] = BaselineResult(
            found.accuracy, found.balanced_accuracy, found.macro_f1, found.nll, found.ece, seconds, settings
        )
    report(len(names), len(names), "")
    return results


def _alone(method: Method) -> Method:
    """Carry a method out in one thread: of its small products each is slower by far in several."""

    @wraps(method)
    def carry_out(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            return method(problem)

    return carry_out


@_alone
def logistic_regression(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
    """Multinomial logistic regression on the labelled rows."""
    strength = _choose_regularisation(problem)
    rows = problem.labelled
    model = _linear(strength).fit(problem.x[rows], problem.labels[rows])
    return _probabilities(model, problem.x_test, problem.classes), {"C": strength}


def knn(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
    """Vote of the nearest labelled rows, smoothed by one vote shared among all classes."""
    from sklearn.neighbors import KNeighborsClassifier

    def vote(candidate: tuple[int, str], fitted: Index, x: FloatArray) -> FloatArray:
        k, metric = candidate
        k = min(k, len(fitted))
        model = KNeighborsClassifier(k, weights="distance", metric=metric)
        model.fit(problem.x[fitted], problem.labels[fitted])
        votes = k * _probabilities(model, x, problem.classes)
        return np.asarray((votes + 1 / problem.classes) / (k + 1))

    best = choose(
        [(k, metric) for k in (1, 3, 5, 10, 20, 40) for metric in ("euclidean", "cosine")],
        split_by_split(
            lambda candidate, fitted, held_out: vote(candidate, fitted, problem.x[held_out]), problem
        ),
        problem,
        default=(1, "euclidean"),
    )
    return vote(best, problem.labelled, problem.x_test), {"neighbours": best[0], "metric": best[1]}


@_alone
def self_training(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
    """Logistic regression that goes on with its own confident predictions (Yarowsky, 1995)."""
    from sklearn.semi_supervised import SelfTrainingClassifier

    strength = _choose_regularisation(problem)
    unlabelled = problem.rng().permutation(problem.unlabelled)

    def fit(threshold: float, fitted: Index, others: Index) -> Any:
        rows = np.concatenate([fitted, others])
        targets = np.concatenate([problem.labels[fitted], np.full(len(others), -1)])
        model = SelfTrainingClassifier(_linear(strength), threshold=threshold, max_iter=10)
        return model.fit(problem.x[rows], targets)

    def predict(threshold: float, fitted: Index, held_out: Index) -> FloatArray:
        # The held-out rows are part of the unlabelled pile, as they would be if they had no label.
        others = np.concatenate([unlabelled[:2000], held_out])
        return _probabilities(fit(threshold, fitted, others), problem.x[held_out], problem.classes)

    threshold = choose((0.7, 0.8, 0.9, 0.95), split_by_split(predict, problem), problem, default=0.9)
    pile = unlabelled[: SELF_TRAINING_CELLS // problem.x.shape[1]]
    model = fit(threshold, problem.labelled, pile)
    settings = {"C": strength, "threshold": threshold, "unlabelled": len(pile)}
    return _probabilities(model, problem.x_test, problem.classes), settings


def mlp(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
    """A network with one hidden layer of 256 on the labelled rows."""
    from sklearn.neural_network import MLPClassifier

    spread = max(float(problem.x.std()), 1e-12)  # one number: the geometry of the vectors is kept

    def fit(penalty: float, rows: Index) -> Any:
        model = MLPClassifier(
            (256,),
            alpha=penalty,
            learning_rate_init=3e-3,
            max_iter=int(np.clip(1_000_000 // len(rows), 20, 150)),
            random_state=problem.seed,
        )
        return model.fit(problem.x[rows] / spread, problem.labels[rows])

    def predict(penalty: float, fitted: Index, held_out: Index) -> FloatArray:
        return _probabilities(fit(penalty, fitted), problem.x[held_out] / spread, problem.classes)

    penalty = choose((1.0, 10.0, 100.0), split_by_split(predict, problem), problem, default=1.0)
    model = fit(penalty, problem.labelled)
    return _probabilities(model, problem.x_test / spread, problem.classes), {"alpha": penalty}


BASELINES: dict[str, Method] = {
    "logistic_regression": logistic_regression,
    "knn": knn,
    "label_spreading": label_spreading,
    "self_training": self_training,
    "mlp": mlp,
}


def _linear(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=200, tol=1e-3)


def _choose_regularisation(problem: Problem) -> float:
    if "C" not in problem.chosen:

        def predict(strength: float, fitted: Index, held_out: Index) -> FloatArray:
            model = _linear(strength).fit(problem.x[fitted], problem.labels[fitted])
            return _probabilities(model, problem.x[held_out], problem.classes)

        candidates = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
        problem.chosen["C"] = choose(candidates, split_by_split(predict, problem), problem, default=1.0)
    return problem.chosen["C"]


def _probabilities(model: Any, x: FloatArray, classes: int) -> npt.NDArray[np.float64]:
    """A model's probabilities with a column for every class, also for those it has not seen."""
    result = np.zeros((len(x), classes))
    result[:, model.classes_] = model.predict_proba(x)
    return result
