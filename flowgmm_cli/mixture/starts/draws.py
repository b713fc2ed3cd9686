"""Means that owe nothing to the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.start import Start, StartRows


def random(config: GMMConfig, rows: StartRows, generator: torch.Generator) -> Start:
    """A normal draw for each component, at `separation` on average."""
    count = rows.classes * config.components
    means = random_means(count, rows.dims, separation=config.separation, generator=generator)
    return Start.even(means, components=config.components)


def simplex(config: GMMConfig, rows: StartRows, generator: torch.Generator) -> Start:
    """All components of all classes equally far apart.

    Raises:
        RecipeError: the dimensions do not suffice.
    """
    count = rows.classes * config.components
    separation = config.separation or 6 * config.scale
    means = simplex_means(count, rows.dims, separation=separation, generator=generator)
    return Start.even(means, components=config.components)


def given(config: GMMConfig, rows: StartRows, generator: torch.Generator) -> Start:
    """The recipe's own points. Raises `RecipeError` if their number or length does not fit the data."""
    points = config.points or []
    count = rows.classes * config.components
    if len(points) != count or any(len(point) != rows.dims for point in points):
        raise RecipeError(
            f"prior.points must hold {count} lists of {rows.dims} numbers (Gaussians, latent dimensions), "
            f"got {len(points)} of {', '.join(sorted({str(len(point)) for point in points})) or 0}",
            hint="prior.means=simplex needs no points",
        )
    means = torch.tensor(points, dtype=torch.float64).reshape(count, rows.dims)
    return Start.even(means, components=config.components)


def random_means(
    count: int, features: int, *, separation: float | None, generator: torch.Generator
) -> Tensor:
    """Standard normal draws, scaled to the mean pairwise distance `separation` if one is given.

    Unscaled draws are about sqrt(2 D) apart, the paper's choice for images. Float64 `(count, D)`.
    """
    means = torch.randn(count, features, generator=generator, dtype=torch.float64)
    if separation is None or count < 2:
        return means
    return means * (separation / torch.pdist(means).mean())


def simplex_means(count: int, features: int, *, separation: float, generator: torch.Generator) -> Tensor:
    """The corners of a randomly turned regular simplex about the origin with sides `separation`.

    With two these are the opposite points that the paper uses for its tabular data; vectors of equal length
    at right angles to each other are such corners too, up to a shift. Float64 `(count, D)`.

    Raises:
        RecipeError: more than D + 1, which cannot all be equally far apart.
    """
    if count > features + 1:
        raise RecipeError(
            f"prior.means: simplex places at most {features + 1} means in {features} dimensions, "
            f"but there are {count} (classes times prior.components)",
            hint="use prior.means=random",
        )
    if count == 1:
        return torch.zeros(1, features, dtype=torch.float64)
    # Unit vectors are sqrt(2) apart; about their centre they span count - 1 dimensions, found by the SVD.
    corners = torch.eye(count, dtype=torch.float64) - 1 / count
    left, lengths, _ = torch.linalg.svd(corners)
    corners = left[:, :-1] * lengths[:-1]
    draw = torch.randn(features, count - 1, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(draw)
    means: Tensor = (separation / math.sqrt(2)) * corners @ turn.T
    return means
