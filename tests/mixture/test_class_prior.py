from __future__ import annotations

import pytest
import torch

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.mixture.class_prior import estimate_weights, initial_weights
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.specs import GMMConfig

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
def test_inconsistent_weights_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMMConfig.model_validate(config)


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
