"""The temperature of the saved model, fitted to labels that may be used.

With a labelled validation split it is fitted there. Otherwise it is cross-fitted on the labelled rows:
shorter trainings without one fold of the labels each predict the labels they have not seen. The log-odds of a
longer training are larger, so the temperature is scaled by their spread on unlabelled rows.
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
from flowgmm_cli.evaluation.cross_validation import assign_folds
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.seeds import derive_seed

Labels = npt.NDArray[np.int64]
LogJoint = npt.NDArray[np.float64]  # class log-densities
Encode = Callable[[Model, npt.NDArray[np.intp]], Latents]  # training rows at some positions
Method = Literal["val", "cross_fit", "training", "none"]
_MAX_SAMPLE_ROWS = 2000
_MIN_LABELS = 10  # held-out labels for a fitted temperature; with fewer that of the objective is better


@dataclass(frozen=True)
class Fold:
    """Labels that a training may use, `(N,)`, -1 for all others, and positions of the rows it predicts."""

    visible: Labels
    held_out: npt.NDArray[np.intp]


def split_labelled(labels: Labels, folds: int, *, seed: int) -> list[Fold]:
    """Split the labelled rows into stratified folds.

    The only row of its class is never held out, so that every fold has all classes. There are fewer folds if
    no class has so many rows, and none if every class has a single row.
    """
    rows = np.flatnonzero(labels >= 0)
    counts = np.bincount(labels[rows])
    movable = rows[counts[labels[rows]] > 1]
    number = assign_folds(labels[movable], folds, rng=np.random.default_rng(derive_seed(seed, "folds")))
    result = []
    for index in range(number.max(initial=-1) + 1):
        held_out = movable[number == index]
        visible = labels.copy()
        visible[held_out] = -1
        result.append(Fold(visible, held_out))
    return result


@dataclass(frozen=True)
class Likelihoods:
    r"""From log-densities to the log-likelihood of each class, up to a constant of the row.

    .. math:: \log p(x \mid k) = s \log p(x, k) / T + b_k

    with the `steepness` s, the `bias` b, `(K,)`, and the temperature T of the calibration.
    """

    steepness: float
    bias: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """A temperature and its origin.

    Attributes:
        temperature: divisor of class log-probabilities.
        method: `val`, `cross_fit`, `training` (that of the objective, because labels are too few) or `none`.
        rows, accuracy: number and accuracy of the predictions it was fitted to; None without any.
        noise: share of labels taken for random.
        nll: mean -log p of these labels under the calibrated predictions, in nats; None without any.
        frequency_nll: the same under the frequencies of the classes among them, which read no column.
        likelihoods: likelihoods of the classes, for estimates of class weights; None if nothing was fitted.
    """

    temperature: float
    method: Method
    rows: int = 0
    accuracy: float | None = None
    noise: float = 0.0
    nll: float | None = None
    frequency_nll: float | None = None
    likelihoods: Likelihoods | None = None

    @property
    def informative(self) -> bool:
        """False if predictions by the frequencies of the classes explain the labels as well.

        The temperature was fitted to these labels, so it must gain more than 1 nat (Akaike, 1974).
        """
        if self.nll is None or self.frequency_nll is None:
            return True
        return self.rows * (self.frequency_nll - self.nll) > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: value for name, value in vars(self).items() if name != "likelihoods"}


@dataclass(frozen=True)
class OutOfFold:
    """Class log-densities of rows whose labels a model has not seen.

    Attributes:
        log_joint: of labelled rows, `(n, K)`, each under the model of its fold.
        labels: true classes `(n,)`.
        unlabelled: of the same unlabelled rows under every model, `(models, m, K)`; m may be 0.
    """

    log_joint: LogJoint
    labels: Labels
    unlabelled: LogJoint


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
) -> Calibration:
    """Fit the temperature of a model.

    Args:
        val: latents and labels of a labelled validation split; None without one.
        labels: visible labels of the training rows `(N,)`, -1 if unlabelled.
        temperature: temperature of the objective, the result if nothing can be fitted.
        train_folds: trains a model for each fold, with only the labels that it may see.
        encode: computes latents of training rows at some positions under a model.
        out_of_fold: predictions of a search that has trained folds already; None trains them here.

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
        return _fit(config, _log_joint(val[0]), val[1], "val", temperature)
    sample = sample_unlabelled(labels)
    if out_of_fold is None:
        folds = calibration_folds(config, labels, seed=seed)
        if not folds:
            return Calibration(temperature, "training")
        models = train_folds(folds)
        out_of_fold = collect_out_of_fold(models, folds, labels, encode)
    fitted = _fit(config, out_of_fold.log_joint, out_of_fold.labels, "cross_fit", temperature)
    if fitted.method == "training" or not len(sample):
        return fitted
    folds_scale = float(np.mean([margin_scale(log_joint) for log_joint in out_of_fold.unlabelled]))
    own_scale = margin_scale(_log_joint(encode(model, sample)))
    if not (folds_scale > 0 and own_scale > 0):  # one of them does not tell the classes apart
        return fitted
    return dataclasses.replace(fitted, temperature=fitted.temperature * own_scale / folds_scale)


def uses_validation(config: CalibrationConfig, val_labels: Labels) -> bool:
    """Return True if the temperature is fitted to validation labels, -1 if unlabelled."""
    enough = (val_labels >= 0).sum() >= _MIN_LABELS
    return config.on == "val" or (config.on == "auto" and bool(enough))


def calibration_folds(config: CalibrationConfig, labels: Labels, *, seed: int) -> list[Fold]:
    """Folds of the labelled rows for a calibration by cross-fitting; none if labels are too few."""
    folds = split_labelled(labels, config.folds, seed=seed)
    return folds if sum(len(fold.held_out) for fold in folds) >= _MIN_LABELS else []


def collect_out_of_fold(
    models: Sequence[Model], folds: Sequence[Fold], labels: Labels, encode: Encode
) -> OutOfFold:
    """Predict the held-out labelled rows of each fold, and a sample of unlabelled rows, with its model."""
    sample = sample_unlabelled(labels)
    pairs = list(zip(models, folds, strict=True))
    rows = np.concatenate([fold.held_out for fold in folds])
    return OutOfFold(
        log_joint=np.concatenate([_log_joint(encode(model, fold.held_out)) for model, fold in pairs]),
        labels=labels[rows],
        unlabelled=np.stack([_log_joint(encode(model, sample)) for model in models]),
    )


def _log_joint(latents: Latents) -> LogJoint:
    log_joint: LogJoint = latents.class_log_prob.double().numpy()
    return log_joint


def sample_unlabelled(labels: Labels) -> npt.NDArray[np.intp]:
    """Return positions of evenly spaced unlabelled rows, enough to measure a share to a percent."""
    rows = np.flatnonzero(labels < 0)
    return rows[:: -(-len(rows) // _MAX_SAMPLE_ROWS) or 1]


def set_calibration(model: Model, calibration: Calibration) -> None:
    """Set the temperature and label noise of the model's posteriors."""
    with torch.no_grad():
        model.temperature.fill_(calibration.temperature)
        model.noise.fill_(calibration.noise)


def _fit(
    config: CalibrationConfig, log_joint: LogJoint, labels: Labels, method: Method, fallback: float
) -> Calibration:
    from scipy.special import softmax
    from scipy.stats import entropy

    is_labelled = labels >= 0
    if is_labelled.sum() < _MIN_LABELS:
        return Calibration(fallback, "training")
    accuracy = float((log_joint[is_labelled].argmax(1) == labels[is_labelled]).mean())
    temperature, noise = fit_temperature(log_joint, labels), 0.0
    if config.noise:
        temperature, noise = fit_temperature_and_noise(log_joint, labels)
    # likelihoods do not depend on how often a class was labelled
    counts = np.bincount(labels[is_labelled], minlength=log_joint.shape[1]) + 1
    with_bias, bias = fit_class_bias(log_joint, labels, noise=noise, start=temperature)
    likelihoods = Likelihoods(temperature / with_bias, tuple(bias - np.log(counts / counts.sum())))
    scores, truth = log_joint[is_labelled], labels[is_labelled]
    p = (1 - noise) * softmax(scores / temperature, axis=1) + noise / scores.shape[1]
    likelihood = np.maximum(p[np.arange(len(truth)), truth], np.finfo(np.float64).tiny)
    nll, frequency_nll = float(-np.log(likelihood).mean()), float(entropy(np.bincount(truth)))
    return Calibration(
        temperature, method, len(truth), accuracy, noise, nll, frequency_nll, likelihoods=likelihoods
    )
