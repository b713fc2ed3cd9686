from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from suites import expect_caught, suite_of
from torch import Tensor

from flowgmm_cli.api import Batch, Field, RegulariserConfig, RegulariserSpec
from flowgmm_cli.plugins.registry import Builtins
from flowgmm_cli.testing import RegulariserConformance, run_checks


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


class ReadsWhatIsNot(Right):
    reads = frozenset({"labelled rows"})


class ReadsUndeclared(Right):
    def student(self, batch: Batch) -> Tensor:
        return batch.student["strong"].z + 0 * batch.student.get("weak", batch.student["strong"]).z


class ValuePerRow(Right):
    def mean(self, values: Tensor) -> Tensor:
        return values.mean(1)


class NotFinite(Right):
    def mean(self, values: Tensor) -> Tensor:
        return (values - values).log().mean()


class Detached(Right):
    def student(self, batch: Batch) -> Tensor:
        return super().student(batch).detach()


class TeacherGradient(Right):
    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        return {"distance": self.mean((self.student(batch) - teacher(batch.weak).z).square())}


class ChangesTheTeacher(Right):
    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        with torch.no_grad():
            next(iter(teacher.parameters())).mul_(0.5)
        return super().__call__(model, teacher, batch)


class FreezesTheModel(Right):
    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        actual = super().__call__(model, teacher, batch)
        model.requires_grad_(False)
        return actual


class SwitchesTheMode(Right):
    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        model.eval()
        return super().__call__(model, teacher, batch)


class ChangesTheBatch(Right):
    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        batch.weak.mul_(0.5)
        return super().__call__(model, teacher, batch)


class MeanOfNothing(Right):
    def mean(self, values: Tensor) -> Tensor:
        return values.mean()


class Weighted(Right):
    def mean(self, values: Tensor) -> Tensor:
        return self.config.weight * super().mean(values)


class GlobalNoise(Right):
    def student(self, batch: Batch) -> Tensor:
        z = super().student(batch)
        return z + 0.1 * torch.randn(z.shape)


class Remembers(Right):
    total = 0.0

    def mean(self, values: Tensor) -> Tensor:
        self.total += 1.0
        return super().mean(values) + self.total


WRONG = [
    ("test_declares_what_it_reads", ReadsWhatIsNot),
    ("test_reads_only_what_it_declares", ReadsUndeclared),
    ("test_terms_are_finite_scalars", ValuePerRow),
    ("test_terms_are_finite_scalars", NotFinite),
    ("test_gradients_reach_the_student", Detached),
    ("test_teacher_is_untouched", TeacherGradient),
    ("test_teacher_is_untouched", ChangesTheTeacher),
    ("test_teacher_is_untouched", FreezesTheModel),
    ("test_teacher_is_untouched", SwitchesTheMode),
    ("test_batch_is_left_alone", ChangesTheBatch),
    ("test_no_rows", MeanOfNothing),
    ("test_terms_are_not_weighted", Weighted),
    ("test_global_random_numbers_are_left_alone", GlobalNoise),
    ("test_no_state_between_calls", Remembers),
]
CONFIGS: dict[str, dict[str, Any]] = {"mean_separation": {"distance": 20.0}}


def suite(component: type[Right]) -> type[Any]:
    spec = RegulariserSpec(config=Settings, build=f"{__name__}:{component.__name__}", summary="A term")
    return suite_of(RegulariserConformance, spec, component)


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=[wrong.__name__ for _, wrong in WRONG])
def test_each_wrong_regulariser_is_caught_by_the_check_that_names_it(check: str, wrong: type[Right]) -> None:
    expect_caught(suite(Right), suite(wrong), check)


@pytest.mark.parametrize("name", Builtins()["regulariser"])
def test_built_in_regularisers_conform(name: str) -> None:
    skip = {"test_import_is_light": "looked at for all built-ins at once"}
    config = CONFIGS.get(name, {})
    built_in = type("Of", (RegulariserConformance,), {"name": name, "config": config, "skip": skip})
    assert [item for item in run_checks(built_in) if item.outcome == "failed"] == []
