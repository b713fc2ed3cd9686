from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from score_rows import fitted, seen_of
from sklearn.neighbors import KernelDensity

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.model import Model
from flowgmm_cli.scores.density_of_states import DensityOfStates

Draw = Callable[..., ScoreInputs]


def test_it_is_the_kernel_density_of_the_standardised_statistics(draw: Draw, gaussian: Model) -> None:
    score = fitted("density_of_states", draw(400), draw(50, seed=1), gaussian, bandwidth=1.3)
    assert isinstance(score, DensityOfStates)
    rows = draw(60, seed=2)
    points, states = score.fitted["points"], score._standard(score._states(rows))
    assert points.shape == (200, 5)
    kernel = KernelDensity(bandwidth=1.3 * 200 ** (-1 / 9)).fit(points)
    found, expected = score(rows), -kernel.score_samples(states)
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-7, atol=1e-9)


def test_statistics_are_standardised_and_extreme_rows_have_no_say(draw: Draw, gaussian: Model) -> None:
    plain = draw(1000)
    x = plain.x.clone()
    x[-5:] *= 1e12
    for rows in (plain, seen_of(gaussian, x)):
        points = fitted("density_of_states", rows, draw(50, seed=1), gaussian).state()[1]["points"]
        inner = np.clip(points, *np.quantile(points, [0.01, 0.99], axis=0))
        np.testing.assert_allclose(inner.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(inner.std(0), [1, 1, 1, 1, 0], atol=1e-9)  # the log-det is constant


def test_it_sees_what_the_density_does_not(gaussian: Model, draw: Draw) -> None:
    """The middle between two classes is not far from any, nor is it as unlikely as rows far outside."""
    score = fitted("density_of_states", draw(2000), draw(100, seed=1), gaussian)
    between = seen_of(gaussian, torch.zeros(1, 4))
    assert score(between)[0] > np.quantile(score(draw(500, seed=2)), 0.95)


def test_held_out_rows_are_no_points_of_the_density(draw: Draw, gaussian: Model) -> None:
    score = fitted("density_of_states", draw(2000), draw(500, seed=1), gaussian)
    one, other = score(draw(500, seed=1)), score(draw(500, seed=3))
    assert np.median(one) == pytest.approx(np.median(other), rel=0.1)
    assert stats.ks_2samp(one, other).pvalue > 0.01
