"""Where the means of the mixture start: one function for each name a recipe may give.

Flows start as the identity, so a mean in the space of the transformed data is a mean in the latent space.
Give latents instead of rows where a flow starts elsewhere (for instance with actnorm).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.clusters import kmeans
from flowgmm_cli.mixture.starts.components import component_shares, means_of_shares
from flowgmm_cli.mixture.starts.draws import given, random, simplex
from flowgmm_cli.mixture.starts.guesses import Guess, from_labels, label_spreading, logistic_regression
from flowgmm_cli.mixture.starts.start import Start, StartRows

InitialMeans = Callable[[GMMConfig, StartRows, torch.Generator], Start]


def initial_means(config: GMMConfig, rows: StartRows, generator: torch.Generator) -> Start:
    """Return the means the recipe asks for.

    Args:
        config: the parameters of `gmm`.
        rows: latents of the training rows.
        generator: source of randomness, on the CPU.

    Raises:
        DataError: a class has no labelled row (where labels are used); fewer rows than clusters (`kmeans`).
        RecipeError: too many classes for the dimensions (`simplex`); points that do not fit (`given`).
    """
    return STARTS[config.means](config, rows, generator)


def class_means_of(guess: Guess) -> InitialMeans:
    """The start at the class means of rows whose classes are guessed."""

    def start(config: GMMConfig, rows: StartRows, generator: torch.Generator) -> Start:
        rows.require_every_class()
        x, shares = guess(rows, generator)
        x = x[:, : rows.dims]
        shares = component_shares(x, shares, config.components, generator)
        return means_of_shares(x, shares, classes=rows.classes, scale=config.scale, generator=generator)

    return start


STARTS: dict[str, InitialMeans] = {
    "labelled": class_means_of(from_labels),
    "logistic_regression": class_means_of(logistic_regression),
    "label_spreading": class_means_of(label_spreading),
    "kmeans": kmeans,
    "latent": class_means_of(from_labels),  # until the warm-up is over: flowgmm_cli.training.warm_up
    "random": random,
    "simplex": simplex,
    "given": given,
}

READ_UNLABELLED = frozenset({"logistic_regression", "label_spreading", "kmeans"})
"""The starts that look at rows without a label; the others are spared the way through the flow."""
