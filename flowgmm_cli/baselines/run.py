"""Baselines beside a model: simple methods on the same vectors and the same labelled rows.

Each one chooses its settings by cross-validation on the labelled rows alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Baseline, Component
from flowgmm_cli.baselines.base import ChoosesSettings
from flowgmm_cli.errors import FlowgmmError, PluginError
from flowgmm_cli.evaluation.metrics import (
    BaselineMetrics,
    BaselineResult,
    FloatArray,
    Floats,
    IntArray,
    log_probabilities,
)
from flowgmm_cli.plugins.registry import registry

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class BaselinePrediction:
    """The probabilities of a baseline for some rows; each row sums to 1."""

    probabilities: Floats  # of test rows, `(M, K)`
    cross_fitted: Floats | None  # of the training rows with a fold, in their order, `(n, K)`
    settings: dict[str, Any]  # chosen by cross-validation
    seconds: float  # time for choosing settings, fitting and predicting


def baseline_names(warn: Callable[[str], None] | None = None) -> list[str]:
    """List the baselines that can be used: the built-in ones, then those of plugins.

    `warn` is called with the problem of each plugin that cannot be used.
    """
    names = []
    for entry in registry().entries("baseline"):
        entry = entry.inspect()
        if entry.loaded is not None:
            names.append(entry.qualified if entry.state == "conflict" else entry.name)
        elif entry.state != "disabled" and warn:
            warn(entry.problem)
    return names


def run_baselines(
    x_train: FloatArray,
    labels: IntArray,
    x_test: FloatArray,
    y_test: IntArray,
    *,
    seed: int,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, BaselineResult]:
    """Fit the baselines on `x_train` and evaluate them on the test rows with true labels `y_test`, `(M,)`.

    The other arguments and the errors are those of `predict_baselines`.
    """
    classes = int(max(np.max(labels), np.max(y_test))) + 1
    results: dict[str, BaselineResult] = {}
    for name, result in predict_baselines(
        x_train, labels, x_test, classes=classes, seed=seed, names=names, progress=progress, warn=warn
    ).items():
        metrics = vars(BaselineMetrics.measure(log_probabilities(result.probabilities), y_test))
        results[name] = BaselineResult(**metrics, seconds=result.seconds, settings=result.settings)
    return results


def predict_baselines(
    x_train: FloatArray,
    labels: IntArray,
    x_test: FloatArray,
    *,
    classes: int,
    seed: int,
    folds: npt.NDArray[np.int64] | None = None,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, BaselinePrediction]:
    """Fit the baselines on `x_train` and predict the test rows, and labelled rows by cross-fitting.

    A baseline predicts the held-out rows of each fold after a fit without their labels. Its settings are
    those of its search on all labelled rows in which the labels of the fold do not count, as the model's
    candidates are chosen. A search in every fold would take several times as long. A plugin without
    `ChoosesSettings` keeps the settings of its search, which fit the held-out labels a little too well.

    Args:
        x_train: all training rows `(N, D)`, labelled or not.
        labels: their visible labels `(N,)`, -1 for unlabelled rows.
        x_test: test rows `(M, D)`; M may be 0.
        folds: fold that holds out the training row `(N,)`, -1 for none; None = no cross-fitting.
        classes: number of classes K.
        seed: of folds, subsamples and initial weights.
        names: of baselines, default all; see `baseline_names`.
        progress: `progress(done, total, name)`, called before each baseline and at the end.
        warn: called if a plugin's baseline fails, which is then left out; default: it raises.

    Returns:
        Predictions by name, in the order of `names`.

    Raises:
        PluginError: an unknown name; without `warn`, a plugin that fails.
        ValueError: labels of fewer than two classes.
    """
    names = baseline_names(warn=warn) if names is None else names
    visible = np.asarray(labels, dtype=np.int64)
    if len(np.unique(visible[visible >= 0])) < 2:
        raise ValueError("baselines need labelled rows of at least two classes")
    x_train, x_test = (np.ascontiguousarray(x, dtype=np.float32) for x in (x_train, x_test))
    report = progress or (lambda done, total, name: None)
    results: dict[str, BaselinePrediction] = {}
    for done, name in enumerate(names):
        report(done, len(names), name)
        start = time.perf_counter()
        try:
            parts = _fit_and_predict(name, x_train, visible, x_test, classes, seed, folds)
        except PluginError as error:
            if warn is None:
                raise
            warn("; ".join([error.message, *error.details]))
        else:
            results[name] = BaselinePrediction(*parts, time.perf_counter() - start)
    report(len(names), len(names), "")
    return results


def _fit_and_predict(
    name: str,
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    x_test: npt.NDArray[np.float32],
    classes: int,
    seed: int,
    folds: npt.NDArray[np.int64] | None,
) -> tuple[Floats, Floats | None, dict[str, Any]]:
    """Fit a baseline and predict; an error of a plugin becomes a `PluginError`."""
    entry = registry().find("baseline", name)
    component = Component(kind="baseline", use=name, config=entry.spec().config())
    baseline: Baseline = registry().build(component, classes=classes, seed=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: a baseline that stops early is still valid
            baseline.fit(x, labels)
            probabilities, settings = np.empty((0, classes)), dict(baseline.settings)
            if len(x_test):
                probabilities = check_probabilities(baseline.predict_proba(x_test), (len(x_test), classes))
            cross_fitted = None
            if folds is not None:
                cross_fitted = _cross_fit(baseline, x, labels, folds, classes)
        return probabilities, cross_fitted, settings
    except Exception as error:  # a plugin can raise any
        if entry.builtin or isinstance(error, FlowgmmError):
            raise
        details = [f"{type(error).__name__}: {error}"]
        raise PluginError(f"{entry.label} failed", details=details) from error


def _cross_fit(
    baseline: Baseline,
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int64],
    classes: int,
) -> Floats:
    """Predict the rows of each fold after a fit with the same settings, without their labels."""
    result, settings = np.empty((len(x), classes)), dict(baseline.settings)
    for fold in np.unique(folds[folds >= 0]):
        own = folds == fold
        if isinstance(baseline, ChoosesSettings):
            settings = dict(baseline.settings_without(np.flatnonzero(own)))
        baseline.fit(x, np.where(own, -1, labels), settings)
        result[own] = check_probabilities(baseline.predict_proba(x[own]), (int(own.sum()), classes))
    return result[folds >= 0]


def check_probabilities(values: Any, shape: tuple[int, int]) -> Floats:
    """Return a baseline's probabilities as float64; raises `ValueError` if they are not probabilities."""
    p = np.asarray(values, dtype=np.float64)
    if p.shape != shape:
        raise ValueError(f"its probabilities have the shape {p.shape}, not {shape}")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-3)):
        raise ValueError("its probabilities are not finite, below 0, or do not sum to 1")
    return p
