"""Baselines: simple methods on the same vectors and the same labelled rows.

Each one chooses its settings by cross-validation on the labelled rows alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.evaluation.cross_validation import BaselineData, Candidate, Index
from flowgmm_cli.evaluation.label_spreading import label_spreading
from flowgmm_cli.evaluation.metrics import (
    BaselineResult,
    FloatArray,
    IntArray,
    classification_metrics,
    log_probabilities,
)

Progress = Callable[[int, int, str], None]
Method = Callable[[BaselineData], tuple[FloatArray, dict[str, Any]]]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")
# several threads make the small matrix products of these slower by far
SINGLE_THREADED = ("logistic_regression", "self_training")
MAX_SELF_TRAINING_CELLS = 8_000_000  # unlabelled rows * features: about a second for each of its fits


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
        labels: their visible labels `(N,)`, -1 for unlabelled rows.
        x_test: test rows `(M, D)`.
        y_test: true labels `(M,)`.
        seed: of folds, subsamples and initial weights.
        names: keys of `BASELINES`; default all.
        progress: `progress(done, total, name)`, called before each baseline and at the end.

    Returns:
        Results by name, in the order of `names`.

    Raises:
        UsageError: an unknown name.
        ValueError: labels of fewer than two classes.
    """
    from threadpoolctl import threadpool_limits

    names = list(BASELINES) if names is None else list(names)
    for name in names:
        if name not in BASELINES:
            message = f"unknown baseline `{name}`{did_you_mean(name, BASELINES)}"
            raise UsageError(message, hint=f"one of {', '.join(BASELINES)}")
    visible = np.asarray(labels, dtype=np.int64)
    if len(np.unique(visible[visible >= 0])) < 2:
        raise ValueError("baselines need labelled rows of at least two classes")
    data = BaselineData(
        x=np.ascontiguousarray(x_train, dtype=np.float32),
        labels=visible,
        x_test=np.ascontiguousarray(x_test, dtype=np.float32),
        classes=int(max(visible.max(), np.max(y_test))) + 1,
        seed=seed,
    )
    report = progress or (lambda done, total, name: None)
    results: dict[str, BaselineResult] = {}
    for done, name in enumerate(names):
        report(done, len(names), name)
        start = time.perf_counter()
        threads = 1 if name in SINGLE_THREADED else None
        with warnings.catch_warnings(), threadpool_limits(limits=threads):
            warnings.simplefilter("ignore")  # of convergence: a baseline that stops early is still valid
            probabilities, settings = BASELINES[name](data)
        seconds = time.perf_counter() - start
        metrics = classification_metrics(log_probabilities(probabilities), y_test, with_intervals=False)
        scalars = {name: getattr(metrics, name) for name in METRICS}
        results[name] = BaselineResult(**scalars, seconds=seconds, settings=settings)
    report(len(names), len(names), "")
    return results


def _search_and_predict(
    data: BaselineData,
    predict: Callable[[Candidate, Index, FloatArray], FloatArray],
    candidates: Sequence[Candidate],
    default: Candidate,
) -> tuple[FloatArray, Candidate]:
    """Search the setting of `predict(setting, fit_rows, x)`; return predictions for the test rows with it."""
    best = data.search(
        candidates,
        lambda candidate: np.concatenate([predict(candidate, fit, data.x[x]) for fit, x in data.splits]),
        default,
    )
    return predict(best, data.labelled, data.x_test), best


def logistic_regression(data: BaselineData) -> tuple[FloatArray, dict[str, Any]]:
    """Fit multinomial logistic regression to the labelled rows."""

    def predict(strength: float, rows: Index, x: FloatArray) -> FloatArray:
        return _probabilities(_logistic(strength).fit(data.x[rows], data.labels[rows]), x, data.classes)

    candidates = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    probabilities, data.shared["C"] = _search_and_predict(data, predict, candidates, 1.0)
    return probabilities, {"C": data.shared["C"]}


def knn(data: BaselineData) -> tuple[FloatArray, dict[str, Any]]:
    """Let the nearest labelled rows vote, smoothed by a vote that all classes share."""
    from sklearn.neighbors import KNeighborsClassifier

    def vote(candidate: tuple[int, str], rows: Index, x: FloatArray) -> FloatArray:
        k, metric = candidate
        k = min(k, len(rows))
        model = KNeighborsClassifier(k, weights="distance", metric=metric)
        model.fit(data.x[rows], data.labels[rows])
        votes = k * _probabilities(model, x, data.classes)
        return np.asarray((votes + 1 / data.classes) / (k + 1))

    candidates = [(k, metric) for k in (1, 3, 5, 10, 20, 40) for metric in ("euclidean", "cosine")]
    probabilities, (k, metric) = _search_and_predict(data, vote, candidates, (1, "euclidean"))
    return probabilities, {"neighbours": k, "metric": metric}


def self_training(data: BaselineData) -> tuple[FloatArray, dict[str, Any]]:
    """Fit logistic regression to the labels and then to its own confident predictions (Yarowsky, 1995)."""
    from sklearn.semi_supervised import SelfTrainingClassifier

    if "C" not in data.shared:
        logistic_regression(data)
    strength = data.shared["C"]
    unlabelled = data.rng().permutation(data.unlabelled)

    def predict(threshold: float, labelled: Index, others: Index, x: FloatArray) -> FloatArray:
        rows = np.concatenate([labelled, others])
        targets = np.concatenate([data.labels[labelled], np.full(len(others), -1)])
        model = SelfTrainingClassifier(_logistic(strength), threshold=threshold, max_iter=10)
        return _probabilities(model.fit(data.x[rows], targets), x, data.classes)

    def predict_splits(threshold: float) -> FloatArray:
        # the held-out rows count as unlabelled rows
        return np.concatenate(
            [
                predict(threshold, fit_rows, np.concatenate([unlabelled[:2000], held_out]), data.x[held_out])
                for fit_rows, held_out in data.splits
            ]
        )

    threshold = data.search((0.7, 0.8, 0.9, 0.95), predict_splits, 0.9)
    others = unlabelled[: MAX_SELF_TRAINING_CELLS // data.x.shape[1]]
    settings = {"C": strength, "threshold": threshold, "unlabelled": len(others)}
    return predict(threshold, data.labelled, others, data.x_test), settings


def mlp(data: BaselineData) -> tuple[FloatArray, dict[str, Any]]:
    """Fit a network with a hidden layer of 256 units to the labelled rows."""
    from sklearn.neural_network import MLPClassifier

    scale = max(float(data.x.std()), 1e-12)  # the same for all features, to keep the geometry

    def predict(penalty: float, rows: Index, x: FloatArray) -> FloatArray:
        epochs = int(np.clip(1_000_000 // len(rows), 20, 150))
        options = {"learning_rate_init": 3e-3, "max_iter": epochs, "random_state": data.seed}
        model = MLPClassifier((256,), alpha=penalty, **options)
        return _probabilities(model.fit(data.x[rows] / scale, data.labels[rows]), x / scale, data.classes)

    probabilities, penalty = _search_and_predict(data, predict, (1.0, 10.0, 100.0), 1.0)
    return probabilities, {"alpha": penalty}


BASELINES: dict[str, Method] = {
    "logistic_regression": logistic_regression,
    "knn": knn,
    "label_spreading": label_spreading,
    "self_training": self_training,
    "mlp": mlp,
}


def _logistic(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=200, tol=1e-3)


def _probabilities(model: Any, x: FloatArray, classes: int) -> npt.NDArray[np.float64]:
    """Return a model's probabilities with a column for every class, also for classes it was not fitted to."""
    result = np.zeros((len(x), classes))
    result[:, model.classes_] = model.predict_proba(x)
    return result
