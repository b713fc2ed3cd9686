"""One table of all transforms through the same tests; what only one of them promises is in its own file."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.transforms.clip import Clip
from flowgmm_cli.data.transforms.pca import Pca
from flowgmm_cli.data.transforms.quantile import Quantile
from flowgmm_cli.data.transforms.scale import Scale
from flowgmm_cli.data.transforms.standardise import Standardise

EXACT = {
    "standardise": Standardise,
    "scale": Scale,
    "scale by 3": lambda features: Scale(features, 3.0),
    "pca": Pca,
    "quantile": Quantile,
    "quantile, few knots": lambda features: Quantile(features, 5),
    "all in a row": lambda features: Sequential(
        [Quantile(features, 7), Standardise(features), Pca(features)]
    ),
}
ALL = EXACT | {
    "pca to 1": lambda features: Pca(features, 1),
    "clip": lambda features: Clip(features, 1.5),
}


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


def fitted(make, x):
    transform = make(x.shape[1])
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
def test_new_rows_survive_the_round_trip(name, seed, rows, features, kind):
    transform = fitted(EXACT[name], data(seed, rows, features, kind))
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
def test_log_det_is_that_of_the_autograd_jacobian(name, features, kind):
    transform = fitted(EXACT[name], data(0, features=features, kind=kind))
    new = data(1, rows=6, features=features)
    _, log_det = transform(new)
    for row, value in zip(new, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda one: transform(one[None])[0][0], row)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_log_det_has_one_float64_per_row(name, rows):
    transform = fitted(ALL[name], data(0))
    z, log_det = transform(data(1, rows=rows))
    assert log_det.shape == (rows,)
    assert log_det.dtype == z.dtype == torch.float64
    if not isinstance(transform, Sequential):
        assert z.shape == (rows, transform.out_features)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_a_new_transform_takes_over_the_state(name, kind):
    old, new = fitted(ALL[name], data(0, rows=30, kind=kind)), ALL[name](3)
    new.load_state_dict(old.state_dict())
    x = data(1)
    for one, two in zip(old(x), new(x), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ALL)
def test_exactly_the_transforms_that_lose_something_say_so(name):
    transform = fitted(ALL[name], data(0))
    if not isinstance(transform, Sequential):
        assert transform.exact == (name in EXACT)
        assert bool(transform.inexact) == (name not in EXACT)


@pytest.mark.parametrize("name", ALL)
def test_fitting_twice_gives_the_same(name):
    x = data(0)
    one, two = fitted(ALL[name], x), fitted(ALL[name], x.clone())
    assert torch.equal(one(x)[0], two(x)[0])
