"""Where the class means start.

Flows start as the identity, so a mean in the space of the transformed data is a mean in the latent space.
Give latents instead of rows where a flow starts elsewhere (for instance with actnorm).
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from flowgmm_cli.errors import DataError, RecipeError
from flowgmm_cli.mixture.specs import GMMConfig


def initial_means(
    config: GMMConfig,
    *,
    labelled: Tensor,
    labels: Tensor,
    unlabelled: Tensor,
    classes: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the means the recipe asks for, float32 `(classes, D)`.

    Args:
        config: the parameters of `gmm`.
        labelled: rows with a label, `(L, D)`.
        labels: their classes, int64 `(L,)`.
        unlabelled: rows without, `(U, D)`; may be empty.
        classes: number of classes, K.
        generator: source of randomness, on the CPU.

    Raises:
        DataError: a class has no labelled row (`labelled`, `logistic_regression`).
        RecipeError: too many classes for the dimension (`simplex`).
    """
    features = labelled.shape[1]
    if config.means == "random":
        means = random_means(classes, features, separation=config.separation, generator=generator)
    elif config.means == "simplex":
        separation = config.separation or 6 * config.scale
        means = simplex_means(classes, features, separation=separation, generator=generator)
    else:
        _require_every_class(labels, classes)
        if config.means == "labelled":
            means = class_means(labelled, torch.nn.functional.one_hot(labels, classes))
        else:
            means = logistic_regression_means(labelled, labels, unlabelled, classes=classes)
    return means.float()


def class_means(x: Tensor, shares: Tensor) -> Tensor:
    """Means of the rows `x` `(N, D)` weighted by each class's `shares` `(N, K)`: float64 `(K, D)`."""
    shares = shares.double()
    return (shares.T @ x.double()) / shares.sum(0)[:, None]


def logistic_regression_means(
    labelled: Tensor, labels: Tensor, unlabelled: Tensor, *, classes: int
) -> Tensor:
    """Means of all rows, the unlabelled ones shared out by the probabilities of a logistic regression.

    With few labels this is a steadier start than the class means of the labelled rows alone.
    """
    from sklearn.linear_model import LogisticRegression

    shares = torch.nn.functional.one_hot(labels, classes).double()
    if not len(unlabelled):
        return class_means(labelled, shares)
    model = LogisticRegression(max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start needs no converged optimum
        model.fit(labelled.double().cpu().numpy(), labels.cpu().numpy())
    guesses = torch.from_numpy(model.predict_proba(unlabelled.double().cpu().numpy())).to(shares)
    return class_means(torch.cat([labelled, unlabelled]), torch.cat([shares, guesses]))


def random_means(
    classes: int, features: int, *, separation: float | None, generator: torch.Generator
) -> Tensor:
    """Standard normal draws `(K, D)`, scaled to the mean pairwise distance `separation` if one is given.

    Unscaled draws are about sqrt(2 D) apart, the paper's choice for images.
    """
    means = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    if separation is None or classes < 2:
        return means
    return means * (separation / torch.pdist(means).mean())


def simplex_means(classes: int, features: int, *, separation: float, generator: torch.Generator) -> Tensor:
    """The corners `(K, D)` of a randomly turned regular simplex about the origin with sides `separation`.

    With two classes these are the opposite points that the paper uses for its tabular data.

    Raises:
        RecipeError: more than D + 1 classes, which cannot all be equally far apart.
    """
    if classes > features + 1:
        raise RecipeError(
            f"prior.means: simplex places at most {features + 1} means in {features} dimensions, "
            f"but there are {classes} classes",
            hint="use prior.means=random",
        )
    if classes == 1:
        return torch.zeros(1, features, dtype=torch.float64)
    # Unit vectors are sqrt(2) apart; about their centre they span K - 1 dimensions, found by the SVD.
    corners = torch.eye(classes, dtype=torch.float64) - 1 / classes
    left, lengths, _ = torch.linalg.svd(corners)
    corners = left[:, :-1] * lengths[:-1]
    draw = torch.randn(features, classes - 1, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(draw)
    means: Tensor = (separation / math.sqrt(2)) * corners @ turn.T
    return means


def _require_every_class(labels: Tensor, classes: int) -> None:
    missing = [k for k, count in enumerate(torch.bincount(labels, minlength=classes).tolist()) if not count]
    if missing:
        raise DataError(
            f"no labelled row for {len(missing)} of {classes} classes (index {', '.join(map(str, missing))})",
            hint="label a row of each class, or start the means elsewhere: prior.means=random",
        )
