from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.flows.layers.networks import ShallowConditioner
from flowgmm_cli.flows.layers.variational_dequantisation import VariationalDequantisation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(levels: int = 256, *, size: float = 0.2, couplings: int = 2) -> VariationalDequantisation:
    net = partial(ShallowConditioner, hidden=8, generator=seeded())
    layer = VariationalDequantisation(1, couplings=couplings, net=net, levels=levels)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += size * torch.randn(parameter.shape, generator=seeded(1))
    return layer


def pixels(levels: int = 256, n: int = 30, seed: int = 2) -> torch.Tensor:
    whole = torch.randint(levels, (n, 1, 4, 4), generator=seeded(seed)).float()
    return (whole + torch.rand(whole.shape, generator=seeded(seed + 1)).clamp(max=0.999)) / levels


@settings(max_examples=40, deadline=None)
@given(
    levels=st.sampled_from([2, 3, 5, 100, 256]),
    size=st.floats(0, 3),
    edge=st.sampled_from([0.0, 1e-6, 0.5, 0.9999]),
    seed=st.integers(0, 1000),
)
def test_no_pixel_leaves_its_cell(levels: int, size: float, edge: float, seed: int) -> None:
    layer = make(levels, size=size)
    whole = torch.randint(levels, (5, 1, 4, 4), generator=seeded(seed)).float()
    x = (whole + edge) / levels
    v = (x * levels).floor()
    z, log_det = layer(x)
    assert torch.equal((z * levels).floor(), v)
    assert (z >= 0).all()
    assert (z < 1).all()
    assert log_det.isfinite().all()
    assert torch.equal((layer.inverse(x) * levels).floor(), v)


def test_a_new_layer_changes_nothing() -> None:
    x = pixels()
    z, log_det = make(size=0)(x)
    torch.testing.assert_close(z, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(30), atol=0.02, rtol=0)


def test_noise_depends_on_the_image_and_its_density_integrates_to_1() -> None:
    """The noise of one pixel sweeps its cell; its slope integrates to the width of the cell."""
    layer = make(levels=4, couplings=0).double()
    whole = torch.randint(4, (1, 1, 2, 2), generator=seeded(4)).double()
    steps = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    x = (whole + 0.3).expand(20000, 1, 2, 2).clone()
    x[:, 0, 0, 0] = whole[0, 0, 0, 0] + steps
    z, log_det = layer(x / 4)
    u = 4 * z[:, 0, 0, 0] - whole[0, 0, 0, 0]
    assert (u.diff() > 0).all()
    alone = log_det - layer((whole + 0.3) / 4)[1]  # of the swept pixel, but for its slope at 0.3
    at = torch.argmin((steps - 0.3).abs())
    slope_there = (u[at + 1] - u[at - 1]) / (steps[at + 1] - steps[at - 1])
    assert (alone.exp().mean() * slope_there).item() == pytest.approx(1, abs=2e-3)
    other = layer(x.clone().index_fill_(2, torch.tensor(1), 3.3 / 4) / 4)[0]
    assert not torch.allclose(other[:, 0, 0, 0], z[:, 0, 0, 0])


def test_numbers_outside_of_the_interval_are_unchanged_with_log_determinant_0() -> None:
    layer, x = make(size=0.05), pixels(n=3)
    x[:, 0, 1, 2] = torch.tensor([-0.2, 1.0, 7.5])
    z, log_det = layer(x)
    assert torch.equal(z[:, 0, 1, 2], x[:, 0, 1, 2])
    assert log_det.isfinite().all()
    torch.testing.assert_close(layer.inverse(z), x, atol=2e-5, rtol=0)
    nothing, none = layer(torch.full((2, 1, 4, 4), -1.0))
    assert (nothing == -1).all()
    assert none.tolist() == [0.0, 0.0]


def test_float32_round_trip_stays_within_the_cell() -> None:
    layer, x = make(size=0.05), pixels()
    torch.testing.assert_close(layer.inverse(layer(x)[0]) * 256, x * 256, atol=2e-2, rtol=0)
