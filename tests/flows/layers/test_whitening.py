from __future__ import annotations

import pytest
import torch

from flowgmm_cli.flows.layers.whitening import DiscriminantWhitening


def rows(n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes that differ along a direction of little spread."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    x = torch.randn(n, 3, generator=generator) @ torch.tensor(
        [[3.0, 3.0, 0.0], [0.1, -0.1, 0.0], [0, 0, 1.0]]
    )
    return x + labels[:, None] * torch.tensor([0.3, -0.3, 0.0]) + 5, labels


def test_classes_have_unit_spread_and_the_map_is_exact() -> None:
    x, labels = rows()
    layer = DiscriminantWhitening(3).double()
    layer.fit(x, x, labels)
    z, log_det = layer(x.double())
    centres = torch.stack([z[labels == k].mean(0) for k in range(2)])
    within = (z - centres[labels]).T.cov()
    torch.testing.assert_close(within, torch.eye(3).double(), atol=0.4, rtol=0)  # shrinkage
    assert (centres[0] - centres[1]).norm() > 2  # 0.1 of the spread before
    torch.testing.assert_close(layer.inverse(z), x.double())
    torch.testing.assert_close(log_det, torch.linalg.slogdet(layer.matrix).logabsdet.expand(len(x)))


@pytest.mark.parametrize("labelled", [0, 2])
def test_without_two_rows_of_a_class_it_stays_the_identity(labelled: int) -> None:
    x, labels = rows(20)
    layer = DiscriminantWhitening(3)
    layer.fit(x, x[:labelled], labels[:labelled])
    assert torch.equal(layer(x)[0], x)


def test_few_rows_and_constant_features_keep_it_invertible() -> None:
    x, labels = rows(12)
    x[:, 2] = 1.0
    layer = DiscriminantWhitening(3)
    layer.fit(x, x[:3], labels[:3])
    z, log_det = layer(x)
    assert log_det.isfinite().all()
    torch.testing.assert_close(layer.inverse(z), x, atol=1e-4, rtol=1e-4)
