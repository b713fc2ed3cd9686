"""The Gaussian mixture, with one or several components for each class and on all or some dimensions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from flowgmm_cli.mixture.gaussian import GaussianMixture, log_normal

K, C, D = 3, 2, 5
SHAPES = pytest.mark.parametrize(("diagonal", "shared"), list(itertools.product([False, True], repeat=2)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(
    *,
    classes: int = K,
    components: int = C,
    dims: int = 3,
    rest: bool = True,
    spread: float = 2.0,
    seed: int = 0,
    **options: Any,
) -> GaussianMixture:
    """A mixture in float64 with perturbed parameters."""
    generator = seeded(seed)
    means = spread * torch.randn(classes * components, dims, generator=generator, dtype=torch.float64)
    options = {"features": D, "scale": 1.5, "learn_weights": True, **options}
    result = GaussianMixture(means, components=components, learn_rest=rest, **options)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            if name != "means":
                parameter += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return result


def class_distribution(gmm: GaussianMixture, k: int) -> MixtureSameFamily:
    """`p(z | k)` as a distribution of torch."""
    means, scales = gmm.moments()
    own = gmm.component_classes == k
    weights = Categorical(logits=gmm.log_component_weights[k], validate_args=False)
    return MixtureSameFamily(weights, Independent(Normal(means[own], scales[own]), 1))


def joint(gmm: GaussianMixture, z: Tensor) -> Tensor:
    conditional = torch.stack([class_distribution(gmm, k).log_prob(z) for k in range(gmm.classes)], dim=1)
    return conditional + gmm.log_weights


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(1, 5),
    components=st.integers(1, 4),
    dims=st.integers(1, 4),
    more=st.integers(0, 3),
    diagonal=st.booleans(),
    shared=st.booleans(),
    rest=st.booleans(),
    rows=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_densities_and_gradients_are_those_of_torch_distributions(
    dims: int, more: int, rows: int, seed: int, **options: Any
) -> None:
    gmm = mixture(dims=dims, features=dims + more, seed=seed, **options)
    z = 2 * torch.randn(rows, dims + more, generator=seeded(seed + 1), dtype=torch.float64)
    log_prob = gmm.class_log_prob(z.requires_grad_())
    assert log_prob.shape == (rows, options["classes"])
    assert gmm.log_prob(z).shape == (rows,)
    if not rows:
        return
    expected = joint(gmm, z)
    torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gmm.conditional_log_prob(z), expected - gmm.log_weights)
    torch.testing.assert_close(gmm.log_prob(z), expected.logsumexp(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gmm.posterior(z, 2.0), torch.softmax(expected / 2, dim=1))
    inputs = [z, *gmm.parameters()]
    assert len(inputs) == 4 + (options["components"] > 1) + 2 * (options["rest"] and more > 0)
    grads = torch.autograd.grad(log_prob.square().sum(), inputs)
    expected_grads = torch.autograd.grad(expected.square().sum(), inputs)
    for grad, other in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-9, atol=1e-8)


def test_nuisance_dimensions_change_the_density_but_not_the_posterior() -> None:
    gmm = mixture(rest=False)
    z = torch.randn(9, D, generator=seeded(1), dtype=torch.float64)
    moved = z.clone()
    moved[:, gmm.dims :] += 3
    torch.testing.assert_close(gmm.posterior(moved), gmm.posterior(z))
    normal = -0.5 * (z[:, gmm.dims :].square().sum(1) + (D - gmm.dims) * math.log(2 * math.pi))
    weights = gmm.log_weights.exp()
    alone = GaussianMixture(gmm.means, components=C, scale=1.5, weights=weights, learn_weights=True)
    alone.load_state_dict({name: value for name, value in gmm.state_dict().items() if "rest" not in name})
    torch.testing.assert_close(gmm.log_prob(z), alone.log_prob(z[:, : gmm.dims]) + normal)
    assert gmm.class_log_prob(moved).sum() < gmm.class_log_prob(z).sum()


@pytest.mark.parametrize(("dims", "components"), [(1, 2), (2, 1), (2, 2)])
def test_density_integrates_to_one_in_two_dimensions(dims: int, components: int) -> None:
    gmm = mixture(dims=dims, components=components, features=2, diagonal=True)
    side = torch.linspace(-20, 20, 401, dtype=torch.float64)
    mass = gmm.log_prob(torch.cartesian_prod(side, side)).exp().sum() * 0.1**2
    assert mass.item() == pytest.approx(1, abs=1e-6)


@SHAPES
@pytest.mark.parametrize(("components", "rest"), [(1, False), (C, False), (C, True)])
def test_samples_have_the_moments_of_classes(
    diagonal: bool, shared: bool, components: int, rest: bool
) -> None:
    gmm = mixture(components=components, diagonal=diagonal, shared=shared, rest=rest)
    z, classes = gmm.sample(60_000, seeded())
    assert z.shape == (60_000, D)
    shares = torch.bincount(classes) / 60_000
    torch.testing.assert_close(shares, gmm.log_weights.exp().float(), atol=0.01, rtol=0)
    for k in range(K):
        own, expected = z[classes == k], class_distribution(gmm, k)
        torch.testing.assert_close(own.mean(0), expected.mean, atol=0.1, rtol=0)
        torch.testing.assert_close(own.var(0), expected.variance, atol=0.1, rtol=0.06)


def test_cold_samples_are_means_of_components_of_the_class() -> None:
    gmm = mixture()
    expected = torch.tensor([2, 0, 1] * 50)
    z, classes = gmm.sample(150, seeded(), expected, temperature=0.0)
    assert torch.equal(classes, expected)
    means, _ = gmm.moments()
    distances = torch.cdist(z, means.detach())
    nearest = distances.argmin(1)
    assert float(distances.min(1).values.max()) < 1e-6
    assert torch.equal(gmm.component_classes[nearest], expected)
    assert len(nearest.unique()) == K * C


@pytest.mark.parametrize("shared", [False, True])
def test_diagonal_distances_between_very_many_means_need_little_memory(shared: bool) -> None:
    """No tensor of K K D numbers is made."""
    count, d = 300, 100
    gmm = GaussianMixture(100 * torch.randn(count, d, generator=seeded()), diagonal=True, shared=shared)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    own = torch.arange(8)
    with Watch():
        z = gmm.means[own] + torch.randn(8, d, generator=seeded(1))
        log_prob = gmm.component_log_prob(z)
        log_prob.sum().backward()
    assert largest <= 2 * count * count
    expected = Independent(Normal(gmm.means.double(), gmm.scales.double().expand_as(gmm.means)), 1)
    expected_log_prob = expected.log_prob(z.double()[:, None])
    torch.testing.assert_close(log_prob.double(), expected_log_prob, rtol=1e-5, atol=1e-3)


def test_gradients_are_finite_where_rows_and_means_coincide() -> None:
    gmm = GaussianMixture(torch.ones(3, D))
    z = torch.ones(4, D, requires_grad=True)
    gmm.log_prob(z).sum().backward()
    for value in (z.grad, gmm.means.grad, gmm.raw_scales.grad):
        assert value is not None
        assert value.isfinite().all()


@SHAPES
@pytest.mark.parametrize("far", [1e2, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_keeps_small_distances_between_far_means(
    diagonal: bool, shared: bool, far: float, offset: float
) -> None:
    d = 384
    shape = {"diagonal": diagonal, "shared": shared}
    exact = mixture(components=1, dims=d, features=d, spread=far, rest=False, **shape)
    with torch.no_grad():
        exact.means += offset
        exact.means.copy_(exact.means.float())  # the same numbers in both precisions
        exact.raw_scales.copy_(exact.raw_scales.float())
    gmm = GaussianMixture(exact.means.float(), scale=1.5, **shape)
    gmm.load_state_dict(exact.state_dict())
    own = torch.arange(32) % K
    z = (exact.means[own] + torch.randn(32, d, generator=seeded(2), dtype=torch.float64)).detach().float()
    expected = exact.component_log_prob(z.double())
    log_prob = gmm.component_log_prob(z)
    assert log_prob.dtype == torch.float32
    # The density of a row under its own component, about -800 nats, is easily lost.
    near, near_expected = log_prob.gather(1, own[:, None]), expected.gather(1, own[:, None])
    torch.testing.assert_close(near.double(), near_expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_densities_are_float32_also_under_autocast_and_for_half_precision(dtype: torch.dtype) -> None:
    gmm = GaussianMixture(torch.randn(K, D, generator=seeded()))
    z = torch.randn(9, D, generator=seeded(2)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gmm.log_prob(z)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, gmm.log_prob(z.float()))


def test_sampling_follows_classes_temperature_and_generator() -> None:
    gmm = mixture(components=1, dims=D, rest=False)
    expected = torch.tensor([2, 2, 0])
    cold, classes = gmm.sample(3, seeded(), expected, temperature=0.0)
    assert torch.equal(classes, expected)
    assert torch.equal(cold, gmm.means[expected])
    z, wider = gmm.sample(3, seeded(7), expected)[0], gmm.sample(3, seeded(7), expected, temperature=2.0)[0]
    torch.testing.assert_close(wider - cold, 2 * (z - cold))
    z, classes = gmm.sample(0, seeded())
    assert z.shape == (0, D)
    assert classes.shape == (0,)
    with pytest.raises(ValueError, match="classes must have the shape"):
        gmm.sample(4, seeded(), expected)


@pytest.mark.parametrize("name", ["means", "scales", "weights"])
def test_each_parameter_can_be_learned_or_fixed(name: str) -> None:
    names = {"means": "means", "scales": "raw_scales", "weights": "raw_log_weights"}
    for learned in (False, True):
        words = {f"learn_{part}": part == name and learned for part in names}
        gmm = GaussianMixture(torch.zeros(K, D), **words)
        assert [name for name, _ in gmm.named_parameters()] == ([names[name]] if learned else [])
        assert set(gmm.state_dict()) == set(names.values())


def test_a_scale_has_a_minimum() -> None:
    gmm = GaussianMixture(torch.zeros(K, D), scale=2.0)
    torch.testing.assert_close(gmm.scales, torch.full((K, 1), 2.0))
    with torch.no_grad():
        gmm.raw_scales.fill_(-1e4)
    torch.testing.assert_close(gmm.scales, torch.full((K, 1), 0.002))
    assert gmm.log_prob(torch.ones(1, D)).isfinite().all()


def test_weights_are_normalised_and_must_be_positive() -> None:
    gmm = GaussianMixture(torch.zeros(4, D), components=2)
    assert gmm.log_weights.exp().tolist() == [0.5, 0.5]
    gmm.set_weights(torch.tensor([3.0, 1.0]))
    gmm.set_component_weights(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    torch.testing.assert_close(gmm.log_weights.exp(), torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(gmm.log_component_weights.exp(), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    for bad in ([1.0], [0.0, 1.0], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="positive finite class weights"):
            gmm.set_weights(torch.tensor(bad))
        with pytest.raises(ValueError, match="positive finite weights of the shape"):
            gmm.set_component_weights(torch.tensor([bad, bad]))


@pytest.mark.parametrize(
    ("shape", "words", "message"),
    [
        ((3, D), {"components": 2}, "means must have the shape"),
        ((3, D), {"components": 0}, "means must have the shape"),
        ((3, D), {"features": 2}, "do not fit latents of 2"),
        ((D,), {}, "means must have the shape"),
        ((2, D), {"scale": 0.0}, "need scale > 0"),
    ],
)
def test_impossible_arguments_are_refused(shape: tuple[int, ...], words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture(torch.zeros(shape), **words)


@SHAPES
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_float32_rows_have_accurate_gradients(shared: bool, diagonal: bool, offset: float) -> None:
    generator = seeded()
    z, means = 2 * torch.randn(500, 40, generator=generator), 3 * torch.randn(6, 40, generator=generator)
    scales = 0.5 + torch.rand(1 if shared else 6, 40 if diagonal else 1, generator=generator)
    inputs = [x.requires_grad_() for x in (z + offset, means + offset, scales)]
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    log_prob = log_normal(*inputs)
    weights = torch.softmax(log_prob.detach(), 1)
    grads = torch.autograd.grad(log_prob, inputs, weights)
    exact = torch.autograd.grad(log_normal(*exact_inputs), exact_inputs, weights.double())
    for grad, expected in zip(grads, exact, strict=True):
        assert (grad - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_printing_names_components_dimensions_and_covariance() -> None:
    text = str(mixture(shared=True))
    assert "classes=3, components=2, features=5, dims=3, covariance=isotropic, shared" in text
    assert "features=2, learned" in text
    single = GaussianMixture(torch.zeros(K, D), diagonal=True)
    assert str(single) == "GaussianMixture(classes=3, features=5, covariance=diagonal)"
