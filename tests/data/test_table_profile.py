"""Kinds and roles of columns, and the label column, in the profile of a table."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowgmm_cli.data.label_column import class_counts, find_label_column
from flowgmm_cli.data.sources.tables import read_table
from flowgmm_cli.data.table_profile import ColumnProfile, Profile, looks_english, profile_table
from flowgmm_cli.errors import DataError, UsageError

ROWS = 60
DRAW = random.Random(0)
CLASSES = ["a", "b", "c"]
SENTENCE = "this is the best way to learn number {} of the many things there are"


def profile_of(
    path: Path, columns: dict[str, list[Any]], *, label: str = "y", text: tuple[str, ...] = ()
) -> Profile:
    file = path / "t.parquet"
    pq.write_table(pa.table(columns), file)
    table = read_table(str(file), note=lambda line: None)
    return profile_table(table, label=label, classes=class_counts(table, label), text=text)


def strings(cell: Callable[[int], str | None]) -> list[str | None]:
    return [cell(row) for row in range(ROWS)]


LABELS = strings(lambda row: CLASSES[row % 3] if row % 2 else None)


@pytest.mark.parametrize(
    ("cells", "kind", "role", "reason"),
    [
        ([DRAW.gauss(0, 1) for _ in range(ROWS)], "numbers", "input", ""),
        ([str(DRAW.random()) for _ in range(ROWS)], "numbers", "input", ""),
        ([1.0, *[float("inf")] * 3, *[2.5] * (ROWS - 4)], "numbers", "input", "3 cells are infinite"),
        (strings(lambda row: DRAW.choice(["red", "blue"])), "categories", "input", ""),
        (strings(lambda row: "" if row else " "), "empty", "dropped", "it is empty"),
        ([7.0] * ROWS, "numbers", "dropped", "it never changes"),
        (list(range(ROWS)), "numbers", "id", "it counts the rows"),
        (strings(lambda row: f"user-{row:05d}"), "strings", "id", "it names the rows"),
        (strings(lambda row: f"2024-02-{row % 28 + 1:02d}"), "dates", "dropped", "dates are not inputs"),
        ([DRAW.sample(["x", "y", "z", "w"], 2) for _ in range(ROWS)], "other", "dropped", "lists or objects"),
        ([[1.0, 2.0 * row] for row in range(ROWS)], "vectors", "input", "lists of 2 numbers"),
        (strings(lambda row: f"{row},5"), "strings", "dropped", "decimal comma"),
        (strings(lambda row: "oops" if row == 3 else f"{row / 7:.2f}"), "strings", "dropped", "in row 4"),
        (strings(lambda row: f"Person Nr{row % 57}x"), "strings", "dropped", "its own value"),
        (strings(lambda row: SENTENCE.format(row)), "text", "text", "sentences"),
        (strings(lambda row: str(row % 3)), "numbers", "dropped", "gives the label away"),
        (strings(lambda row: "pqr"[row % 3]), "categories", "dropped", "gives the label away"),
    ],
)
def test_kind_and_role_of_a_column(
    tmp_path: Path, cells: list[Any], kind: str, role: str, reason: str
) -> None:
    profile = profile_of(
        tmp_path, {"some": cells, "x": [DRAW.random() for _ in range(ROWS)], "y": LABELS}
    ).columns[0]
    assert (profile.kind, profile.role) == (kind, role)
    assert reason in profile.reason


def test_missing_and_distinct_cells_are_counted(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, {"x": strings(lambda row: None if row % 4 else str(row % 8)), "y": LABELS})
    assert (profile.columns[0].missing, profile.columns[0].distinct) == (45, 2)
    assert (profile.rows, profile.labelled, dict(profile.classes)) == (ROWS, 30, {"a": 10, "b": 10, "c": 10})
    assert profile.columns[1].role == "label"


def test_many_frequent_categories_are_categories(tmp_path: Path) -> None:
    count = 800
    cells = [f"town {row % 80} of this" for row in range(count)]
    profile = profile_of(
        tmp_path, {"town": cells, "y": ["ab"[row % 7 == 0] for row in range(count)]}
    ).columns[0]
    assert (profile.role, profile.categorical) == ("input", True)


def test_the_first_of_several_ids_names_the_rows(tmp_path: Path) -> None:
    columns = {"n": list(range(ROWS)), "code": strings(lambda row: f"u{row:05d}"), "y": LABELS}
    profile = profile_of(tmp_path, {**columns, "x": [DRAW.random() for _ in range(ROWS)]})
    assert [column.role for column in profile.columns] == ["id", "dropped", "label", "input"]


def test_beside_texts_other_columns_are_not_used(tmp_path: Path) -> None:
    columns = {"t": strings(SENTENCE.format), "x": [DRAW.random() for _ in range(ROWS)], "y": LABELS}
    profile = profile_of(tmp_path, columns)
    assert [column.role for column in profile.columns] == ["text", "dropped", "label"]
    assert profile.english is True


def test_a_column_named_as_text_is_text(tmp_path: Path) -> None:
    columns = {"t": strings(SENTENCE.format), "s": strings(lambda row: "red"), "y": LABELS}
    profile = profile_of(tmp_path, columns, text=("s",))
    assert [column.name for column in profile.with_role("text")] == ["s"]


def test_other_languages_are_recognised() -> None:
    assert looks_english(["how is it", "the cat", "x y"])
    assert not looks_english(["der Hund bellt laut", "die Katze schläft", "ein Haus brennt"])


def test_a_profile_is_plain_json(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, {"x": [DRAW.random() for _ in range(ROWS)], "y": LABELS})
    json.dumps([vars(column) for column in profile.columns], allow_nan=False)
    assert isinstance(profile.columns[0], ColumnProfile)


# --- the label --------------------------------------------------------------------------------------------


def table_of(path: Path, columns: dict[str, list[Any]]) -> Any:
    pq.write_table(pa.table(columns), path / "t.parquet")
    return read_table(str(path / "t.parquet"), note=lambda line: None)


def test_the_label_is_inferred_if_there_is_a_single_candidate(tmp_path: Path) -> None:
    words = strings(lambda row: "uvw"[row % 3])
    numbers = [DRAW.random() for _ in range(ROWS)]
    assert find_label_column(table_of(tmp_path, {"x": numbers, "Label": LABELS, "w": words}), None) == "Label"
    assert find_label_column(table_of(tmp_path, {"x": numbers, "kind": words}), None) == "kind"
    with pytest.raises(UsageError, match="several columns may be the class") as stop:
        find_label_column(table_of(tmp_path, {"x": numbers, "kind": words, "sort": LABELS}), None)
    assert stop.value.details == (
        "kind: u (20 rows), v (20 rows), w (20 rows)",
        "sort: a (10 rows), b (10 rows), c (10 rows)",
    )
    with pytest.raises(UsageError, match="no column looks like a class"):
        find_label_column(table_of(tmp_path, {"x": numbers}), None)


def test_a_label_that_is_not_there_is_an_error_with_a_near_match(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean `kind`"):
        find_label_column(table_of(tmp_path, {"x": [1.0] * ROWS, "kind": LABELS}), "kinds")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([DRAW.random() for _ in range(ROWS)], "these look like measurements"),
        (strings(lambda row: f"name {row}"), "these look like names or texts"),
        (["only"] * ROWS, "holds only `only`"),
        ([None] * ROWS, "holds nothing"),
    ],
)
def test_a_column_without_classes_is_refused(tmp_path: Path, cells: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_counts(table_of(tmp_path, {"y": pa.array(cells), "x": [1.0] * ROWS}), "y")


def test_classes_are_counted_in_their_natural_order(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"y": ["10", "9", "2", None] * 15})
    assert list(class_counts(table, "y").items()) == [("2", 15), ("9", 15), ("10", 15)]
