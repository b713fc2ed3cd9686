"""Folds of the labelled rows, and the temperature of the saved model, fitted to labels that may be used.

With a labelled validation split it is fitted there. Otherwise it is cross-fitted on the labelled rows:
shorter trainings without one fold of the labels each predict the labels they have not seen. The log-odds of a
longer training are larger, so the temperature is scaled by their spread on unlabelled rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    temper_log_joint,
    temper_true_classes,
)
from flowgmm_cli.evaluation.cross_validation import assign_folds
from flowgmm_cli.evaluation.result_warnings import is_informative
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.seeds import derive_seed

Method = Literal["val", "cross_fit", "training", "none"]
Labels = npt.NDArray[np.int64]
LogJoint = npt.NDArray[np.floating[Any]]  # class log-densities, float32 as a model computes them
Encode = Callable[[Model, npt.NDArray[np.intp]], Latents]  # training rows at some positions
_UNSTORED = ("likelihoods", "out_of_fold")
_MIN_LABELS = 10  # held-out labels for a fitted temperature; with fewer that of the objective is better
_MAX_SAMPLE_ROWS = 2000
_MAX_ENTRIES = 2**25  # rows * classes of a table


@dataclass(frozen=True)
class Fold:
    """Labels that a training may use, `(N,)`, -1 for all others, and positions of the rows it predicts."""

    visible: Labels
    held_out: npt.NDArray[np.intp]


def split_labelled(labels: Labels, folds: int, *, seed: int) -> list[Fold]:
    """Split the labelled rows into stratified folds.

    The only row of its class is never held out, so that every fold has all classes. There are fewer folds if
    no class has so many rows, and none if every class has a single row. With thousands of classes a sample of
    the rows is held out, for a table of all rows and classes would not fit into memory.
    """
    rows, rng = np.flatnonzero(labels >= 0), np.random.default_rng(derive_seed(seed, "folds"))
    counts = np.bincount(labels[rows], minlength=1)
    movable = rows[counts[labels[rows]] > 1]
    if len(movable) > (most := _MAX_ENTRIES // len(counts)):
        movable = np.sort(rng.choice(movable, most, replace=False))
    number = assign_folds(labels[movable], folds, rng=rng)
    result = []
    for index in range(number.max(initial=-1) + 1):
        held_out = movable[number == index]
        visible = labels.copy()
        visible[held_out] = -1
        result.append(Fold(visible, held_out))
    return result


@dataclass(frozen=True)
class OutOfFold:
    """Class log-densities of rows whose labels a model has not seen.

    Attributes:
        log_joint: of labelled rows, `(n, K)`, each under the model of its fold.
        labels: true classes `(n,)`.
        rows: positions among the training rows `(n,)`.
        folds: number of the fold that held out the row `(n,)`.
        unlabelled: of the same unlabelled rows under every model, `(models, m, K)`; m may be 0.
        nameless: log-densities of the nameless components for the labelled rows, `(n, M)`; M may be 0.
    """

    log_joint: LogJoint
    labels: Labels
    rows: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    unlabelled: LogJoint
    nameless: LogJoint


def collect_out_of_fold(
    models: Sequence[Model], folds: Sequence[Fold], labels: Labels, encode: Encode
) -> OutOfFold:
    """Predict the held-out labelled rows of each fold, and a sample of unlabelled rows, with its model."""
    sample = sample_unlabelled(labels)
    pairs = list(zip(models, folds, strict=True))
    rows = np.concatenate([fold.held_out for fold in folds])
    latents = [encode(model, fold.held_out) for model, fold in pairs]
    classes = latents[0].class_log_prob.shape[1]
    return OutOfFold(
        log_joint=np.concatenate([_log_joint(part) for part in latents]),
        labels=labels[rows],
        rows=rows,
        folds=np.repeat(np.arange(len(folds)), [len(fold.held_out) for fold in folds]),
        unlabelled=np.stack([_log_joint(encode(model, sample)) for model in models]),
        nameless=np.concatenate([part.joint_log_prob[:, classes:].numpy() for part in latents]),
    )


def sample_unlabelled(labels: Labels) -> npt.NDArray[np.intp]:
    """Return positions of evenly spaced unlabelled rows, enough to measure a share to a percent.

    With thousands of classes they are fewer, see `split_labelled`.
    """
    rows = np.flatnonzero(labels < 0)
    most = min(_MAX_SAMPLE_ROWS, _MAX_ENTRIES // (4 * int(labels.max(initial=0) + 1)))
    return rows[:: -(-len(rows) // most) or 1]


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
        return _fit(config, _log_joint(val[0]), val[1], "val", temperature, with_likelihoods)
    sample = sample_unlabelled(labels)
    if out_of_fold is None:
        folds = calibration_folds(config, labels, seed=seed)
        if not folds:
            return Calibration(temperature, "training")
        models = train_folds(folds)
        out_of_fold = collect_out_of_fold(models, folds, labels, encode)
    predictions = out_of_fold.log_joint, out_of_fold.labels
    fitted = _fit(config, *predictions, "cross_fit", temperature, with_likelihoods)
    fitted = dataclasses.replace(fitted, out_of_fold=out_of_fold)
    if fitted.method == "training" or not len(sample):
        return fitted
    folds_scale = float(np.mean([margin_scale(scores) for scores in out_of_fold.unlabelled]))
    own_scale = margin_scale(_log_joint(encode(model, sample)))
    if not (folds_scale > 0 and own_scale > 0):  # one of them does not tell the classes apart
        return fitted
    return dataclasses.replace(fitted, temperature=fitted.temperature * own_scale / folds_scale)


def uses_validation(config: CalibrationConfig, val_labels: Labels) -> bool:
    """Return True if the temperature is fitted to validation labels, -1 if unlabelled.

    Labels of a single class would make the model certain of it.
    """
    known = val_labels[val_labels >= 0]
    enough = len(known) >= _MIN_LABELS and np.ptp(known) > 0
    return config.on == "val" or (config.on == "auto" and bool(enough))


def calibration_folds(config: CalibrationConfig, labels: Labels, *, seed: int) -> list[Fold]:
    """Folds of the labelled rows for a calibration by cross-fitting; none if labels are too few."""
    folds = split_labelled(labels, config.folds, seed=seed)
    return folds if sum(len(fold.held_out) for fold in folds) >= _MIN_LABELS else []


def set_calibration(model: Model, calibration: Calibration) -> None:
    """Set the temperature and label noise of the model's posteriors."""
    with torch.no_grad():
        model.temperature.fill_(calibration.temperature)
        model.noise.fill_(calibration.noise)


def calibrate_folds(
    config: CalibrationConfig, out_of_fold: OutOfFold, *, temperature: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Calibrate the predictions of each fold by a temperature fitted to the other folds.

    `temperature` is that of the objective, for too few labels.

    Returns:
        Log-probabilities of the classes `(n, K)`, and `p_unknown` `(n,)`.
    """
    from scipy.special import softmax

    result, p_unknown = np.empty(out_of_fold.log_joint.shape), np.zeros(len(out_of_fold.labels))
    classes = out_of_fold.log_joint.shape[1]
    for fold in np.unique(out_of_fold.folds):
        own = out_of_fold.folds == fold
        fitted = (1.0 if config.method == "none" else temperature), 0.0
        if config.method != "none" and (~own).sum() >= _MIN_LABELS:
            fitted = _fit_temperature(config, out_of_fold.log_joint[~own], out_of_fold.labels[~own])
        result[own] = temper_log_joint(out_of_fold.log_joint[own], *fitted)
        if out_of_fold.nameless.shape[1]:
            joint = np.concatenate([out_of_fold.log_joint[own], out_of_fold.nameless[own]], axis=1)
            p_unknown[own] = softmax(joint / fitted[0], axis=1)[:, classes:].sum(1)
    return result, p_unknown


def _log_joint(latents: Latents) -> LogJoint:
    values: LogJoint = latents.class_log_prob.numpy()
    return values


def _fit_temperature(config: CalibrationConfig, scores: LogJoint, labels: Labels) -> tuple[float, float]:
    """Return temperature and label noise."""
    if config.noise:
        return fit_temperature_and_noise(scores, labels)
    return fit_temperature(scores, labels), 0.0


def _fit(
    config: CalibrationConfig,
    scores: LogJoint,
    labels: Labels,
    method: Method,
    fallback: float,
    with_likelihoods: bool = True,
) -> Calibration:
    from scipy.stats import entropy

    known = labels >= 0
    if not known.all():
        scores, labels = scores[known], labels[known]
    if len(labels) < _MIN_LABELS:
        return Calibration(fallback, "training")
    temperature, noise = _fit_temperature(config, scores, labels)
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
        noise=noise,
        nll=-float(temper_true_classes(scores, labels, temperature, noise).mean()) + 0.0,  # no -0
        frequency_nll=float(entropy(np.bincount(labels))),
        likelihoods=likelihoods,
    )
