from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from flowgmm_cli import model as model_module
from flowgmm_cli.api import Latents
from flowgmm_cli.model import Ensemble, FlowMixture

MakeModel = Callable[..., FlowMixture]


def rows(n: int, features: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture_of(model: FlowMixture) -> MixtureSameFamily:
    mixture = model.mixture
    components = Normal(mixture.means, mixture.scales.expand_as(mixture.means))
    return MixtureSameFamily(Categorical(logits=mixture.log_weights), Independent(components, 1))


@pytest.mark.parametrize("features", [1, 2, 5])
@torch.no_grad()
def test_log_prob_is_that_of_torch_distributions_through_the_jacobian(
    make_model: MakeModel, features: int
) -> None:
    model, x = make_model(features).double(), rows(7, features)

    def jacobian(row: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return torch.autograd.functional.jacobian(lambda v: model.embed(v[None])[0], row)

    log_det = torch.stack([torch.linalg.slogdet(jacobian(row)).logabsdet for row in x])
    expected = mixture_of(model).log_prob(model.embed(x)) + log_det
    torch.testing.assert_close(model.log_prob(x), expected)
    assert log_det.abs().min() > 1e-3  # or the Jacobian would not have been tested


@torch.no_grad()
def test_the_joint_density_gives_density_and_posterior(make_model: MakeModel) -> None:
    model, x = make_model(3, 4).double(), rows(9, 3)
    joint = model.class_log_prob(x)
    assert joint.shape == (9, 4)
    torch.testing.assert_close(joint.logsumexp(1), model.log_prob(x))
    torch.testing.assert_close(model.posterior(x), (joint - model.log_prob(x)[:, None]).exp())
    torch.testing.assert_close(model.posterior(x), model.mixture.posterior(model.embed(x)))


@torch.no_grad()
def test_the_jacobian_cancels_in_the_posterior(make_model: MakeModel) -> None:
    model = make_model()
    latents = model(rows(6, 2).float())
    other = Latents(latents.z, latents.log_det + 1e6, latents.class_log_prob)
    assert torch.equal(model.log_posterior(latents), model.log_posterior(other))
    assert not torch.equal(latents.log_prob(), other.log_prob())


@torch.no_grad()
def test_the_temperature_divides_the_log_odds_and_leaves_the_density(make_model: MakeModel) -> None:
    model, x = make_model().double(), rows(6, 2)
    cold, density = model.posterior(x).log(), model.log_prob(x)
    model.temperature.fill_(4.0)
    warm = model.posterior(x).log()
    torch.testing.assert_close(warm - warm[:, :1], (cold - cold[:, :1]) / 4)
    assert torch.equal(model.log_prob(x), density)
    torch.testing.assert_close(model.posterior(x).sum(1), torch.ones(6, dtype=torch.float64))


@torch.no_grad()
def test_posteriors_of_saturated_densities_stay_finite_in_logarithms(make_model: MakeModel) -> None:
    model = make_model()
    far = model(1e3 * rows(4, 2).float())
    log_posterior = model.log_posterior(far)
    assert log_posterior.dtype == torch.float64
    assert log_posterior.isfinite().all()
    assert log_posterior.min() < -1000


@torch.no_grad()
def test_the_density_integrates_to_one_through_flow_and_mixture(make_model: MakeModel) -> None:
    model = make_model(2, 3).double()
    width, points = 24.0, 1200
    axis = torch.linspace(-width / 2, width / 2, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = torch.cat([model.log_prob(part).exp() for part in grid.split(200_000)])
    cell = (width / (points - 1)) ** 2
    assert float(density.sum() * cell) == pytest.approx(1, abs=1e-4)


def test_samples_have_the_given_classes_and_depend_only_on_the_generator(make_model: MakeModel) -> None:
    model = make_model(5, 3)
    state = torch.get_rng_state()

    def draw(seed: int, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        return model.sample(50, torch.Generator().manual_seed(seed), **options)  # type: ignore[arg-type]

    x, classes = draw(0)
    assert x.shape == (50, 5)
    assert classes.dtype == torch.int64
    assert set(classes.tolist()) == {0, 1, 2}
    assert not x.requires_grad
    assert torch.equal(x, draw(0)[0])
    assert not torch.equal(x, draw(1)[0])
    asked = torch.full((50,), 2)
    assert torch.equal(draw(0, classes=asked)[1], asked)
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_samples_at_temperature_zero_are_the_class_means(
    make_model: MakeModel,
) -> None:
    model, classes = make_model().double(), torch.arange(300) % 3
    generator = torch.Generator()
    means, _ = model.sample(300, generator.manual_seed(0), classes, temperature=0.0)
    torch.testing.assert_close(model.embed(means), model.mixture.means[classes])
    cold, _ = model.sample(300, generator.manual_seed(0), classes, temperature=0.25)
    warm, _ = model.sample(300, generator.manual_seed(0), classes)
    own = classes[:, None]
    assert model.class_log_prob(cold).gather(1, own).mean() > model.class_log_prob(warm).gather(1, own).mean()


@torch.no_grad()
def test_samples_follow_the_mixture(make_model: MakeModel) -> None:
    model = make_model(2, 3).double()
    x, classes = model.sample(40_000, torch.Generator().manual_seed(3))
    shares = torch.bincount(classes) / len(classes)
    torch.testing.assert_close(shares, torch.tensor([1.0, 2, 3]) / 6, atol=0.01, rtol=0)
    z = model.embed(x)
    for k in range(3):
        torch.testing.assert_close(z[classes == k].mean(0), model.mixture.means[k], atol=0.05, rtol=0)
        assert float(z[classes == k].std()) > 0.9 * float(model.mixture.scales[k])


def test_nothing_in_the_model_is_wider_than_float32(make_model: MakeModel) -> None:
    # not every device has float64
    assert {value.dtype for value in make_model().state_dict().values()} == {torch.float32}


@torch.no_grad()
def test_under_autocast_densities_stay_in_float32(make_model: MakeModel) -> None:
    model, x = make_model(8), rows(5, 8).float()
    exact = model.log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = model(x)
    assert {latents.z.dtype, latents.log_det.dtype, latents.class_log_prob.dtype} == {torch.float32}
    torch.testing.assert_close(latents.log_prob(), exact, rtol=0.1, atol=0.5)


@torch.no_grad()
def test_an_ensemble_averages_the_log_densities_of_its_members(make_model: MakeModel) -> None:
    members = [make_model(3, 4, seed=seed).double() for seed in range(3)]
    ensemble, x = Ensemble(members).double(), rows(9, 3)
    expected = sum(member.class_log_prob(x) for member in members) / 3
    torch.testing.assert_close(ensemble.class_log_prob(x), expected)
    torch.testing.assert_close(ensemble.log_prob(x), expected.logsumexp(1))
    torch.testing.assert_close(ensemble.posterior(x), expected.softmax(1))
    assert torch.equal(ensemble.embed(x), members[0].embed(x))
    assert ensemble.parts == tuple(members)
    assert members[0].parts == (members[0],)
    mean = torch.stack([member.log_prob(x) for member in members]).logsumexp(0) - math.log(3)
    assert (ensemble.log_prob(x) <= mean + 1e-9).all()
    twice = Ensemble([members[0], members[0]]).double()
    torch.testing.assert_close(twice.class_log_prob(x), members[0].class_log_prob(x))


def test_an_ensemble_samples_from_every_member(make_model: MakeModel) -> None:
    members = [make_model(2, 3, seed=seed) for seed in range(2)]
    for shift, member in zip((-100.0, 100.0), members, strict=True):
        with torch.no_grad():
            member.mixture.means += shift
    labels = torch.arange(300) % 3
    x, classes = Ensemble(members).sample(300, torch.Generator().manual_seed(0), labels)
    assert torch.equal(classes, labels)
    own = torch.stack([member.log_prob(x) for member in members]).argmax(0)
    assert 100 < int(own.sum()) < 200
    again, _ = Ensemble(members).sample(300, torch.Generator().manual_seed(0), labels)
    assert torch.equal(x, again)


@torch.no_grad()
def test_noise_mixes_the_posterior_with_the_uniform_distribution(make_model: MakeModel) -> None:
    model, x = make_model(3, 4).double(), rows(9, 3)
    sure = model.posterior(x)
    model.noise.fill_(0.2)
    torch.testing.assert_close(model.posterior(x), 0.8 * sure + 0.2 / 4)
    assert torch.equal(model.posterior(x).argmax(1), sure.argmax(1))


@pytest.mark.parametrize("n", [0, 7])
def test_posteriors_are_computed_in_chunks(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    model = make_model(2)
    latents = model(rows(n, 2).float())
    expected = model.log_posterior(latents)
    monkeypatch.setattr(model_module, "_BLOCK", 3 * latents.class_log_prob.shape[1])
    assert torch.equal(model.log_posterior(latents), expected)
