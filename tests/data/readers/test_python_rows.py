"""Rows from a Python program mean what the same rows in a file mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.readers.base import Chunk, MemoryReader
from flowgmm_cli.data.readers.python_rows import RowsLike, open_input
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError

CLASSES = ("no", "yes")
TABLE = InputSchema((Column("width", "numeric"), Column("colour", "category")), CLASSES, label="y", id="name")
NUMBERS = InputSchema((Column("a", "numeric"), Column("b", "numeric")), CLASSES)
IMAGES = InputSchema((Column("pixels", "vector", (2, 3)),), CLASSES)
TEXTS = InputSchema((Column("text", "text"),), CLASSES, text_parts=("text",))


def read(data: RowsLike, schema: InputSchema, on_error: str = "keep") -> Chunk:
    reader = open_input(data, schema, context=DataContext(), on_error=on_error)  # type: ignore[arg-type]
    (chunk,) = reader
    assert reader.total in (None, len(chunk))
    return chunk


COLUMNS = {
    "name": ["p", "q", "r"],
    "colour": ["red", None, "blue"],
    "width": [1.5, np.nan, 3],
    "y": ["yes", "", "no"],
    "other": [1, 2, 3],
}


def test_columns_are_matched_by_name() -> None:
    chunk = read(COLUMNS, TABLE)
    assert np.array_equal(chunk.columns["width"], [1.5, np.nan, 3], equal_nan=True)
    assert chunk.columns["colour"].tolist() == ["red", None, "blue"]
    assert chunk.labels.tolist() == [1, -1, 0]
    assert chunk.ids.tolist() == ["p", "q", "r"]


def test_a_file_gives_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name,colour,width,y,other\np,red,1.5,yes,1\nq,,,,2\nr,blue,3,no,3\n")
    chunk = read(COLUMNS, TABLE)
    for where in (path, str(path)):
        file = read(where, TABLE)
        assert file.ids.tolist() == chunk.ids.tolist()
        assert file.labels.tolist() == chunk.labels.tolist()
        assert np.array_equal(file.columns["width"], chunk.columns["width"], equal_nan=True)


def test_arrays_can_be_columns() -> None:
    given = {"width": np.arange(3), "colour": np.array(["red", "blue", "red"])}
    chunk = read(given, TABLE)
    assert chunk.columns["width"].tolist() == [0, 1, 2]
    assert chunk.ids.tolist() == ["1", "2", "3"]
    assert chunk.labels.tolist() == [-1, -1, -1]


def test_a_cell_that_is_no_number_is_a_problem_of_its_row() -> None:
    given = {"width": [1.0, "wide", 2.0], "colour": ["red"] * 3}
    chunk = read(given, TABLE)
    assert list(chunk.problems) == [1]
    with pytest.raises(DataError, match="wide"):
        read(given, TABLE, on_error="fail")


def test_an_array_holds_the_numeric_columns_in_order() -> None:
    chunk = read(np.array([[1, 2], [3, 4], [5, 6]]), NUMBERS)
    assert chunk.columns["a"].tolist() == [1.0, 3.0, 5.0]
    assert chunk.columns["b"].tolist() == [2.0, 4.0, 6.0]
    assert read([[1, 2], [3, 4]], NUMBERS).columns["a"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3)])
def test_an_array_holds_images_flat_or_not(shape: tuple[int, ...]) -> None:
    array = np.arange(24.0).reshape(shape)
    assert np.array_equal(read(array, IMAGES).columns["pixels"], array.reshape(4, 2, 3))
    assert np.array_equal(read({"pixels": array}, IMAGES).columns["pixels"], array.reshape(4, 2, 3))


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_an_array_of_images_holds_pixels_or_fractions_as_in_a_file(scale: float) -> None:
    schema = InputSchema(columns=(Column("image", "image", (2, 3)),), class_names=("no", "yes"))
    pixels = np.arange(24).reshape(4, 2, 3) * 10
    cells = read(pixels * scale, schema).columns["image"]
    assert cells.dtype == np.uint8
    assert cells.tolist() == pixels.tolist()


@pytest.mark.parametrize(
    "data",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        {"text": ["a", "b"]},
        pd.Series(["a", "b"], index=[7, 8], name="body"),
        [{"text": "a"}, {"text": "b"}],
    ],
)
def test_texts_are_texts(data: Any) -> None:
    assert read(data, TEXTS).columns["text"].tolist() == ["a", "b"]


class ArrowFrame:
    """A data frame as polars exports it."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_data_frames_of_any_library_are_accepted(kind: pa.DataType) -> None:
    columns = {name: cells for name, cells in COLUMNS.items() if name != "width"}
    table = pa.table({name: pa.array(cells) for name, cells in columns.items()})
    table = table.append_column("width", pa.array([1.5, None, 3.0]))
    table = table.set_column(1, "colour", table["colour"].cast(kind))
    expected = read(COLUMNS, TABLE)
    halves = ArrowFrame(pa.concat_tables([table[:1], table[1:]]))
    for frame in (table, halves, table.to_pandas(), table.to_pylist()):
        rows = read(frame, TABLE)
        assert rows.ids.tolist() == expected.ids.tolist()
        assert rows.labels.tolist() == expected.labels.tolist()
        assert rows.columns["colour"].tolist() == ["red", None, "blue"]
        assert np.array_equal(rows.columns["width"], expected.columns["width"], equal_nan=True)


def test_a_data_frame_keeps_categories_dates_and_missing_cells() -> None:
    day = Column("day", "date", format="ISO 8601")
    schema = InputSchema((day, Column("n", "numeric"), Column("kind", "category")), ("no", "yes"))
    columns = {
        "day": pd.to_datetime(["2024-05-01", None]),
        "n": pd.array([1, None], dtype="Int64"),
        "kind": pd.Categorical(["b", None]),
    }
    columns = read(pd.DataFrame(columns), schema).columns
    assert np.array_equal(columns["day"], [1714521600.0, np.nan], equal_nan=True)
    assert np.array_equal(columns["n"], [1.0, np.nan], equal_nan=True)
    assert columns["kind"].tolist() == ["b", None]


def test_a_list_of_dicts_may_leave_cells_out() -> None:
    rows = read([{"width": 1, "colour": "red"}, {"colour": "blue"}], TABLE)
    assert np.array_equal(rows.columns["width"], [1.0, np.nan], equal_nan=True)


def test_rows_and_readers_are_accepted() -> None:
    rows = Rows({"a": np.zeros(2), "b": np.ones(2)}, np.array([0, -1]), np.array(["x", "y"], dtype=object))
    assert read(rows, NUMBERS).ids.tolist() == ["x", "y"]
    assert read(MemoryReader(rows, "r"), NUMBERS).ids.tolist() == ["x", "y"]


def test_an_object_with_columns_is_accepted_like_a_dict() -> None:
    class Frame:
        def keys(self) -> list[str]:
            return ["a", "b"]

        def __getitem__(self, name: str) -> np.ndarray:
            return np.array([1.0, 2.0])

    assert read(Frame(), NUMBERS).columns["b"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "schema", "words"),
    [
        ({"width": [1.0]}, TABLE, "no column `colour`"),
        ({"width": [1.0], "colour": ["a", "b"]}, TABLE, "differ in length"),
        (np.zeros((3, 5)), NUMBERS, "no array has rows that fit"),
        (np.zeros((3, 2)), TABLE, "there is no array `width`"),
        (np.zeros(3), NUMBERS, "no rows of numbers"),
        (["a", "b"], TABLE, "for a model of texts"),
        (pd.Series(["a"], name="colour"), TABLE, r"one column \(`colour`\), and the model reads 2"),
        ({"width": 1.0, "colour": "red"}, TABLE, "cells, not columns"),
        ("my card was stolen", TEXTS, "no such file: my card was stolen"),
        (5, NUMBERS, "no rows of numbers|cannot be a int"),
        ("nowhere.csv", NUMBERS, "nowhere.csv"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_a_data_error(data: Any, schema: InputSchema, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(data, schema)
    assert caught.value.hint or caught.value.details


def test_a_text_of_any_length_is_no_file() -> None:
    with pytest.raises(DataError) as caught:
        read("a long text " * 100, TEXTS)
    assert caught.value.hint == 'a text goes in a list: predict(["..."])'
