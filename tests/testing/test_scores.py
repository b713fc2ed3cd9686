from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from suites import expect_caught, suite_of

from flowgmm_cli.api import Config, ScoreInputs, ScoreSpec
from flowgmm_cli.plugins.registry import Builtins
from flowgmm_cli.testing import ScoreConformance, run_checks


class Settings(Config):
    """No parameters."""


class Right:
    """Largest standardised feature; correct."""

    def __init__(self, config: Settings) -> None:
        self.values: dict[str, Any] = {}

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        x = train.x.double().numpy()
        self.values = {"mean": x.mean(0), "scale": np.maximum(x.std(0), 1e-6)}

    def __call__(self, rows: ScoreInputs) -> Any:
        x = rows.x.double().numpy()
        actual = (np.abs(x - self.values["mean"]) / self.values["scale"]).max(1)
        return np.nan_to_num(actual, nan=1e300, posinf=1e300)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, dict(self.values)

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.values = dict(arrays)


class WrongSign(Right):
    def __call__(self, rows: ScoreInputs) -> Any:
        return -super().__call__(rows)


class Column(Right):
    def __call__(self, rows: ScoreInputs) -> Any:
        return super().__call__(rows)[:, None]


class Float32(Right):
    def __call__(self, rows: ScoreInputs) -> Any:
        return np.clip(super().__call__(rows), 0, 1e30).astype(np.float32)


class RanksInTheBatch(Right):
    def __call__(self, rows: ScoreInputs) -> Any:
        actual = super().__call__(rows)
        return actual - (actual.mean() if len(actual) else 0.0)


class DrawnWeights(Right):
    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        self.values = {"w": 1e3 * (1 + train.x[0].double().numpy())}

    def __call__(self, rows: ScoreInputs) -> Any:
        return np.modf(rows.x.double().numpy() @ self.values["w"])[0]


class NotFinite(Right):
    def __call__(self, rows: ScoreInputs) -> Any:
        x = rows.x.double().numpy()
        return (np.abs(x - self.values["mean"]) / self.values["scale"]).max(1)


class NeedsTwoRows(Right):
    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        super().fit(train, held_out, model, generator)
        if len(train) < 2:
            raise ValueError("a standard deviation of one row")


class KeepsTheModel(Right):
    model: Any = None

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        super().fit(train, held_out, model, generator)
        self.model = model

    def __call__(self, rows: ScoreInputs) -> Any:
        return super().__call__(rows) + len(list(self.model.parameters()))


class GlobalSubset(Right):
    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        super().fit(train, held_out, model, generator)
        self.values["mean"] = train.x.double().numpy()[np.random.permutation(len(train))[:5]].mean(0)


class ChangesTheRows(Right):
    def __call__(self, rows: ScoreInputs) -> Any:
        rows.x.clamp_(-1, 1)
        return super().__call__(rows)


WRONG = [
    ("test_higher_is_further_out", WrongSign),
    ("test_shapes", Column),
    ("test_shapes", Float32),
    ("test_rows_are_independent", RanksInTheBatch),
    ("test_ranks_are_stable", DrawnWeights),
    ("test_scores_are_finite", NotFinite),
    ("test_fits_few_rows", NeedsTwoRows),
    ("test_state_round_trip", KeepsTheModel),
    ("test_global_random_numbers_are_left_alone", GlobalSubset),
    ("test_rows_are_left_alone", ChangesTheRows),
]
DOUBT = {"entropy", "max_posterior"}
WEAK = {"angle_knn": 0.8}  # sees directions only
ATTRIBUTES: dict[str, Any] = {
    **{name: {"out": "between"} for name in DOUBT},
    **{name: {"separation": least} for name, least in WEAK.items()},
}


SPEC = ScoreSpec(config=Settings, build="x:y", summary="A score")


def suite(component: type[Right]) -> type[Any]:
    return suite_of(ScoreConformance, SPEC, component)


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=[wrong.__name__ for _, wrong in WRONG])
def test_each_wrong_score_is_caught_by_the_check_that_names_it(check: str, wrong: type[Right]) -> None:
    expect_caught(suite(Right), suite(wrong), check)


@pytest.mark.parametrize("name", Builtins()["score"])
def test_built_in_scores_conform(name: str) -> None:
    skip = {"test_import_is_light": "looked at for all built-ins at once"}
    built_in = type("Of", (ScoreConformance,), {"name": name, "skip": skip, **ATTRIBUTES.get(name, {})})
    assert [item for item in run_checks(built_in) if item.outcome == "failed"] == []
