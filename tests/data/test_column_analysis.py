"""Kinds and roles of columns, for training and for `init`, and the label column."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flowgmm_cli.data.column_analysis import ColumnProfile, input_columns, leaks_label
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.table_profile import (
    Profile,
    class_counts,
    find_label_column,
    looks_english,
    profile_table,
)
from flowgmm_cli.errors import DataError, UsageError

ROWS = 60
DRAW = random.Random(0)
CLASSES = ["a", "b", "c"]
SENTENCE = "this is the best way to learn number {} of the many things there are"


def table_of(columns: dict[str, list[Any]]) -> Table:
    return Table(pa.table(columns), {}, "t.parquet")


def profile_of(columns: dict[str, list[Any]], *, label: str = "y", text: tuple[str, ...] = ()) -> Profile:
    table = table_of(columns)
    return profile_table(table, label=label, classes=class_counts(table, label), text=text)


def strings(cell: Callable[[int], str | None]) -> list[str | None]:
    return [cell(row) for row in range(ROWS)]


LABELS = strings(lambda row: CLASSES[row % 3] if row % 2 else None)


NUMBERS = [DRAW.gauss(0, 1) for _ in range(ROWS)]
DATES = strings(lambda row: f"2024-02-{row % 28 + 1:02d}")
IDS = strings(lambda row: f"user-{row:05d}")
TOWNS = strings(lambda row: f"town of {row % 50}")
TYPO = strings(lambda row: "oops" if 0 < row < 5 else f"{row / 7:.2f}")
UNITS = strings(lambda row: "cm" if row == 0 else f"{row / 7:.2f}")


@pytest.mark.parametrize(
    ("name", "cells", "kind", "role", "reason"),
    [
        ("some", NUMBERS, "numbers", "input", ""),
        ("some", [str(DRAW.random()) for _ in range(ROWS)], "numbers", "input", ""),
        ("some", [1.0, *[float("inf")] * 3, *[2.5] * (ROWS - 4)], "numbers", "input", "3 cells are infinite"),
        ("some", strings(lambda row: DRAW.choice(["red", "blue"])), "categories", "input", ""),
        ("some", strings(lambda row: DRAW.choice(["NA", "DE"])), "categories", "input", "`NA` is a category"),
        (
            "some",
            strings(lambda row: ["Yes", "yes", "no"][row // 7 % 3]),
            "categories",
            "input",
            "`Yes`, `yes` differ in case only",
        ),
        ("some", [bool(row % 2) for row in range(ROWS)], "categories", "input", ""),
        ("some", strings(lambda row: "" if row else " "), "empty", "dropped", "it is empty"),
        ("some", [7.5] * ROWS, "numbers", "dropped", "it never changes"),
        ("some", ["a"] * ROWS, "categories", "dropped", "it never changes"),
        ("some", list(range(7, ROWS + 7)), "numbers", "id", "it counts the rows"),
        ("some", [2.0 * row for row in range(ROWS)], "numbers", "input", ""),
        ("user_id", random.Random(1).sample(range(999), ROWS), "numbers", "id", "it names the rows"),
        ("valid", random.Random(1).sample(range(999), ROWS), "numbers", "input", ""),
        ("some", IDS, "strings", "id", "it names the rows"),
        ("some", [*IDS[1:], IDS[1]], "strings", "dropped", "its own value"),
        ("name", strings(lambda row: "Ann" + chr(70 + row)), "strings", "dropped", "its own value"),
        ("key", strings(lambda row: "Ann" + chr(70 + row)), "strings", "id", "it names the rows"),
        ("some", DATES, "dates", "input", ""),
        ("some", strings(lambda row: f"{row % 12 + 1}/3/24"), "dates", "input", "is read day first"),
        ("some", [DRAW.sample(["x", "y", "z", "w"], 2) for _ in range(ROWS)], "other", "dropped", "objects"),
        ("some", [[1.0, 2.0 * row] for row in range(ROWS)], "vectors", "input", "lists of 2 numbers"),
        ("some", strings(lambda row: f"{row},5"), "strings", "dropped", "decimal comma"),
        ("some", strings(lambda row: f"${row},000"), "strings", "dropped", "currency or percent sign"),
        ("some", strings(lambda row: f"{row}.5 %"), "strings", "dropped", "the first in row 1: `0.5 %`"),
        ("some", strings(lambda row: f"{row}.0.0.1"), "strings", "dropped", "its own value"),
        ("some", TYPO, "numbers", "dropped", "numbers except 4 cells, the first in row 2: `oops`"),
        (
            "some",
            [*TYPO[3:], "1", "2", "3"],
            "numbers",
            "input",
            "numbers except 2 cells, the first in row 1",
        ),
        ("some", UNITS, "strings", "dropped", "`cm` in the first row and numbers below: units"),
        ("some", TOWNS, "categories", "input", ""),
        ("some", strings(lambda row: SENTENCE.format(row)), "text", "text", "sentences"),
        ("some", strings(lambda row: str(row % 3)), "numbers", "dropped", "gives the label away"),
        ("some", strings(lambda row: "pqr"[row % 3]), "categories", "dropped", "gives the label away"),
    ],
)
def test_kind_and_role_of_a_column(name: str, cells: list[Any], kind: str, role: str, reason: str) -> None:
    profile = profile_of({name: cells, "x": NUMBERS, "y": LABELS}).columns[0]
    assert (profile.kind, profile.role) == (kind, role)
    assert reason in profile.reason
    assert bool(reason) is bool(profile.reason)


def test_missing_and_distinct_cells_are_counted() -> None:
    profile = profile_of({"x": strings(lambda row: None if row % 4 else str(row % 8)), "y": LABELS})
    assert (profile.columns[0].missing, profile.columns[0].distinct) == (45, 2)
    assert (profile.rows, profile.labelled, dict(profile.classes)) == (ROWS, 30, {"a": 10, "b": 10, "c": 10})
    assert profile.columns[1].role == "label"


def test_words_for_missing_cells_are_counted_in_a_column_of_numbers() -> None:
    cells = strings(lambda row: "n/a" if row < 15 else f"{row / 7:.2f}")
    assert profile_of({"x": cells, "y": LABELS}).columns[0].missing == 15


def test_the_first_of_several_ids_names_the_rows() -> None:
    columns = {"n": list(range(ROWS)), "code": strings(lambda row: f"u{row:05d}"), "y": LABELS}
    profile = profile_of({**columns, "x": NUMBERS})
    assert [column.role for column in profile.columns] == ["id", "dropped", "label", "input"]


def test_beside_texts_other_columns_are_not_used() -> None:
    columns = {"t": strings(SENTENCE.format), "x": NUMBERS, "y": LABELS}
    profile = profile_of(columns)
    assert [column.role for column in profile.columns] == ["text", "dropped", "label"]
    assert profile.english is True


def test_a_column_named_as_text_is_text() -> None:
    columns = {"t": strings(SENTENCE.format), "s": strings(lambda row: "red"), "y": LABELS}
    profile = profile_of(columns, text=("s",))
    assert [column.name for column in profile.with_role("text")] == ["s"]


def test_other_languages_are_recognised() -> None:
    assert looks_english(["how is it", "the cat", "x y"])
    assert not looks_english(["der Hund bellt laut", "die Katze schläft", "ein Haus brennt"])


def test_a_profile_is_plain_json() -> None:
    profile = profile_of({"x": NUMBERS, "y": LABELS})
    json.dumps([vars(column) for column in profile.columns], allow_nan=False)
    assert isinstance(profile.columns[0], ColumnProfile)


# --- training ---------------------------------------------------------------------------------------------


def columns_of(columns: dict[str, list[Any]], **options: Any) -> tuple[dict[str, str], str]:
    notes: list[str] = []
    found = input_columns(table_of(columns), list(columns), note=notes.append, **options)
    return {column.name: column.kind for column in found}, "; ".join(notes)


def test_training_leaves_out_what_init_leaves_out() -> None:
    columns = {
        "id": list(range(ROWS)),
        "user": IDS,
        "x": NUMBERS,
        "c": [1] * ROWS,
        "body": strings(SENTENCE.format),
    }
    kinds, notes = columns_of(columns)
    assert kinds == {"x": "numeric"}
    for part in (
        "left out `id` (it counts the rows); data.id=id names rows by it, data.features=[id, ...] makes it",
        "`user` (it names the rows)",
        "`c` (it never changes)",
        "`body` (sentences); data.text=body reads them",
    ):
        assert part in notes
    profiles = profile_of({**columns, "y": LABELS}, text=("none",)).columns
    assert {profile.name for profile in profiles if profile.role == "input"} == {"x"}


def test_columns_that_are_chosen_are_inputs() -> None:
    columns = {"id": list(range(ROWS)), "user": IDS, "d": DATES, "t": TOWNS}
    assert columns_of(columns)[0] == {"d": "date", "t": "category"}
    assert columns_of(columns, chosen=columns)[0] == {
        "id": "numeric", "user": "category", "d": "date", "t": "category"
    }  # fmt: skip
    assert columns_of(columns, categorical=["id", "d"], dates=False)[0] == {
        "id": "category",
        "d": "category",
        "t": "category",
    }
    assert "data.dates is `drop`" in columns_of(columns, dates=False)[1]


def test_categories_that_differ_in_case_are_noted() -> None:
    kinds, note = columns_of({"c": strings(lambda row: ["Yes", "yes", "no"][row % 3])})
    assert kinds == {"c": "category"}
    assert "column `c`: the categories `Yes`, `yes` differ in case only" in note


def test_cells_to_correct_are_errors_that_name_all_columns() -> None:
    with pytest.raises(DataError, match="`typo` holds numbers except 4 cells") as stop:
        columns_of({"typo": TYPO, "units": UNITS, "x": NUMBERS})
    assert "column `units` holds `cm` in the first row" in stop.value.details[0]
    assert "data.drop=[typo]" in str(stop.value.hint)


# --- the label --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "leaks"),
    [
        (["0", "1", "2", "0"] * 20, True),
        (["0", "1", "2", None] * 20, True),
        ([0.0, 1.0, 2.0, float("nan")] * 20, True),
        (["x", "y", None, "x"] * 20, False),  # no value stands for c
        (["1", "1", *["0", "1"] * 39], False),  # a single row contradicts
        ([str(row) for row in range(80)], False),  # values that occur once are no evidence
    ],
)
def test_a_column_that_names_the_class_gives_it_away(cells: list[Any], leaks: bool) -> None:
    column = np.array(cells, dtype=float if isinstance(cells[0], float) else object)
    labels = np.array(["a", "b", "c", None] * 20, dtype=object)
    assert leaks_label(column, labels) is leaks
    assert not leaks_label(column[:36], labels[:36])  # 27 labels are few


def test_a_value_of_thousands_of_rows_gives_the_class_away() -> None:
    labels = np.array(["a", "b"] * 3000, dtype=object)
    assert leaks_label(labels, labels)


@pytest.mark.parametrize("seed", range(20))
def test_chance_does_not_look_like_a_leak(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=30).astype(object)
    assert not leaks_label(rng.integers(0, 8, size=30), labels)


def test_the_label_is_inferred_if_there_is_a_single_candidate() -> None:
    words, numbers = strings(lambda row: "uvw"[row % 3]), NUMBERS
    assert find_label_column(table_of({"x": numbers, "Label": LABELS, "w": words}), None) == "Label"
    assert find_label_column(table_of({"x": numbers, "kind": words}), None) == "kind"
    gaps = [label if row % 4 == 1 else None for row, label in enumerate(LABELS)]
    assert find_label_column(table_of({"kind": words, "sort": gaps}), None) == "sort"
    with pytest.raises(UsageError, match="several columns may be the class") as stop:
        find_label_column(table_of({"x": numbers, "kind": words, "sort": LABELS}), None)
    assert stop.value.details == (
        "kind: u (20 rows), v (20 rows), w (20 rows)",
        "sort: a (10 rows), b (10 rows), c (10 rows)",
    )
    with pytest.raises(UsageError, match="no column looks like a class"):
        find_label_column(table_of({"x": numbers}), None)


def test_a_label_that_is_not_there_or_not_plain_is_an_error() -> None:
    with pytest.raises(DataError, match="did you mean `kind`"):
        find_label_column(table_of({"x": [1.0] * ROWS, "kind": LABELS}), "kinds")
    with pytest.raises(DataError, match="`x` holds lists or objects, not classes"):
        find_label_column(table_of({"x": [["a"]] * ROWS, "kind": LABELS}), "x")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([DRAW.random() for _ in range(ROWS)], "these look like measurements"),
        (strings(lambda row: f"name {row}"), "these look like names or texts"),
        (["only"] * ROWS, "holds only `only`"),
        ([None] * ROWS, "holds nothing"),
    ],
)
def test_a_column_without_classes_is_refused(cells: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_counts(table_of({"y": pa.array(cells), "x": [1.0] * ROWS}), "y")


def test_classes_are_counted_in_their_natural_order() -> None:
    table = table_of({"y": ["10", "9", "2", None] * 15})
    assert list(class_counts(table, "y").items()) == [("2", 15), ("9", 15), ("10", 15)]
