"""Parameters from data: actnorm, means and weights before training, means after a warm-up, class weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.tensors import Matrix, Tensors
from flowgmm_cli.evaluation.temperature import Likelihoods
from flowgmm_cli.flows.multiscale import latent_sizes
from flowgmm_cli.mixture.build import copy_classes, estimate_weights, initial_weights, mixture_dims
from flowgmm_cli.mixture.clusters import component_responsibilities
from flowgmm_cli.mixture.init import (
    USES_UNLABELLED,
    TrainingLatents,
    initial_means,
    means_from_responsibilities,
)
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.model import FlowMixture, Model
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import generator
from flowgmm_cli.trained_model import build_flow, build_mixture, chunk_rows, encode
from flowgmm_cli.training.distributed import Distributed

_CHUNK = 4096
_MAX_UNLABELLED_ROWS = 50_000  # of rows that stay on the disk
_PROBE_ROWS = 200
_PRIOR_ROWS = 20_000  # enough for weights to a third of a percent
_MAX_OTHER_ROWS = 20_000  # enough for means to a hundredth of a standard deviation


def prior_config(recipe: Recipe) -> GMMConfig:
    """Settings of the mixture."""
    return cast(GMMConfig, recipe.prior.config)  # the only kind of prior


@torch.no_grad()
def initialise_model(
    recipe: Recipe,
    x: Matrix,
    labels: Tensor,
    *,
    classes: int,
    seed: int,
    shape: tuple[int, ...] | None = None,
    start: tuple[FlowMixture, Mapping[int, int]] | None = None,
) -> FlowMixture:
    """Build the model and initialise it from the training rows.

    Args:
        x: training rows `(N, D)`, on the CPU.
        labels: int64 `(N,)`, -1 where unlabelled.
        classes: K.
        shape: shape of a row before it was flattened, for flows of images; None for `(D,)`.
        start: model to take the weights from, and its class for each class that it knows. The others
            start at the mean latents of their labelled rows.

    Raises:
        DataError: there are too few rows for the means that the recipe asks for.
        RecipeError: the prior does not fit the number of features or classes.
    """
    config = prior_config(recipe)
    if start:
        config = config.model_copy(update={"means": "labelled"})
    shape = shape or (x.shape[1],)
    rng = generator(seed, "init")
    flow: Any = build_flow(recipe.flow, shape, rng).eval()  # no dropout
    dims = mixture_dims(config, x.shape[1], latent_sizes(flow))
    is_labelled = labels >= 0
    if start:
        flow.load_state_dict(start[0].flow.state_dict())
    elif hasattr(flow, "initialise_from_labels"):
        flow.initialise_from_labels(x[:_CHUNK], x[is_labelled], labels[is_labelled])
    if not start and hasattr(flow, "initialise"):  # data-dependent layers such as actnorm
        flow.initialise(x[:_CHUNK])
    # means are points of the latent space; a flow that starts as the identity maps each row to itself
    others = _select_unlabelled(x, is_labelled) if config.means in USES_UNLABELLED else x[:0]
    labelled, unlabelled = (_latents(flow, rows) for rows in (x[is_labelled], others))
    rows = TrainingLatents(labelled, labels[is_labelled], unlabelled, classes, dims)
    initial = initial_means(config, rows, rng)
    weights = initial_weights(config, labels=labels[is_labelled], classes=classes)
    mixture = build_mixture(recipe.prior, flow, shape, classes=classes, initial=initial, weights=weights)
    if start:
        copy_classes(start[0].mixture, mixture, start[1])
    return FlowMixture(flow.train(), mixture)


def _select_unlabelled(x: Matrix, is_labelled: Tensor) -> Tensor:
    """Return all unlabelled rows, or evenly spaced ones if the rows stay on the disk."""
    if isinstance(x, Tensor):
        return x[~is_labelled]
    positions = (~is_labelled).nonzero().flatten()
    return x[positions[:: max(1, -(-len(positions) // _MAX_UNLABELLED_ROWS))]]


def _latents(flow: torch.nn.Module, x: Tensor) -> Tensor:
    probe = x[:: max(1, len(x) // _PROBE_ROWS)]
    if len(x) > len(probe) and torch.equal(flow(probe)[0], probe):
        return x  # most flows start as the identity
    parts = [flow(x[part])[0] for part in iterate_batches(len(x), chunk_rows(x.shape[1]))]
    return torch.cat(parts) if parts else x[:0]


def warm_up_steps(epochs: float | None, *, per_epoch: int, steps: int) -> int:
    """Number of steps after which the means are set again, at most half: folds have few; 0 for never."""
    return 0 if epochs is None else min(max(1, round(epochs * per_epoch)), steps // 2)


@torch.no_grad()
def set_latent_means(
    model: FlowMixture,
    teacher: FlowMixture,
    optimiser: torch.optim.Optimizer,
    rows: Tensors,
    *,
    temperature: float,
    seed: int,
) -> None:
    """Set the means of both models to the class means of their latents (`prior.means: latent`).

    A labelled row counts for its class, another row for all classes by the tempered posterior of the teacher,
    which is steadier than the student. Both models get means of the same rows with the same shares, but each
    of its own latents, because the teacher's flow lags behind the student's. With several components, each
    class is divided by k-means of the teacher's latents.

    The optimiser forgets the momentum of the means, which points away from their old place. It keeps their
    mean squared gradient, without which the next steps would be several times too long.

    The result depends on the weights and the seed alone, so that a resumed run has the same. `temperature` is
    the divisor of class log-probabilities.
    """
    rng = generator(seed, "init", 1)
    model.eval()  # no dropout
    index = torch.cat(select_rows(rows.labels))
    labels = rows.labels[index]
    latents, shares = _latents_and_posteriors(teacher, rows.x[index], temperature)
    is_labelled = labels >= 0
    shares[is_labelled] = torch.nn.functional.one_hot(labels[is_labelled], shares.shape[1]).to(shares)
    split = component_responsibilities(latents, shares, teacher.mixture.components, rng)
    state = rng.get_state()
    student_latents, _ = _latents_and_posteriors(model, rows.x[index], temperature)
    scale = float(teacher.mixture.scales.mean())
    for mixture, z in ((model.mixture, student_latents), (teacher.mixture, latents)):
        start = means_from_responsibilities(
            z, split, classes=mixture.classes, scale=scale, generator=rng.set_state(state)
        )
        mixture.means.copy_(start.means)
        mixture.set_component_weights(start.component_weights.to(mixture.means))
    model.train()
    moments = optimiser.state.get(model.mixture.means, {})
    if "exp_avg" in moments:
        moments["exp_avg"].zero_()


def select_rows(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions of all labelled rows, and of at most 20,000 evenly spaced others."""
    labelled, others = ((labels >= 0) == is_labelled for is_labelled in (True, False))
    labelled, others = labelled.nonzero().flatten(), others.nonzero().flatten()
    return labelled, others[:: max(1, -(-len(others) // _MAX_OTHER_ROWS))]


def _latents_and_posteriors(model: FlowMixture, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Latent dimensions that carry the mixture `(N, d)` and tempered posteriors `(N, K)`, in chunks."""
    latents = [model(x[part]) for part in iterate_batches(len(x), chunk_rows(1, model))]
    z = torch.cat([chunk.z for chunk in latents])
    log_prob = torch.cat([chunk.class_log_prob for chunk in latents])
    return z[:, : model.mixture.dims], torch.softmax(log_prob / temperature, dim=1)


# --- class weights (`prior.class_prior: estimated`) ---------------------------------------------------------


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
        x: preprocessed training rows `(N, D)`.
        pool: positions of the rows that are unlabelled in training, `(P,)`.
        temperature: divisor of log-densities.
        group: the processes that train together.
    """
    if not len(pool):
        return
    group = group or Distributed()
    sample = pool[:: -(-len(pool) // _PRIOR_ROWS)]  # evenly spaced: a file may be sorted by class
    rows = x[group.shard(sample)]
    densities = [
        teacher.mixture.conditional_log_prob(teacher.flow(rows[part])[0]) / temperature
        for part in iterate_batches(len(rows), chunk_rows(1, teacher))
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
    sample = x[:: -(-len(x) // _PRIOR_ROWS)]
    latents = encode(model, sample)
    if model.unknown:
        latents = latents.rows(latents.p_unknown() < 0.5)
    joint = latents.class_log_prob
    if likelihoods is None:
        log_weights = torch.stack([part.mixture.log_weights.cpu() for part in model.parts]).mean(0)
        conditional = joint - log_weights
    else:  # in units of the densities, which `log_posterior` divides by the temperature
        bias = torch.tensor(likelihoods.bias, dtype=torch.float64)
        conditional = likelihoods.steepness * joint.double() + float(model.temperature) * bias
    corrected = dataclasses.replace(latents, class_log_prob=conditional)
    _update_weights(model.parts, model.log_posterior(corrected))


def _update_weights(models: Iterable[FlowMixture], log_prob: Tensor) -> None:
    """Set the class weights under which rows with log-likelihoods `(N, K)` are most likely."""
    classes = log_prob.shape[1]
    estimate = estimate_weights(log_prob, torch.full((classes,), 1 / classes, dtype=torch.float64))
    for model in models:
        raw = model.mixture.raw_log_weights
        model.mixture.set_weights(estimate.to(raw.dtype).to(raw.device))  # not every device has float64
