import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm
from sklearn.preprocessing import QuantileTransformer

from flowgmm_cli.data.specs import QuantileConfig
from flowgmm_cli.data.transforms.quantile import GuideTable, Quantile, find_segments

ANY = st.floats(allow_nan=False, allow_infinity=False)
NEAR = st.floats(-3, 3)


def fit(x, knots=256):
    x = torch.as_tensor(x, dtype=torch.float64).reshape(len(x), -1)
    transform = Quantile(QuantileConfig(n_quantiles=knots), features=x.shape[1])
    transform.fit(x)
    return transform, x


def test_it_agrees_with_scikit_learn_between_its_knots():
    rng = np.random.default_rng(0)
    x, new = rng.exponential(size=(5000, 1)), rng.exponential(size=(2000, 1))
    new = new[(new > np.quantile(x, 0.02)) & (new < np.quantile(x, 0.98))][:, None]
    transform, _ = fit(x)
    reference = QuantileTransformer(n_quantiles=256, output_distribution="normal").fit(x)
    assert np.allclose(transform(torch.from_numpy(new))[0], reference.transform(new), atol=0.01)


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


def test_a_frequent_value_gets_a_knot_in_the_middle_of_its_quantiles():
    transform, _ = fit([0.0] * 600 + list(np.linspace(1, 2, 400)))
    z = transform(torch.zeros(1, 1, dtype=torch.float64))[0]
    assert z.item() == pytest.approx(norm.ppf(0.3), abs=0.02)


def test_an_outlier_stays_bounded():
    x = np.concatenate([np.random.default_rng(3).normal(size=998), [4.0, 4.0 + 1e-7]])
    transform, _ = fit(x, 1000)
    z = transform(torch.tensor([[10.0]], dtype=torch.float64))[0]
    assert 3 < z.item() < 15


def test_a_constant_feature_is_only_shifted():
    transform, _ = fit([5.0] * 10)
    z, log_det = transform(torch.tensor([[5.0], [7.0], [-1e6]], dtype=torch.float64))
    assert z[:, 0].tolist() == pytest.approx([0, 2, -1e6 - 5])
    assert log_det.tolist() == pytest.approx([0, 0, 0])


def test_features_with_different_ties_share_a_knot_table():
    rng = np.random.default_rng(4)
    x = np.stack([rng.normal(size=300), rng.integers(0, 3, 300), np.full(300, 2.0)], axis=1)
    transform, x = fit(x)
    for feature in range(3):
        alone, _ = fit(x[:, feature])
        assert torch.allclose(transform(x)[0][:, feature], alone(x[:, feature : feature + 1])[0][:, 0])


def binary_search(knots: torch.Tensor, values: torch.Tensor) -> np.ndarray:
    rows = zip(knots.numpy(), values.numpy(), strict=True)
    segments = np.stack([np.searchsorted(own, row, side="right") - 1 for own, row in rows])
    return segments.clip(0, knots.shape[1] - 2)


@given(
    drawn=st.one_of(st.lists(kind, min_size=3, max_size=60, unique=True) for kind in (ANY, NEAR)),
    values=st.lists(st.one_of(ANY, NEAR), max_size=60),
)
def test_the_guide_table_agrees_with_a_binary_search(drawn: list[float], values: list[float]) -> None:
    knots = torch.tensor([sorted(drawn)], dtype=torch.float64)
    inside = (knots[:, 1:] / 2 + knots[:, :-1] / 2)[0].tolist()
    beside = [math.nextafter(knot, way) for knot in drawn for way in (-math.inf, math.inf)]
    points = torch.tensor([[*values, *drawn, *inside, *beside, math.inf, -math.inf]], dtype=torch.float64)
    expected = binary_search(knots, points)
    assert np.array_equal(GuideTable(knots)(points).numpy(), expected)
    assert np.array_equal(find_segments(knots, points).numpy(), expected)


def test_features_with_and_without_a_table_can_be_mixed() -> None:
    rng = np.random.default_rng(0)
    normal, heavy = rng.normal(size=(2, 200)), np.exp(rng.normal(size=(2, 200)) * 20)
    knots = torch.from_numpy(np.sort(np.stack([normal[0], heavy[0], normal[1], heavy[1]]), axis=1))
    points = torch.cat([knots, knots + 1e-12, -knots, torch.from_numpy(rng.normal(size=(4, 500)))], 1)
    table = GuideTable(knots)
    assert table._others.tolist() == [1, 3]
    assert np.array_equal(table(points).numpy(), binary_search(knots, points))


def test_nan_lies_in_some_segment() -> None:
    knots = torch.linspace(0, 1, 30, dtype=torch.float64)[None]
    assert 0 <= int(GuideTable(knots)(torch.tensor([[torch.nan]]).double())) < 29


def test_new_knots_replace_the_table() -> None:
    rng = np.random.default_rng(1)
    first, second = (torch.from_numpy(rng.normal(size=(5000, 2)) * scale) for scale in (1, 7))
    transform, fresh = (Quantile(QuantileConfig(), features=2) for _ in range(2))
    transform.fit(first)
    assert GuideTable.is_worthwhile(transform.inputs, first.T)
    for row in (first[:1], first):
        assert torch.equal(transform(row)[0][0], transform(first)[0][0])
    fresh.fit(second)
    transform.load_state_dict(fresh.state_dict())
    assert torch.equal(transform(first)[0], fresh(first)[0])
    single = torch.cat([transform(row[None])[0] for row in first[:50]])  # by binary search
    assert torch.equal(single, transform(first)[0][:50])
    assert transform.inverse(transform(first)[0]).numpy() == pytest.approx(first.numpy())


def test_other_devices_use_no_table() -> None:
    transform = Quantile(QuantileConfig(), features=2)
    transform.fit(torch.randn(600, 2, generator=torch.Generator().manual_seed(0)).double())
    rows = torch.zeros(5000, 2, dtype=torch.float64)
    assert GuideTable.is_worthwhile(transform.inputs, rows.T)
    on_meta = transform.to("meta")
    z, log_det = on_meta(rows.to("meta"))
    assert (z.shape, log_det.shape, z.device.type) == (rows.shape, (5000,), "meta")
    assert not on_meta._tables
