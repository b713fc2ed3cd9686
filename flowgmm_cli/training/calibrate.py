"""The temperature of the saved model, from labels that may be used.

With a labelled validation split it is fitted there. Otherwise on the labelled rows themselves, cross-fitted:
the model is trained anew, shorter, without one fold of the labels at a time, and the folds' predictions of
the labels they have not seen are pooled. Their temperature is not yet the model's: the longer a training, the
larger its log-odds. It is carried over in proportion to their scale on unlabelled rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.calibration import (
    fit_class_bias,
    fit_temperature,
    fit_temperature_and_noise,
    margin_scale,
)
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.training.folds import Fold, labelled_folds

Method = Literal["val", "cross_fit", "training", "none"]
_SAMPLE = 2000
_FEW = 10  # held-out labels below which a fitted temperature is worth less than the training one


@dataclass(frozen=True)
class Likelihoods:
    r"""From log-densities to the log-likelihood of each class, up to a constant of the row.

    .. math:: \log p(x \mid k) = s \log p(x, k) / T + b_k

    Attributes:
        steepness: s, where T is the temperature of the calibration.
        bias: b, `(K,)`.
    """

    steepness: float
    bias: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """A temperature and where it comes from.

    Attributes:
        temperature: divisor of class log-probabilities.
        method: `val`, `cross_fit`, `training` (too few labels to fit one: the objective's own) or `none`.
        rows: number of labels it was fitted on.
        accuracy: of the predictions it was fitted on; None where there are none.
        noise: share of labels taken for random.
        likelihoods: of each class, for estimates of class weights; None where nothing was fitted.
    """

    temperature: float
    method: Method
    rows: int = 0
    accuracy: float | None = None
    noise: float = 0.0
    likelihoods: Likelihoods | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: value for name, value in vars(self).items() if name != "likelihoods"}


@dataclass(frozen=True)
class HeldOut:
    """What models say of labelled rows whose labels they have not seen.

    Attributes:
        log_joint: class log-densities `(n, K)`.
        labels: true classes `(n,)`.
        elsewhere: what each of them says of the same unlabelled rows, `(models, m, K)`; m may be 0.
    """

    log_joint: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    elsewhere: npt.NDArray[np.float64]


def calibrate(
    config: CalibrationConfig,
    *,
    val: tuple[Latents, npt.NDArray[np.int64]] | None,
    labels: npt.NDArray[np.int64],
    temperature: float,
    train_folds: Callable[[Sequence[Fold]], Sequence[Model]],
    see: Callable[[Model, npt.NDArray[np.intp]], Latents],
    model: Model,
    seed: int,
    held_out: HeldOut | None = None,
) -> Calibration:
    """Find the temperature.

    Args:
        config: method, rows, folds.
        val: latents and labels of a labelled validation split; None where there is none.
        labels: visible labels of the training rows `(N,)`, -1 where there is none.
        temperature: the objective's own, for when nothing can be fitted.
        train_folds: trains a model for each fold, with only the labels that it may see.
        see: latents of training rows under a model.
        model: the one to calibrate.
        seed: of the folds.
        held_out: from a search that has already trained folds; then none are trained here.

    Raises:
        RecipeError: `on: val` without a labelled validation split.
    """
    if config.method == "none" or not (labels > 0).any():  # of a single class one is sure in any case
        return Calibration(1.0, "none")
    if config.on == "val" and val is None:
        raise RecipeError(
            "calibration.on is val, but there is no labelled validation split",
            hint="set data.split.val_labels=true, or calibration.on=auto",
        )
    if val is not None and (config.on == "val" or (config.on == "auto" and (val[1] >= 0).sum() >= _FEW)):
        return _fit(config, val[0].class_log_prob.double().numpy(), val[1], "val", temperature)
    sample = unlabelled_sample(labels)
    if held_out is None:
        folds = labelled_folds(labels, config.folds, seed=seed)
        if sum(len(fold.held_out) for fold in folds) < _FEW:
            return Calibration(temperature, "training")
        log_joint, elsewhere = [], []
        for fold, trained in zip(folds, train_folds(folds), strict=True):
            log_joint.append(see(trained, fold.held_out).class_log_prob.double().numpy())
            elsewhere.append(see(trained, sample).class_log_prob.double().numpy())
        rows = np.concatenate([fold.held_out for fold in folds])
        held_out = HeldOut(np.concatenate(log_joint), labels[rows], np.stack(elsewhere))
    found = _fit(config, held_out.log_joint, held_out.labels, "cross_fit", temperature)
    if found.method == "training" or not len(sample):
        return found
    folds_scale = float(np.mean([margin_scale(one) for one in held_out.elsewhere]))
    own_scale = margin_scale(see(model, sample).class_log_prob.double().numpy())
    if not (folds_scale > 0 and own_scale > 0):  # one of them sees no difference between the classes
        return found
    return dataclasses.replace(found, temperature=found.temperature * own_scale / folds_scale)


def unlabelled_sample(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Positions of some unlabelled rows, evenly spaced: enough to measure a share to a percent."""
    rows = np.flatnonzero(labels < 0)
    return rows[:: -(-len(rows) // _SAMPLE) or 1]


def set_calibration(model: Model, calibration: Calibration) -> None:
    """Let the model's posteriors use what was found."""
    with torch.no_grad():
        model.temperature.fill_(calibration.temperature)
        model.noise.fill_(calibration.noise)


def _fit(
    config: CalibrationConfig,
    log_joint: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    method: Method,
    fallback: float,
) -> Calibration:
    seen = labels >= 0
    if seen.sum() < _FEW:
        return Calibration(fallback, "training")
    accuracy = float((log_joint[seen].argmax(1) == labels[seen]).mean())
    temperature, noise = fit_temperature(log_joint, labels), 0.0
    if config.noise:
        temperature, noise = fit_temperature_and_noise(log_joint, labels)
    # labels may be drawn evenly or not; likelihoods know nothing of how often a class was drawn
    drawn = np.bincount(labels[seen], minlength=log_joint.shape[1]) + 1
    with_bias, bias = fit_class_bias(log_joint, labels, noise=noise, start=temperature)
    likelihoods = Likelihoods(temperature / with_bias, tuple(bias - np.log(drawn / drawn.sum())))
    return Calibration(temperature, method, int(seen.sum()), accuracy, noise, likelihoods)
