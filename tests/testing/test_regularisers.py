from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from suites import expect_caught, failures, suite_of
from torch import Tensor

from flowgmm_cli.api import Batch, Field, RegulariserConfig, RegulariserSpec
from flowgmm_cli.plugins.registry import Builtins
from flowgmm_cli.testing import RegulariserConformance


class Settings(RegulariserConfig):
    """Parameters of all of them."""

    power: float = Field(2.0, gt=0, description="of the distance")


class Right:
    """Mean squared distance between the student's and the teacher's latents; correct."""

    reads = frozenset({"strong"})

    def __init__(self, config: Settings) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        with torch.no_grad():
            target = teacher(batch.weak).z
        return {"distance": self.mean((self.student(batch) - target).square())}

    def student(self, batch: Batch) -> Tensor:
        return batch.student["strong"].z

    def mean(self, values: Tensor) -> Tensor:
        return values.sum() / max(1, values.numel())


def call_freezing(self: Right, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
    actual = Right.__call__(self, model, teacher, batch)
    model.requires_grad_(False)
    return actual


def call_after(change: Callable[[Any, Any, Batch], Any]) -> Callable[..., Mapping[str, Tensor]]:
    def call(self: Right, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        with torch.no_grad():
            change(model, teacher, batch)
        return Right.__call__(self, model, teacher, batch)

    return call


def call_with_gradient(self: Right, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
    return {"distance": self.mean((self.student(batch) - teacher(batch.weak).z).square())}


def count_calls(self: Any, values: Tensor) -> Tensor:
    self.calls = getattr(self, "calls", 0.0) + 1.0
    return Right.mean(self, values) + self.calls


def read_undeclared(self: Right, batch: Batch) -> Tensor:
    strong = batch.student["strong"]
    return strong.z + 0 * batch.student.get("weak", strong).z


WRONG: dict[str, dict[str, Any]] = {
    "test_declares_what_it_reads": {"reads": frozenset({"labelled rows"})},
    "test_reads_only_what_it_declares": {"student": read_undeclared},
    "test_terms_are_finite_scalars (a value per row)": {"mean": lambda self, values: values.mean(1)},
    "test_terms_are_finite_scalars (NaN)": {"mean": lambda self, values: (values - values).log().mean()},
    "test_gradients_reach_the_student": {"student": lambda self, batch: Right.student(self, batch).detach()},
    "test_teacher_is_untouched (gradient)": {"__call__": call_with_gradient},
    "test_teacher_is_untouched (parameters)": {
        "__call__": call_after(lambda model, teacher, batch: next(teacher.parameters()).mul_(0.5))
    },
    "test_teacher_is_untouched (frozen model)": {"__call__": call_freezing},
    "test_teacher_is_untouched (mode)": {"__call__": call_after(lambda model, teacher, batch: model.eval())},
    "test_batch_is_left_alone": {"__call__": call_after(lambda model, teacher, batch: batch.weak.mul_(0.5))},
    "test_no_rows": {"mean": lambda self, values: values.mean()},
    "test_terms_are_not_weighted": {
        "mean": lambda self, values: self.config.weight * Right.mean(self, values)
    },
    "test_global_random_numbers_are_left_alone": {
        "student": lambda self, batch: Right.student(self, batch) + 0.1 * torch.randn(4)
    },
    "test_no_state_between_calls": {"mean": count_calls},
}
CONFIGS: dict[str, dict[str, Any]] = {"mean_separation": {"distance": 20.0}}


def suite(component: type[Right]) -> type[Any]:
    spec = RegulariserSpec(config=Settings, build=f"{__name__}:Right", summary="A term")
    return suite_of(RegulariserConformance, spec, component)


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_regulariser_is_caught_by_the_check_that_names_it(case: str) -> None:
    expect_caught(suite(Right), suite(type("Wrong", (Right,), WRONG[case])), case)


@pytest.mark.parametrize("name", Builtins()["regulariser"])
def test_built_in_regularisers_conform(name: str) -> None:
    assert failures(RegulariserConformance, name, config=CONFIGS.get(name, {})) == []
