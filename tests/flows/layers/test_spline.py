from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.flows.layers.spline import count_parameters, rational_quadratic

BOUND = 3.0


def random_parameters(bins: int, seed: int, size: float, n: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    raw = size * torch.randn(count_parameters(bins), generator=generator, dtype=torch.float64)
    return raw.expand(n, -1)


CURVES = {"bins": st.integers(2, 12), "seed": st.integers(0, 2**31), "size": st.floats(0, 4)}


@settings(max_examples=60, deadline=None)
@given(**CURVES)
def test_a_spline_is_increasing_and_the_identity_outside(bins: int, seed: int, size: float) -> None:
    x = torch.linspace(-1.5 * BOUND, 1.5 * BOUND, 200, dtype=torch.float64)
    y, log_slope = rational_quadratic(x, random_parameters(bins, seed, size), bound=BOUND)
    assert (y.diff() > 0).all()
    outside = x.abs() > BOUND
    assert torch.equal(y[outside], x[outside])
    assert (log_slope[outside] == 0).all()
    assert (y[~outside].abs() <= BOUND).all()


@settings(max_examples=60, deadline=None)
@given(**CURVES)
def test_slope_and_inverse_agree_with_autograd_and_forward(bins: int, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (BOUND * torch.randn(200, generator=generator, dtype=torch.float64)).requires_grad_()
    raw = random_parameters(bins, seed, size)
    y, log_slope = rational_quadratic(x, raw, bound=BOUND)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-7, atol=1e-9)
    restored, log_inverse = rational_quadratic(y.detach(), raw, bound=BOUND, inverse=True)
    torch.testing.assert_close(restored, x.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_inverse, -log_slope.detach(), rtol=1e-4, atol=1e-4)


def test_raw_zeros_are_the_identity() -> None:
    x = torch.linspace(-4, 4, 101)
    y, log_slope = rational_quadratic(x, torch.zeros(101, count_parameters(8)), bound=BOUND)
    torch.testing.assert_close(y, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_slope, torch.zeros(101), atol=1e-4, rtol=0)


def test_a_spline_of_two_bins_is_that_by_hand() -> None:
    # Knots at -1, 0, 1 (equal widths) and heights with logits ln 3 and 0: y = -1, 0.5, 1, up to the least
    # bin. Slopes 1 at the ends and softplus(start) = 1 in the middle.
    raw = torch.tensor([[0.0, 0.0, torch.tensor(3.0).log(), 0.0, 0.0]], dtype=torch.float64)
    y, log_slope = rational_quadratic(torch.tensor([-0.5], dtype=torch.float64), raw, bound=1.0)
    height = 2 * (1e-3 + (1 - 2e-3) * 0.75)
    # xi = 1/2, s = height: y = -1 + h (s/4 + 1/4) / (s + (2 - 2 s) / 4)
    expected = -1 + height * (height / 4 + 0.25) / (height + (2 - 2 * height) / 4)
    slope = height**2 * (0.25 + height / 2 + 0.25) / (height + (2 - 2 * height) / 4) ** 2
    torch.testing.assert_close(y, torch.tensor([expected], dtype=torch.float64))
    torch.testing.assert_close(log_slope.exp(), torch.tensor([slope], dtype=torch.float64))


def test_gradients_are_finite_far_outside_and_on_the_knots() -> None:
    x = torch.tensor([-1e6, -BOUND, 0.0, BOUND, 1e6]).requires_grad_()
    raw = torch.zeros(5, count_parameters(4)).requires_grad_()
    y, log_slope = rational_quadratic(x, raw, bound=BOUND)
    (y.square().sum() + log_slope.sum()).backward()
    assert x.grad is not None
    assert raw.grad is not None
    assert x.grad.isfinite().all()
    assert raw.grad.isfinite().all()
