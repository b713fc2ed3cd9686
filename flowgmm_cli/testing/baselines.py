"""Checks of baselines."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Kind
from flowgmm_cli.baselines.run import check_probabilities
from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.component import Conformance

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class BaselineConformance(Conformance):
    """Checks of a baseline; it is fitted to a few labelled rows of Gaussians that are far apart.

        class TestMyBaseline(BaselineConformance):
            name = "my_baseline"

    Attributes:
        accuracy: smallest accuracy on new rows, after a fit to five labelled rows of each class.
        tolerance: largest difference between equal probabilities.
    """

    kind: ClassVar[Kind] = "baseline"
    accuracy: ClassVar[float] = 0.9
    tolerance: ClassVar[float] = 1e-5
    classes: ClassVar[int] = 3
    features: ClassVar[int] = 4

    def rows(self, n: int, seed: int) -> Data:
        """Sample rows `(n, D)` and their classes; each class has a Gaussian around a corner of a simplex."""
        rng = np.random.default_rng(seed)
        labels = np.arange(n) % self.classes
        x = 6.0 * np.eye(self.features)[labels] + rng.normal(size=(n, self.features))
        return x.astype(np.float32), labels.astype(np.int64)

    def training_rows(self, per_class: int = 5, n: int = 120) -> Data:
        """Sample rows of which only some have their label."""
        x, labels = self.rows(n, 0)
        return x, np.where(np.arange(n) < per_class * self.classes, labels, -1)

    def fit(self, data: Data, settings: Mapping[str, Any] | None = None) -> Any:
        """Build a baseline for K classes and fit it to rows and labels."""
        baseline = self.build(classes=self.classes, seed=0)
        with warnings.catch_warnings(action="ignore"):  # as in `flowgmm eval`
            baseline.fit(*data, settings) if settings is not None else baseline.fit(*data)
        return baseline

    @cached_property
    def fitted(self) -> Any:
        """The baseline after a fit to `training_rows`."""
        return self.fit(self.training_rows())

    def predict(self, baseline: Any, x: npt.NDArray[np.float32]) -> Floats:
        """Return a baseline's probabilities for rows, after a look at their form."""
        with warnings.catch_warnings(action="ignore"):
            return check_probabilities(baseline.predict_proba(x), (len(x), self.classes))

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return fitting and predicting."""
        return {"fitting and predicting": self._probabilities}

    def _probabilities(self) -> Floats:
        return self.predict(self.fit(self.training_rows()), self.rows(30, 1)[0])

    @check("return an array `(M, K)` with a column for each class, also for one without a label")
    def test_shapes(self) -> None:
        """Probabilities have a column for each class and sum to 1, also for a single row."""
        x, _ = self.rows(5, 1)
        for size in (5, 1):
            self.predict(self.fitted, x[:size])

    @check("leave rows with the label -1 out of the fit of a supervised method: it is no class")
    def test_learns_from_few_labels(self) -> None:
        """It classifies new rows of classes that are far apart."""
        x, labels = self.rows(200, 1)
        predictions = self.predict(self.fitted, x).argmax(1)
        actual = float((predictions == labels).mean())
        expect(actual >= self.accuracy, f"its accuracy is {actual:.2f}, not {self.accuracy:g}")

    @check("support single labels, a class without labels, and no unlabelled rows")
    def test_fits_unusual_labels(self) -> None:
        """It can be fitted with a label for each class, a class without labels, and labels for all rows."""
        x, labels = self.training_rows()
        two_classes = np.where(labels == self.classes - 1, -1, labels)
        single = np.where((two_classes == 1) & (np.arange(len(x)) != 1), -1, two_classes)
        for data in (self.training_rows(1), (x, two_classes), (x, single), self.rows(40, 2)):
            self.predict(self.fit(data), self.rows(20, 1)[0])

    @check("support rows that are all equal: give every divisor a lower bound")
    def test_fits_equal_rows(self) -> None:
        """It can be fitted to rows that are all equal."""
        x, labels = self.training_rows()
        self.predict(self.fit((np.ones_like(x), labels)), x[:20])

    @check("use the `settings` that `fit` is given, and choose none")
    def test_settings_can_be_used_again(self) -> None:
        """Its settings are plain JSON; a fit with the settings of another gives the same probabilities."""
        data, (x, _), first = self.training_rows(), self.rows(30, 1), self.fitted
        settings = json.loads(json.dumps(dict(first.settings), allow_nan=False))
        again = self.fit(data, settings)
        expect(dict(again.settings) == settings, f"the settings {settings} become {dict(again.settings)}")
        same = np.allclose(self.predict(first, x), self.predict(again, x), atol=self.tolerance)
        expect(same, f"fitted again with its settings {settings}, it gives other probabilities")

    @check("predict each row from its own features")
    def test_rows_are_independent(self) -> None:
        """A row's probabilities do not depend on the rows predicted with it."""
        x, _ = self.rows(40, 1)
        expected = self.predict(self.fitted, x)
        for index in ([0], [39, 3]):
            same = np.allclose(self.predict(self.fitted, x[index]), expected[index], atol=self.tolerance)
            expect(same, f"row {index[0]} has other probabilities in a small batch than in a large")

    @check("draw from a generator with the `seed` that `build` is given")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Its random numbers come from the seed; the same seed gives the same probabilities."""
        super().test_global_random_numbers_are_left_alone()
        same = np.allclose(self._probabilities(), self._probabilities(), atol=self.tolerance)
        expect(same, "the same seed gives other probabilities")

    @check("make new arrays instead of changing the rows in place")
    def test_rows_are_left_alone(self) -> None:
        """Fitting and predicting change neither rows nor labels."""
        data, (x, _) = self.training_rows(), self.rows(30, 1)
        arrays: list[npt.NDArray[Any]] = [*data, x]
        before = [array.copy() for array in arrays]
        self.predict(self.fit(data), x)
        same = all(map(np.array_equal, arrays, before))
        expect(same, "it changes the rows or labels in place")
