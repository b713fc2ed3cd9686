from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.optim import (
    clip_gradients,
    create_ema_model,
    create_optimiser,
    gradient_norm,
    learning_rate,
    update_ema,
)


def rates(steps: int, **config: object) -> list[float]:
    train = TrainConfig.model_validate({"lr": 1.0, **config})
    return [learning_rate(train, step, steps) for step in range(steps)]


def test_one_cycle_rises_to_the_highest_rate_and_falls_to_almost_nothing() -> None:
    result = rates(100, schedule="one_cycle", warmup=0.1)
    assert result[0] < 0.1
    assert result[9] == max(result) == pytest.approx(1)
    assert result[10] == pytest.approx(1)
    assert result[:10] == sorted(result[:10])
    assert result[10:] == sorted(result[10:], reverse=True)
    assert result[-1] == pytest.approx(1e-4)
    # half way down the cosine
    assert rates(21, schedule="one_cycle", warmup=0.0)[10] == pytest.approx((1 + 1e-4) / 2)


def test_other_schedules() -> None:
    line = [(step + 1) / 10 for step in range(10)]
    cosine, constant = rates(100, schedule="cosine", warmup=0.1), rates(50, schedule="constant", warmup=0.2)
    assert cosine[:10] == pytest.approx(line)
    assert cosine[10:] == rates(100, schedule="one_cycle", warmup=0.1)[10:]
    assert constant == pytest.approx([*line, *[1.0] * 40])
    steps = rates(10, schedule="steps", warmup=0.0)
    assert steps == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert rates(10, warmup=0.0)[0] == 1


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant", "steps"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_runs_have_sensible_rates(schedule: str, warmup: float, steps: int) -> None:
    result = rates(steps, schedule=schedule, warmup=warmup)
    assert all(0 < rate <= 1 + 1e-12 and math.isfinite(rate) for rate in result)
    assert max(result) == pytest.approx(1) or (schedule == "steps" and warmup >= 0.5)


def test_only_matrices_of_the_flow_decay(make_model: Any) -> None:
    model = make_model()
    optimiser = create_optimiser(model, TrainConfig(weight_decay=0.5, lr=0.1))
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    result = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert result["mixture.means"] == 0  # a matrix, but no weight of a network
    for name, decay in result.items():
        assert decay == (0.5 if name.startswith("flow.") and name.endswith("weight") else 0)


@pytest.mark.parametrize(("kind", "shift"), [("adam", True), ("adamw", False)])
def test_the_decay_of_adam_goes_through_the_gradient(make_model: Any, kind: Any, shift: bool) -> None:
    model = make_model()
    optimiser = create_optimiser(model, TrainConfig(optimiser=kind, weight_decay=0.5, lr=0.1))
    weights = [p for name, p in model.flow.named_parameters() if name.endswith("weight")]
    before = [weight.detach().clone() for weight in weights]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for old, new in zip(before, weights, strict=True):
        # Adam normalises the gradient, that of the decay too; AdamW shrinks by lr * decay
        expected = old - 0.1 * old.sign() if shift else old * (1 - 0.1 * 0.5)
        torch.testing.assert_close(new.detach(), expected, rtol=1e-3, atol=1e-4)


def test_parameters_that_are_not_learned_are_not_optimised(make_model: Any) -> None:
    model = make_model()
    model.flow.requires_grad_(False)
    optimiser = create_optimiser(model, TrainConfig())
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 2  # means and scales
    fixed = GaussianMixture(torch.zeros(2, 2), learn_means=False, learn_scales=False)
    only_flow = FlowMixture(make_model().flow, fixed)
    assert all(name.startswith("flow.") for name, _ in only_flow.named_parameters())
    assert len(create_optimiser(only_flow, TrainConfig()).param_groups) == 2


def test_the_teacher_is_a_copy_that_takes_no_gradient(make_model: Any) -> None:
    model = make_model()
    teacher = create_ema_model(model)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not teacher.training
    for own, other in zip(model.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_is_that_of_a_loop_by_hand(make_model: Any, decay: float) -> None:
    model = make_model(seed=0)
    teacher = create_ema_model(make_model(seed=1))
    expected = {name: value.detach().double().clone() for name, value in teacher.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(generator=generator)
        keep = min(decay, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            expected[name] = keep * expected[name] + (1 - keep) * value.detach().double()
        update_ema(list(teacher.parameters()), list(model.parameters()), decay=decay, step=step)
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adam"])
@pytest.mark.parametrize("max_norm", [0.25, None, 1e9])
def test_gradients_are_clipped_to_a_norm(make_model: Any, kind: Any, max_norm: float | None) -> None:
    model, reference = make_model(4), make_model(4)
    config = TrainConfig(optimiser=kind, lr=0.1, weight_decay=0.1)
    optimiser, torch_optimiser = create_optimiser(model, config), create_optimiser(reference, config)
    for scale in (1.0, 10.0):  # moments of gradients of several norms
        for part in (model, reference):
            part.zero_grad()
            torch.autograd.backward(-scale * part.log_prob(torch.ones(3, 4)).sum())
        norm = gradient_norm(model)
        clip_gradients(optimiser, norm, max_norm)
        optimiser.step()
        expected = torch.nn.utils.clip_grad_norm_(reference.parameters(), max_norm or math.inf)
        torch_optimiser.step()
        assert float(norm) == pytest.approx(float(expected), rel=1e-6)
    for value, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
