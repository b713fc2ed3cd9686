"""`nll`, `typicality` and `latent_radius`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from score_rows import Identity, fitted, seen_of

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.scores.latent_radius import squared_radius

Draw = Callable[..., ScoreInputs]


def test_nll_is_minus_the_log_density(draw: Draw) -> None:
    rows = draw(20)
    np.testing.assert_array_equal(fitted("nll", rows)(rows), -rows.log_density.numpy())


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_typicality_is_the_distance_from_the_middle_of_held_out_rows(draw: Draw, centre: str) -> None:
    train, held_out, rows = draw(50), draw(41, seed=1), draw(10, seed=2)
    middle = getattr(np, centre)(-held_out.log_density.numpy())
    expected = np.abs(-rows.log_density.numpy() - middle)
    np.testing.assert_allclose(fitted("typicality", train, held_out, centre=centre)(rows), expected)


def test_a_row_far_too_likely_is_not_typical() -> None:
    model = FlowMixture(Identity(), GaussianMixture(torch.zeros(1, 50)))
    x, _ = model.sample(500, torch.Generator().manual_seed(0))
    score = fitted("typicality", seen_of(model, x), model=model)
    (mode,) = score(seen_of(model, torch.zeros(1, 50)))  # the densest of all rows
    assert mode > np.quantile(score(seen_of(model, x)), 0.99)


def test_the_radius_of_a_gaussian_s_own_rows_is_standard_normal() -> None:
    means = torch.randn(3, 200, generator=torch.Generator().manual_seed(1)) * 20
    model = FlowMixture(Identity(0.5), GaussianMixture(means, scale=2.0))
    x, _ = model.sample(4000, torch.Generator().manual_seed(0))
    rows = seen_of(model, x)
    found = fitted("latent_radius", rows, model=model)(rows)
    assert found.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)  # of |N(0, 1)|
    assert (found**2).mean() == pytest.approx(1, abs=0.08)


def test_the_radius_by_hand() -> None:
    z = np.array([[1.0, 0.0], [0.0, 7.0]])
    means, precisions = np.array([[0.0, 0.0], [0.0, 5.0]]), np.array([[1.0, 1.0], [0.25, 0.25]])
    assert squared_radius(z, means, precisions).tolist() == [1.0, 1.0]


def test_the_radius_of_an_ensemble_is_that_of_its_first_member(gaussian: Model, draw: Draw) -> None:
    second = FlowMixture(Identity(), GaussianMixture(torch.ones(2, 4)))
    both = Ensemble([gaussian, second])  # type: ignore[list-item]
    rows = draw(30)
    np.testing.assert_array_equal(
        fitted("latent_radius", rows, model=both)(rows), fitted("latent_radius", rows, model=gaussian)(rows)
    )
