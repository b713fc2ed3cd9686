"""Several Gaussians for each class, and a mixture on some of the dimensions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from flowgmm_cli.mixture.gaussian import GaussianMixture

K, C, D = 3, 2, 5
SHAPES = list(itertools.product([False, True], [False, True]))  # diagonal, shared


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(
    *,
    classes: int = K,
    components: int = C,
    dims: int = 3,
    features: int = D,
    diagonal: bool = False,
    shared: bool = False,
    rest: bool = True,
    spread: float = 2.0,
    seed: int = 0,
) -> GaussianMixture:
    """A mixture in float64 with perturbed parameters."""
    generator = seeded(seed)
    means = spread * torch.randn(classes * components, dims, generator=generator, dtype=torch.float64)
    result = GaussianMixture(
        means,
        components=components,
        features=features,
        scale=1.5,
        diagonal=diagonal,
        shared=shared,
        learn_weights=True,
        learn_rest=rest,
    )
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


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
@pytest.mark.parametrize("rest", [False, True])
def test_densities_and_gradients_are_those_of_torch_distributions(
    diagonal: bool, shared: bool, rest: bool
) -> None:
    gmm = mixture(diagonal=diagonal, shared=shared, rest=rest)
    z = (2 * torch.randn(9, D, generator=seeded(1), dtype=torch.float64)).requires_grad_()
    expected = joint(gmm, z)
    torch.testing.assert_close(gmm.class_log_prob(z), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gmm.conditional_log_prob(z), expected - gmm.log_weights)
    torch.testing.assert_close(gmm.log_prob(z), expected.logsumexp(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gmm.posterior(z, 2.0), torch.softmax(expected / 2, dim=1))
    inputs = [z, *gmm.parameters()]
    assert len(inputs) == 1 + 4 + 2 * rest
    grads = torch.autograd.grad(gmm.class_log_prob(z).square().sum(), inputs)
    expected_grads = torch.autograd.grad(expected.square().sum(), inputs)
    for grad, other in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-9, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 5),
    components=st.integers(1, 4),
    dims=st.integers(1, 4),
    more=st.integers(0, 3),
    diagonal=st.booleans(),
    shared=st.booleans(),
    rows=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_densities_of_any_shape_are_those_of_torch_distributions(
    classes: int, components: int, dims: int, more: int, diagonal: bool, shared: bool, rows: int, seed: int
) -> None:
    gmm = mixture(
        classes=classes,
        components=components,
        dims=dims,
        features=dims + more,
        diagonal=diagonal,
        shared=shared,
        seed=seed,
    )
    z = 2 * torch.randn(rows, dims + more, generator=seeded(seed + 1), dtype=torch.float64)
    log_prob = gmm.class_log_prob(z)
    assert log_prob.shape == (rows, classes)
    if rows:
        torch.testing.assert_close(log_prob, joint(gmm, z), rtol=1e-10, atol=1e-10)


def test_equal_components_are_one_component() -> None:
    single = GaussianMixture(torch.randn(K, D, generator=seeded()), diagonal=True)
    three = GaussianMixture(single.means.repeat_interleave(3, 0), components=3, diagonal=True)
    z = torch.randn(9, D, generator=seeded(1))
    torch.testing.assert_close(three.class_log_prob(z), single.class_log_prob(z))


def test_nuisance_dimensions_change_the_density_but_not_the_posterior() -> None:
    gmm = mixture(rest=False)
    z = torch.randn(9, D, generator=seeded(1), dtype=torch.float64)
    moved = z.clone()
    moved[:, gmm.dims :] += 3
    torch.testing.assert_close(gmm.posterior(moved), gmm.posterior(z))
    normal = -0.5 * (z[:, gmm.dims :].square().sum(1) + (D - gmm.dims) * math.log(2 * math.pi))
    alone = GaussianMixture(
        gmm.means, components=C, scale=1.5, weights=gmm.log_weights.exp(), learn_weights=True
    )
    alone.load_state_dict({name: value for name, value in gmm.state_dict().items() if "rest" not in name})
    torch.testing.assert_close(gmm.log_prob(z), alone.log_prob(z[:, : gmm.dims]) + normal)
    assert gmm.class_log_prob(moved).sum() < gmm.class_log_prob(z).sum()


def test_density_integrates_to_one_in_two_dimensions() -> None:
    for dims in (1, 2):
        gmm = mixture(dims=dims, features=2, diagonal=True)
        side = torch.linspace(-20, 20, 401, dtype=torch.float64)
        mass = gmm.log_prob(torch.cartesian_prod(side, side)).exp().sum() * 0.1**2
        assert mass.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rest", [False, True])
def test_samples_have_the_moments_of_their_class(rest: bool) -> None:
    gmm = mixture(diagonal=True, rest=rest)
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


def test_a_mixture_of_one_component_draws_classes_and_then_noise() -> None:
    gmm = GaussianMixture(torch.randn(K, D, generator=seeded()), weights=torch.tensor([1.0, 2.0, 3.0]))
    z, classes = gmm.sample(100, seeded(1))
    generator = seeded(1)
    uniform = torch.rand(100, generator=generator)
    expected = torch.searchsorted(gmm.log_weights.exp().cumsum(0), uniform, right=True).clamp(max=2)
    noise = torch.randn(100, D, generator=generator)
    assert torch.equal(classes, expected)
    torch.testing.assert_close(z, gmm.means[classes] + noise)


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


def test_component_weights_are_normalised_and_must_be_positive() -> None:
    gmm = GaussianMixture(torch.zeros(4, D), components=2)
    gmm.set_component_weights(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    torch.testing.assert_close(gmm.log_component_weights.exp(), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    for bad in ([[1.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]], [[math.nan, 1.0], [1.0, 1.0]]):
        with pytest.raises(ValueError, match="positive finite weights of the shape"):
            gmm.set_component_weights(torch.tensor(bad))


@pytest.mark.parametrize("bad", [{"components": 2}, {"components": 0}, {"features": 2}])
def test_impossible_shapes_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="means"):
        GaussianMixture(torch.zeros(3, D), **bad)  # type: ignore[arg-type]


def test_printing_names_components_and_dimensions() -> None:
    text = str(mixture(shared=True))
    assert "classes=3, components=2, features=5, dims=3, covariance=isotropic, shared" in text
    assert "features=2, learned" in text
