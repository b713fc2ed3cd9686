"""Class weights: where they start, and how to estimate them from unlabelled rows."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.specs import GMMConfig


def initial_weights(config: GMMConfig, *, labels: Tensor, classes: int) -> Tensor:
    """Return the class weights the recipe asks for, float64 `(classes,)`, with sum 1.

    `labelled` counts the labelled rows with one row more for each class (Laplace), so that no class is ever
    ruled out; `estimated` starts uniform.

    Args:
        config: the parameters of `gmm`.
        labels: classes of the labelled rows, int64 `(L,)`.
        classes: number of classes, K.

    Raises:
        RecipeError: `weights` has not one number for each class.
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
    r"""Class weights under which unlabelled rows are most likely, by expectation maximisation.

    .. math:: \pi_k \leftarrow \frac{\sum_n p(k \mid z_n; \pi) + a \, \pi^0_k K}{N + a K}

    (Saerens, Latinne and Decaestecker, 2002; the Dirichlet prior of a rows per class about the start keeps
    every class alive.)

    Args:
        conditional_log_prob: `(N, K)`, from `GaussianMixture.conditional_log_prob`, tempered if need be.
        start: weights to start from, `(K,)`, with sum 1.
        iterations: at most this many.
        pseudo_count: strength a of the prior.

    Returns:
        float64 `(K,)` with sum 1.
    """
    log_prob = conditional_log_prob.double()
    rows, classes = log_prob.shape
    prior = start.to(log_prob) / start.to(log_prob).sum()
    weights = prior
    for _ in range(iterations):
        counts = torch.softmax(log_prob + weights.log(), dim=1).sum(0)
        update = (counts + pseudo_count * classes * prior) / (rows + pseudo_count * classes)
        moved = (update - weights).abs().max()
        weights = update
        if moved < 1e-6:
            break
    return weights
