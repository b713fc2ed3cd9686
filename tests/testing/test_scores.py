from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from suites import expect_caught, failures, suite_of

from flowgmm_cli.api import Config, ScoreInputs, ScoreSpec
from flowgmm_cli.plugins.registry import Builtins
from flowgmm_cli.testing import ScoreConformance


class Right:
    """Largest standardised feature; correct."""

    def __init__(self, config: Config) -> None:
        self.values: dict[str, Any] = {}

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Any) -> None:
        x = train.x.double().numpy()
        self.values = {"mean": x.mean(0), "scale": np.maximum(x.std(0), 1e-6)}

    def distance(self, rows: ScoreInputs) -> Any:
        return (np.abs(rows.x.double().numpy() - self.values["mean"]) / self.values["scale"]).max(1)

    def __call__(self, rows: ScoreInputs) -> Any:
        return np.nan_to_num(self.distance(rows), nan=1e300, posinf=1e300)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, dict(self.values)

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.values = dict(arrays)


def centred(self: Right, rows: ScoreInputs) -> Any:
    actual = Right.__call__(self, rows)
    return actual - (actual.mean() if len(actual) else 0.0)


def keep_a_row(self: Right, train: ScoreInputs, *args: Any) -> None:
    self.values = {"w": 1e3 * (1 + train.x[0].double().numpy())}


def refuse_one_row(self: Right, train: ScoreInputs, *args: Any) -> None:
    Right.fit(self, train, *args)
    if len(train) < 2:
        raise ValueError("a standard deviation of one row")


def keep_the_model(self: Any, *args: Any) -> None:
    Right.fit(self, *args)
    self.model = args[2]


def draw_a_subset(self: Right, train: ScoreInputs, *args: Any) -> None:
    Right.fit(self, train, *args)
    self.values["mean"] = train.x.double().numpy()[np.random.permutation(len(train))[:5]].mean(0)


def draw_by_itself(self: Right, *args: Any) -> None:
    Right.fit(self, *args)
    self.values["mean"] = np.random.default_rng().normal(size=4)


def clamp_rows(self: Right, rows: ScoreInputs) -> Any:
    rows.x.clamp_(-1, 1)
    return Right.__call__(self, rows)


WRONG: dict[str, dict[str, Any]] = {
    "test_higher_is_further_out": {"__call__": lambda self, rows: -Right.__call__(self, rows)},
    "test_shapes (column)": {"__call__": lambda self, rows: Right.__call__(self, rows)[:, None]},
    "test_shapes (float32)": {
        "__call__": lambda self, rows: np.clip(Right.__call__(self, rows), 0, 1e30).astype(np.float32)
    },
    "test_rows_are_independent": {"__call__": centred},
    "test_ranks_are_stable": {
        "fit": keep_a_row,
        "__call__": lambda self, rows: np.modf(rows.x.double().numpy() @ self.values["w"])[0],
    },
    "test_scores_are_finite": {"__call__": Right.distance},
    "test_fits_few_rows": {"fit": refuse_one_row},
    "test_state_round_trip": {
        "fit": keep_the_model,
        "__call__": lambda self, rows: Right.__call__(self, rows) + len(list(self.model.parameters())),
    },
    "test_global_random_numbers_are_left_alone": {"fit": draw_a_subset},
    "test_global_random_numbers_are_left_alone (no seed)": {"fit": draw_by_itself},
    "test_rows_are_left_alone": {"__call__": clamp_rows},
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "entropy": {"out": "between"},
    "max_posterior": {"out": "between"},
    "angle_knn": {"separation": 0.8},  # sees directions only
    "label_posterior": {"out": "between"},
    "label_angle": {"separation": 0.5},  # sees directions only
}
SPEC = ScoreSpec(config=Config, build="x:y", summary="A score")


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_score_is_caught_by_the_check_that_names_it(case: str) -> None:
    wrong = type("Wrong", (Right,), WRONG[case])
    expect_caught(suite_of(ScoreConformance, SPEC, Right), suite_of(ScoreConformance, SPEC, wrong), case)


@pytest.mark.parametrize("name", Builtins()["score"])
def test_built_in_scores_conform(name: str) -> None:
    assert failures(ScoreConformance, name, **ATTRIBUTES.get(name, {})) == []
