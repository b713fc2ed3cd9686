"""The temperature of the saved model, fitted to labels that may be used.

With a labelled validation split it is fitted there. Otherwise it is cross-fitted on the labelled rows:
shorter trainings without one fold of the labels each predict the labels they have not seen. The log-odds of a
longer training are larger, so the temperature is scaled by their spread on unlabelled rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.calibration import margin_scale
from flowgmm_cli.evaluation.folds import Fold, Labels, LogJoint, OutOfFold, sample_unlabelled
from flowgmm_cli.evaluation.temperature import (
    Calibration,
    calibration_folds,
    fit_calibration,
    uses_validation,
)
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import CalibrationConfig

Encode = Callable[[Model, npt.NDArray[np.intp]], Latents]  # training rows at some positions


def calibrate(
    config: CalibrationConfig,
    *,
    val: tuple[Latents, Labels] | None,
    labels: Labels,
    temperature: float,
    train_folds: Callable[[Sequence[Fold]], Sequence[Model]],
    encode: Encode,
    model: Model,
    seed: int,
    out_of_fold: OutOfFold | None = None,
    with_likelihoods: bool = False,
    known: npt.NDArray[np.bool_] | None = None,
    label_noise: float = 0.0,
) -> Calibration:
    """Fit the temperature of a model.

    Args:
        val: latents and labels of a labelled validation split; None without one.
        labels: visible labels of the training rows `(N,)`, -1 if unlabelled.
        temperature: temperature of the objective, the result if nothing can be fitted.
        train_folds: trains a model for each fold, with only the labels that it may see.
        encode: computes latents of training rows at some positions under a model.
        out_of_fold: predictions of a search that has trained folds already; None trains them here.
        with_likelihoods: fit the likelihoods of the classes, too.
        known: mask of labels that all trainings know, which are not held out; None for no label.
        label_noise: share of the labels that is known to be wrong.

    Raises:
        RecipeError: `on: val` without a labelled validation split.
    """
    if config.method == "none" or not (labels > 0).any():  # a single class is certain
        return Calibration(1.0, "none")
    if config.on == "val" and val is None:
        raise RecipeError(
            "calibration.on is val, but there is no labelled validation split",
            hint="set data.split.val_labels=true, or calibration.on=auto",
        )
    if val is not None and uses_validation(config, val[1]):
        scores = _log_joint(val[0])
        return fit_calibration(config, scores, val[1], "val", temperature, with_likelihoods, label_noise)
    sample = sample_unlabelled(labels)
    if out_of_fold is None:
        folds = calibration_folds(config, labels, seed=seed, known=known)
        if not folds:
            return Calibration(temperature, "training")
        models = train_folds(folds)
        out_of_fold = collect_out_of_fold(models, folds, labels, encode)
    predictions = out_of_fold.log_joint, out_of_fold.labels
    fitted = fit_calibration(config, *predictions, "cross_fit", temperature, with_likelihoods, label_noise)
    fitted = dataclasses.replace(fitted, out_of_fold=out_of_fold)
    if fitted.method == "training" or not len(sample):
        return fitted
    folds_scale = float(np.mean([margin_scale(scores) for scores in out_of_fold.unlabelled]))
    own_scale = margin_scale(_log_joint(encode(model, sample)))
    if not (folds_scale > 0 and own_scale > 0):  # one of them does not tell the classes apart
        return fitted
    return dataclasses.replace(fitted, temperature=fitted.temperature * own_scale / folds_scale)


def collect_out_of_fold(
    models: Sequence[Model], folds: Sequence[Fold], labels: Labels, encode: Encode
) -> OutOfFold:
    """Predict the held-out labelled rows of each fold, and a sample of unlabelled rows, with its model."""
    sample = sample_unlabelled(labels)
    pairs = list(zip(models, folds, strict=True))
    rows = np.concatenate([fold.held_out for fold in folds])
    latents = [encode(model, fold.held_out) for model, fold in pairs]
    return OutOfFold(
        log_joint=np.concatenate([_log_joint(part) for part in latents]),
        labels=labels[rows],
        rows=rows,
        folds=np.repeat(np.arange(len(folds)), [len(fold.held_out) for fold in folds]),
        unlabelled=np.stack([_log_joint(encode(model, sample)) for model in models]),
        p_unknown=np.concatenate([part.p_unknown().double().numpy() for part in latents]),
    )


def _log_joint(latents: Latents) -> LogJoint:
    values: LogJoint = latents.class_log_prob.numpy()
    return values
