from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from score_rows import Identity, fit_score, make_inputs
from sklearn.neighbors import KernelDensity

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.scores.density import DensityOfStates

Draw = Callable[..., ScoreInputs]


def test_nll_is_minus_the_log_density(draw: Draw) -> None:
    rows = draw(20)
    np.testing.assert_array_equal(fit_score("nll", rows)(rows), -rows.log_density.numpy())


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_typicality_is_the_distance_from_the_middle_of_held_out_rows(draw: Draw, centre: str) -> None:
    train, held_out, rows = draw(50), draw(41, seed=1), draw(10, seed=2)
    middle = getattr(np, centre)(-held_out.log_density.numpy())
    expected = np.abs(-rows.log_density.numpy() - middle)
    np.testing.assert_allclose(fit_score("typicality", train, held_out, centre=centre)(rows), expected)


def test_the_radius_of_a_gaussian_s_own_rows_is_standard_normal() -> None:
    means = torch.randn(3, 200, generator=torch.Generator().manual_seed(1)) * 20
    model = FlowMixture(Identity(0.5), GaussianMixture(means, scale=2.0))
    x, _ = model.sample(4000, torch.Generator().manual_seed(0))
    rows = make_inputs(model, x)
    result = fit_score("latent_radius", rows, model=model)(rows)
    assert result.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)  # of |N(0, 1)|
    assert (result**2).mean() == pytest.approx(1, abs=0.08)


def test_the_radius_by_hand(gaussian: Model) -> None:
    rows = make_inputs(gaussian, torch.tensor([[-3.0, 0.0, 0.0, 1.0], [3.0, 7.0, 0.0, 0.0]]))
    expected = [abs(1 - 4) / np.sqrt(8), abs(49 - 4) / np.sqrt(8)]
    np.testing.assert_allclose(fit_score("latent_radius", rows, model=gaussian)(rows), expected, rtol=1e-6)


def test_the_radius_of_an_ensemble_is_that_of_its_first_member(gaussian: Model, draw: Draw) -> None:
    second = FlowMixture(Identity(), GaussianMixture(torch.ones(2, 4)))
    both = Ensemble([gaussian, second])  # type: ignore[list-item]
    rows = draw(30)
    np.testing.assert_array_equal(
        fit_score("latent_radius", rows, model=both)(rows),
        fit_score("latent_radius", rows, model=gaussian)(rows),
    )


def test_it_is_the_kernel_density_of_the_standardised_statistics(draw: Draw, gaussian: Model) -> None:
    score = fit_score("density_of_states", draw(400), draw(50, seed=1), gaussian, bandwidth=1.3)
    assert isinstance(score, DensityOfStates)
    rows = draw(60, seed=2)
    points, states = score.fitted["points"], score._standardise(score._states(rows))
    assert points.shape == (200, 5)
    kernel = KernelDensity(bandwidth=1.3 * 200 ** (-1 / 9)).fit(points)
    result, expected = score(rows), -kernel.score_samples(states)
    np.testing.assert_allclose(result - result[0], expected - expected[0], rtol=1e-7, atol=1e-9)


def test_statistics_are_standardised_without_extreme_rows(draw: Draw, gaussian: Model) -> None:
    plain = draw(1000)
    x = plain.x.clone()
    x[-5:] *= 1e12
    for rows in (plain, make_inputs(gaussian, x)):
        points = fit_score("density_of_states", rows, draw(50, seed=1), gaussian).state()[1]["points"]
        inner = np.clip(points, *np.quantile(points, [0.01, 0.99], axis=0))
        np.testing.assert_allclose(inner.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(inner.std(0), [1, 1, 1, 1, 0], atol=1e-9)  # the log-det is constant


def test_rows_between_classes_are_rare_although_dense(gaussian: Model, draw: Draw) -> None:
    """The middle between two classes is not far from any, nor is it as unlikely as rows far outside."""
    score = fit_score("density_of_states", draw(2000), draw(100, seed=1), gaussian)
    between = make_inputs(gaussian, torch.zeros(1, 4))
    assert score(between)[0] > np.quantile(score(draw(500, seed=2)), 0.95)


def test_held_out_rows_are_not_points_of_the_density(draw: Draw, gaussian: Model) -> None:
    score = fit_score("density_of_states", draw(2000), draw(500, seed=1), gaussian)
    first, second = score(draw(500, seed=1)), score(draw(500, seed=3))
    assert np.median(first) == pytest.approx(np.median(second), rel=0.1)
    assert stats.ks_2samp(first, second).pvalue > 0.01
