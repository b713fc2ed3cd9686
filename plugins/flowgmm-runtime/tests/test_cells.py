"""Cells mean the same as in the reader of flowgmm, whose words the cases are."""

import doctest
import math
from pathlib import Path
from typing import Any

import pytest

from flowgmm_runtime import InputError, cells
from flowgmm_runtime.columns import Column, encode_table
from flowgmm_runtime.files import open_writer, read_batches

SETTINGS = {"delimiter": None, "encoding": None, "decimal": ".", "thousands": None}


def read(file: Path, form: str = "csv", **settings: Any) -> tuple[dict[str, list[Any]], dict[int, str]]:
    (batch,) = read_batches(str(file), form, SETTINGS | settings)
    return batch


def test_the_examples_hold() -> None:
    actual = doctest.testmod(cells)
    assert actual.attempted > 0
    assert actual.failed == 0


@pytest.mark.parametrize("text", ["1_0", "0x10", "1e", "- 1", "\uff11", "infinit", "1,5", "two"])
def test_words_are_no_numbers(text: str) -> None:
    with pytest.raises(InputError, match="wants a number"):
        cells.to_number(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("+1", 1), (".5", 0.5), ("5.", 5), ("1E5", 1e5), ("-INF", -math.inf), ("1e400", math.inf)],
)
def test_numbers_have_many_forms(text: str, value: float) -> None:
    assert cells.to_number(text) == value


def test_dates_with_a_zone_are_in_utc() -> None:
    assert cells.to_seconds("1970-01-01T01:00:00+01:00", cells.ISO) == 0
    assert cells.to_seconds("31.12.1969", "%d.%m.%Y") == -86400
    assert math.isnan(cells.to_seconds("n/a", cells.ISO))
    with pytest.raises(InputError, match="wants a date like ISO"):
        cells.to_seconds("20240131", cells.ISO)


def test_a_csv_file_of_a_spreadsheet(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes('\ufeffsep=;\n# made by hand\n\nx;word\n1.000,5;"a;b"\n \n2;c;;\n3\n'.encode())
    table, problems = read(file, decimal=",", thousands=".")
    assert table == {"x": ["1000.5", "2", None], "word": ["a;b", "c", None]}
    assert problems == {2: "line 8: 1 cells, but the header has 2"}


def test_json_lines_and_arrays(tmp_path: Path) -> None:
    lines = tmp_path / "t.jsonl"
    lines.write_text('{"x": 1}\n\n{"y": [1, 2]}\n[3]\n{', encoding="utf-8")
    table, problems = read(lines, "jsonl")
    assert table == {"x": [1, None, None, None], "y": [None, [1, 2], None, None]}
    assert problems[2] == "line 4: not a JSON object"
    assert problems[3].startswith("line 5: not JSON")
    lines.write_text('[{"x": 1},\n {"x": null}]', encoding="utf-8")
    assert read(lines, "jsonl") == ({"x": [1, None]}, {})


def test_utf_16_and_other_encodings(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\né,1\n", encoding="utf-16")
    assert read(file)[0]["a"] == ["é"]
    file.write_text("a,b\né,1\n", encoding="cp1252")
    assert read(file, encoding="cp1252")[0]["a"] == ["é"]
    with pytest.raises(InputError, match="not text of the encoding utf-8"):
        read(file)


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with pytest.raises(ValueError, match="shorter"), open_writer(str(target), "csv") as write:
        write({"id": ["1", "2"], "prediction": ["a"]})
    assert list(tmp_path.iterdir()) == []


def test_columns_become_features() -> None:
    values = {"shape": [], "format": "", "parts": []}
    columns = [
        Column.from_values({"name": name, "kind": kind, "encoder": encoder, **values}, Path())
        for name, kind, encoder in [
            ("n", "numeric", {"fill": [7.0], "marked": True}),
            ("c", "category", {"categories": ["(missing)", "1", "red"]}),
            ("h", "category", {"size": 4}),
        ]
    ]
    table = {"n": ["2", "NA", "x"], "c": ["red ", "", "1.0"], "h": ["a", "", "a"]}
    problems: dict[int, str] = {}
    features = encode_table(columns, [("n",), ("c",), ("h",)], table, problems)
    assert features[:, :5].tolist() == [[2, 0, 0, 0, 1], [7, 1, 1, 0, 0], [7, 1, 0, 1, 0]]
    assert abs(features[:, 5:]).sum(axis=1).tolist() == [1, 0, 1]
    assert problems == {2: "column `n` wants a number, got `x`"}
