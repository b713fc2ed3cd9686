"""The density under spheres as one node of the graph, beside its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgmm_cli.mixture.density import _spherical, log_normal

SHARED = pytest.mark.parametrize("shared", [False, True])


def drawn(n: int = 7, m: int = 3, d: int = 4, *, shared: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, means = (torch.randn(count, d, dtype=torch.float64, generator=generator) for count in (n, m))
    scales = 0.5 + torch.rand(1 if shared else m, 1, dtype=torch.float64, generator=generator)
    return [2 * z, 3 * means, scales]


def learned(inputs: list[Tensor]) -> list[Tensor]:
    return [one.detach().clone().requires_grad_() for one in inputs]


@SHARED
def test_first_and_second_derivatives_are_those_of_finite_differences(shared: bool) -> None:
    inputs = learned(drawn(shared=shared))
    assert torch.autograd.gradcheck(log_normal, inputs)
    assert torch.autograd.gradgradcheck(log_normal, inputs)


@SHARED
@pytest.mark.parametrize("far", [0.0, 1e3])
def test_its_gradients_are_those_of_its_parts_in_single_precision(shared: bool, far: float) -> None:
    z, means, scales = drawn(500, 6, 40, shared=shared)
    inputs = learned([one.float() for one in (z + far, means + far, scales)])
    found, parts = log_normal(*inputs), _spherical(*inputs)
    torch.testing.assert_close(found, parts)
    slopes = torch.softmax(found.detach(), 1)
    exact_inputs = learned([one.double() for one in inputs])
    exact = torch.autograd.grad(_spherical(*exact_inputs), exact_inputs, slopes.double())
    ours, theirs = (torch.autograd.grad(one, inputs, slopes) for one in (found, parts))
    for one, other, true in zip(ours, theirs, exact, strict=True):
        error = (one - true).abs().max()
        assert error <= max(2 * (other - true).abs().max(), 1e-5 * true.abs().max())


@SHARED
@pytest.mark.parametrize("asked", range(3))
def test_only_what_is_asked_for_has_a_gradient(asked: int, shared: bool) -> None:
    inputs = drawn(shared=shared)
    inputs[asked].requires_grad_()
    (found,) = torch.autograd.grad(log_normal(*inputs).square().sum(), inputs[asked], create_graph=True)
    (wanted,) = torch.autograd.grad(_spherical(*inputs).square().sum(), inputs[asked])
    torch.testing.assert_close(found, wanted)


def test_autocast_reaches_neither_way() -> None:
    inputs = learned([one.float() for one in drawn(300, 5, 64)])
    expected = torch.autograd.grad(log_normal(*inputs).square().sum(), inputs)
    out = log_normal(*inputs).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(out, inputs)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_it_is_one_node_of_the_graph_and_gives_way_to_function_transforms() -> None:
    z, means, scales = learned(drawn())
    found = log_normal(z, means, scales)
    assert "_Spherical" in type(found.grad_fn).__name__
    rows = torch.func.vmap(lambda row: log_normal(row[None], means, scales)[0])(z)
    torch.testing.assert_close(rows, found)
    jacobian = torch.func.jacrev(lambda mean: log_normal(z, mean, scales).sum())(means)
    (wanted,) = torch.autograd.grad(found.sum(), means)
    torch.testing.assert_close(jacobian, wanted)
