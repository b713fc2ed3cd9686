"""`mahalanobis` and `class_mahalanobis`, against scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from score_rows import fit_score, make_inputs
from sklearn.covariance import EmpiricalCovariance, LedoitWolf

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.model import Model
from flowgmm_cli.scores.mahalanobis import Gaussian, fit_gaussian

Draw = Callable[..., ScoreInputs]
RNG = np.random.default_rng(0)


def draw_correlated(n: int, features: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)) @ rng.normal(size=(features, features))


@pytest.mark.parametrize(
    ("shrinkage", "reference"), [("ledoit_wolf", LedoitWolf), ("none", EmpiricalCovariance)]
)
def test_input_distances_are_those_of_scikit_learn(gaussian: Model, shrinkage: str, reference: type) -> None:
    train, rows = draw_correlated(80, 4, seed=1), draw_correlated(30, 4, seed=2)
    score = fit_score("mahalanobis", make_inputs(gaussian, torch.tensor(train).float()), shrinkage=shrinkage)
    expected = np.sqrt(reference().fit(train).mahalanobis(rows))
    result = score(make_inputs(gaussian, torch.tensor(rows).float()))
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_latent_distances_are_to_the_nearest_predicted_class(gaussian: Model, draw: Draw) -> None:
    train, rows = draw(300), draw(40, seed=1)
    z, classes = train.latents.z.double().numpy(), train.log_posterior.argmax(1).numpy()
    means = np.stack([z[classes == k].mean(0) for k in (0, 1)])
    precision = LedoitWolf(assume_centered=True).fit(z - means[classes]).precision_
    expected = cdist(rows.latents.z.double().numpy(), means, "mahalanobis", VI=precision).min(1)
    np.testing.assert_allclose(fit_score("class_mahalanobis", train)(rows), expected, rtol=1e-4)


def test_a_class_that_is_never_predicted_has_no_centre(gaussian: Model, draw: Draw) -> None:
    rows = draw(100)
    left = make_inputs(gaussian, rows.x[rows.x[:, 0] < 0])
    assert fit_score("class_mahalanobis", left).state()[1]["means"].shape == (1, 4)


def test_fewer_rows_than_dimensions_are_enough() -> None:
    differences = draw_correlated(10, 30)
    result = fit_gaussian(differences, shrinkage="ledoit_wolf", generator=RNG)
    expected = LedoitWolf(assume_centered=True).fit(differences).mahalanobis(differences)
    np.testing.assert_allclose(result.mahalanobis(torch.from_numpy(differences)), expected, rtol=1e-3)


def test_density_and_distance_of_a_low_rank_gaussian() -> None:
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.normal(size=(5, 2)))[0]
    gaussian = Gaussian(directions.astype(np.float32), np.array([4.0, 9.0]), 0.25)
    covariance = directions @ np.diag([3.75, 8.75]) @ directions.T + 0.25 * np.eye(5)
    rows = rng.normal(size=(20, 5))
    expected = multivariate_normal(np.zeros(5), covariance).logpdf(rows)
    np.testing.assert_allclose(gaussian.log_prob(torch.from_numpy(rows)), expected, rtol=1e-5)
    squared = np.einsum("ni,ij,nj->n", rows, np.linalg.inv(covariance), rows)
    np.testing.assert_allclose(gaussian.mahalanobis(torch.from_numpy(rows)), squared, rtol=1e-5)


def test_other_directions_have_their_mean_variance() -> None:
    rng = np.random.default_rng(4)
    differences = rng.normal(size=(500, 6)) * np.array([10, 8, 1, 1, 1, 1])
    result = fit_gaussian(differences, shrinkage="none", generator=RNG, rank=2)
    assert result.directions.shape == (6, 2)
    variances = np.sort(np.linalg.eigvalsh(differences.T @ differences / 500))[::-1]
    np.testing.assert_allclose(result.variances, variances[:2], rtol=1e-6)
    assert result.residual == pytest.approx(variances[2:].mean())


def test_very_many_dimensions_get_their_first_directions() -> None:
    rng = np.random.default_rng(5)
    differences = rng.normal(size=(60, 1100))
    differences[:, 0] *= 50
    result = fit_gaussian(differences, shrinkage="none", generator=np.random.default_rng(0))
    assert result.directions.shape == (1100, 60)
    assert result.variances[0] == pytest.approx((differences[:, 0] ** 2).mean(), rel=0.02)
    assert abs(result.directions[0, 0]) > 0.99


def test_a_constant_feature_does_not_divide_by_zero() -> None:
    differences = np.array([[1.0, 0.0], [-1.0, 0.0]])
    result = fit_gaussian(differences, shrinkage="none", generator=RNG)
    near, off = result.mahalanobis(torch.eye(2).double()).tolist()
    assert np.isfinite([near, off]).all()
    assert off > near
