"""Readers of jsonl and parquet."""

import gzip
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers.open import open_rows
from flowgmm_cli.data.readers.schema import InputSchema, match_columns
from flowgmm_cli.errors import DataError

ROWS = [
    {"name": "a", "x": 1, "colour": "red", "y": 2.5, "kind": "oak"},
    {"name": "b", "x": None, "colour": None, "y": -300, "kind": None},
    {"name": None, "x": 3, "colour": "NA", "y": None, "kind": "birch"},
]


def lines(rows):
    return "\n".join(map(json.dumps, rows))


def parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("kind", ["jsonl", "json array", "jsonl.gz", "parquet", "dictionary"])
def test_the_same_rows_in_every_format(rows, read, table, write, tmp_path, kind, size, notes):
    if kind == "jsonl":
        path = write("\ufeff\n" + lines(ROWS).replace("\n", "\n\n"), "t.jsonl")
    elif kind == "json array":
        path = write(json.dumps(ROWS, indent=1), "t.json")
    elif kind == "jsonl.gz":
        path = write(gzip.compress(lines(ROWS).encode()), "t.jsonl.gz")
    else:
        columns = {name: pa.array([row[name] for row in ROWS]) for name in ROWS[0]}
        if kind == "dictionary":
            columns |= {name: columns[name].dictionary_encode() for name in ("colour", "kind", "name")}
        path = parquet(tmp_path / "t.parquet", columns)
    reader = rows(path, table, chunk_rows=size)
    for _ in range(2):
        result = read(reader)
        assert result["x"] == [1, None, 3]
        assert result["y"] == [2.5, -300, None]
        assert result["colour"] == ["red", None, "NA"]
        assert result.labels == [1, -1, -1]
        assert result.ids == ["a", "b", "3"]
        assert result.problems == {}
    assert result.unknown_labels == {2: "birch"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"x": "one", "y": 2, "colour": "red"}', "column `x` wants a number, got `one`"),
        ('{"x": [1], "y": 2, "colour": "red"}', "column `x` wants a number, got `[1]`"),
        ("[1, 2]", "not a JSON object"),
        ('{"x": 1, "y"', "not JSON: "),
        (b'{"x": 1, "y": 2, "colour": "r\xe4d"}', "not UTF-8 text"),
    ],
)
def test_a_malformed_line_is_reported_with_its_number(rows, read, table, write, line, what):
    odd = line if isinstance(line, bytes) else line.encode()
    good = b'{"x": 1, "y": 2, "colour": "red"}\n'
    path = write(good + b"\n" + good + odd + b"\n" + good, "t.jsonl")
    with pytest.raises(DataError) as caught:
        list(rows(path, table))
    assert caught.value.message.startswith(f"{path}:4: {what}")
    result = read(rows(path, table, on_error="keep"))
    assert list(result.problems) == [2]
    assert result.problems[2].startswith(f"line 4: {what}")
    assert result["x"] == [1, 1, None, 1]


def test_a_key_may_be_left_out_but_not_everywhere(rows, read, table, write):
    content = '{"x": 1, "y": 2}\n{"y": 3, "colour": 7, "new": 1}\n{"colour": "red"}'
    result = read(rows(write(content, "t.jsonl"), table))
    assert result["x"] == [1, None, None]
    assert result["colour"] == [None, "7", "red"]
    with pytest.raises(DataError, match="no column `colour`"):
        rows(write('{"x": 1, "y": 2}', "t.jsonl"), table)


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_json_array_is_read_item_by_item(rows, read, table, write, size):
    items = [{"x": 1.5, "colour": "r" * size, "y": None}, {"x": 2, "colour": "é, [{", "y": -3}] * 2
    path = write(json.dumps(items, indent=1) + " \n", "t.json")
    result = read(rows(path, table))
    assert result["x"] == [1.5, 2, 1.5, 2]
    assert [len(cell) for cell in result["colour"][::2]] == [size] * 2 if size else True
    assert result["colour"][1] == "é, [{"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"x": 1, "y": 1, "colour": 1}', "after item 1: a comma or the end"),
        ('[{"x": 1, "y": 1, "colour": 1} {}]', "after item 1: a comma or the end"),
        ('[{"x": 1, "y": 1, "colour": 1},', "after item 1: Expecting value"),
        ('[{"x": 1, "y": 1, "colour": 1},]', "after item 1: Expecting value"),
        ('[{"x": 1, "y": 1, "colour": 1}] x', "after item 1: text follows"),
        ('[{"x": 1, "y": 1, "colour": 1}, ' + "[" * 100_000, "after item 1: maximum recursion"),
        ('[{"x": "' + "x" * 9 * 2**20 + '"}]', "after item 0: an item has more than 8 MiB"),
        (b'[{"x": "\xff"}]', "after item 0: .*codec"),
    ],
)
def test_a_damaged_json_array_is_named_with_its_last_good_item(rows, table, write, content, reason):
    with pytest.raises(DataError, match=reason):
        list(rows(write(content, "t.json"), table))


@pytest.mark.parametrize("content", ["", "\n \n", "[]", "nonsense", "3\n4"])
def test_json_without_rows(rows, table, write, content):
    with pytest.raises(DataError, match=r"no rows|not JSON|not a JSON object"):
        list(rows(write(content, "t.jsonl"), table))


def test_parquet_cells_that_do_not_fit(rows, read, table, tmp_path):
    columns = {"x": ["1", "two", " NA "], "y": [1, 2, 3], "colour": [1, 2, None]}
    path = parquet(tmp_path / "t.parquet", columns)
    with pytest.raises(DataError) as caught:
        list(rows(path, table))
    assert caught.value.message == f"{path}, row 2: column `x` wants a number, got `two`"
    result = read(rows(path, table, on_error="keep"))
    assert result["x"] == [1, None, None]
    assert result["colour"] == ["1", "2", None]
    assert result.problems == {1: "row 2: column `x` wants a number, got `two`"}


def test_class_names_inside_a_parquet_file_are_used(rows, read, table, tmp_path):
    types = {"x": "float64", "y": "float64", "colour": "string"}
    features = {name: datasets.Value(type) for name, type in types.items()}
    features["kind"] = datasets.ClassLabel(names=["birch", "oak", "ash"])
    values = {"x": [1.0] * 4, "y": [1.0] * 4, "colour": ["u"] * 4, "kind": [2, 1, 0, -1]}
    datasets.Dataset.from_dict(values, features=datasets.Features(features)).to_parquet(
        str(tmp_path / "t.parquet")
    )
    assert read(rows(tmp_path / "t.parquet", table)).labels == [0, 1, -1, -1]


def test_files_that_are_not_parquet(rows, table, write, tmp_path):
    with pytest.raises(DataError, match="cannot be read as parquet"):
        rows(write("x,y\n1,2\n", "t.parquet"), table)
    path = parquet(tmp_path / "s.parquet", {"x": [1.0], "y": [1.0], "colour": ["u"]})
    empty = parquet(tmp_path / "e.parquet", {"x": [], "y": [], "colour": []})
    with pytest.raises(DataError, match="has no rows"):
        rows(empty, table)
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        rows(tmp_path / "cut.parquet", table)


class Names(list):
    """A list of names that counts how often it is searched or copied."""

    searched = 0

    def __contains__(self, name):
        self.searched += 1
        return super().__contains__(name)

    def __iter__(self):
        self.searched += 1
        return super().__iter__()


def test_the_names_of_a_wide_table_are_searched_a_few_times_only():
    names = Names(f"c{i}" for i in range(300))
    schema = InputSchema(tuple(Column(name, "numeric") for name in names[:200]), ("a",), label="c250")
    for keep in ((), ("all",)):
        match = match_columns(schema, names, where="t.csv", note=str, keep=keep)
        assert match.needed[:200] == names[:200]
    assert names.searched < 20


@pytest.mark.parametrize("start", [pa.ipc.new_file, pa.ipc.new_stream])
def test_offsets_beyond_the_cells_of_an_arrow_file_are_an_error(rows, table, tmp_path, start):
    cells = pa.table({"x": [1.0, 2.0], "colour": ["red", "blue"], "y": [1.0, 2.0]})
    path = tmp_path / "t.arrow"
    with start(str(path), cells.schema) as writer:
        writer.write_table(cells)
    offsets, beyond = np.array([0, 3, 7], "<i4").tobytes(), np.array([0, 2**20, 7], "<i4").tobytes()
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, beyond))
    with pytest.raises(DataError, match="cannot be read as arrow"):
        list(rows(path, table))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_are_vectors(rows, read, vector, write, tmp_path, kind):
    cells = [[1, 2, 3, 4], [5.0, 6, 7, 8], [1, 2], None, [[1, 2], [3, None]]]
    if kind == "parquet":
        cells = cells[:4]
        path = parquet(tmp_path / "t.parquet", {"v": pa.array(cells, pa.list_(pa.float32()))})
    else:
        path = write(lines([{"v": cell} for cell in cells]), "t.jsonl")
    result = read(rows(path, vector(2, 2), on_error="keep", chunk_rows=2))
    assert result.columns["v"][:2].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert [at for at, why in result.problems.items() if "wants a list of 4 numbers" in why][:2] == [2, 3]


VALUES = st.fixed_dictionaries(
    {
        "text": st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
        "x": st.one_of(st.none(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False)),
        "c": st.one_of(st.none(), st.sampled_from(["u", "NA", "1", "ü"])),
    }
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=30), size=st.integers(1, 9), groups=st.integers(1, 9))
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_table_comes_back_in_order(values, size, groups, kind, read, tmp_path):
    path = tmp_path / f"t.{kind}"
    if kind == "jsonl":
        path.write_text(lines(values), encoding="utf-8")
    else:
        types = {"text": pa.string(), "x": pa.float64(), "c": pa.large_string()}
        columns = {name: pa.array([row[name] for row in values], of) for name, of in types.items()}
        parquet(path, columns, row_group_size=groups)
    schema = InputSchema((Column("text", "text"), Column("x", "numeric"), Column("c", "category")), ("a",))
    result = read(open_rows(str(path), schema, context=DataContext(), chunk_rows=size))
    assert result["text"] == [row["text"] if (row["text"] or "").strip() else "" for row in values]
    assert result["x"] == [None if row["x"] is None else float(row["x"]) for row in values]
    assert result["c"] == [row["c"] for row in values]
    assert result.problems == {}
