"""The mixture of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.start import Start


def mixture_dims(config: GMMConfig, features: int, scales: Sequence[int] = ()) -> int:
    """Number of latent dimensions that tell classes apart, of `features` in all.

    Args:
        config: the parameters of `gmm`.
        features: D.
        scales: dimensions of each scale of the flow, the coarsest first; empty for a flow without scales.

    Raises:
        RecipeError: the recipe asks for more than there are.
    """
    if config.scales is not None:
        if config.scales > len(scales):
            have = f"the flow has {len(scales)} scales" if scales else "the flow has no scales"
            raise RecipeError(
                f"prior.scales is {config.scales}, but {have}",
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
    start: Start | None = None,
    weights: Tensor | None = None,
) -> GaussianMixture:
    """Make the mixture of a recipe.

    Args:
        config: the parameters of `gmm`.
        classes: K.
        features: length of a latent vector, D.
        scales: dimensions of each scale of the flow, the coarsest first.
        start: from `flowgmm_cli.mixture.means.initial_means`; None for zeros, to load a state into.
        weights: class weights `(K,)`, from `flowgmm_cli.mixture.weights`; None for equal ones.

    Raises:
        RecipeError: `dims` or `scales` exceeds what there is.
    """
    dims = mixture_dims(config, features, scales)
    means = torch.zeros(classes * config.components, dims) if start is None else start.means
    return GaussianMixture(
        means,
        components=config.components,
        features=features,
        scale=config.scale,
        diagonal=config.covariance == "diagonal",
        shared=config.shared_covariance,
        weights=weights,
        component_weights=start.component_weights if start is not None else None,
        learn_means=config.learn_means,
        learn_scales=config.learn_scales,
        learn_weights=config.learn_weights,
        learn_component_weights=config.learn_component_weights,
        learn_rest=config.learn_rest,
    )
