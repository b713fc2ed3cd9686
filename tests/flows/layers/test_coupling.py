from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from flowgmm_cli.bijection import Sequential
from flowgmm_cli.flows.layers.conditional import ConditionalAffine, ConditionalSpline, log_scale_and_shift
from flowgmm_cli.flows.layers.coupling import AffineCoupling, CouplingStack, ImageCoupling
from flowgmm_cli.flows.layers.networks import ResidualConditioner, ShallowConditioner
from flowgmm_cli.flows.layers.pixels import Squeeze


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturb(module: torch.nn.Module, size: float = 0.3) -> torch.nn.Module:
    generator = seeded(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_log_scales_are_soft_clipped_by_tanh(limit: float) -> None:
    raw = 5 * torch.randn(6, 8, dtype=torch.float64, generator=seeded())
    unbounded, expected_shift = raw.chunk(2, dim=1)
    log_scale, shift = log_scale_and_shift(raw, limit)
    torch.testing.assert_close(log_scale, limit * torch.tanh(unbounded / limit))
    assert torch.equal(shift, expected_shift)


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("flip", [False, True])
def test_one_half_is_fixed_and_the_other_scaled_and_shifted(d: int, flip: bool) -> None:
    coupling = AffineCoupling(d, flip=flip, hidden=8, generator=seeded())
    perturb(coupling)
    x = torch.randn(5, d, generator=seeded(2))
    z, log_det = coupling(x)
    middle = (d + 1) // 2
    fixed, changed = (slice(middle, d), slice(0, middle)) if flip else (slice(0, middle), slice(middle, d))
    assert torch.equal(z[:, fixed], x[:, fixed])
    raw, shift = coupling.net(x[:, fixed]).chunk(2, dim=1)
    scale = torch.tanh(raw)
    torch.testing.assert_close(z[:, changed], x[:, changed] * scale.exp() + shift)
    torch.testing.assert_close(log_det, scale.sum(1))


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_the_log_scale_never_exceeds_its_limit(limit: float) -> None:
    coupling = AffineCoupling(4, hidden=8, scale_limit=limit, generator=seeded())
    perturb(coupling, size=30.0)
    _, log_det = coupling(100 * torch.randn(50, 4, generator=seeded(2)))
    assert log_det.abs().max() <= 2 * limit + 1e-5
    assert log_det.abs().max() > limit  # the limit is reached, not only respected


def test_a_stack_is_the_composition_of_its_couplings() -> None:
    flips = (False, True, False, True)
    stack = CouplingStack(AffineCoupling(7, flip=flip, hidden=8, generator=seeded()) for flip in flips)
    perturb(stack)
    composed = Sequential(stack.couplings)
    x = torch.randn(5, 7, generator=seeded(2))
    for value, expected in zip(stack(x), composed(x), strict=True):
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(stack.inverse(x), composed.inverse(x))


def test_a_coupling_from_its_identity_start_still_learns() -> None:
    coupling = AffineCoupling(4, hidden=8, generator=seeded())
    z, log_det = coupling(torch.randn(20, 4, generator=seeded(2)))
    (z.square().sum() - log_det.sum()).backward()
    last = coupling.net[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.weight.grad is not None
    assert (last.weight.grad.abs().sum(dim=1) > 0).all()  # some hidden units may be dead


def make_image_coupling(channels: int, *, flip: bool = False, kind: Any = ConditionalAffine) -> ImageCoupling:
    net = partial(ShallowConditioner, hidden=8, generator=seeded())
    layer = ImageCoupling(channels, flip=flip, couple=partial(kind, net=net, scale_limit=1.5))
    perturb(layer, size=0.2)
    return layer


@pytest.mark.parametrize("coupling", [partial(AffineCoupling, generator=seeded()), make_image_coupling])
def test_a_single_feature_has_no_halves(coupling: Any) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        coupling(1)


@pytest.mark.parametrize("kind", [ConditionalAffine, ConditionalSpline])
def test_a_new_image_coupling_is_the_identity(kind: Any) -> None:
    net = partial(ResidualConditioner, hidden=8, blocks=2, generator=seeded())
    layer = ImageCoupling(4, couple=partial(kind, net=net, scale_limit=2.0))
    x = 3 * torch.randn(5, 4, 6, 6, generator=seeded(1))
    z, log_det = layer(x)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_one_half_of_the_channels_stays_and_the_other_changes(flip: bool) -> None:
    layer, x = make_image_coupling(5, flip=flip), torch.randn(3, 5, 4, 4, generator=seeded(2))
    z, _ = layer(x)
    fixed, changed = (slice(3, 5), slice(0, 3)) if flip else (slice(0, 3), slice(3, 5))
    assert torch.equal(z[:, fixed], x[:, fixed])
    assert (z[:, changed] != x[:, changed]).all()


def test_after_a_squeeze_it_is_a_checkerboard_coupling_of_the_image() -> None:
    """One colour stays; the other is scaled and shifted by a function of the first."""
    squeeze, layer = Squeeze(), make_image_coupling(4)
    x = torch.randn(1, 1, 8, 6, generator=seeded(2))
    row, column = torch.meshgrid(torch.arange(8), torch.arange(6), indexing="ij")
    fixed = ((row + column) % 2 == 0)[None, None]

    def image(x: torch.Tensor) -> torch.Tensor:
        return squeeze.inverse(layer(squeeze(x)[0])[0])

    z = image(x)
    assert torch.equal(z[fixed], x[fixed])
    other = torch.where(fixed, x, 2 * x)
    # affine in the changed colour: doubling it adds the linear part once more
    torch.testing.assert_close(image(torch.where(fixed, x, 3 * x)) - image(other), image(other) - z)
