"""A model at the start of training: flow, actnorm from data, means and weights of the mixture."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from flowgmm_cli.api import Objective, iterate_batches
from flowgmm_cli.mixture.build import mixture_dims
from flowgmm_cli.mixture.means import initial_means
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.start import StartRows
from flowgmm_cli.mixture.weights import initial_weights
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import generator
from flowgmm_cli.trained import build_flow

_CHUNK = 4096


@torch.no_grad()
def start_model(recipe: Recipe, x: Tensor, labels: Tensor, *, classes: int, seed: int) -> FlowMixture:
    """Build the model and let it start from the training rows.

    Args:
        recipe: names flow and mixture.
        x: training rows `(N, D)`, on the CPU.
        labels: int64 `(N,)`, -1 where unlabelled.
        classes: K.
        seed: fixes weights and whatever is random in the means.

    Raises:
        DataError: the rows do not suffice for the means the recipe asks for.
        RecipeError: the prior does not fit the number of features or classes.
    """
    config = cast(GMMConfig, recipe.prior.config)
    features = x.shape[1]
    dims = mixture_dims(config, features)
    randomness = generator(seed, "init")
    flow = build_flow(recipe.flow, features, randomness)
    initialise = getattr(flow, "initialise", None)  # data-dependent layers such as actnorm
    if initialise is not None:
        initialise(x[:_CHUNK])
    # Means live in the latent space; where the flow starts as the identity these are the rows themselves.
    z = torch.cat([flow(x[part])[0] for part in iterate_batches(len(x), _CHUNK)])
    seen = labels >= 0
    start = initial_means(config, StartRows(z[seen], labels[seen], z[~seen], classes, dims), randomness)
    weights = initial_weights(config, labels=labels[seen], classes=classes)
    mixture = build(recipe.prior, classes=classes, features=features, start=start, weights=weights)
    return FlowMixture(flow, mixture)


def training_temperature(recipe: Recipe, *, features: int) -> float:
    """The objective's own temperature, for posteriors that nothing was fitted for."""
    dims = cast(GMMConfig, recipe.prior.config).dims
    objective: Objective = build(recipe.objective, features=features, labelled=1, unlabelled=1, dims=dims)
    return objective.temperature
