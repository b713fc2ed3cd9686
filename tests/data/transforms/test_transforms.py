"""Tests of every transform; those of `quantile`, `pca` and `dequantise` have files of their own."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.specs import TRANSFORMS
from flowgmm_cli.plugins.entry import load_target


def make(name, features, **words):
    spec = TRANSFORMS[name]
    return load_target(spec.build, name)(spec.config(**words), features=features)


EXACT = {
    "standardise": partial(make, "standardise"),
    "scale": partial(make, "scale"),
    "scale by 3": partial(make, "scale", factor=3.0),
    "pca": partial(make, "pca"),
    "quantile": partial(make, "quantile"),
    "quantile, few knots": partial(make, "quantile", n_quantiles=5),
    "all in a row": lambda features: Sequential(
        [make("quantile", features, n_quantiles=7), make("standardise", features), make("pca", features)]
    ),
}
ALL = EXACT | {"pca to 1": partial(make, "pca", dim=1), "clip": partial(make, "clip", limit=1.5)}


def data(seed, rows=40, features=3, kind="normal"):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, dtype=torch.float64, generator=generator)
    if kind == "ties":
        x = x.round()
    if kind == "constant":
        x[:, 0] = 7.3
    if kind == "outliers":
        x[::9] *= 1e3
    return x * torch.logspace(-3, 3, features, dtype=torch.float64) + 5


def fit(build, x):
    transform = build(x.shape[1])
    for step in transform.layers if isinstance(transform, Sequential) else [transform]:
        step.fit(x)
        if isinstance(transform, Sequential):
            x = step(x)[0]
    return transform


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    rows=st.integers(1, 60),
    features=st.sampled_from([1, 2, 5]),
    kind=st.sampled_from(["normal", "ties", "constant", "outliers"]),
)
def test_inverse_restores_new_rows(name, seed, rows, features, kind):
    transform = fit(EXACT[name], data(seed, rows, features, kind))
    new = data(seed + 1, 30, features) * 3
    z, log_det = transform(new)
    assert torch.isfinite(z).all()
    assert torch.isfinite(log_det).all()
    back = transform.inverse(z)
    size = new.abs().amax(dim=0)
    assert ((back - new).abs() / size).max() < 1e-6


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "outliers"])
def test_log_det_agrees_with_the_autograd_jacobian(name, features, kind):
    transform = fit(EXACT[name], data(0, features=features, kind=kind))
    new = data(1, rows=6, features=features)
    _, log_det = transform(new)
    for row, value in zip(new, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda point: transform(point[None])[0][0], row)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_log_det_is_a_float64_for_each_row(name, rows):
    transform = fit(ALL[name], data(0))
    z, log_det = transform(data(1, rows=rows))
    assert log_det.shape == (rows,)
    assert log_det.dtype == z.dtype == torch.float64
    if not isinstance(transform, Sequential):
        assert z.shape == (rows, transform.out_features)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_state_dict_restores_a_transform(name, kind):
    old, new = fit(ALL[name], data(0, rows=30, kind=kind)), ALL[name](3)
    new.load_state_dict(old.state_dict())
    x = data(1)
    for old_result, new_result in zip(old(x), new(x), strict=True):
        assert torch.equal(old_result, new_result)


@pytest.mark.parametrize("name", ALL)
def test_only_lossy_transforms_are_inexact(name):
    transform = fit(ALL[name], data(0))
    if not isinstance(transform, Sequential):
        assert bool(transform.inexact) != (name in EXACT)
        assert bool(transform.inexact) == (name not in EXACT)


def test_standardise_agrees_with_scikit_learn():
    x = np.random.default_rng(0).normal(3, [1, 10, 1e-6], (50, 3))
    transform = make("standardise", 3)
    transform.fit(torch.from_numpy(x))
    assert np.allclose(transform(torch.from_numpy(x))[0].numpy(), StandardScaler().fit_transform(x))


def test_standardise_keeps_the_scale_of_a_constant_feature_despite_rounding():
    x = torch.full((1000, 1), 0.1, dtype=torch.float64)
    transform = make("standardise", 1)
    transform.fit(x)
    assert transform.scale.item() == 1
