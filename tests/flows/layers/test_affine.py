from __future__ import annotations

import torch

from flowgmm_cli.flows.layers.affine import ActNorm


def random_rows(n: int = 200) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1.0, 1e3]) + 7


def test_the_first_batch_is_standardised() -> None:
    layer, x = ActNorm(3), random_rows()
    layer.initialise(x)
    z, log_det = layer(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_det, -x.std(0, correction=0).log().sum().expand(len(x)), atol=1e-3, rtol=0)


def test_a_constant_feature_and_a_single_row_are_only_centred() -> None:
    layer = ActNorm(2)
    layer.initialise(torch.tensor([[0.1, 1e6]]).expand(7, 2))
    z, log_det = layer(torch.tensor([[1.1, 1e6]]))
    torch.testing.assert_close(z, torch.tensor([[1.0, 0.0]]), atol=1e-5, rtol=0)
    assert log_det.item() == 0


def test_image_channels_are_standardised_over_rows_and_pixels() -> None:
    layer = ActNorm(2)
    x = torch.randn(40, 2, 5, 3, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([0.1, 30.0])[:, None, None] - 4
    layer.initialise(x)
    z, log_det = layer(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert log_det.shape == (40,)
    torch.testing.assert_close(log_det[0], -15 * x.std((0, 2, 3), correction=0).log().sum())
