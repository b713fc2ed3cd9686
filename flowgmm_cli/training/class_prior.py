"""Class weights estimated while training (`prior.class_prior: estimated`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.tensors import Matrix
from flowgmm_cli.mixture.build import estimate_weights
from flowgmm_cli.model import FlowMixture, Model
from flowgmm_cli.trained_model import encode
from flowgmm_cli.training.calibration import Likelihoods
from flowgmm_cli.training.distributed import Distributed

_MAX_ROWS = 20_000  # enough for weights to a third of a percent
_CHUNK = 4096


@torch.no_grad()
def estimate_class_prior(
    model: FlowMixture,
    teacher: FlowMixture,
    x: Matrix,
    pool: Tensor,
    temperature: float,
    group: Distributed | None = None,
) -> None:
    """Set the class weights of both models to those under which the training rows are most likely.

    The densities of the teacher given the class are divided by the temperature; raw ones would count each row
    wholly for one class. Each process of the group computes those of a share of the rows.

    Args:
        model, teacher: the models.
        x: preprocessed training rows `(N, D)`.
        pool: positions of the rows that are unlabelled in training, `(P,)`.
        temperature: divisor of log-densities.
        group: the processes that train together.
    """
    if not len(pool):
        return
    group = group or Distributed()
    sample = pool[:: -(-len(pool) // _MAX_ROWS)]  # evenly spaced: a file may be sorted by class
    rows = x[group.shard(sample)]
    densities = [
        teacher.mixture.conditional_log_prob(teacher.flow(rows[part])[0]) / temperature
        for part in iterate_batches(len(rows), _CHUNK)
    ]
    _update_weights((model, teacher), group.all_gather(torch.cat(densities)).cpu())


@torch.no_grad()
def refine_class_prior(model: Model, x: Matrix, likelihoods: Likelihoods | None = None) -> None:
    """Estimate the class weights again with calibrated posteriors.

    An overconfident model counts neighbours of a rare class as members of it, and the weights come out too
    even. Calibrated likelihoods with a bias for each class correct that (Alexandari, Kundaje and Shrikumar,
    2020).

    Args:
        model: calibrated model; all its parts get the same weights.
        x: preprocessed training rows `(N, D)`.
        likelihoods: likelihoods of the classes, from the calibration; None = those of the mixture.
    """
    if not len(x):
        return
    sample = x[:: -(-len(x) // _MAX_ROWS)]
    latents = encode(model, sample)
    joint = latents.class_log_prob
    if likelihoods is None:
        conditional = joint - torch.stack([part.mixture.log_weights.cpu() for part in model.parts]).mean(0)
    else:  # in units of the densities, which `log_posterior` divides by the temperature
        bias = torch.tensor(likelihoods.bias, dtype=torch.float64)
        conditional = likelihoods.steepness * joint.double() + float(model.temperature) * bias
    corrected = dataclasses.replace(latents, class_log_prob=conditional)
    _update_weights(model.parts, model.log_posterior(corrected))


def _update_weights(models: Iterable[FlowMixture], log_prob: Tensor) -> None:
    """Set the class weights under which rows with log-likelihoods `(N, K)` are most likely."""
    classes = log_prob.shape[1]
    weights = estimate_weights(log_prob, torch.full((classes,), 1 / classes, dtype=torch.float64))
    for model in models:
        raw = model.mixture.raw_log_weights
        model.mixture.set_weights(weights.to(raw.dtype).to(raw.device))  # not every device has float64
