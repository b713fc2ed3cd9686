"""The losses of a step, plain or sharded, compiled or not; `test_processes` has what takes several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import Recipe, TrainConfig
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.sharded import ShardedModel, losses_of, sharded
from flowgmm_cli.training.step import build_step

MakeModel = Callable[..., FlowMixture]


def test_one_process_keeps_its_model(make_model: MakeModel) -> None:
    model = make_model(4)
    assert sharded(model, Processes()) is model


def test_a_sharded_model_has_the_same_weights_under_the_same_names(make_model: MakeModel) -> None:
    model = make_model(4)
    shared = sharded(model, Processes(1, 2))
    assert isinstance(shared, ShardedModel)
    assert shared.state_dict().keys() == model.state_dict().keys()
    own, theirs = dict(model.named_parameters()), dict(shared.named_parameters())
    assert own.keys() == theirs.keys()
    assert all(own[name] is theirs[name] for name in own)


def test_fewer_rows_than_processes_are_seen_by_each(make_model: MakeModel) -> None:
    model, x = make_model(4), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    found, expected = sharded(model, Processes(2, 3))(x), model(x)
    assert torch.equal(found.z, expected.z)
    assert torch.equal(found.class_log_prob, expected.class_log_prob)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(False, None), (True, {"mode": None}), ("reduce-overhead", {"mode": "reduce-overhead"})],
)
def test_a_step_is_compiled_as_the_recipe_says(
    given: bool | str,
    expected: dict[str, Any] | None,
    moons: Callable[..., Recipe],
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []

    def compile_(function: Any, **options: Any) -> Any:
        seen.append((function, options))
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    model = make_model(4)
    step = build_step(moons("data.views.strong=[]"), model, features=4, labelled=2, unlabelled=8)
    mode = TrainConfig.model_validate({"compile": given}).compile
    assert losses_of(step, model, mode=mode) is step
    assert seen == ([] if expected is None else [(step, expected)])
    shared = ShardedModel(model, Processes(0, 2))
    inner = shared.inner
    losses_of(step, shared, mode=mode)
    assert seen[1:] == ([] if expected is None else [(inner, expected)])
