"""One table of all bijections through generic tests: a new bijection is one line in the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowgmm_cli.bijection import Bijection, Sequential, zero_log_det
from flowgmm_cli.flows.layers.affine import ActNorm, ElementwiseAffine
from flowgmm_cli.flows.layers.conditional import ConditionalAffine, ConditionalSpline
from flowgmm_cli.flows.layers.coupling import AffineCoupling, CouplingStack, ImageCoupling
from flowgmm_cli.flows.layers.linear import Conv1x1, LULinear, Permutation
from flowgmm_cli.flows.layers.networks import ResidualConditioner, ShallowConditioner
from flowgmm_cli.flows.layers.pixels import Logit, Squeeze, row_order
from flowgmm_cli.flows.layers.variational_dequantisation import VariationalDequantisation
from flowgmm_cli.flows.realnvp import RealNVP

Make = Callable[[int, torch.Generator], Bijection]
SMALL = {"hidden": 16, "depth": 2}


def permutation(d: int, g: torch.Generator) -> Permutation:
    return Permutation(torch.randperm(d, generator=g))


def chain(d: int, g: torch.Generator) -> Sequential:
    return Sequential([ElementwiseAffine(d), permutation(d, g), LULinear(d)])


def stack(d: int, g: torch.Generator) -> CouplingStack:
    return CouplingStack(AffineCoupling(d, flip=flip, generator=g, **SMALL) for flip in (False, True, False))


TABLE: dict[str, tuple[Make, int]] = {  # name -> (maker, smallest D)
    "sequential": (chain, 1),
    "empty": (lambda d, g: Sequential(), 1),
    "affine": (lambda d, g: ElementwiseAffine(d), 1),
    "actnorm": (lambda d, g: ActNorm(d), 1),
    "permutation": (permutation, 1),
    "lu": (lambda d, g: LULinear(d), 1),
    "coupling": (lambda d, g: AffineCoupling(d, generator=g, **SMALL), 2),
    "coupling-flip": (lambda d, g: AffineCoupling(d, flip=True, scale_limit=0.5, generator=g, **SMALL), 2),
    "stack": (stack, 2),
    "realnvp": (lambda d, g: RealNVP(d, couplings=3, generator=g, **SMALL), 1),
    "realnvp-deep": (
        lambda d, g: RealNVP(d, couplings=2, hidden=8, depth=4, scale_limit=2.0, generator=g),
        1,
    ),
    "realnvp-actnorm": (lambda d, g: RealNVP(d, couplings=3, actnorm=True, generator=g, **SMALL), 1),
    "realnvp-permutation": (
        lambda d, g: RealNVP(d, couplings=3, mixing="permutation", generator=g, **SMALL),
        1,
    ),
    "realnvp-lu": (lambda d, g: RealNVP(d, couplings=3, actnorm=True, mixing="lu", generator=g, **SMALL), 1),
}
Shape = tuple[int, ...]
MakeImages = Callable[[Shape, torch.Generator], Bijection]


class OnVectors(Bijection):
    """A bijection of images for vectors of the same numbers."""

    def __init__(self, images: Bijection, shape: Shape) -> None:
        super().__init__()
        self.images = images
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.images(x.reshape(-1, *self.shape))
        self.output_shape = z.shape[1:]
        return z.flatten(1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        return self.images.inverse(z.reshape(-1, *self.output_shape)).flatten(1)


def coupling(shape: Shape, g: torch.Generator, *, flip: bool = False, spline: bool = False) -> ImageCoupling:
    net = partial(ResidualConditioner, hidden=4, blocks=1, generator=g)
    kind: Any = partial(ConditionalSpline, bins=4) if spline else ConditionalAffine
    return ImageCoupling(shape[0], flip=flip, couple=partial(kind, net=net, scale_limit=1.5))


def dequantisation(shape: Shape, g: torch.Generator, *, couplings: int = 2) -> VariationalDequantisation:
    net = partial(ShallowConditioner, hidden=4, generator=g)
    return VariationalDequantisation(shape[0], couplings=couplings, net=net, levels=4)


# name -> (maker, shapes of images); conformance suites test the flows of images
IMAGES: dict[str, tuple[MakeImages, tuple[Shape, ...]]] = {
    "actnorm-image": (lambda s, g: ActNorm(s[0]), ((1, 3, 2), (3, 2, 2))),
    "logit": (lambda s, g: Logit(0.05), ((1, 3, 1), (2, 1, 2))),
    "logit-narrow": (lambda s, g: Logit(1e-3), ((1, 2, 2),)),
    "squeeze": (lambda s, g: Squeeze(), ((1, 2, 2), (2, 4, 2))),
    "row-order": (lambda s, g: Permutation(row_order(s[0])), ((8, 2, 1),)),
    "conv1x1": (lambda s, g: Conv1x1(s[0], generator=g), ((1, 2, 1), (4, 2, 2), (5, 1, 1))),
    "image-coupling": (coupling, ((2, 2, 1), (3, 2, 2))),
    "image-coupling-flip": (partial(coupling, flip=True), ((3, 2, 2),)),
    "image-spline": (partial(coupling, spline=True), ((2, 2, 1), (3, 1, 2))),
    "dequantisation": (dequantisation, ((1, 2, 2), (1, 2, 4))),
    "dequantisation-start": (partial(dequantisation, couplings=0), ((1, 2, 2),)),
}


def on_vectors(make: MakeImages, shape: Shape) -> Make:
    def build(d: int, g: torch.Generator) -> OnVectors:
        bijection = OnVectors(make(shape, g), shape)
        bijection(torch.zeros(1, d))  # sets the shape of its results
        return bijection

    return build


CASES = [
    pytest.param(make, d, id=f"{name}-{d}")
    for name, (make, smallest) in TABLE.items()
    for d in (1, 2, 3, 7, 8)
    if d >= smallest
] + [
    pytest.param(on_vectors(make, shape), math.prod(shape), id=f"{name}-{'x'.join(map(str, shape))}")
    for name, (make, shapes) in IMAGES.items()
    for shape in shapes
]
STARTS_AT_IDENTITY = [name for name in TABLE if name not in {"permutation", "sequential"}]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturbed(make: Make, d: int, dtype: torch.dtype = torch.float64) -> Bijection:
    """The bijection away from its identity start: every parameter moved by noise."""
    bijection = make(d, seeded()).to(dtype)
    noise = seeded(1)
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=noise, dtype=dtype)
    return bijection


def rows(n: int, d: int, dtype: torch.dtype = torch.float64, seed: int = 2) -> Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=dtype)


@pytest.mark.parametrize(("make", "d"), CASES)
def test_inverse_undoes_forward(make: Make, d: int) -> None:
    for n in (0, 1, 5):
        bijection, x = perturbed(make, d), rows(n, d)
        z, log_det = bijection(x)
        assert (z.shape, log_det.shape) == (x.shape, (n,))
        assert z.dtype == log_det.dtype == torch.float64
        torch.testing.assert_close(bijection.inverse(z), x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(bijection(bijection.inverse(x))[0], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("make", "d"), CASES)
def test_log_det_is_that_of_the_autograd_jacobian(make: Make, d: int) -> None:
    bijection, x = perturbed(make, d), rows(4, d)
    _, log_det = bijection(x)
    for row, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: bijection(v[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("make", "d"), CASES)
def test_results_are_near_in_float32_and_stay_so_under_autocast(make: Make, d: int) -> None:
    bijection, x = perturbed(make, d, torch.float32), rows(5, d, torch.float32)
    exact, exact_log_det = bijection(x)
    torch.testing.assert_close(bijection.inverse(exact), x, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = bijection(x)
    assert exact.dtype == exact_log_det.dtype == z.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(z, exact, rtol=0.2, atol=0.2)
    torch.testing.assert_close(log_det, exact_log_det, rtol=0.2, atol=0.2)


@pytest.mark.parametrize(("make", "d"), CASES)
def test_rows_are_mapped_independently_and_nothing_is_changed(make: Make, d: int) -> None:
    bijection, x = perturbed(make, d), rows(5, d)
    before, state = x.clone(), {key: value.clone() for key, value in bijection.state_dict().items()}
    first = bijection(x)
    bijection.inverse(x)
    assert torch.equal(x, before)
    assert all(torch.equal(value, state[key]) for key, value in bijection.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first, bijection(x), strict=True))
    for alone, whole in zip(bijection(x[3:4]), first, strict=True):
        torch.testing.assert_close(alone, whole[3:4])


@pytest.mark.parametrize(("make", "d"), CASES)
def test_gradients_reach_every_parameter_and_are_finite(make: Make, d: int) -> None:
    bijection, x = perturbed(make, d), rows(5, d).requires_grad_()
    z, log_det = bijection(x)
    (z.square().sum() + log_det.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for name, parameter in bijection.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("make", "d"), CASES)
def test_state_survives_safetensors(make: Make, d: int, tmp_path: Path) -> None:
    bijection, x = perturbed(make, d, torch.float32), rows(5, d, torch.float32)
    save_file(bijection.state_dict(), tmp_path / "state.safetensors")
    other = make(d, seeded(99))
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(bijection(x), other(x), strict=True))
    assert torch.equal(bijection.inverse(x), other.inverse(x))


@pytest.mark.parametrize(("make", "d"), CASES)
def test_weights_depend_on_the_passed_generator_only(make: Make, d: int) -> None:
    before = torch.get_rng_state()
    first, second = make(d, seeded(5)).state_dict(), make(d, seeded(5)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", STARTS_AT_IDENTITY)
def test_a_fresh_bijection_is_the_identity(name: str) -> None:
    make, smallest = TABLE[name]
    for d in (max(smallest, 2), 7):
        x = rows(5, d, torch.float32)
        z, log_det = make(d, seeded())(x)
        assert torch.equal(z, x)
        assert torch.equal(log_det, torch.zeros(5))


def test_zero_log_det_is_at_smallest_float32() -> None:
    assert zero_log_det(torch.zeros(3, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert zero_log_det(torch.zeros(3, 2, dtype=torch.float64)).dtype == torch.float64


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(TABLE)),
    d=st.integers(2, 9),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**31),
)
def test_round_trip_holds_at_any_scale(name: str, d: int, scale: float, seed: int) -> None:
    bijection, x = perturbed(TABLE[name][0], d), scale * rows(4, d, seed=seed)
    z, log_det = bijection(x)
    assert log_det.isfinite().all()
    torch.testing.assert_close(bijection.inverse(z), x, rtol=1e-7, atol=1e-7 * scale)
