import io
import os
import struct
import sys
import threading
import tokenize
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flowgmm_cli.api import Column, DataContext, LabelsConfig, Rows
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.data.readers import chunks as table_chunks
from flowgmm_cli.data.readers.base import MemoryReader, note_once
from flowgmm_cli.data.readers.csv import CsvReader
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.sources import csv as csv_source  # or it would keep what a test replaces
from flowgmm_cli.errors import DataError, RecipeError, UsageError


@pytest.fixture
def stdin(monkeypatch):
    def give(content):
        buffer = io.BufferedReader(io.BytesIO(content.encode()))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
        return "-"

    return give


def test_the_schema_of_a_run_comes_from_its_recipe(component):
    names = {"label": "kind", "id": "name", "text": ["title", "body"], "drop": ["junk"]}
    labels = LabelsConfig(column="mine")
    data = component("data", "csv", path="t.csv", delimiter=";", labels=labels, **names)
    schema = InputSchema.from_config(data, [Column("text", "text")], ["a", "b"], ranges={"v": (0.0, 1.0)})
    assert (schema.label, schema.id, schema.settings.delimiter) == ("kind", "name", ";")
    assert schema.text_parts == ("title", "body")
    assert schema.known == {"junk", "mine"}
    assert schema.ranges == {"v": (0.0, 1.0)}
    arrays = component("data", "arrays", path="t.npz", class_names=["a", "b"], x_test="later")
    schema = InputSchema.from_config(arrays, [Column("x", "vector", (2,))], ["a", "b"])
    assert schema.arrays == (("later", "test_label"), ("train", "train_label"))
    assert schema.codes == ("a", "b")
    moons = component("data", "sklearn", name="two_moons")
    drawn = InputSchema.from_config(moons, [Column("x1", "numeric")], ["0"])
    assert (drawn.label, drawn.text_parts, drawn.arrays) == ("label", (), ())


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("x,colour,y\n1,red,2\n", None),
        ("x\tcolour\ty\n1\tred\t2\n", "tsv"),
        ('{"x": 1, "colour": "red", "y": 2}', "jsonl"),
    ],
)
def test_standard_input(rows, read, table, stdin, content, format):
    reader = rows(stdin(content), table, format=format)
    result = read(reader)
    assert (result["x"], result["colour"], result["y"]) == ([1], ["red"], [2])
    with pytest.raises(DataError, match="standard input can be read only once"):
        list(reader)


def test_standard_input_of_plain_text(rows, read, texts, stdin):
    assert read(rows(stdin("a\nb\n"), texts, format="txt"))["text"] == ["a", "b"]


def test_a_named_pipe_is_read_once(rows, read, table, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = b"x,colour,y\n" + b"1,red,2\n" * 1000
    feeder = threading.Thread(target=lambda: path.write_bytes(content))
    feeder.start()
    assert len(read(rows(path, table)).ids) == 1000
    feeder.join()


def test_a_single_image_names_its_folder(rows, table, write):
    path = write(b"no matter", "photo.JPG")
    with pytest.raises(DataError, match="cannot be read as a table") as caught:
        rows(path, table)
    assert caught.value.hint == f"images are read from a folder: --data {Path(path).parent}"


def test_formats_that_standard_input_cannot_have(rows, table, stdin):
    with pytest.raises(UsageError, match="cannot be read as parquet"):
        rows(stdin(""), table, format="parquet")
    with pytest.raises(UsageError, match="did you mean `parquet`"):
        rows("t.csv", table, format="parket")


def test_files_of_unknown_types_and_missing_ones(rows, read, table, write, tmp_path):
    path = write("x,colour,y\n1,red,2\n", "t.data")
    with pytest.raises(DataError, match=r"type `\.data`") as caught:
        rows(path, table)
    assert "--data-format" in caught.value.hint
    assert read(rows(path, table, format="csv"))["x"] == [1]
    with pytest.raises(DataError, match=r"did you mean `t\.data`"):
        rows(tmp_path / "t.dat", table)


def test_a_csv_spec_names_columns_of_its_own(rows, read, texts, write):
    path = write("question,kind,answer\nwhy?,oak,y\n", "q.csv")
    result = read(rows(f"{{use: csv, path: '{path}', text: question}}", texts))
    assert result["text"] == ["why?"]
    assert result.labels == [1]
    result = read(
        rows(f"{{use: csv, path: '{path}', text: [question, answer], label: answer, id: kind}}", texts)
    )
    assert (result["text"], result.labels, result.ids) == (["why?\ny"], [-1], ["oak"])
    result = read(rows(f"{{use: hf_text, path: '{path}', text: question, label: kind}}", texts))
    assert (result["text"], result.labels) == (["why?"], [1])


def test_of_a_spec_with_splits_the_test_rows_are_read(rows, read, table, write):
    train = write("x,colour,y\n1,red,2\n", "train.csv")
    test = write("x,colour,y\n3,red,2\n", "test.csv")
    spec = f"{{use: csv, path: '{train}', test_path: '{test}'}}"
    assert read(rows(spec, table))["x"] == [3]


def test_a_spec_of_another_source_is_loaded(rows, read):
    schema = InputSchema((Column("pixels", "vector", (64,)),), ("7", "3"))
    result = read(rows("{use: sklearn, name: digits}", schema))
    assert result.columns["pixels"].shape == (1797, 64)
    assert sorted(set(result.labels)) == [-1, 0, 1]
    assert result.unknown_labels.keys() == {place for place, label in enumerate(result.labels) if label < 0}
    assert set(result.unknown_labels.values()) == set("01245689")
    moons = InputSchema((Column("x2", "numeric"), Column("x1", "numeric")), ("0", "1"))
    assert len(read(rows("{use: sklearn, name: two_moons, test_n: 30}", moons)).ids) == 30
    with pytest.raises(DataError, match="gives no column `pixels`"):
        rows("{use: sklearn, name: two_moons}", schema)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{use: csv}", "`path`|path  is required"),
        ("{use: csv, path: t.csv, lable: y}", "did you mean `label`"),
        ("{use: csv, path: 3, split: 4}", "2 problems"),
        ("{path: t.csv}", "`use` is missing"),
        ("{use: csv, path: t.csv", "expected ',' or '}'"),
    ],
)
def test_a_wrong_spec_is_explained_like_a_recipe(rows, table, spec, words):
    with pytest.raises(RecipeError) as caught:
        rows(spec, table)
    message = "\n".join([caught.value.message, *caught.value.details])
    assert any(word in message for word in words.split("|"))
    assert "the data spec" in message


def test_text_in_a_spec_for_a_model_without_text(rows, table, write):
    path = write("x,colour,y\n1,red,2\n")
    with pytest.raises(RecipeError, match="reads no text"):
        rows(f"{{use: csv, path: '{path}', text: colour}}", table)


def test_rows_in_memory_come_in_chunks(read):
    rows = Rows({"x": np.arange(10.0)}, np.arange(10), np.array([f"train:{i}" for i in range(10)]))
    for size in (1, 3, 10, 99):
        reader = MemoryReader(rows, "test", chunk_rows=size)
        for _ in range(2):
            result = read(reader)
            assert result["x"] == list(range(10))
            assert result.labels == list(range(10))
            assert result.ids == rows.ids.tolist()
        assert max(map(len, reader)) == min(size, 10)


UNFORESEEN = [
    ValueError("no such thing"), TypeError("no"), OverflowError("too big"), KeyError("x"), MemoryError(),
    NotImplementedError(), RuntimeError("encrypted"), struct.error("short"), tokenize.TokenError("EOF"),
    OSError("gone"), pa.ArrowInvalid("no"), UnicodeDecodeError("utf-8", b"", 0, 1, ""),
]  # fmt: skip


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_whatever_reading_raises_is_an_error_of_the_data(
    rows, component, table, write, context, monkeypatch, error
):
    def broken(*args, **kwargs):
        raise error

    path = write("x,colour,y\n1,red,2\n")
    reader = rows(path, table)
    monkeypatch.setattr(table_chunks, "parse_cells", broken)
    with pytest.raises(DataError, match=r"t\.csv cannot be read: "):
        list(reader)
    monkeypatch.setattr(table_chunks.TableChunks, "__init__", broken)
    with pytest.raises(DataError, match=r"t\.csv cannot be read: "):
        rows(path, table)
    monkeypatch.setattr(CsvReader, "_read", broken)
    with pytest.raises(DataError, match=r"t\.csv cannot be read as csv: "):
        load_rows(component("data", "csv", path=path, label="colour"), context)
    monkeypatch.setattr(csv_source, "build", broken)
    with pytest.raises(DataError, match=r"the source `csv` cannot be read: "):
        load_rows(component("data", "csv", path=path, label="colour"), context)


def test_a_note_is_passed_on_once(notes):
    note = note_once(DataContext(note=notes.append))
    for text in ("a", "a", "b", "a"):
        note(text)
    assert notes == ["a", "b"]
