import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from sklearn.preprocessing import QuantileTransformer

from flowgmm_cli.data.transforms.quantile import Quantile


def fit(x, knots=256):
    x = torch.as_tensor(x, dtype=torch.float64).reshape(len(x), -1)
    transform = Quantile(x.shape[1], knots)
    transform.fit(x)
    return transform, x


def test_between_its_knots_it_is_the_transform_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, new = rng.exponential(size=(5000, 1)), rng.exponential(size=(2000, 1))
    new = new[(new > np.quantile(x, 0.02)) & (new < np.quantile(x, 0.98))][:, None]
    transform, _ = fit(x)
    theirs = QuantileTransformer(n_quantiles=256, output_distribution="normal").fit(x)
    assert np.allclose(transform(torch.from_numpy(new))[0], theirs.transform(new), atol=0.01)


def test_training_rows_become_normal():
    transform, x = fit(np.random.default_rng(0).exponential(size=5000))
    assert kstest(transform(x)[0][:, 0].numpy(), "norm").statistic < 0.005


def test_log_det_gives_the_density_of_the_feature():
    rng = np.random.default_rng(1)
    transform, _ = fit(rng.gamma(4.0, size=20_000), 50)
    grid = torch.linspace(-5, 60, 400_001, dtype=torch.float64)[:, None]
    z, log_det = transform(grid)
    density = np.exp(norm.logpdf(z[:, 0].numpy()) + log_det.numpy())
    assert np.trapezoid(density, grid[:, 0].numpy()) == pytest.approx(1, abs=1e-3)


def test_the_median_maps_to_zero_and_order_is_kept():
    transform, x = fit(np.random.default_rng(2).standard_cauchy(501))
    z = transform(x.sort(dim=0).values)[0][:, 0]
    assert z[250].item() == pytest.approx(0, abs=0.02)
    assert (z.diff() > 0).all()


def test_a_value_that_fills_many_quantiles_has_one_place_in_their_middle():
    transform, _ = fit([0.0] * 600 + list(np.linspace(1, 2, 400)))
    z = transform(torch.zeros(1, 1, dtype=torch.float64))[0]
    assert z.item() == pytest.approx(norm.ppf(0.3), abs=0.02)


def test_a_value_far_outside_stays_within_reason():
    x = np.concatenate([np.random.default_rng(3).normal(size=998), [4.0, 4.0 + 1e-7]])
    transform, _ = fit(x, 1000)
    z = transform(torch.tensor([[10.0]], dtype=torch.float64))[0]
    assert 3 < z.item() < 15


def test_a_constant_feature_is_only_shifted():
    transform, _ = fit([5.0] * 10)
    z, log_det = transform(torch.tensor([[5.0], [7.0], [-1e6]], dtype=torch.float64))
    assert z[:, 0].tolist() == pytest.approx([0, 2, -1e6 - 5])
    assert log_det.tolist() == pytest.approx([0, 0, 0])


def test_features_that_differ_in_their_ties_share_one_table():
    rng = np.random.default_rng(4)
    x = np.stack([rng.normal(size=300), rng.integers(0, 3, 300), np.full(300, 2.0)], axis=1)
    transform, x = fit(x)
    for feature in range(3):
        alone, _ = fit(x[:, feature])
        assert torch.allclose(transform(x)[0][:, feature], alone(x[:, feature : feature + 1])[0][:, 0])
