from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from flowgmm_cli.mixture.gaussian import GaussianMixture

K, D = 4, 5
SHAPES = list(itertools.product([False, True], [False, True]))  # diagonal, shared


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(
    *, diagonal: bool = False, shared: bool = False, d: int = D, spread: float = 2.0
) -> GaussianMixture:
    """A mixture in float64 with uneven weights and scales."""
    means = spread * torch.randn(K, d, generator=seeded(), dtype=torch.float64)
    weights = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    result = GaussianMixture(means, scale=1.5, diagonal=diagonal, shared=shared, weights=weights)
    with torch.no_grad():
        result.raw_scales += 0.4 * torch.randn(
            result.raw_scales.shape, generator=seeded(1), dtype=torch.float64
        )
    return result


def truth(gmm: GaussianMixture) -> MixtureSameFamily:
    scales = gmm.scales.expand(gmm.classes, gmm.features)
    return MixtureSameFamily(
        Categorical(logits=gmm.log_weights, validate_args=False), Independent(Normal(gmm.means, scales), 1)
    )


def rows(n: int, d: int = D, spread: float = 2.0) -> Tensor:
    return spread * torch.randn(n, d, generator=seeded(2), dtype=torch.float64)


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
@pytest.mark.parametrize("n", [1, 9])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_densities_are_those_of_torch_distributions(diagonal: bool, shared: bool, n: int, d: int) -> None:
    gmm, z = mixture(diagonal=diagonal, shared=shared, d=d), rows(n, d)
    expected = truth(gmm)
    components = expected.component_distribution.log_prob(z[:, None])
    torch.testing.assert_close(gmm.component_log_prob(z), components, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gmm.class_log_prob(z), components + gmm.log_weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gmm.log_prob(z), expected.log_prob(z), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gmm.posterior(z), torch.softmax(components + gmm.log_weights, dim=1))


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
def test_no_rows_give_no_densities(diagonal: bool, shared: bool) -> None:
    gmm = mixture(diagonal=diagonal, shared=shared)
    assert gmm.class_log_prob(rows(0)).shape == (0, K)
    assert gmm.log_prob(rows(0)).shape == (0,)


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
def test_gradients_are_those_of_torch_distributions(diagonal: bool, shared: bool) -> None:
    gmm = mixture(diagonal=diagonal, shared=shared)
    z = rows(9).requires_grad_()
    inputs = [z, gmm.means, gmm.raw_scales]
    grads = torch.autograd.grad(gmm.log_prob(z).sum(), inputs)
    expected = torch.autograd.grad(truth(gmm).log_prob(z).sum(), inputs)
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-10, atol=1e-10)


def test_gradients_are_finite_where_rows_and_means_coincide() -> None:
    gmm = GaussianMixture(torch.ones(3, D))
    z = torch.ones(4, D, requires_grad=True)
    gmm.log_prob(z).sum().backward()
    for value in (z.grad, gmm.means.grad, gmm.raw_scales.grad):
        assert value is not None
        assert value.isfinite().all()


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
@pytest.mark.parametrize("far", [1e2, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_keeps_small_distances_between_far_means(
    diagonal: bool, shared: bool, far: float, offset: float
) -> None:
    d = 384
    exact = mixture(diagonal=diagonal, shared=shared, d=d, spread=far)
    with torch.no_grad():
        exact.means += offset
        exact.means.copy_(exact.means.float())  # the same numbers in both precisions
        exact.raw_scales.copy_(exact.raw_scales.float())
    gmm = GaussianMixture(exact.means.float(), scale=1.5, diagonal=diagonal, shared=shared)
    gmm.load_state_dict(exact.state_dict())
    own = torch.arange(32) % K
    z = (exact.means[own] + rows(32, d, 1.0)).detach().float()
    expected = exact.component_log_prob(z.double())
    log_prob = gmm.component_log_prob(z)
    assert log_prob.dtype == torch.float32
    # The density of a row under its own component, about -800 nats, is easily lost.
    near, near_expected = log_prob.gather(1, own[:, None]), expected.gather(1, own[:, None])
    torch.testing.assert_close(near.double(), near_expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=1e-2)


def test_autocast_does_not_reach_the_mixture() -> None:
    gmm = GaussianMixture(torch.randn(K, D, generator=seeded()))
    z = rows(9).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = gmm.log_prob(z)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, gmm.log_prob(z))


def test_half_precision_latents_are_computed_in_float32() -> None:
    gmm = GaussianMixture(torch.randn(K, D, generator=seeded()))
    z = rows(9).bfloat16()
    torch.testing.assert_close(gmm.log_prob(z), gmm.log_prob(z.float()))


def test_temperature_divides_the_joint_density() -> None:
    gmm, z = mixture(), rows(9)
    hot = gmm.posterior(z, temperature=3.0)
    torch.testing.assert_close(hot, torch.softmax(gmm.class_log_prob(z) / 3, dim=1))
    torch.testing.assert_close(hot.sum(1), torch.ones(9, dtype=torch.float64))
    assert torch.equal(hot.argmax(1), gmm.posterior(z).argmax(1))


def test_posterior_with_equal_spheres_is_nearest_mean() -> None:
    gmm = GaussianMixture(torch.randn(K, D, generator=seeded()), shared=True)
    z = rows(50).float()
    assert torch.equal(gmm.posterior(z).argmax(1), torch.cdist(z, gmm.means).argmin(1))


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
def test_density_integrates_to_one_in_two_dimensions(diagonal: bool, shared: bool) -> None:
    gmm = mixture(diagonal=diagonal, shared=shared, d=2)
    side = torch.linspace(-20, 20, 401, dtype=torch.float64)
    mass = gmm.log_prob(torch.cartesian_prod(side, side)).exp().sum() * 0.1**2
    assert mass.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("diagonal", "shared"), SHAPES)
def test_samples_have_the_moments_of_their_component(diagonal: bool, shared: bool) -> None:
    gmm = mixture(diagonal=diagonal, shared=shared)
    z, classes = gmm.sample(40_000, seeded())
    torch.testing.assert_close(
        torch.bincount(classes) / 40_000, gmm.log_weights.exp().float(), atol=0.01, rtol=0
    )
    for k in range(K):
        own = z[classes == k]
        scale = gmm.scales.expand(K, D)[k]
        torch.testing.assert_close(own.mean(0), gmm.means[k], atol=0.15, rtol=0)
        torch.testing.assert_close(own.std(0), scale, rtol=0.06, atol=0)


def test_sampling_follows_classes_temperature_and_generator() -> None:
    gmm = mixture()
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
        gmm = GaussianMixture(
            torch.zeros(K, D), **{f"learn_{part}": part == name and learned for part in names}
        )
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
    gmm = GaussianMixture(torch.zeros(2, D))
    assert gmm.log_weights.exp().tolist() == [0.5, 0.5]
    gmm.set_weights(torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(gmm.log_weights.exp(), torch.tensor([0.75, 0.25]))
    for bad in ([1.0], [0.0, 1.0], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="positive finite class weights"):
            gmm.set_weights(torch.tensor(bad))


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="need scale > 0"):
        GaussianMixture(torch.zeros(2, D), scale=0.0)
    with pytest.raises(ValueError, match="means must have the shape"):
        GaussianMixture(torch.zeros(D))


def test_changing_the_given_means_afterwards_changes_nothing() -> None:
    means = torch.zeros(K, D)
    gmm = GaussianMixture(means)
    means += 1
    assert not gmm.means.any()


def test_printing_names_classes_features_and_covariance() -> None:
    assert str(mixture(diagonal=True, shared=True)) == (
        "GaussianMixture(classes=4, features=5, covariance=diagonal, shared)"
    )


def test_component_densities_agree_with_scikit_learn() -> None:
    from sklearn.mixture import GaussianMixture as Reference

    gmm = mixture(diagonal=True)
    reference = Reference(K, covariance_type="diag")
    reference.weights_ = gmm.log_weights.exp().detach().numpy()
    reference.means_ = gmm.means.detach().numpy()
    reference.covariances_ = gmm.scales.detach().numpy() ** 2
    reference.precisions_cholesky_ = 1 / gmm.scales.detach().numpy()
    z = rows(20)
    np.testing.assert_allclose(gmm.log_prob(z).detach().numpy(), reference.score_samples(z.numpy()))
    np.testing.assert_allclose(
        gmm.posterior(z).detach().numpy(), reference.predict_proba(z.numpy()), atol=1e-12
    )
