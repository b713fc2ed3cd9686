from __future__ import annotations

import torch

from flowgmm_cli.flows.layers.conv1x1 import Conv1x1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_starts_as_a_rotation_drawn_from_the_generator() -> None:
    layer, x = Conv1x1(6, generator=seeded()), torch.randn(3, 6, 2, 5, generator=seeded(1))
    z, log_det = layer(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1))
    torch.testing.assert_close(log_det, torch.zeros(3), atol=1e-5, rtol=0)
    assert not torch.equal(layer.rotation, Conv1x1(6, generator=seeded(2)).rotation)


def test_it_multiplies_the_channels_of_each_place_by_one_matrix() -> None:
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


def test_it_keeps_full_precision_under_autocast() -> None:
    layer, x = Conv1x1(4, generator=seeded()), torch.randn(3, 4, 3, 3, generator=seeded(1))
    exact, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = layer(x)
        back = layer.inverse(z)
    assert torch.equal(z, exact)
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)


def test_its_one_parameter_more_is_no_parameter() -> None:
    assert sorted(name for name, _ in Conv1x1(4, generator=seeded()).named_parameters()) == [
        "log_diagonal",
        "lower",
        "upper",
    ]
