"""A fitted temperature: the labels that it is fitted to, the result, and the likelihoods of the classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.calibration import (
    EXPECTED_NOISE,
    fit_class_bias,
    fit_temperature,
    fit_temperature_and_noise,
    temper_log_joint,
    temper_true_classes,
)
from flowgmm_cli.evaluation.folds import Fold, Labels, LogJoint, OutOfFold, split_labelled
from flowgmm_cli.evaluation.result_warnings import is_informative
from flowgmm_cli.recipe.schema import CalibrationConfig

Method = Literal["val", "cross_fit", "training", "none"]
_UNSTORED = ("likelihoods", "out_of_fold")
_MIN_LABELS = 10  # held-out labels for a fitted temperature; with fewer that of the objective is better


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
        out_of_fold: predictions of the folds that were trained for it or given; None without any.
    """

    temperature: float
    method: Method
    rows: int = 0
    accuracy: float | None = None
    noise: float = 0.0
    nll: float | None = None
    frequency_nll: float | None = None
    likelihoods: Likelihoods | None = None
    out_of_fold: OutOfFold | None = field(default=None, compare=False)

    @property
    def informative(self) -> bool:
        """See `is_informative`."""
        return is_informative(vars(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name not in _UNSTORED}
        return {**values, "informative": self.informative}


def uses_validation(config: CalibrationConfig, val_labels: Labels) -> bool:
    """Return True if the temperature is fitted to validation labels, -1 if unlabelled.

    Labels of a single class would make the model certain of it.
    """
    known = val_labels[val_labels >= 0]
    enough = len(known) >= _MIN_LABELS and np.ptp(known) > 0
    return config.on == "val" or (config.on == "auto" and bool(enough))


def calibration_folds(
    config: CalibrationConfig, labels: Labels, *, seed: int, known: npt.NDArray[np.bool_] | None = None
) -> list[Fold]:
    """Folds of the labelled rows for a calibration by cross-fitting; none if labels are too few.

    For `known` see `split_labelled`.
    """
    folds = split_labelled(labels, config.folds, seed=seed, known=known)
    return folds if sum(len(fold.held_out) for fold in folds) >= _MIN_LABELS else []


def fit_calibration(
    config: CalibrationConfig,
    scores: LogJoint,
    labels: Labels,
    method: Method,
    fallback: float,
    with_likelihoods: bool = True,
    label_noise: float = 0.0,
) -> Calibration:
    """Fit the temperature to labels that a model has not seen, -1 if unlabelled; `fallback` if too few.

    A share `label_noise` of the labels is known to be wrong; the predicted probabilities are those of the
    right classes.
    """
    from scipy.stats import entropy

    known = labels >= 0
    if not known.all():
        scores, labels = scores[known], labels[known]
    if len(labels) < _MIN_LABELS:
        return Calibration(fallback, "training")
    temperature, noise = _fit_temperature(config, scores, labels, label_noise)
    likelihoods = None
    if with_likelihoods:  # they do not depend on how often a class was labelled
        counts = np.bincount(labels, minlength=scores.shape[1]) + 1
        with_bias, bias = fit_class_bias(scores, labels, noise=noise, start=temperature)
        likelihoods = Likelihoods(temperature / with_bias, tuple(bias - np.log(counts / counts.sum())))
    return Calibration(
        temperature,
        method,
        rows=len(labels),
        accuracy=float((scores.argmax(1) == labels).mean()),
        noise=_remaining_noise(noise, label_noise, scores.shape[1]),
        nll=-float(temper_true_classes(scores, labels, temperature, noise).mean()) + 0.0,  # no -0
        frequency_nll=float(entropy(np.bincount(labels))),
        likelihoods=likelihoods,
    )


def calibrate_folds(
    config: CalibrationConfig, out_of_fold: OutOfFold, *, temperature: float, label_noise: float = 0.0
) -> npt.NDArray[np.float64]:
    """Calibrate the predictions of each fold by a temperature fitted to the other folds.

    `temperature` is that of the objective, for too few labels; for `label_noise` see `fit_calibration`.

    Returns:
        Log-probabilities of the classes `(n, K)`.
    """
    result, classes = np.empty(out_of_fold.log_joint.shape), out_of_fold.log_joint.shape[1]
    for fold in np.unique(out_of_fold.folds):
        own = out_of_fold.folds == fold
        fitted = (1.0 if config.method == "none" else temperature), 0.0
        if config.method != "none" and (~own).sum() >= _MIN_LABELS:
            divisor, noise = _fit_temperature(
                config, out_of_fold.log_joint[~own], out_of_fold.labels[~own], label_noise
            )
            fitted = divisor, _remaining_noise(noise, label_noise, classes)
        result[own] = temper_log_joint(out_of_fold.log_joint[own], *fitted)
    return result


def _fit_temperature(
    config: CalibrationConfig, scores: LogJoint, labels: Labels, label_noise: float
) -> tuple[float, float]:
    """Return the temperature and the share of random labels."""
    if not config.noise:
        return fit_temperature(scores, labels), 0.0
    random = _random_share(label_noise, scores.shape[1])
    return fit_temperature_and_noise(scores, labels, expected=random + EXPECTED_NOISE * (1 - random))


def _random_share(label_noise: float, classes: int) -> float:
    """Return the share of labels drawn from all classes that gives this share of wrong ones."""
    return label_noise * classes / max(1, classes - 1)


def _remaining_noise(noise: float, label_noise: float, classes: int) -> float:
    """Return the share of random labels beside those that are known to be wrong."""
    return max(0.0, 1 - (1 - noise) / (1 - _random_share(label_noise, classes))) if label_noise else noise
