"""Every format returns the rows that were written, and a file is whole or absent."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowgmm_cli.data.writers.base import FORMATS, find_format, open_writer
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.messages import quote

# without surrogates, which are not characters, and NUL, which ends a string in NumPy
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=False)
Table = dict[str, list[Any]]


def arrays(table: Table) -> dict[str, np.ndarray[Any, Any]]:
    flags = table["flag"]
    return {
        "id": np.array(table["id"], dtype=object),
        'score, "raw"': np.array(table["score"], dtype=np.float32),
        "flag": np.ma.array(
            [bool(flag) for flag in flags], mask=[flag is None for flag in flags], dtype=bool
        ),
        "z": np.array(table["z"], dtype=np.float32).reshape(len(table["id"]), 2),
    }


def write(path: Path, chunks: list[Table], **options: Any) -> None:
    with open_writer(str(path), **options) as writer:
        for chunk in chunks:
            writer.write(arrays(chunk))
    assert writer.rows == sum(len(chunk["id"]) for chunk in chunks)


def number(cell: Any) -> float | None:
    """A number in single precision; None for an empty cell or NaN."""
    return None if cell in ("", None) or math.isnan(float(cell)) else float(np.float32(cell))


def vector(cells: Any) -> list[float | None] | None:
    """Numbers in single precision; None if all are missing."""
    numbers = [number(cell) for cell in cells or ()]
    return None if all(x is None for x in numbers) else numbers


def read(path: Path) -> Table:
    """Read a table as Python objects with another library; None where a cell is missing."""
    kind = path.suffix[1:]
    rows: list[Any]
    if kind in ("csv", "tsv"):
        text = io.StringIO(path.read_bytes().decode(), newline="")
        header, *lines = csv.reader(text, delimiter="," if kind == "csv" else "\t", strict=True)
        assert header == ["id", 'score, "raw"', "flag", "z_0", "z_1"]
        flags = {"": None, "true": True, "false": False}
        rows = [(id, score, flags[flag], z) for id, score, flag, *z in lines]
    elif kind == "jsonl":
        rows = [json.loads(line).values() for line in path.read_bytes().decode().split("\n")[:-1]]
    elif kind == "parquet":
        rows = list(zip(*pq.read_table(path).to_pydict().values(), strict=True))
    else:
        with np.load(path, allow_pickle=False) as data:
            assert data["z"].dtype == np.float32
            rows = list(zip(*(data[name].tolist() for name in data.files), strict=True))
    ids, scores, flags, z = zip(*rows, strict=True) if rows else [()] * 4
    return {
        "id": list(ids),
        "score": list(map(number, scores)),
        "flag": [None if flag is None or flag != flag else bool(flag) for flag in flags],
        "z": list(map(vector, z)),
    }


def expected(table: Table, kind: str) -> Table:
    without_null = kind in ("csv", "tsv", "npz")  # formats that write a missing string as an empty one
    return {
        "id": ["" if text is None and without_null else text for text in table["id"]],
        "score": list(map(number, table["score"])),
        "flag": table["flag"],
        "z": list(map(vector, table["z"])),
    }


def concatenate(chunks: list[Table]) -> Table:
    return {name: [cell for chunk in chunks for cell in chunk[name]] for name in ("id", "score", "flag", "z")}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(0, 5))
    size = {"min_size": n, "max_size": n}
    return {
        "id": draw(st.lists(st.none() | TEXTS, **size)),
        "score": draw(st.lists(FLOATS, **size)),
        "flag": draw(st.lists(st.none() | st.booleans(), **size)),
        "z": draw(st.lists(st.tuples(FLOATS, FLOATS).map(list), **size)),
    }


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(tables(), min_size=1, max_size=3))
def test_the_written_rows_are_read_back(tmp_path: Path, kind: str, chunks: list[Table]) -> None:
    path = tmp_path / f"out.{kind}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowgmm_cli.data.writers.formats._MAX_CELLS", 10)  # two rows at once
        patch.setattr("flowgmm_cli.data.writers.formats._GROUP_BYTES", 60)
        write(path, chunks)
    assert read(path) == expected(concatenate(chunks), kind)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parquet_rows_are_gathered_into_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgmm_cli.data.writers.formats._GROUP_BYTES", 15 * 8192 * 4)
    with open_writer(str(tmp_path / "out.parquet")) as writer:
        for _ in range(40):
            writer.write({"x": np.zeros(8192, dtype=np.float32)})
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


def test_a_single_column_has_no_empty_lines(tmp_path: Path) -> None:
    with open_writer(str(tmp_path / "out.csv")) as writer:
        writer.write({"prediction": np.array(["a", None, "", "b"], dtype=object)})
    assert (tmp_path / "out.csv").read_text() == 'prediction\na\n""\n""\nb\n'


def test_infinities_are_null_in_json(tmp_path: Path) -> None:
    with open_writer(str(tmp_path / "out.jsonl")) as writer:
        writer.write({"x": np.array([np.inf, -np.inf, 1.5]), "n": np.array([1, 2, 3])})
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == [{"x": None, "n": 1}, {"x": None, "n": 2}, {"x": 1.5, "n": 3}]


@pytest.mark.parametrize("kind", FORMATS)
def test_file_names_may_contain_bytes_that_are_not_utf8(tmp_path: Path, kind: str) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    with open_writer(str(tmp_path / f"out.{kind}")) as writer:
        writer.write({"id": np.array([name, "b"], dtype=object), "x": np.zeros(2)})
    assert (tmp_path / f"out.{kind}").stat().st_size > 0


CHUNK: Table = {"id": ["a", "b"], "score": [1.0, 2.0], "flag": [True, None], "z": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("error", "chunks"), [(ValueError, 0), (KeyboardInterrupt, 1)])
def test_an_error_in_the_middle_leaves_the_folder_as_it_was(
    tmp_path: Path, kind: str, error: type[BaseException], chunks: int
) -> None:
    path = tmp_path / f"out.{kind}"
    path.write_text("old")

    def broken() -> None:
        with open_writer(str(path)) as writer:
            for _ in range(chunks):
                writer.write(arrays(CHUNK))
            raise error

    with pytest.raises(error):
        broken()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write(tmp_path / "link.csv", [CHUNK])
    assert (tmp_path / "link.csv").is_symlink()
    assert read(tmp_path / "real.csv") == expected(CHUNK, "csv")


def test_a_named_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(pipe.read_text()))
    reader.start()
    write(pipe, [CHUNK])
    reader.join()
    assert texts[0].count("\n") == 3
    assert pipe.is_fifo()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_without_rows_is_valid(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    with open_writer(str(path)):
        pass
    assert path.exists()
    write(path, [{"id": [], "score": [], "flag": [], "z": []}])
    assert read(path) == {"id": [], "score": [], "flag": [], "z": []}


@pytest.mark.parametrize("kind", FORMATS)
def test_stdout_takes_every_format(capfdbinary: Any, tmp_path: Path, kind: str) -> None:
    with open_writer("-", format=kind) as writer:
        writer.write(arrays(CHUNK))
    (tmp_path / f"out.{kind}").write_bytes(capfdbinary.readouterr().out)
    assert read(tmp_path / f"out.{kind}") == expected(CHUNK, kind)


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_binary_formats_are_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(UsageError, match="not for a terminal"):
        open_writer("-", format=kind)
    open_writer("-", format="jsonl")


@pytest.mark.parametrize(
    ("where", "format", "values"),
    [
        ("a.csv", None, "csv"),
        ("A.CSV", None, "csv"),
        ("b/c.ndjson", None, "jsonl"),
        ("x.pq", None, "parquet"),
        ("-", None, "csv"),
        ("-", "NPZ", "npz"),
        ("noname", "tsv", "tsv"),
        ("a.csv", "jsonl", "jsonl"),
    ],
)
def test_the_format_follows_the_suffix_or_the_option(where: str, format: str | None, values: str) -> None:
    assert find_format(where, format) == values


@pytest.mark.parametrize(
    ("where", "options", "words"),
    [
        ("out.xlsx", {}, "`.xlsx` is not known"),
        ("out", {}, "no suffix"),
        ("out.csv", {"format": "parket"}, "did you mean `parquet`"),
        (".", {"format": "csv"}, "is a folder"),
    ],
)
def test_an_impossible_target_is_a_usage_error(where: str, options: Mapping[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        open_writer(where, **options)
    assert caught.value.hint


def test_a_missing_folder_is_an_error_before_any_row(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder") as caught, open_writer(f"{tmp_path}/a/o.csv"):
        pass
    assert caught.value.hint == f"mkdir -p {quote(f'{tmp_path}/a')}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="read-only"), open_writer(f"{tmp_path}/o.csv"):
        pass


def test_columns_must_stay_the_same(tmp_path: Path) -> None:
    def changed() -> None:
        with open_writer(str(tmp_path / "o.csv")) as writer:
            writer.write({"a": np.zeros(2)})
            writer.write({"b": np.zeros(2)})

    with pytest.raises(ValueError, match="after"):
        changed()
    with pytest.raises(ValueError, match="lengths"), open_writer(str(tmp_path / "o.csv")) as writer:
        writer.write({"a": np.zeros(2), "b": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_arrow_columns_of_any_type_are_written(tmp_path: Path) -> None:
    day = datetime(2024, 5, 1, 12)
    columns = {
        "text": ['a, "b"', None],
        "code": pa.array(["x", "y"]).dictionary_encode(),
        "list": [[1, 2], None],
        "day": [day, None],
        "n": [2**60 + 1, None],
    }
    for kind in FORMATS:
        with open_writer(str(tmp_path / f"o.{kind}")) as writer:
            writer.write({name: pa.array(cells) for name, cells in columns.items()})
    assert (tmp_path / "o.csv").read_text().splitlines()[1:] == [
        f'"a, ""b""",x,"[1, 2]",{day}.000000,{2**60 + 1}',
        ",y,,,",
    ]
    first, second = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert first == {"text": 'a, "b"', "code": "x", "list": [1, 2], "day": f"{day}.000000", "n": 2**60 + 1}
    assert second == {"text": None, "code": "y", "list": None, "day": None, "n": None}
    assert pq.read_table(tmp_path / "o.parquet").to_pydict() == {**columns, "code": ["x", "y"]}
    with np.load(tmp_path / "o.npz") as data:
        assert data["list"].tolist() == ["[1, 2]", ""]
        assert data["n"].tolist() == [float(2**60), pytest.approx(np.nan, nan_ok=True)]


def test_a_parquet_column_keeps_the_type_of_its_first_chunk(tmp_path: Path) -> None:
    with open_writer(str(tmp_path / "o.parquet")) as writer:
        writer.write({"empty": pa.nulls(1), "n": pa.array([1.5])})
        writer.write({"empty": pa.array(["later"]), "n": pa.array([2])})
        with pytest.raises(DataError, match="column `n` has cells of the type double and later string"):
            writer.write({"empty": pa.nulls(1), "n": pa.array(["many"])})
    assert pq.read_table(tmp_path / "o.parquet").to_pydict() == {"empty": [None, "later"], "n": [1.5, 2.0]}
