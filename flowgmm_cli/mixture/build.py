"""Construction of the mixture from a recipe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.init import InitialMeans
from flowgmm_cli.mixture.specs import GMMConfig


def mixture_dims(config: GMMConfig, features: int, scales: Sequence[int] = ()) -> int:
    """Number of latent dimensions that carry the classes, of `features` in all.

    Args:
        config: the parameters of `gmm`.
        features: D.
        scales: dimensions of each scale of the flow, the coarsest first; empty for a flow without scales.

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
    """Build the mixture of a recipe.

    Args:
        config: the parameters of `gmm`.
        classes: K.
        features: length of a latent vector, D.
        scales: dimensions of each scale of the flow, the coarsest first.
        initial: means and component weights; None for zeros, to load a state into.
        weights: class weights `(K,)`, see `flowgmm_cli.mixture.class_prior`; None for equal weights.

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
