from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suites import expect_caught, suite_of

from flowgmm_cli.api import (
    Column,
    DataConfig,
    DataContext,
    DataError,
    DataSpec,
    Field,
    Rows,
    SourceData,
)
from flowgmm_cli.testing import ConformanceError, DataConformance


class Settings(DataConfig):
    """Parameters of all of them."""

    n: int = Field(20, ge=1, description="training rows")


class Right:
    """Drawn rows with a number and a category; correct."""

    seed: Any = 0

    def __init__(self, config: Settings, context: DataContext) -> None:
        self.config, self.context = config, context

    def load(self) -> SourceData:
        numbers = np.random.default_rng(self.seed)
        splits = {"train": self.rows("train", self.config.n, numbers), "test": self.rows("test", 8, numbers)}
        return SourceData(self.columns(), self.classes(), splits)

    def columns(self) -> tuple[Column, ...]:
        return (Column("x", "numeric"), Column("c", "category"))

    def classes(self) -> tuple[str, ...]:
        return ("a", "b")

    def rows(self, split: str, n: int, numbers: np.random.Generator) -> Rows:
        category = np.array([None if item else "red" for item in range(n)], object)
        columns = {"x": numbers.normal(size=n), "c": category}
        return Rows(columns, np.arange(n, dtype=np.int64) % 2, self.ids(split, n))

    def ids(self, split: str, n: int) -> Any:
        return np.array([f"{split}-{index}" for index in range(n)])


class NoTrain(Right):
    def load(self) -> SourceData:
        actual = super().load()
        return SourceData(actual.columns, actual.class_names, {"training": actual.splits["train"]})


class Lengths(Right):
    def ids(self, split: str, n: int) -> Any:
        return super().ids(split, n)[1:]


class Float32(Right):
    def rows(self, split: str, n: int, numbers: np.random.Generator) -> Rows:
        rows = super().rows(split, n, numbers)
        return Rows({**rows.columns, "x": rows.columns["x"].astype(np.float32)}, rows.labels, rows.ids)


class NumpyStrings(Right):
    def rows(self, split: str, n: int, numbers: np.random.Generator) -> Rows:
        rows = super().rows(split, n, numbers)
        return Rows({**rows.columns, "c": np.array(["red"] * n)}, rows.labels, rows.ids)


class LabelsBeyond(Right):
    def classes(self) -> tuple[str, ...]:
        return ("a",)


class SameClassTwice(Right):
    def classes(self) -> tuple[str, ...]:
        return ("a", "a")


class SameIdTwice(Right):
    def ids(self, split: str, n: int) -> Any:
        return np.array([f"{split}-{index // 2}" for index in range(n)])


class UnstableIds(Right):
    def ids(self, split: str, n: int) -> Any:
        return np.array([f"{split}-{random.random()}" for _ in range(n)])


class UnseededRows(Right):
    seed = None


class OverlappingIds(Right):
    def ids(self, split: str, n: int) -> Any:
        return super().ids("row", n)


class OverlappingRows(Right):
    def load(self) -> SourceData:
        actual = super().load()
        train, test = actual.splits["train"], actual.splits["test"]
        copied = train.take(np.arange(len(test)))
        test = Rows(copied.columns, copied.labels, test.ids)
        return SourceData(actual.columns, actual.class_names, {"train": train, "test": test})


class UsesTheNetwork(Right):
    def load(self) -> SourceData:
        with contextlib.suppress(OSError):  # as libraries do that try first and fall back to their cache
            socket.getaddrinfo("example.invalid", 80)
        return super().load()


class GlobalRows(Right):
    def rows(self, split: str, n: int, numbers: np.random.Generator) -> Rows:
        rows = super().rows(split, n, numbers)
        return Rows({**rows.columns, "x": np.random.normal(size=n)}, rows.labels, rows.ids)


class OsError(Right):
    def load(self) -> SourceData:
        if self.config.n > 1000:
            raise FileNotFoundError("no such file")
        return super().load()


class ConstantOnly(Right):
    def columns(self) -> tuple[Column, ...]:
        return (Column("x", "numeric"),)

    def rows(self, split: str, n: int, numbers: np.random.Generator) -> Rows:
        rows = super().rows(split, n, numbers)
        return Rows({"x": np.ones(n)}, rows.labels, rows.ids)


WRONG = [
    ("test_splits_hold_rows", NoTrain),
    ("test_splits_hold_rows", Lengths),
    ("test_columns_hold_what_they_say", Float32),
    ("test_columns_hold_what_they_say", NumpyStrings),
    ("test_labels_are_indices_of_classes", LabelsBeyond),
    ("test_labels_are_indices_of_classes", SameClassTwice),
    ("test_ids_are_unique", SameIdTwice),
    ("test_ids_are_stable", UnstableIds),
    ("test_same_parameters_same_data", UnseededRows),
    ("test_splits_are_disjoint", OverlappingIds),
    ("test_splits_are_disjoint", OverlappingRows),
    ("test_offline_is_honoured", UsesTheNetwork),
    ("test_global_random_numbers_are_left_alone", GlobalRows),
    ("test_missing_data_is_a_data_error", OsError),
    ("test_rows_become_features", ConstantOnly),
]


SPEC = DataSpec(config=Settings, build="x:y", summary="A source")


def suite(component: type[Right], **attributes: Any) -> type[Any]:
    return suite_of(DataConformance, SPEC, component, **attributes)


class WithDataError(Right):
    def load(self) -> SourceData:
        if self.config.n > 1000:
            raise DataError("there are not so many rows")
        return super().load()


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=[f"{wrong.__name__}" for _, wrong in WRONG])
def test_each_wrong_source_is_caught_by_the_check_that_names_it(check: str, wrong: type[Right]) -> None:
    right, other = (suite(source, missing={"n": 5000}) for source in (WithDataError, wrong))
    expect_caught(right, other, check)


def test_a_source_that_needs_the_network_refuses_offline() -> None:
    class Refuses(Right):
        def load(self) -> SourceData:
            if self.context.offline:
                raise DataError("offline", hint="run once without --offline")
            return super().load()

    suite(Refuses, offline="refuses")().test_offline_is_honoured()
    with pytest.raises(ConformanceError, match="offline"):
        suite(Refuses)().test_offline_is_honoured()
    with pytest.raises(ConformanceError, match="it loads offline"):
        suite(Right, offline="refuses")().test_offline_is_honoured()


class TestSklearn(DataConformance):
    name = "sklearn"
    config = {"name": "two_moons", "n": 60}  # noqa: RUF012


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "t.csv"
    lines = [
        f"{index},{index % 7 / 3},{'red' if index % 3 else 'blue'},{'ab'[index % 2]}" for index in range(40)
    ]
    path.write_text("\n".join(["n,x,c,y", *lines]), encoding="utf-8")
    return path


def test_the_csv_source_conforms(table: Path) -> None:
    from flowgmm_cli.testing import run_checks

    attributes = {
        "name": "csv",
        "config": {"path": str(table), "label": "y"},
        "missing": {"path": str(table.with_name("nowhere.csv"))},
        "skip": {"test_import_is_light": "looked at for all built-ins at once"},
    }
    results = list(run_checks(type("OfCsv", (DataConformance,), attributes)))
    assert [item for item in results if item.outcome == "failed"] == []
