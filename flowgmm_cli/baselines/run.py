"""Baselines beside a model: simple methods on the same vectors and the same labelled rows.

Each one chooses its settings by cross-validation on the labelled rows alone.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Baseline, Component
from flowgmm_cli.baselines.base import ChoosesSettings
from flowgmm_cli.data.array_types import FloatArray, Floats, IntArray
from flowgmm_cli.errors import FlowgmmError, PluginError
from flowgmm_cli.evaluation.evaluation_file import CrossFittedPredictions, StoredPredictions
from flowgmm_cli.evaluation.metrics import BaselineMetrics, BaselineResult, Evaluation, log_probabilities
from flowgmm_cli.evaluation.verdict import Outcome, judge
from flowgmm_cli.plugins.registry import registry

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class BaselinePrediction:
    """The probabilities of a baseline for some rows; each row sums to 1."""

    probabilities: Floats  # of test rows, `(M, K)`
    cross_fitted: Floats | None  # of the training rows with a fold, in their order, `(n, K)`
    settings: dict[str, Any]  # chosen by cross-validation
    seconds: float  # time for choosing settings, fitting and predicting


@dataclass(frozen=True)
class ComparedRows:
    """Rows for the baselines, with the model's predictions."""

    x: npt.NDArray[np.float32]  # all training rows `(N, D)`
    labels: npt.NDArray[np.int64]  # their visible labels `(N,)`, -1 for unlabelled rows
    cross_fitted: CrossFittedPredictions | None  # the model's predictions for labelled training rows
    x_held_out: npt.NDArray[np.float32]  # labelled held-out rows `(M, D)`; M is 0 without any
    held_out: StoredPredictions | None  # the model's predictions for them


def compare_with_baselines(
    evaluation: Evaluation,
    rows: ComparedRows,
    *,
    classes: int,
    seed: int,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> Evaluation:
    """Fit the baselines and add their results to an evaluation, with the verdict.

    The verdict counts every labelled row that was held out once: cross-fitted rows and test rows. Every
    method predicts the same rows from the same labels. Rows of a validation split do not count, because their
    labels have stopped the training of the model. The other arguments and the errors are those of
    `predict_baselines`.
    """
    models: dict[str, StoredPredictions] = {}
    folds = None
    if rows.cross_fitted is not None:
        models["cross_fitted"] = rows.cross_fitted
        folds = np.full(len(rows.labels), -1, dtype=np.int64)
        folds[rows.cross_fitted.rows] = rows.cross_fitted.folds
    if rows.held_out is not None:
        models["held_out"] = rows.held_out
    counted = [key for key in models if key == "cross_fitted" or evaluation.split == "test"]
    results: dict[str, BaselineResult] = {}
    outcomes: dict[str, Outcome] = {}
    work: dict[str, Any] = {"names": names, "progress": progress, "warn": warn}
    predicted = predict_baselines(
        rows.x, rows.labels, rows.x_held_out, classes=classes, seed=seed, folds=folds, **work
    )
    for name, prediction in predicted.items():
        probabilities = {"held_out": prediction.probabilities, "cross_fitted": prediction.cross_fitted}
        log_p = {key: log_probabilities(p) for key, p in probabilities.items() if p is not None}
        metrics = {
            key: BaselineMetrics.measure(log_p[key], model.labels, model.correct)
            for key, model in models.items()
        }
        results[name] = BaselineResult(
            **vars(metrics.get("held_out") or metrics["cross_fitted"]),
            cross_fitted=metrics.get("cross_fitted"),
            seconds=prediction.seconds,
            settings=prediction.settings,
        )
        outcomes[name] = Outcome.measure([(log_p[key], models[key].labels) for key in counted])
    verdict = None
    if counted and outcomes:
        correct = np.concatenate([models[key].correct for key in counted])
        log_p_true = np.concatenate([models[key].log_probability for key in counted])
        verdict = judge(Outcome(correct, -log_p_true), outcomes)
    return dataclasses.replace(evaluation, baselines=results, verdict=verdict)


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
        try:
            results[name] = _predict(name, x_train, visible, x_test, classes, seed, folds)
        except PluginError as error:
            if warn is None:
                raise
            warn("; ".join([error.message, *error.details]))
    report(len(names), len(names), "")
    return results


def _predict(
    name: str,
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    x_test: npt.NDArray[np.float32],
    classes: int,
    seed: int,
    folds: npt.NDArray[np.int64] | None,
) -> BaselinePrediction:
    """Fit a baseline and predict; an error of a plugin becomes a `PluginError`."""
    start = time.perf_counter()
    entry = registry().find("baseline", name)
    component = Component(kind="baseline", use=name, config=entry.spec().config())
    baseline: Baseline = registry().build(component, classes=classes, seed=seed)

    def predict(rows: npt.NDArray[np.float32]) -> Floats:
        return check_probabilities(baseline.predict_proba(rows), (len(rows), classes))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: a baseline that stops early is still valid
            baseline.fit(x, labels)
            chosen = settings = dict(baseline.settings)
            probabilities = predict(x_test) if len(x_test) else np.empty((0, classes))
            cross_fitted = None
            if (
                folds is not None
            ):  # each row is predicted after a fit with the same settings, without its label
                cross_fitted = np.empty((len(x), classes))
                for fold in np.unique(folds[folds >= 0]):
                    own = folds == fold
                    if isinstance(baseline, ChoosesSettings):
                        settings = dict(baseline.settings_without(np.flatnonzero(own)))
                    baseline.fit(x, np.where(own, -1, labels), settings)
                    cross_fitted[own] = predict(x[own])
                cross_fitted = cross_fitted[folds >= 0]
    except Exception as error:  # a plugin can raise any
        if entry.builtin or isinstance(error, FlowgmmError):
            raise
        details = [f"{type(error).__name__}: {error}"]
        raise PluginError(f"{entry.label} failed", details=details) from error
    return BaselinePrediction(probabilities, cross_fitted, chosen, time.perf_counter() - start)


def check_probabilities(values: Any, shape: tuple[int, int]) -> Floats:
    """Return a baseline's probabilities as float64; raises `ValueError` if they are not probabilities."""
    p = np.asarray(values, dtype=np.float64)
    if p.shape != shape:
        raise ValueError(f"its probabilities have the shape {p.shape}, not {shape}")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-3)):
        raise ValueError("its probabilities are not finite, below 0, or do not sum to 1")
    return p
