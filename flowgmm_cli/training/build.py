"""A model at the start of training: flow, actnorm from data, means and weights of the mixture."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from flowgmm_cli.api import Objective, iterate_batches
from flowgmm_cli.data.lazy_dataset import RowStore
from flowgmm_cli.flows.flat import latent_sizes
from flowgmm_cli.mixture.build import mixture_dims
from flowgmm_cli.mixture.class_prior import initial_weights
from flowgmm_cli.mixture.init import USES_UNLABELLED, TrainingLatents, initial_means
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import generator
from flowgmm_cli.trained_model import build_flow, build_mixture, chunk_rows

_CHUNK = 4096
_SOME = 50_000
_SAMPLE = 200


@torch.no_grad()
def start_model(
    recipe: Recipe,
    x: RowStore,
    labels: Tensor,
    *,
    classes: int,
    seed: int,
    shape: tuple[int, ...] | None = None,
) -> FlowMixture:
    """Build the model and let it start from the training rows.

    Args:
        recipe: names flow and mixture.
        x: training rows `(N, D)`, on the CPU.
        labels: int64 `(N,)`, -1 where unlabelled.
        classes: K.
        seed: fixes weights and whatever is random in the means.
        shape: of a row before it became a vector, for flows of images; None for `(D,)`.

    Raises:
        DataError: the rows do not suffice for the means the recipe asks for.
        RecipeError: the prior does not fit the number of features or classes.
    """
    config = cast(GMMConfig, recipe.prior.config)
    shape = shape or (x.shape[1],)
    randomness = generator(seed, "init")
    flow = build_flow(recipe.flow, shape, randomness).eval()  # whole, without dropout
    dims = mixture_dims(config, x.shape[1], latent_sizes(flow))
    initialise = getattr(flow, "initialise", None)  # data-dependent layers such as actnorm
    if initialise is not None:
        initialise(x[:_CHUNK])
    # Means live in the latent space; where the flow starts as the identity these are the rows themselves.
    seen = labels >= 0
    others = _unlabelled(x, seen) if config.means in USES_UNLABELLED else x[:0]
    labelled, unlabelled = (_latents(flow, rows) for rows in (x[seen], others))
    rows = TrainingLatents(labelled, labels[seen], unlabelled, classes, dims)
    initial = initial_means(config, rows, randomness)
    weights = initial_weights(config, labels=labels[seen], classes=classes)
    mixture = build_mixture(recipe.prior, flow, shape, classes=classes, initial=initial, weights=weights)
    return FlowMixture(flow.train(), mixture)


def _unlabelled(x: RowStore, seen: Tensor) -> Tensor:
    """All other rows; of those that stay on the disk, some from everywhere."""
    if isinstance(x, Tensor):
        return x[~seen]
    places = (~seen).nonzero().flatten()
    return x[places[:: max(1, -(-len(places) // _SOME))]]


def _latents(flow: torch.nn.Module, x: Tensor) -> Tensor:
    some = x[:: max(1, len(x) // _SAMPLE)]
    if len(x) > len(some) and torch.equal(flow(some)[0], some):
        return x  # most flows start as the identity, and need not be asked about every row
    parts = [flow(x[part])[0] for part in iterate_batches(len(x), chunk_rows(x.shape[1]))]
    return torch.cat(parts) if parts else x[:0]


def training_temperature(recipe: Recipe, *, features: int, dims: int | None) -> float:
    """The objective's own temperature, for posteriors that nothing was fitted for.

    Args:
        recipe: names the objective.
        features: D.
        dims: how many of the latent dimensions carry the classes; None = all.
    """
    objective: Objective = build(recipe.objective, features=features, labelled=1, unlabelled=1, dims=dims)
    return objective.temperature
