"""The temperature of the saved model, from labels that may be used.

With a labelled validation split it is fitted there. Otherwise on the labelled rows themselves, cross-fitted:
the model is trained anew, shorter, without one fold of the labels at a time, and the folds' predictions of
the labels they have not seen are pooled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.calibration import fit_temperature
from flowgmm_cli.evaluation.tuning import stratified_folds
from flowgmm_cli.model import FlowGMM
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.seeds import derive_seed

Method = Literal["val", "cross_fit", "training", "none"]
_FEW = 10  # held-out labels below which a fitted temperature is worth less than the training one


@dataclass(frozen=True)
class Calibration:
    """A temperature and where it comes from.

    Attributes:
        temperature: divisor of class log-probabilities.
        method: `val`, `cross_fit`, `training` (too few labels to fit one: the objective's own) or `none`.
        rows: number of labels it was fitted on.
        accuracy: of the predictions it was fitted on; None where there are none.
    """

    temperature: float
    method: Method
    rows: int = 0
    accuracy: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def calibrate(
    config: CalibrationConfig,
    *,
    val: tuple[Latents, npt.NDArray[np.int64]] | None,
    labels: npt.NDArray[np.int64],
    temperature: float,
    train_fold: Callable[[npt.NDArray[np.int64], int, str], FlowGMM],
    see: Callable[[FlowGMM, npt.NDArray[np.intp]], Latents],
    seed: int,
) -> Calibration:
    """Find the temperature.

    Args:
        config: method, rows, folds.
        val: latents and labels of a labelled validation split; None where there is none.
        labels: visible labels of the training rows `(N,)`, -1 where there is none.
        temperature: the objective's own, for when nothing can be fitted.
        train_fold: `train_fold(labels, index, what)` trains a model with only these labels.
        see: latents of training rows under a model.
        seed: of the folds.

    Raises:
        RecipeError: `on: val` without a labelled validation split.
    """
    if config.method == "none":
        return Calibration(1.0, "none")
    if config.on == "val" and val is None:
        raise RecipeError(
            "calibration.on is val, but there is no labelled validation split",
            hint="set data.split.val_labels=true, or calibration.on=auto",
        )
    if val is not None and (config.on == "val" or (config.on == "auto" and (val[1] >= 0).sum() >= _FEW)):
        return _fit(val[0].class_log_prob.double().numpy(), val[1], "val", temperature)

    rows = np.flatnonzero(labels >= 0)
    # the only row of its class must stay, or a fold would have no such class
    counts = np.bincount(labels[rows])
    movable = rows[counts[labels[rows]] > 1]
    if len(movable) < _FEW:
        return Calibration(temperature, "training")
    rng = np.random.default_rng(derive_seed(seed, "folds"))
    fold = stratified_folds(labels[movable], config.folds, rng=rng)
    held_out, log_joint = [], []
    for index in range(fold.max(initial=-1) + 1):
        out = movable[fold == index]
        visible = labels.copy()
        visible[out] = -1
        model = train_fold(visible, index, f"calibrate, fold {index + 1} of {fold.max() + 1}")
        held_out.append(out)
        log_joint.append(see(model, out).class_log_prob.double().numpy())
    return _fit(np.concatenate(log_joint), labels[np.concatenate(held_out)], "cross_fit", temperature)


def fold_epochs(config: CalibrationConfig, epochs: int) -> int:
    """Epochs of a fold's training; steps, where it is given their largest number."""
    return max(1, math.ceil(config.epochs * epochs))


def set_temperature(model: FlowGMM, calibration: Calibration) -> None:
    """Let the model's posteriors use the temperature."""
    with torch.no_grad():
        model.temperature.fill_(calibration.temperature)


def _fit(
    log_joint: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], method: Method, fallback: float
) -> Calibration:
    seen = labels >= 0
    if seen.sum() < _FEW:
        return Calibration(fallback, "training")
    accuracy = float((log_joint[seen].argmax(1) == labels[seen]).mean())
    return Calibration(fit_temperature(log_joint, labels), method, int(seen.sum()), accuracy)
