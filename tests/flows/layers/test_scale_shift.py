from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgmm_cli.flows.layers.scale_shift import scale_and_shift, scale_of


def drawn(n: int = 6, c: int = 3, *, wide: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    raw = wide * torch.randn(n, 2 * c, dtype=torch.float64, generator=generator)
    x = torch.randn(n, 2 * c, dtype=torch.float64, generator=generator)
    return raw.requires_grad_(), x[:, :c].requires_grad_()  # halves of a vector lie apart in memory


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_it_is_the_soft_clipped_coupling(limit: float) -> None:
    raw, x = drawn(wide=5.0)
    unbounded, shift = raw.chunk(2, dim=1)
    scale = limit * torch.tanh(unbounded / limit)
    z, log_det = scale_and_shift(raw, x, limit)
    torch.testing.assert_close(z, x * scale.exp() + shift)
    torch.testing.assert_close(log_det, scale.sum(1))
    for one, other in zip(scale_of(raw, limit), (scale, shift), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("limit", [0.5, 3.0])
def test_first_and_second_derivatives_are_those_of_finite_differences(limit: float) -> None:
    raw, x = drawn()
    assert torch.autograd.gradcheck(lambda *both: scale_and_shift(*both, limit), (raw, x))
    assert torch.autograd.gradgradcheck(lambda *both: scale_and_shift(*both, limit), (raw, x))
