"""A model beside the baselines, row by row: on held-out rows, and on labelled rows by cross-fitting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowgmm_cli.baselines.run import Progress, predict_baselines
from flowgmm_cli.evaluation.metrics import BaselineMetrics, BaselineResult, Evaluation, log_probabilities
from flowgmm_cli.evaluation.predictions import CrossFittedPredictions, StoredPredictions
from flowgmm_cli.evaluation.verdict import Outcome, judge


@dataclass(frozen=True)
class ComparedRows:
    """Rows for the baselines, with the model's predictions.

    Attributes:
        x: all training rows `(N, D)`, float32.
        labels: their visible labels `(N,)`, -1 for unlabelled rows.
        cross_fitted: the model's predictions for labelled training rows; None without any.
        x_held_out: labelled held-out rows `(M, D)`; M is 0 without any.
        held_out: the model's predictions for them; None without any.
    """

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    cross_fitted: CrossFittedPredictions | None
    x_held_out: npt.NDArray[np.float32]
    held_out: StoredPredictions | None


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
    predicted = predict_baselines(
        rows.x,
        rows.labels,
        rows.x_held_out,
        classes=classes,
        seed=seed,
        folds=folds,
        names=names,
        progress=progress,
        warn=warn,
    )
    counted = [key for key in models if key == "cross_fitted" or evaluation.split == "test"]
    results: dict[str, BaselineResult] = {}
    outcomes: dict[str, Outcome] = {}
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
        stored = [models[key] for key in counted]
        model = Outcome(
            np.concatenate([part.correct for part in stored]),
            -np.concatenate([part.log_probability for part in stored]),
        )
        verdict = judge(model, outcomes)
    return dataclasses.replace(evaluation, baselines=results, verdict=verdict)
