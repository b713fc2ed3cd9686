from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine
from flowgmm_cli.training.optim import create_ema_model
from flowgmm_cli.training.step import TrainingStep, build_step
from flowgmm_cli.training.validation import Validator, is_better

ENGINE = Engine(torch.device("cpu"), "fp32")
X = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
HIDDEN = torch.full((9,), -1)
SOME = torch.tensor([0, 1, -1, 0, 1, -1, 0, 0, 1])


@pytest.fixture
def monitor(moons: Any) -> Callable[..., Validator]:
    """Build a validator: `monitor(step, labels, *words)`."""

    def build(step: TrainingStep, labels: torch.Tensor = HIDDEN, *words: str) -> Validator:
        return Validator(step, Tensors(X, labels), moons(*words), ENGINE)

    return build


@pytest.fixture
def step(moons: Any, make_model: Any) -> TrainingStep:
    return build_step(moons(), make_model(classes=2), features=2, labelled=1, unlabelled=9)


@pytest.mark.parametrize(
    ("metric", "value", "other", "better"),
    [
        ("val.accuracy", 0.9, 0.8, True),
        ("val.accuracy", 0.8, 0.8, False),
        ("monitor.agreement", 0.7, 0.8, False),
        ("val.nll", 0.7, 0.8, True),
        ("monitor.loss", -1.0, -2.0, False),
        ("monitor.loss", math.nan, 0.0, False),
        ("monitor.loss", -math.inf, 0.0, False),
        ("val.accuracy", math.nan, 0.0, False),
        ("monitor.loss", 5.0, None, True),
        ("monitor.loss", math.nan, None, False),
        ("monitor.loss", math.inf, None, False),
    ],
)
def test_better_means_higher_or_lower_by_metric_and_never_not_finite(
    metric: str, value: float, other: float | None, better: bool
) -> None:
    assert is_better(metric, value, other) is better


def test_without_labels_the_loss_is_watched_and_with_them_the_accuracy(
    step: TrainingStep, monitor: Any
) -> None:
    teacher = create_ema_model(step.model)
    blind, seeing = monitor(step), monitor(step, SOME)
    assert (blind.metric, seeing.metric) == ("monitor.loss", "val.accuracy")
    assert set(blind.measure(teacher)) == {"monitor.loss", "monitor.agreement"}
    assert set(seeing.measure(teacher)) == {
        "monitor.loss", "monitor.agreement", "val.accuracy", "val.nll"
    }  # fmt: skip
    assert monitor(step, SOME, "checkpoint.best.metric=val.nll").metric == "val.nll"


@torch.no_grad()
def test_labelled_values_are_those_of_the_labelled_rows(step: TrainingStep, monitor: Any) -> None:
    teacher = create_ema_model(step.model)
    values = monitor(step, SOME).measure(teacher)
    seen = SOME >= 0
    log_posterior = torch.log_softmax(teacher.class_log_prob(X[seen]) / step.objective.temperature, 1)
    assert values["val.accuracy"] == pytest.approx(
        float((log_posterior.argmax(1) == SOME[seen]).double().mean())
    )
    assert values["val.nll"] == pytest.approx(
        -float(log_posterior.gather(1, SOME[seen][:, None]).mean()), rel=1e-5
    )


def test_labels_change_no_value_without_labels(step: TrainingStep, monitor: Any) -> None:
    teacher = create_ema_model(step.model)
    seeing, blind = monitor(step, SOME).measure(teacher), monitor(step).measure(teacher)
    assert all(seeing[name] == value for name, value in blind.items())


def test_the_monitored_loss_is_the_training_loss_of_unlabelled_rows(
    moons: Any, make_model: Any, monitor: Any
) -> None:
    recipe = moons("objective.use=joint", "regularisers=[]", "data.views.strong=[]")
    step = build_step(recipe, make_model(classes=2), features=2, labelled=1, unlabelled=3)
    with torch.no_grad():
        expected = -float(step.model.log_prob(X).mean()) / 2 * 3 / 4
    assert monitor(step).measure(create_ema_model(step.model))["monitor.loss"] == pytest.approx(expected)


def test_rows_measured_in_pieces_give_the_mean_over_rows(
    monkeypatch: pytest.MonkeyPatch, moons: Any, make_model: Any, monitor: Any
) -> None:
    recipe = moons("data.views.strong=[]")  # random views would differ between the pieces
    step = build_step(recipe, make_model(classes=2), features=2, labelled=1, unlabelled=9)
    teacher = create_ema_model(step.model)
    whole = monitor(step, SOME).measure(teacher)
    monkeypatch.setattr("flowgmm_cli.training.validation.chunk_rows", lambda features, model: 4)
    pieces = monitor(step, SOME).measure(teacher)
    assert pieces == {name: pytest.approx(value, rel=1e-5) for name, value in whole.items()}
    assert whole["monitor.agreement"] == 1  # without a strong view both are the same


def test_the_same_views_are_used_each_time_and_no_global_numbers(step: TrainingStep, monitor: Any) -> None:
    teacher, state = create_ema_model(step.model), torch.get_rng_state()
    item = monitor(step)
    assert item.measure(teacher) == item.measure(teacher) == monitor(step).measure(teacher)
    assert item.measure(teacher) != monitor(step, HIDDEN, "run.seed=1").measure(teacher)
    assert torch.equal(torch.get_rng_state(), state)
