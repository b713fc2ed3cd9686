"""Contract of every regulariser: a finite differentiable term, a ramp, and no gradient in the teacher."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.plugins.entry import load_target
from flowgmm_cli.regularisers.specs import SPECS

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., FlowMixture]
RAMPED = sorted(name for name, spec in SPECS.items() if "ramp_epochs" in spec.config.model_fields)


def build_regulariser(name: str, **values: Any) -> Any:
    spec = SPECS[name]
    return load_target(spec.build, name)(spec.config(**values))


def term(name: str, student: FlowMixture, batch: Batch, teacher: Any = None, **values: Any) -> torch.Tensor:
    terms = build_regulariser(name, **values)(student, teacher or student, batch)
    assert list(terms) == [name]
    value: torch.Tensor = terms[name]
    return value


@pytest.mark.parametrize("name", ["consistency", "flow_consistency", "mixup", "pi_model"])
def test_no_gradient_goes_through_what_the_weak_view_says(
    name: str, make_model: MakeModel, step_batch: MakeBatch
) -> None:
    student = make_model(seed=1)
    batch = step_batch(student)
    weak = batch.weak.clone().requires_grad_()
    loss = term(name, student, replace(batch, weak=weak))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.requires_grad
    assert weak.grad is None  # a row of the weak view has no other part in these terms


@pytest.mark.parametrize("name", RAMPED)
def test_the_term_grows_over_the_ramp(name: str, make_model: MakeModel, step_batch: MakeBatch) -> None:
    student = make_model(seed=1)
    full, half, none = (
        term(name, student, step_batch(student, epoch=epoch), ramp_epochs=4.0).item() for epoch in (9, 2, 0)
    )
    assert full != 0
    assert half == pytest.approx(full / 2, rel=1e-5)
    assert none == 0


def test_flow_consistency_is_the_density_of_the_predicted_class(
    make_model: MakeModel, step_batch: MakeBatch
) -> None:
    student = make_model(seed=1)
    student.mixture.set_weights(torch.linspace(1, 9, student.mixture.classes))
    batch = step_batch(student)
    by_hand = 0.0
    with torch.no_grad():
        for weak, strong in zip(batch.weak, batch.strong, strict=True):
            label = int(student.class_log_prob(weak[None])[0].argmax())
            z, log_det = student.flow(strong[None])
            normal = torch.distributions.Normal(student.mixture.means[label], student.mixture.scales[label])
            by_hand -= float(normal.log_prob(z[0]).sum() + log_det[0]) / 2 / len(batch.weak)
    assert term("flow_consistency", student, batch).item() == pytest.approx(by_hand, rel=1e-4)
    whole = term("flow_consistency", student, batch, per_dimension=False).item()
    assert whole == pytest.approx(2 * by_hand, rel=1e-4)  # D = 2; the paper's


def test_pi_model_is_the_squared_difference_of_probabilities(
    make_model: MakeModel, step_batch: MakeBatch
) -> None:
    student = make_model(seed=1)
    batch = step_batch(student)
    with torch.no_grad():
        weak = torch.softmax(student.class_log_prob(batch.weak) / batch.temperature, dim=1)
        strong = torch.softmax(student.class_log_prob(batch.strong) / batch.temperature, dim=1)
    by_hand = sum(
        (a - b) ** 2 for a, b in zip(weak.flatten().tolist(), strong.flatten().tolist(), strict=True)
    )
    assert term("pi_model", student, batch).item() == pytest.approx(by_hand / len(weak), rel=1e-4)


def test_entropy_is_that_of_a_categorical_distribution(make_model: MakeModel, step_batch: MakeBatch) -> None:
    student = make_model(seed=1)
    batch = step_batch(student)
    logits = student.class_log_prob(batch.strong) / batch.temperature
    entropies = torch.distributions.Categorical(logits=logits).entropy()
    assert term("entropy", student, batch).item() == pytest.approx(entropies.mean().item(), rel=1e-5)


def test_vat_is_the_divergence_along_the_steepest_direction(step_batch: MakeBatch) -> None:
    # log-odds that are linear in the row change most along their slope, for any row
    slope, radius = torch.tensor([3.0, -1.0]), 0.2

    def student(x: torch.Tensor) -> Latents:
        odds = x @ slope
        return Latents(x, torch.zeros(len(x)), torch.stack([odds, torch.zeros_like(odds)], dim=1))

    batch = step_batch(student)  # type: ignore[arg-type]
    result = term("vat", student, batch, radius=radius, iterations=2).item()  # type: ignore[arg-type]
    length = radius * math.sqrt(2) * float(slope.norm()) / batch.temperature
    by_hand, other = 0.0, 0.0
    for odds in (batch.weak @ slope / batch.temperature).tolist():
        p = 1 / (1 + math.exp(-odds))
        both = []
        for way in (length, -length):
            q = 1 / (1 + math.exp(-odds - way))
            both.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
        by_hand += max(both) / len(batch.weak)
        other += min(both) / len(batch.weak)
    # the power iteration finds the line, the start which way along it
    assert other * (1 - 1e-3) <= result <= by_hand * (1 + 1e-3)
    assert result == pytest.approx(by_hand, rel=0.2)


def test_vat_finds_a_worse_change_than_chance(make_model: MakeModel, step_batch: MakeBatch) -> None:
    student = make_model(seed=1)
    batch = step_batch(student)
    result = term("vat", student, batch, radius=0.1, iterations=3).item()
    target = torch.softmax(student.class_log_prob(batch.weak) / batch.temperature, dim=1)
    draws = torch.Generator().manual_seed(1)
    chance = []
    for _ in range(50):
        change = torch.randn(batch.weak.shape, generator=draws)
        change = 0.1 * 2**0.5 * change / change.norm(dim=1, keepdim=True)
        changed = torch.softmax(student.class_log_prob(batch.weak + change) / batch.temperature, dim=1)
        chance.append((target * (target / changed).log()).sum(1).mean().item())
    assert result > 1.2 * sum(chance) / len(chance)


def test_means_repel_each_other_below_the_distance_only(make_model: MakeModel, step_batch: MakeBatch) -> None:
    student = make_model(seed=1)
    means, scale = student.mixture.means, student.mixture.scales.detach().mean()
    distances = torch.pdist(means.detach()) / scale
    nearest, pairs = distances.min().item(), len(distances)
    batch = step_batch(student)
    assert term("mean_separation", student, batch, distance=0.9 * nearest).item() == 0
    near = term("mean_separation", student, batch, distance=nearest + 1e-3)
    assert near.item() == pytest.approx(1e-6 / pairs, rel=1e-2)
    near.backward()  # type: ignore[no-untyped-call]
    assert means.grad is not None
    moved = means.detach() - means.grad / means.grad.norm()
    assert (torch.pdist(moved) / scale)[distances.argmin()] > nearest


def test_components_of_the_same_class_do_not_repel_each_other(
    step_batch: MakeBatch, make_model: MakeModel
) -> None:
    student = make_model(2, 2)
    means = torch.tensor([[0.0, 0.0], [0.1, 0.0], [3.0, 0.0], [3.0, 0.1]])
    batch = step_batch(student)
    student.mixture = GaussianMixture(means, components=2, scale=0.5)
    result = term("mean_separation", student, batch, distance=7.0)
    between = torch.cdist(means[:2], means[2:]).flatten() / 0.5
    torch.testing.assert_close(result.detach(), torch.relu(7 - between).square().mean())


def test_the_log_det_penalty_is_per_dimension(make_model: MakeModel, step_batch: MakeBatch) -> None:
    student = make_model(seed=1)
    batch = step_batch(student)
    _, log_det = student.flow(torch.cat([batch.labelled, batch.strong]))
    assert term("log_det_penalty", student, batch).item() == pytest.approx(
        (log_det / 2).square().mean().item(), rel=1e-5
    )


def test_the_guide_is_a_cross_entropy_that_may_fade(make_model: MakeModel, step_batch: MakeBatch) -> None:
    student = make_model(seed=1)
    batch = step_batch(student, epoch=5.0)
    log_p = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
    classes = log_p.argmax(1)
    sure = replace(batch, guide=torch.nn.functional.one_hot(classes, log_p.shape[1]).float())
    expected = -log_p.amax(1).mean().item()
    assert term("guide", student, sure).item() == pytest.approx(expected)
    assert term("guide", student, sure, fade_epochs=20).item() == pytest.approx(0.75 * expected)
    assert term("guide", student, sure, fade_epochs=4).item() == 0
    assert term("guide", student, replace(batch, guide=None)).item() == 0
