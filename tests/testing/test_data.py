from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suites import expect_caught, failures, suite_of

from flowgmm_cli.api import Column, DataConfig, DataContext, DataError, DataSpec, Field, Rows, SourceData
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


def load_renamed(self: Right) -> SourceData:
    actual = Right.load(self)
    return SourceData(actual.columns, actual.class_names, {"training": actual.splits["train"]})


def load_copied(self: Right) -> SourceData:
    actual = Right.load(self)
    train, test = actual.splits["train"], actual.splits["test"]
    copied = train.take(np.arange(len(test)))
    splits = {"train": train, "test": Rows(copied.columns, copied.labels, test.ids)}
    return SourceData(actual.columns, actual.class_names, splits)


def load_after(change: Callable[[Right], Any]) -> Callable[[Right], SourceData]:
    def load(self: Right) -> SourceData:
        change(self)
        return Right.load(self)

    return load


def look_up(self: Right) -> None:
    with contextlib.suppress(OSError):  # as libraries do that try first and fall back to their cache
        socket.getaddrinfo("example.invalid", 80)


def raise_if(condition: Callable[[Right], bool], error: Exception) -> dict[str, Any]:
    def check(self: Right) -> None:
        if condition(self):
            raise error

    return {"load": load_after(check)}


def columns(**columns: Callable[[Any, int], Any]) -> dict[str, Any]:
    """Return the method that makes rows with these columns, from their cells and their number."""

    def rows(self: Right, split: str, n: int, numbers: np.random.Generator) -> Rows:
        actual = Right.rows(self, split, n, numbers)
        new = {name: make(actual.columns[name], n) for name, make in columns.items()}
        return Rows({**actual.columns, **new}, actual.labels, actual.ids)

    return {"rows": rows}


def ids(make: Callable[[str, int], list[str]]) -> dict[str, Any]:
    return {"ids": lambda self, split, n: np.array(make(split, n))}


WRONG: dict[str, dict[str, Any]] = {
    "test_splits_hold_rows (no train)": {"load": load_renamed},
    "test_splits_hold_rows (lengths)": ids(lambda split, n: [f"{split}-{index}" for index in range(1, n)]),
    "test_columns_hold_what_they_say (float32)": columns(x=lambda cells, n: cells.astype(np.float32)),
    "test_columns_hold_what_they_say (strings)": columns(c=lambda cells, n: np.array(["red"] * n)),
    "test_labels_are_indices_of_classes (beyond)": {"classes": lambda self: ("a",)},
    "test_labels_are_indices_of_classes (twice)": {"classes": lambda self: ("a", "a")},
    "test_ids_are_unique": ids(lambda split, n: [f"{split}-{index // 2}" for index in range(n)]),
    "test_ids_are_stable": ids(lambda split, n: [f"{split}-{random.random()}" for _ in range(n)]),
    "test_same_parameters_same_data": {"seed": None},
    "test_splits_are_disjoint (ids)": ids(lambda split, n: [f"row-{index}" for index in range(n)]),
    "test_splits_are_disjoint (rows)": {"load": load_copied},
    "test_offline_is_honoured": {"load": load_after(look_up)},
    "test_global_random_numbers_are_left_alone": columns(x=lambda cells, n: np.random.normal(size=n)),
    "test_missing_data_is_a_data_error": raise_if(lambda self: self.config.n > 1000, FileNotFoundError()),
    "test_rows_become_features": columns(x=lambda cells, n: np.ones(n))
    | {"columns": lambda self: (Column("x", "numeric"),)},
}
SPEC = DataSpec(config=Settings, build="x:y", summary="A source")
RIGHT = raise_if(lambda self: self.config.n > 1000, DataError("there are not so many rows"))


def suite(members: dict[str, Any], **attributes: Any) -> type[Any]:
    source = type("Source", (Right,), members)
    return suite_of(DataConformance, SPEC, source, missing={"n": 5000}, **attributes)


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_source_is_caught_by_the_check_that_names_it(case: str) -> None:
    expect_caught(suite(RIGHT), suite(WRONG[case]), case)


def test_a_source_that_needs_the_network_refuses_offline() -> None:
    refuses = raise_if(lambda self: self.context.offline, DataError("offline", hint="without --offline"))
    suite(refuses, offline="refuses")().test_offline_is_honoured()
    with pytest.raises(ConformanceError, match="offline"):
        suite(refuses)().test_offline_is_honoured()
    with pytest.raises(ConformanceError, match="it loads offline"):
        suite({}, offline="refuses")().test_offline_is_honoured()


class TestSklearn(DataConformance):
    name = "sklearn"
    config = {"name": "two_moons", "n": 60}  # noqa: RUF012


def test_the_csv_source_conforms() -> None:
    def write_data(self: DataConformance, folder: Path) -> None:
        lines = [f"{row},{row % 7 / 3},{'red' if row % 3 else 'blue'},{'ab'[row % 2]}" for row in range(40)]
        (folder / "t.csv").write_text("\n".join(["n,x,c,y", *lines]), encoding="utf-8")

    config = {"path": "t.csv", "label": "y"}
    members = {"config": config, "missing": {"path": "nowhere.csv"}, "write_data": write_data}
    assert failures(DataConformance, "csv", **members) == []


def test_paths_of_a_suite_without_files_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"{row * row % 17},{'ab'[row % 2]}" for row in range(40))
    (tmp_path / "mine.csv").write_text(f"x,y\n{rows}\n", encoding="utf-8")
    members = {"name": "csv", "config": {"path": "mine.csv", "label": "y"}}
    type("Of", (DataConformance,), members)().test_rows_become_features()
