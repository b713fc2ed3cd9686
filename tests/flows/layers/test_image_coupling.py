from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from flowgmm_cli.flows.layers.conditional import ConditionalAffine, ConditionalSpline
from flowgmm_cli.flows.layers.conv_conditioner import ResidualConditioner, ShallowConditioner
from flowgmm_cli.flows.layers.image_coupling import ImageCoupling
from flowgmm_cli.flows.layers.squeeze import Squeeze


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(channels: int, *, flip: bool = False, kind: Any = ConditionalAffine) -> ImageCoupling:
    net = partial(ShallowConditioner, hidden=8, generator=seeded())
    layer = ImageCoupling(channels, flip=flip, couple=partial(kind, net=net, scale_limit=1.5))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=seeded(1))
    return layer


@pytest.mark.parametrize("kind", [ConditionalAffine, ConditionalSpline])
def test_a_fresh_coupling_is_the_identity(kind: Any) -> None:
    net = partial(ResidualConditioner, hidden=8, blocks=2, generator=seeded())
    layer = ImageCoupling(4, couple=partial(kind, net=net, scale_limit=2.0))
    x = 3 * torch.randn(5, 4, 6, 6, generator=seeded(1))
    z, log_det = layer(x)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_one_half_stays_and_the_other_is_a_function_of_it(flip: bool) -> None:
    layer, x = make(5, flip=flip), torch.randn(3, 5, 4, 4, generator=seeded(2))
    z, _ = layer(x)
    kept, changed = (slice(3, 5), slice(0, 3)) if flip else (slice(0, 3), slice(3, 5))
    assert torch.equal(z[:, kept], x[:, kept])
    assert (z[:, changed] != x[:, changed]).all()


def test_behind_a_squeeze_it_is_a_checkerboard_coupling_of_the_image() -> None:
    """A place of the kept colour stays; one of the other is scaled and shifted by what the kept ones say."""
    squeeze, layer = Squeeze(), make(4)
    x = torch.randn(1, 1, 8, 6, generator=seeded(2))
    row, column = torch.meshgrid(torch.arange(8), torch.arange(6), indexing="ij")
    kept = ((row + column) % 2 == 0)[None, None]

    def image(x: torch.Tensor) -> torch.Tensor:
        return squeeze.inverse(layer(squeeze(x)[0])[0])

    z = image(x)
    assert torch.equal(z[kept], x[kept])
    other = torch.where(kept, x, 2 * x)
    # affine in the changed colour: doubling it adds the linear part once more
    torch.testing.assert_close(image(torch.where(kept, x, 3 * x)) - image(other), image(other) - z)


def test_log_scales_stay_below_their_limit() -> None:
    layer = make(4)
    _, log_det = layer(1e4 * torch.randn(50, 4, 4, 4, generator=seeded(2)))
    assert (log_det.abs() <= 1.5 * 32 + 1e-3).all()


def test_a_single_channel_has_no_halves() -> None:
    with pytest.raises(ValueError, match="at least 2 channels"):
        make(1)


def test_conditioners_leave_the_global_generator_alone_and_come_out_zero() -> None:
    before = torch.get_rng_state()
    for net in (
        ShallowConditioner(3, 4, hidden=8, dropout=0.5, generator=seeded()),
        ResidualConditioner(3, 4, hidden=8, blocks=2, dropout=0.5, generator=seeded()),
    ):
        assert not net.eval()(torch.randn(2, 3, 5, 5, generator=seeded(1))).any()
        assert all(value.is_contiguous() for value in net.state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_drops_whole_channels_in_training_alone() -> None:
    net = ResidualConditioner(2, 2, hidden=6, blocks=1, dropout=0.5, generator=seeded())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5, generator=seeded(3))
    x = torch.randn(40, 2, 4, 4, generator=seeded(1))
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
