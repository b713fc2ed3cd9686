from __future__ import annotations

import torch

from flowgmm_cli.flows.layers.linear import LULinear, Permutation


def test_permutation_reorders_the_columns() -> None:
    layer = Permutation(torch.tensor([2, 0, 1]))
    z, log_det = layer(torch.tensor([[10.0, 20.0, 30.0]]))
    assert z.tolist() == [[30.0, 10.0, 20.0]]
    assert log_det.tolist() == [0.0]


def test_lu_is_the_product_of_its_factors() -> None:
    layer = LULinear(3).double()
    generator = torch.Generator().manual_seed(0)
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


def test_lu_keeps_full_precision_under_autocast() -> None:
    layer = LULinear(8)
    with torch.no_grad():
        layer.lower.fill_(0.1)
        layer.upper.fill_(-0.1)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    exact, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = layer(x)
        back = layer.inverse(z)
    assert torch.equal(z, exact)
    torch.testing.assert_close(back, x)
