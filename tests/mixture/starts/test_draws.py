from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts import draws
from flowgmm_cli.mixture.starts.draws import random, random_means, simplex, simplex_means
from flowgmm_cli.mixture.starts.start import StartRows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(classes: int, dims: int) -> StartRows:
    none = torch.empty(0, dims)
    return StartRows(none, torch.empty(0, dtype=torch.int64), none, classes, dims)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 8),
    extra=st.integers(0, 6),
    separation=st.floats(0.1, 100),
    seed=st.integers(0, 99),
)
def test_simplex_means_are_equally_far_apart_about_the_origin(
    count: int, extra: int, separation: float, seed: int
) -> None:
    means = simplex_means(count, max(count - 1, 1) + extra, separation=separation, generator=seeded(seed))
    torch.testing.assert_close(means.sum(0), torch.zeros_like(means[0]), atol=1e-9 * separation, rtol=0)
    if count > 1:
        distances = torch.pdist(means)
        torch.testing.assert_close(distances, torch.full_like(distances, separation))


def test_two_simplex_means_are_opposite_points_as_in_the_paper() -> None:
    means = simplex_means(2, 50, separation=7.5, generator=seeded())
    torch.testing.assert_close(means[0], -means[1])
    assert means[0].norm().item() == pytest.approx(3.75)


def test_simplex_needs_dimensions_enough() -> None:
    with pytest.raises(RecipeError, match="at most 3 means in 2 dimensions, but there are 4"):
        simplex(GMMConfig(means="simplex", components=2), rows(2, 2), seeded())


def test_simplex_places_all_components_and_its_separation_follows_the_scale() -> None:
    start = simplex(GMMConfig(means="simplex", components=2, scale=0.5), rows(3, 7), seeded())
    assert start.means.shape == (6, 7)
    distances = torch.pdist(start.means)
    torch.testing.assert_close(distances, torch.full_like(distances, 3.0))
    assert torch.equal(start.component_weights, torch.ones(3, 2))


def test_random_means_have_the_separation_asked_for() -> None:
    config = GMMConfig(means="random", separation=21.9, components=2)
    start = random(config, rows(2, 768), seeded())
    assert torch.pdist(start.means).mean().item() == pytest.approx(21.9, rel=1e-5)
    free = random_means(4, 768, separation=None, generator=seeded())
    assert torch.pdist(free).mean().item() == pytest.approx((2 * 768) ** 0.5, rel=0.05)
    assert random_means(1, 3, separation=2.0, generator=seeded()).shape == (1, 3)


def test_given_means_are_the_points_and_must_fit() -> None:
    config = GMMConfig(means="given", points=[[5.5, 0.0], [-2.75, 4.763], [-2.75, -4.763]])
    start = draws.given(config, rows(3, 2), seeded())
    assert start.means.tolist() == [pytest.approx(point) for point in config.points or []]
    assert torch.equal(start.component_weights, torch.ones(3, 1))
    for classes, dims in ((2, 2), (3, 1)):
        with pytest.raises(RecipeError, match=rf"must hold {classes} lists of {dims} numbers .* got 3 of 2"):
            draws.given(config, rows(classes, dims), seeded())
