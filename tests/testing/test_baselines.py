from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from suites import expect_caught, failures, suite_of

from flowgmm_cli.api import BaselineSpec, Config
from flowgmm_cli.plugins.registry import Builtins
from flowgmm_cli.testing import BaselineConformance


class Right:
    """The nearest labelled row, with some doubt; correct."""

    def __init__(self, config: Config, *, classes: int, seed: int) -> None:
        self.classes = classes
        self.settings: dict[str, Any] = {}

    def fit(self, x: Any, labels: Any, settings: Mapping[str, Any] | None = None) -> None:
        self.x, self.labels = x[labels >= 0], labels[labels >= 0]
        self.settings = dict(settings) if settings else {"doubt": 0.1 + 0.001 * len(self.x)}

    def predict_proba(self, x: Any) -> Any:
        nearest = np.square(x[:, None] - self.x).sum(2).argmin(1)
        doubt = self.settings["doubt"]
        return (1 - doubt) * np.eye(self.classes)[self.labels[nearest]] + doubt / self.classes


def count_unlabelled_rows_as_a_class(self: Right, x: Any, labels: Any, *args: Any) -> None:
    Right.fit(self, x, labels % self.classes, *args)


def number_of_classes_with_labels(self: Right, x: Any) -> Any:
    return Right.predict_proba(self, x)[:, np.unique(self.labels)]


def divide_by_the_spread(self: Right, x: Any, labels: Any, *args: Any) -> None:
    Right.fit(self, x, labels, *args)
    self.settings["doubt"] = 0.1 / float(x.std())


def choose_again(self: Right, x: Any, labels: Any, settings: Any = None) -> None:
    Right.fit(self, x, labels)
    if settings:
        self.settings["doubt"] /= 2


def draw(self: Right, x: Any, labels: Any, *args: Any) -> None:
    Right.fit(self, x, labels, *args)
    self.settings["doubt"] = float(np.random.default_rng().uniform(0.1, 0.2))


def draw_globally(self: Right, x: Any, labels: Any, *args: Any) -> None:
    Right.fit(self, x, labels, *args)
    self.settings["doubt"] = float(np.random.uniform(0.1, 0.2))


def average_over_rows(self: Right, x: Any) -> Any:
    p = Right.predict_proba(self, x)
    return 0.9 * p + 0.1 * p.mean(0)


def centre_in_place(self: Right, x: Any, labels: Any, *args: Any) -> None:
    x -= x.mean(0)
    Right.fit(self, x, labels, *args)


WRONG: dict[str, dict[str, Any]] = {
    "test_shapes": {"predict_proba": lambda self, x: Right.predict_proba(self, x)[0]},
    "test_learns_from_few_labels": {"fit": count_unlabelled_rows_as_a_class},
    "test_fits_unusual_labels": {"predict_proba": number_of_classes_with_labels},
    "test_fits_equal_rows": {"fit": divide_by_the_spread},
    "test_settings_can_be_used_again": {"fit": choose_again},
    "test_rows_are_independent": {"predict_proba": average_over_rows},
    "test_global_random_numbers_are_left_alone": {"fit": draw_globally},
    "test_global_random_numbers_are_left_alone (no seed)": {"fit": draw},
    "test_rows_are_left_alone": {"fit": centre_in_place},
}
SPEC = BaselineSpec(config=Config, build="x:y", summary="A baseline")


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_each_wrong_baseline_is_caught_by_the_check_that_names_it(case: str) -> None:
    components = (Right, type("Wrong", (Right,), WRONG[case]))
    right, wrong = (suite_of(BaselineConformance, SPEC, component) for component in components)
    expect_caught(right, wrong, case)


SECONDS = ("mlp", "extra_trees")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SECONDS)) for name in Builtins()["baseline"]],
)
def test_built_in_baselines_conform(name: str) -> None:
    assert failures(BaselineConformance, name) == []
