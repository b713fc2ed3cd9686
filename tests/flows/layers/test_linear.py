from __future__ import annotations

import pytest
import torch

from flowgmm_cli.flows.layers.linear import Conv1x1, LULinear


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_lu_is_the_product_of_its_factors() -> None:
    layer = LULinear(3).double()
    generator = seeded()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    lower, upper = layer.factors(torch.float64)
    assert torch.equal(lower, lower.tril())
    assert torch.equal(upper, upper.triu())
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(z, torch.stack([lower @ (upper @ row) for row in x]))
    torch.testing.assert_close(log_det, torch.linalg.slogdet(lower @ upper).logabsdet.expand(4))


def test_a_convolution_starts_as_a_rotation_drawn_from_the_generator() -> None:
    layer, x = Conv1x1(6, generator=seeded()), torch.randn(3, 6, 2, 5, generator=seeded(1))
    z, log_det = layer(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1))
    torch.testing.assert_close(log_det, torch.zeros(3), atol=1e-5, rtol=0)
    assert not torch.equal(layer.rotation, Conv1x1(6, generator=seeded(2)).rotation)


def test_a_convolution_multiplies_the_channels_of_each_pixel_by_one_matrix() -> None:
    layer = Conv1x1(3, generator=seeded()).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=seeded(3), dtype=torch.float64)
    lower, upper = layer.factors(torch.float64)
    matrix = lower @ upper @ layer.rotation
    x = torch.randn(2, 3, 4, 5, generator=seeded(1), dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(z, torch.einsum("ij,njhw->nihw", matrix, x))
    torch.testing.assert_close(log_det, 20 * torch.linalg.slogdet(matrix).logabsdet.expand(2))


@pytest.mark.parametrize("layer", [LULinear(4), Conv1x1(4, generator=seeded())])
def test_products_keep_full_precision_under_autocast(layer: LULinear) -> None:
    shape = (3, 4, 3, 3) if isinstance(layer, Conv1x1) else (5, 4)
    with torch.no_grad():
        layer.lower.fill_(0.1)
        layer.upper.fill_(-0.1)
    x = torch.randn(shape, generator=seeded(1))
    exact, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = layer(x)
        restored = layer.inverse(z)
    assert torch.equal(z, exact)
    torch.testing.assert_close(restored, x, atol=1e-5, rtol=0)
