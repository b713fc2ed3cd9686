"""Class weights estimated while training."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.lazy_dataset import RowStore
from flowgmm_cli.mixture.class_prior import estimate_weights
from flowgmm_cli.model import FlowMixture, Model
from flowgmm_cli.trained_model import encode
from flowgmm_cli.training.calibrate import Likelihoods
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.sampler import TrainingRows
from flowgmm_cli.training.sharded import by_shares

_ROWS = 20_000  # enough for weights to a third of a percent
_CHUNK = 4096


@torch.no_grad()
def estimate_class_prior(
    model: FlowMixture,
    teacher: FlowMixture,
    rows: TrainingRows,
    temperature: float,
    processes: Processes | None = None,
) -> None:
    """Set both models' class weights to those under which the teacher finds the training rows most likely.

    The tempered densities given the class are used, for raw ones count every row as wholly of one class.
    """
    if not len(rows.pool):
        return
    x = rows.x[rows.pool[:: -(-len(rows.pool) // _ROWS)]]  # of a file sorted by class, some of each class

    def given_class(part: Tensor) -> Tensor:
        return teacher.mixture.conditional_log_prob(teacher.flow(part)[0]) / temperature

    tempered = [
        by_shares(given_class, x[part], processes or Processes()) for part in iterate_batches(len(x), _CHUNK)
    ]
    start = torch.full((teacher.mixture.classes,), 1 / teacher.mixture.classes, dtype=torch.float64)
    weights = estimate_weights(torch.cat(tempered).cpu(), start)
    for one in (model, teacher):
        _set_weights(one, weights)


@torch.no_grad()
def settle_class_prior(model: Model, x: RowStore, likelihoods: Likelihoods | None = None) -> None:
    """Estimate the class weights once more, now that the posteriors are calibrated.

    A model that is too sure counts every row of a rare class's neighbours as one of that class, and the
    weights come out too even. With calibrated likelihoods the estimate is free of that, and a correction for
    each class mends what is left: rows of one class that are taken for another (Alexandari, Kundaje and
    Shrikumar, 2020).

    Args:
        model: calibrated; all its parts get the same weights.
        x: preprocessed training rows `(N, D)`.
        likelihoods: of the classes, from the calibration; without it the mixture's are taken.
    """
    if not len(x):
        return
    sample = x[:: -(-len(x) // _ROWS)]
    latents = encode(model, sample)
    joint = latents.class_log_prob
    if likelihoods is None:
        given_class = joint - torch.stack([part.mixture.log_weights.cpu() for part in model.parts]).mean(0)
    else:  # in the units of the densities, which the temperature will divide
        bias = torch.tensor(likelihoods.bias, dtype=torch.float64)
        given_class = likelihoods.steepness * joint.double() + float(model.temperature) * bias
    classes = joint.shape[1]
    start = torch.full((classes,), 1 / classes, dtype=torch.float64)
    seen = dataclasses.replace(latents, class_log_prob=given_class)
    weights = estimate_weights(model.log_posterior(seen), start)
    for part in model.parts:
        _set_weights(part, weights)


def _set_weights(model: FlowMixture, weights: Tensor) -> None:
    raw = model.mixture.raw_log_weights
    model.mixture.set_weights(weights.to(raw.dtype).to(raw.device))  # not every device has float64
