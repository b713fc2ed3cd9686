from __future__ import annotations

import pytest
import torch

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.weights import estimate_weights, initial_weights

LABELS = torch.tensor([0, 0, 0, 1])


def test_each_class_prior_starts_where_it_says() -> None:
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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_prior": "given"}, "needs `weights`"),
        ({"weights": [1.0]}, "needs class_prior: given"),
        ({"class_prior": "given", "weights": [1.0, 0.0]}, "above 0"),
        ({"class_prior": "given", "weights": [1.0, float("nan")]}, "finite"),
        ({"class_prior": "given", "weights": [1.0, float("inf")]}, "finite"),
    ],
)
def test_weights_that_make_no_sense_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMMConfig.model_validate(config)


def test_estimated_weights_find_the_true_shares() -> None:
    gmm = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    classes = (torch.arange(20_000) % 10 >= 8).long()  # 80 : 20, and components that overlap
    z, _ = gmm.sample(20_000, torch.Generator().manual_seed(0), classes)
    start = torch.tensor([0.5, 0.5], dtype=torch.float64)
    with torch.no_grad():
        log_prob = gmm.component_log_prob(z)
    found = estimate_weights(log_prob, start, iterations=500)
    assert found.sum().item() == pytest.approx(1)
    assert found.tolist() == pytest.approx([0.8, 0.2], abs=0.01)

    def likelihood(weights: torch.Tensor) -> float:
        return torch.logsumexp(log_prob.double() + weights.log(), dim=1).mean().item()

    nudged = found + torch.tensor([0.02, -0.02])
    assert likelihood(found) > max(likelihood(start), likelihood(nudged), likelihood(found.flip(0)))


def test_estimation_keeps_every_class_alive_and_without_rows_keeps_the_start() -> None:
    start = torch.tensor([0.7, 0.3], dtype=torch.float64)
    one_sided = torch.tensor([[0.0, -1e4]]).expand(50, 2)
    found = estimate_weights(one_sided, start)
    assert 0 < found[1].item() < 0.02
    torch.testing.assert_close(estimate_weights(torch.empty(0, 2), start), start)
