"""Gaussian log-densities against torch.distributions and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from flowgmm_cli.mixture.gaussian import log_normal

COVARIANCES = pytest.mark.parametrize(("shared", "diagonal"), [(s, d) for s in (0, 1) for d in (0, 1)])


def random_inputs(n: int = 7, m: int = 3, d: int = 4, *, shared: bool, diagonal: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, means = (torch.randn(count, d, dtype=torch.float64, generator=generator) for count in (n, m))
    shape = (1 if shared else m, d if diagonal else 1)
    scales = 0.5 + torch.rand(shape, dtype=torch.float64, generator=generator)
    return [tensor.requires_grad_() for tensor in (2 * z, 3 * means, scales)]


@COVARIANCES
def test_log_densities_are_those_of_torch_distributions(shared: bool, diagonal: bool) -> None:
    z, means, scales = random_inputs(shared=shared, diagonal=diagonal)
    expected = Independent(Normal(means, scales.expand_as(means)), 1).log_prob(z[:, None])
    torch.testing.assert_close(log_normal(z, means, scales), expected)


@COVARIANCES
def test_first_and_second_derivatives_are_those_of_finite_differences(shared: bool, diagonal: bool) -> None:
    inputs = random_inputs(shared=shared, diagonal=diagonal)
    assert torch.autograd.gradcheck(log_normal, inputs)
    assert torch.autograd.gradgradcheck(log_normal, inputs)


@COVARIANCES
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_float32_rows_have_accurate_gradients(shared: bool, diagonal: bool, offset: float) -> None:
    z, means, scales = random_inputs(500, 6, 40, shared=shared, diagonal=diagonal)
    inputs = [x.detach().float().requires_grad_() for x in (z + offset, means + offset, scales)]
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    log_prob = log_normal(*inputs)
    weights = torch.softmax(log_prob.detach(), 1)
    grads = torch.autograd.grad(log_prob, inputs, weights)
    exact = torch.autograd.grad(log_normal(*exact_inputs), exact_inputs, weights.double())
    for grad, expected in zip(grads, exact, strict=True):
        assert (grad - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_function_transforms_apply() -> None:
    z, means, scales = random_inputs(shared=False, diagonal=False)
    log_prob = log_normal(z, means, scales)
    rows = torch.func.vmap(lambda row: log_normal(row[None], means, scales)[0])(z)
    torch.testing.assert_close(rows, log_prob)
    jacobian = torch.func.jacrev(lambda mean: log_normal(z, mean, scales).sum())(means)
    (expected,) = torch.autograd.grad(log_prob.sum(), means)
    torch.testing.assert_close(jacobian, expected)
