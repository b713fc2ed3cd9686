"""Construction of the mixture from a recipe: its dimensions, components and class weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.init import InitialMeans
from flowgmm_cli.mixture.specs import GMMConfig


def mixture_dims(config: GMMConfig, features: int, scales: Sequence[int] = ()) -> int:
    """Number of latent dimensions that carry the classes, of `features` in all.

    `scales` are the dimensions of each scale of the flow, the coarsest first; empty for one without scales.

    Raises:
        RecipeError: the recipe asks for more dimensions than there are.
    """
    if config.scales is not None:
        if config.scales > len(scales):
            available = f"the flow has {len(scales)} scales" if scales else "the flow has no scales"
            raise RecipeError(
                f"prior.scales is {config.scales}, but {available}",
                hint=f"prior.scales={len(scales)} or less; null = all of them"
                if scales
                else "prior.dims=N counts dimensions; null = all of them",
            )
        return sum(scales[: config.scales])
    if config.dims is not None and config.dims > features:
        raise RecipeError(
            f"prior.dims is {config.dims}, but rows have only {features} features after the transforms",
            hint=f"prior.dims={features} or less; null = all of them",
        )
    return features if config.dims is None else config.dims


def build(
    config: GMMConfig,
    *,
    classes: int,
    features: int,
    scales: Sequence[int] = (),
    initial: InitialMeans | None = None,
    weights: Tensor | None = None,
) -> GaussianMixture:
    """Build the mixture of a recipe for latents of length `features`; for `scales` see `mixture_dims`.

    `initial` are means and component weights, None for zeros, to load a state into; `weights` are the class
    weights `(K,)`, None for equal weights.

    Raises:
        RecipeError: `dims` or `scales` is too large.
    """
    dims = mixture_dims(config, features, scales)
    mixture = GaussianMixture(
        initial.means if initial else torch.zeros(classes * config.components, dims),
        components=config.components,
        features=features,
        scale=config.scale,
        diagonal=config.covariance == "diagonal",
        shared=config.shared_covariance,
        weights=weights,
        learn_means=config.learn_means,
        learn_scales=config.learn_scales,
        learn_weights=config.learn_weights,
        learn_component_weights=config.learn_component_weights,
        learn_rest=config.learn_rest,
    )
    if initial:
        mixture.set_component_weights(initial.component_weights)
    return mixture


@torch.no_grad()
def copy_classes(source: GaussianMixture, mixture: GaussianMixture, classes: Mapping[int, int]) -> None:
    """Copy the Gaussians of some classes, `classes` from those of the mixture to those of the source.

    The other classes keep their means and get the mean standard deviations of the source.
    """
    components = torch.arange(mixture.components)
    own, others = (torch.tensor(list(part)) for part in (classes.keys(), classes.values()))
    rows, source_rows = ((k[:, None] * len(components) + components).flatten() for k in (own, others))
    mixture.means[rows] = source.means[source_rows]
    mixture.raw_scales.copy_(source.raw_scales.mean(0, keepdim=True))
    if len(mixture.raw_scales) > 1:
        mixture.raw_scales[rows] = source.raw_scales[source_rows]
    if mixture.components > 1:
        mixture.raw_log_component_weights[own] = source.raw_log_component_weights[others]
    if mixture.rest is not None and source.rest is not None:
        mixture.rest.load_state_dict(source.rest.state_dict())


def initial_weights(config: GMMConfig, *, labels: Tensor, classes: int) -> Tensor:
    """Compute the initial class weights of a recipe, float64 `(classes,)`, with sum 1.

    `labelled` counts the `labels` of the labelled rows, int64 `(L,)`, and one row more for each class
    (Laplace), so no weight is 0; `estimated` starts uniform.

    Raises:
        RecipeError: `weights` does not have one number for each class.
    """
    weights = torch.ones(classes, dtype=torch.float64)
    if config.class_prior == "labelled":
        weights += torch.bincount(labels.cpu(), minlength=classes)
    elif config.weights is not None:
        if len(config.weights) != classes:
            raise RecipeError(
                f"prior.weights has {len(config.weights)} numbers, but the data has {classes} classes",
                hint="give one number for each class, in the order of the class names",
            )
        weights = torch.tensor(config.weights, dtype=torch.float64)
    return weights / weights.sum()


@torch.no_grad()
def estimate_weights(
    conditional_log_prob: Tensor, start: Tensor, *, iterations: int = 100, pseudo_count: float = 1.0
) -> Tensor:
    r"""Estimate the class weights of unlabelled rows by expectation maximisation.

    .. math:: \pi_k \leftarrow \frac{\sum_n p(k \mid z_n; \pi) + a \, \pi^0_k K}{N + a K}

    (Saerens, Latinne and Decaestecker, 2002.) A Dirichlet prior of a rows per class about the weights `start`
    `(K,)`, of any sum, keeps every weight above 0. `conditional_log_prob` `(N, K)` is that of
    `GaussianMixture`, perhaps tempered. The result is float64 `(K,)` with sum 1.
    """
    log_prob = conditional_log_prob.double()
    rows, classes = log_prob.shape
    prior = start.to(log_prob) / start.to(log_prob).sum()
    weights = prior
    for _ in range(iterations):
        counts = torch.softmax(log_prob + weights.log(), dim=1).sum(0)
        update = (counts + pseudo_count * classes * prior) / (rows + pseudo_count * classes)
        change = (update - weights).abs().max()
        weights = update
        if change < 1e-6:
            break
    return weights
