"""Class weights: their initial values, and their estimation from unlabelled rows."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.specs import GMMConfig


def initial_weights(config: GMMConfig, *, labels: Tensor, classes: int) -> Tensor:
    """Compute the initial class weights of a recipe, float64 `(classes,)`, with sum 1.

    `labelled` counts the labelled rows and one row more for each class (Laplace), so no weight is 0;
    `estimated` starts uniform.

    Args:
        config: the parameters of `gmm`.
        labels: classes of the labelled rows, int64 `(L,)`.
        classes: number of classes, K.

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

    (Saerens, Latinne and Decaestecker, 2002.) A Dirichlet prior of a rows per class about the initial weights
    keeps every weight above 0.

    Args:
        conditional_log_prob: `(N, K)`, from `GaussianMixture.conditional_log_prob`, perhaps tempered.
        start: initial weights `(K,)`, of any sum.
        iterations: maximum number.
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
        change = (update - weights).abs().max()
        weights = update
        if change < 1e-6:
            break
    return weights
