"""The files of a table, and the errors about files that are not a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.large.files import find_files, is_table_path
from flowgmm_cli.data.large.reader import GroupReader, read_all
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import DataError


def test_files_of_a_folder_are_in_natural_order_without_hidden_files(tmp_path, some_rows, write_table):
    for name in ("b/part-10", "b/part-9", "a/x", ".hidden/x", "_notes"):
        file = tmp_path / f"{name}.parquet"
        file.parent.mkdir(exist_ok=True)
        write_table(file, some_rows(10, 0))
    (tmp_path / "read.me").write_text("hello")
    table = find_files(str(tmp_path))
    names = [file.path.relative_to(tmp_path).as_posix() for file in table.files]
    assert names == ["a/x.parquet", "b/part-9.parquet", "b/part-10.parquet"]
    assert table.rows == 30


def test_patterns_and_single_files(tmp_path, some_rows, write_table):
    for name in ("a1.parquet", "a2.arrow", "b.feather"):
        write_table(tmp_path / name, some_rows(10, 0))
    assert find_files(str(tmp_path / "a*")).rows == 20
    assert find_files(str(tmp_path / "b.feather")).rows == 10
    assert is_table_path(str(tmp_path / "a*"))
    assert not is_table_path(str(tmp_path / "rows.csv"))
    with pytest.raises(DataError, match="no file of a table matches"):
        find_files(str(tmp_path / "c*"))


def test_all_kinds_of_files_give_the_same_rows(config, context, tmp_path, some_rows, write_table):
    table = some_rows(700, 3, shown=0.5)
    found = []
    for kind in ("parquet", "arrow", "feather"):
        place = tmp_path / kind
        place.mkdir()
        if kind == "feather":
            feather.write_feather(table, str(place / "x.feather"), chunksize=250, compression="lz4")
        else:
            write_table(place / f"x.{kind}", table)
        for memory in (0.0, 2.0):
            data = config(
                place, memory=memory, labels=LabelsConfig(count=30), split=SplitConfig(test=0, val=0)
            )
            found.append(load_rows(data, context))
    first = found[0]
    for other in found[1:]:
        assert (other.train.ids == first.train.ids).all()
        assert (other.train.labels == first.train.labels).all()
        for name, cells in first.train.columns.items():
            np.testing.assert_array_equal(cells, other.train.columns[name])


def test_a_range_of_a_group_has_the_rows_of_the_table(folder):
    table = find_files(str(folder))
    whole = read_all(table)
    with GroupReader(table, ["a", "colour"], 70) as reader:
        for group, offset, rows in ((0, 0, 250), (4, 100, 90), (2, 0, 100), (11, 99, 1), (1, 249, 1)):
            start = int(table.group_rows[:group].sum()) + offset
            read = pa.concat_tables(reader.read(group, offset, rows))
            assert read.equals(whole.select(["a", "colour"]).slice(start, rows).combine_chunks())


def test_two_files_with_different_columns_are_both_named(folder, some_rows, write_table):
    table = some_rows(10, 0)
    write_table(folder / "part-8.parquet", table.drop_columns(["b"]))
    with pytest.raises(
        DataError, match=r"part-0\.parquet and .*part-8\.parquet have different columns"
    ) as error:
        find_files(str(folder))
    assert any("`b` is missing" in line for line in error.value.details)
    write_table(folder / "part-8.parquet", table.set_column(0, "a", pa.array(["x"] * 10)))
    with pytest.raises(DataError) as error:
        find_files(str(folder))
    assert "`a` is float in" in error.value.details[0]
    assert "string in" in error.value.details[0]


def test_damaged_empty_and_streamed_files_are_named(folder, some_rows):
    with pa.OSFile(str(folder / "part-5.arrow"), "wb") as sink:
        table = some_rows(5, 0)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(DataError, match=r"part-5\.arrow cannot be read") as error:
        find_files(str(folder))
    assert "stream format" in error.value.hint
    (folder / "part-5.arrow").unlink()
    (folder / "part-6.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"part-6\.parquet cannot be read"):
        find_files(str(folder))
    (folder / "part-6.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"part-6\.parquet is empty"):
        find_files(str(folder))


def test_a_file_that_changes_is_refused(folder, some_rows, write_table):
    table = find_files(str(folder))
    write_table(folder / "part-1.parquet", some_rows(20, 0))
    with GroupReader(table, ["a"], 100) as reader, pytest.raises(DataError, match="has been written since"):
        list(reader.read(3))


def test_only_input_columns_count_as_memory(folder):
    table = find_files(str(folder))
    assert table.memory_bytes(["a", "b"]) == 2400 * 16
    assert table.memory_bytes(["v"]) == 2400 * 24
    assert 2400 * 3 < table.memory_bytes(["name"]) < 2400 * 30
    assert table.memory_bytes([]) == 0
