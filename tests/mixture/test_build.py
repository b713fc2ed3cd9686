from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.build import build, estimate_weights, initial_weights, mixture_dims
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.init import InitialMeans
from flowgmm_cli.mixture.specs import GMMConfig

K, C, D = 4, 3, 6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_initial_means(config: GMMConfig) -> InitialMeans:
    dims = config.dims or D
    return InitialMeans(
        torch.randn(K * config.components, dims, generator=seeded()),
        torch.rand(K, config.components, generator=seeded(1)) + 0.1,
    )


CONFIGS = {
    "shared": GMMConfig(scale=0.5, covariance="diagonal", shared_covariance=True, learn_means=False),
    "components": GMMConfig(components=C),
    "fixed components": GMMConfig(components=C, learn_component_weights=False, covariance="diagonal"),
    "dims": GMMConfig(dims=2),
    "everything": GMMConfig(
        components=C, dims=2, learn_rest=True, learn_weights=True, covariance="diagonal", learn_scales=False
    ),
}
LEARNED = {
    "shared": {"raw_scales"},
    "components": {"means", "raw_scales", "raw_log_component_weights"},
    "fixed components": {"means", "raw_scales"},
    "dims": {"means", "raw_scales"},
    "everything": {"means", "raw_log_weights", "raw_log_component_weights", "rest.mean", "rest.raw_scale"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_build_follows_the_config_and_its_state_loads_into_a_fresh_mixture(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    initial = random_initial_means(config)
    gmm = build(config, classes=K, features=D, initial=initial, weights=torch.tensor([4.0, 3.0, 2.0, 1.0]))
    assert {key for key, _ in gmm.named_parameters()} == LEARNED[name]
    assert (gmm.classes, gmm.features, gmm.dims) == (K, D, config.dims or D)
    assert torch.equal(gmm.means, initial.means)
    assert gmm.log_weights.exp().tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    within = initial.component_weights / initial.component_weights.sum(1, keepdim=True)
    torch.testing.assert_close(gmm.log_component_weights.exp(), within)
    torch.testing.assert_close(gmm.scales, torch.full_like(gmm.scales, config.scale))
    rows = 1 if config.shared_covariance else K * config.components
    assert gmm.scales.shape == (rows, gmm.dims if config.covariance == "diagonal" else 1)

    with torch.no_grad():
        for parameter in gmm.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(2))
    save_file(gmm.state_dict(), tmp_path / "gmm.safetensors")
    other = build(config, classes=K, features=D)
    other.load_state_dict(load_file(tmp_path / "gmm.safetensors"))
    z = torch.randn(9, D, generator=seeded(3))
    assert torch.equal(gmm.class_log_prob(z), other.class_log_prob(z))


def test_state_keys_of_one_component_in_all_dimensions() -> None:
    for covariance, learned in itertools.product(("isotropic", "diagonal"), (False, True)):
        config = GMMConfig(covariance=covariance, learn_weights=learned, dims=D if learned else None)
        state = build(config, classes=K, features=D).state_dict()
        assert set(state) == {"means", "raw_scales", "raw_log_weights"}
        assert state["means"].shape == (K, D)


def test_more_dimensions_than_there_are_features_are_refused() -> None:
    assert mixture_dims(GMMConfig(), 5) == 5
    assert mixture_dims(GMMConfig(dims=5), 5) == 5
    assert mixture_dims(GMMConfig(dims=2), 5) == 2
    with pytest.raises(RecipeError, match=r"prior\.dims is 6, but rows have only 5 features") as caught:
        mixture_dims(GMMConfig(dims=6), 5)
    assert caught.value.hint is not None
    assert "prior.dims=5" in caught.value.hint


LABELS = torch.tensor([0, 0, 0, 1])


def test_initial_weights_of_each_class_prior() -> None:
    def start(**config: object) -> list[float]:
        weights = initial_weights(GMMConfig.model_validate(config), labels=LABELS, classes=3)
        assert weights.sum().item() == pytest.approx(1)
        return weights.tolist()

    assert start() == pytest.approx([1 / 3] * 3)
    assert start(class_prior="estimated") == pytest.approx([1 / 3] * 3)
    assert start(class_prior="labelled") == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert start(class_prior="given", weights=[1.0, 2.0, 1.0]) == pytest.approx([0.25, 0.5, 0.25])


def test_given_weights_must_match_the_classes() -> None:
    config = GMMConfig(class_prior="given", weights=[0.5, 0.5])
    with pytest.raises(RecipeError, match="2 numbers, but the data has 3 classes"):
        initial_weights(config, labels=LABELS, classes=3)


def test_estimated_weights_find_the_true_shares() -> None:
    gmm = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    classes = (torch.arange(20_000) % 10 >= 8).long()  # 80 : 20, and components that overlap
    z, _ = gmm.sample(20_000, torch.Generator().manual_seed(0), classes)
    start = torch.tensor([0.5, 0.5], dtype=torch.float64)
    with torch.no_grad():
        log_prob = gmm.component_log_prob(z)
    weights = estimate_weights(log_prob, start, iterations=500)
    assert weights.sum().item() == pytest.approx(1)
    assert weights.tolist() == pytest.approx([0.8, 0.2], abs=0.01)

    def likelihood(candidate: torch.Tensor) -> float:
        return torch.logsumexp(log_prob.double() + candidate.log(), dim=1).mean().item()

    nudged = weights + torch.tensor([0.02, -0.02])
    assert likelihood(weights) > max(likelihood(start), likelihood(nudged), likelihood(weights.flip(0)))


def test_estimation_leaves_every_weight_positive_and_needs_no_rows() -> None:
    start = torch.tensor([0.7, 0.3], dtype=torch.float64)
    one_sided = torch.tensor([[0.0, -1e4]]).expand(50, 2)
    weights = estimate_weights(one_sided, start)
    assert 0 < weights[1].item() < 0.02
    torch.testing.assert_close(estimate_weights(torch.empty(0, 2), start), start)
