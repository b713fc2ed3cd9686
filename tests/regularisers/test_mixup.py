from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.regularisers.specs import MixupConfig
from flowgmm_cli.regularisers.terms import Mixup, draw_shares

MakeModel = Callable[..., FlowMixture]


class Line:
    """A mixture on a line: the log-odds of class 0 are twice the latent."""

    def class_log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([2 * z, torch.zeros_like(z)], dim=1)


class Student:
    mixture = Line()


def batch(z: torch.Tensor, *, seed: int = 0) -> Batch:
    return Batch(
        labelled=z[:0],
        labels=torch.empty(0, dtype=torch.int64),
        weak=torch.arange(float(len(z)))[:, None],
        strong=z,
        student={"strong": Latents(z, torch.zeros(len(z)), Line().class_log_prob(z))},
        temperature=2.0,
        step=0,
        epoch=10.0,
        generator=torch.Generator().manual_seed(seed),
    )


def teacher(x: torch.Tensor) -> Latents:
    """Log-odds of class 0 that are four times the row."""
    log_prob = torch.cat([4 * x, torch.zeros_like(x)], dim=1)
    return Latents(x, x[:, 0], log_prob)


def loss(z: list[float], *, seed: int = 0, **values: float) -> float:
    config = MixupConfig.model_validate(values)
    student = torch.tensor(z)[:, None]
    term = Mixup(config)(Student(), teacher, batch(student, seed=seed))
    assert list(term) == ["mixup"]
    return float(term["mixup"])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(z: list[float], partners: list[int], shares: list[float], sharpening: float) -> float:
    """Tempered by 2 and sharpened, the teacher's log-odds are 2 x / sharpening; the student's are z."""
    rows = []
    for i, (j, share) in enumerate(zip(partners, shares, strict=True)):
        target = share * sigmoid(2 * i / sharpening) + (1 - share) * sigmoid(2 * j / sharpening)
        mixed = share * z[i] + (1 - share) * z[j]
        rows.append(-target * math.log(sigmoid(mixed)) - (1 - target) * math.log(sigmoid(-mixed)))
    return sum(rows) / len(rows)


@pytest.mark.parametrize("sharpening", [0.5, 1.0])
def test_the_term_equals_a_computation_by_hand(sharpening: float) -> None:
    z = [1.0, -0.5, 0.3]
    draws = torch.Generator().manual_seed(3)
    partners = torch.randperm(3, generator=draws).tolist()
    shares = draw_shares(3, 0.75, draws).tolist()
    assert partners != [0, 1, 2]
    result = loss(z, seed=3, alpha=0.75, sharpening=sharpening)
    assert result == pytest.approx(by_hand(z, partners, shares, sharpening), rel=1e-5)


def test_rows_that_are_hardly_mixed_have_a_target_each_of_their_own() -> None:
    z = [1.0, -0.5, 0.3]
    assert loss(z, alpha=1e-3) == pytest.approx(by_hand(z, [0, 1, 2], [1, 1, 1], 0.5), rel=1e-3)


def test_with_a_large_alpha_the_middle_between_two_rows_is_taken() -> None:
    z = [1.0, -0.5]
    seed = next(n for n in range(20) if torch.randperm(2, generator=torch.Generator().manual_seed(n))[0] == 1)
    expected = by_hand(z, [1, 0], [0.5, 0.5], 0.5)
    assert loss(z, seed=seed, alpha=1000.0) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.75, 1.0, 4.0, 200.0])
def test_shares_are_the_larger_of_two_that_follow_the_beta_distribution(alpha: float) -> None:
    shares = draw_shares(20_000, alpha, torch.Generator().manual_seed(0)).double().numpy()
    assert shares.min() >= 0.5
    assert shares.max() <= 1
    # numbers of 32 bits come no nearer to 1 than 6e-8, which for a small alpha is not that near
    seen = shares[shares < 1 - 1e-6]

    def below(share: Any) -> Any:
        return 2 * stats.beta.cdf(share, alpha, alpha) - 1

    inside = below(1 - 1e-6)
    assert len(seen) / len(shares) == pytest.approx(inside, abs=0.01)
    assert stats.kstest(seen, lambda share: below(share) / inside).pvalue > 1e-3


def test_the_smallest_uniform_number_gives_a_share_of_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def lowest(self: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.zero_()

    monkeypatch.setattr(torch.Tensor, "uniform_", lowest)
    assert draw_shares(3, 0.75, torch.Generator()).tolist() == [1.0] * 3


def test_random_numbers_come_from_the_generator_of_the_step() -> None:
    state = torch.get_rng_state()
    z = np.linspace(-1, 1, 9).tolist()
    assert loss(z, seed=1) == loss(z, seed=1) != loss(z, seed=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_go_through_both_latents_and_the_mixture_but_not_to_the_targets(
    make_model: MakeModel,
) -> None:
    student, other = make_model(seed=1), make_model(seed=0)
    for parameter in other.parameters():
        parameter.requires_grad_()
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    latents = student(x)
    latents.z.retain_grad()
    mixed = batch(latents.z)
    weak = x.clone().requires_grad_()
    given = Batch(**{**vars(mixed), "weak": weak, "student": {"strong": latents}})
    Mixup(MixupConfig())(student, other, given)["mixup"].backward()  # type: ignore[no-untyped-call]
    assert latents.z.grad is not None
    assert bool((latents.z.grad.abs().sum(1) > 0).all())
    assert all(parameter.grad is None for parameter in other.parameters())
    assert weak.grad is None
