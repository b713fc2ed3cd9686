from __future__ import annotations

import pytest
import torch

from flowgmm_residual.lipschitz import LipschitzNetwork, LipSwish, spectral_bound


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (128, 5), (64, 64)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_the_bound_is_above_the_norm_and_near_it(shape: tuple[int, int], scale: float) -> None:
    matrix = scale * torch.randn(shape, generator=seeded())
    bound = float(spectral_bound(matrix))
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert norm * (1 - 1e-5) <= bound <= norm * 1.03


def test_the_bound_is_near_also_where_all_singular_values_are_equal() -> None:
    assert float(spectral_bound(torch.eye(128))) == pytest.approx(128 ** (1 / 256), rel=1e-4)


def test_its_gradient_is_that_of_the_norm() -> None:
    matrix = torch.randn(6, 4, generator=seeded(), dtype=torch.float64, requires_grad=True)
    (bound,) = torch.autograd.grad(spectral_bound(matrix, 12), matrix)
    (norm,) = torch.autograd.grad(torch.linalg.matrix_norm(matrix, 2), matrix)
    torch.testing.assert_close(bound, norm, rtol=1e-3, atol=1e-3)


def test_a_matrix_of_zeros_has_a_finite_gradient() -> None:
    matrix = torch.zeros(5, 3, requires_grad=True)
    spectral_bound(matrix).backward()  # type: ignore[no-untyped-call]
    assert matrix.grad is not None
    assert matrix.grad.isfinite().all()


def test_derivatives_of_lipswish_are_below_1() -> None:
    activate = LipSwish().double()
    x = torch.linspace(-30, 30, 2001, dtype=torch.float64, requires_grad=True)
    for beta in (-3.0, 0.5, 8.0):
        with torch.no_grad():
            activate.beta.fill_(beta)
        value, slope = activate(x)
        (expected,) = torch.autograd.grad(value.sum(), x)
        torch.testing.assert_close(slope, expected)
        assert float(slope.detach().abs().max()) <= 1


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_a_network_shortens_every_distance(scale: float) -> None:
    network = LipschitzNetwork(4, hidden=16, depth=2, bound=0.9, generator=seeded())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=seeded(1))
        weights = network.weights()
        x = 3 * torch.randn(500, 4, generator=seeded(2))
        _, derivatives = network(x, weights)
        norms = torch.linalg.matrix_norm(network.jacobian(weights, derivatives), 2)
    assert float(norms.max()) <= 0.9 * (1 + 1e-5)


def test_jacobian_and_pull_back_are_those_of_autograd() -> None:
    network = LipschitzNetwork(3, hidden=8, depth=3, bound=0.9, generator=seeded()).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64)
    weights = network.weights()
    x = torch.randn(4, 3, generator=seeded(2), dtype=torch.float64)
    v = torch.randn(4, 3, generator=seeded(3), dtype=torch.float64)
    _, derivatives = network(x, weights)
    jacobian = network.jacobian(weights, derivatives)
    for row, actual in zip(x, jacobian, strict=True):
        expected = torch.autograd.functional.jacobian(lambda item: network(item[None], weights)[0][0], row)
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(network.pull_back(v, weights, derivatives), (v[:, None] @ jacobian)[:, 0])
