"""One node of the graph beside its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgmm_cli.flows.layers.scale_shift import _plain, scale_and_shift, scale_of


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


def test_its_gradients_are_those_of_its_parts_in_single_precision() -> None:
    raw, x = (one.detach().float().requires_grad_() for one in drawn(500, 40, wide=3.0))
    found, parts = scale_and_shift(raw, x, 1.5), _plain(raw, x, 1.5)
    assert all(torch.equal(one, other) for one, other in zip(found, parts, strict=True))
    slopes = [torch.randn(one.shape, generator=torch.Generator().manual_seed(1)) for one in found]
    ours, theirs = (torch.autograd.grad(outputs, (raw, x), slopes) for outputs in (found, parts))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("of", ["raw", "x"])
def test_only_what_is_asked_for_has_a_gradient(of: str) -> None:
    raw, x = (one.detach() for one in drawn())
    asked = (raw if of == "raw" else x).requires_grad_()
    z, log_det = scale_and_shift(raw, x, 1.0)
    (slope,) = torch.autograd.grad((z.square().sum() + log_det.sum()), asked, create_graph=True)
    plain, plain_log_det = _plain(raw, x, 1.0)
    (wanted,) = torch.autograd.grad((plain.square().sum() + plain_log_det.sum()), asked)
    torch.testing.assert_close(slope, wanted)


def test_the_log_determinant_alone_has_a_gradient() -> None:
    raw, x = drawn()
    (found,) = torch.autograd.grad(scale_and_shift(raw, x, 1.0)[1].sum(), raw)
    (wanted,) = torch.autograd.grad(_plain(raw, x, 1.0)[1].sum(), raw)
    torch.testing.assert_close(found, wanted)


def test_it_is_one_node_of_the_graph_and_gives_way_to_function_transforms() -> None:
    raw, x = drawn()
    z, log_det = scale_and_shift(raw, x, 1.0)
    assert z.grad_fn is log_det.grad_fn
    rows = torch.func.vmap(lambda a, b: scale_and_shift(a[None], b[None], 1.0)[0][0])(raw, x)
    torch.testing.assert_close(rows, z)
    jacobian = torch.func.jacrev(lambda b: scale_and_shift(raw, b, 1.0)[0])(x)
    torch.testing.assert_close(jacobian.sum((2, 3)), scale_of(raw, 1.0)[0].exp())
