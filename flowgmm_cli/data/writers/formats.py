"""Writers of the formats: csv, tsv and jsonl, without a Python loop over the cells, parquet and npz."""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.writers.base import (
    Columns,
    Writer,
    is_matrix,
    is_plain,
    is_stream,
    missing_rows,
    to_arrow,
    to_text,
)
from flowgmm_cli.errors import DataError

_MAX_CELLS = 1_000_000  # cells converted to text at once
_NULL = pa.scalar(None, pa.string())


class DelimitedWriter(Writer):
    """Write csv or tsv: a header line and one line per row.

    Missing cells are empty, booleans are `true` or `false`. A column `z` of `(N, D)` becomes the columns
    `z_0` to `z_{D-1}`.
    """

    def __init__(self, path: Path | None, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter

    def _write_header(self, columns: Columns) -> None:
        names: list[str] = []
        for name, values in columns.items():
            names += [f"{name}_{entry}" for entry in range(values.shape[1])] if is_matrix(values) else [name]
        cells = encode_csv(pa.array(names, pa.string()), self._delimiter).to_pylist()
        self.stream.write((self._delimiter.join(cells) + "\n").encode())

    def _write_rows(self, columns: Columns, size: int) -> None:
        for chunk in _split(columns, size):
            cells: list[pa.Array] = []
            for values in chunk.values():
                parts = values.T if is_matrix(values) else [values]
                cells += [encode_csv(to_arrow(part), self._delimiter) for part in parts]
            if len(cells) == 1:  # an empty line would not count as a row
                cells = [pc.if_else(pc.equal(pc.fill_null(cells[0], ""), ""), '""', cells[0])]
            cells[-1] = pc.binary_join_element_wise(cells[-1], "\n", "", null_handling="replace")
            lines = pc.binary_join_element_wise(*cells, self._delimiter, null_handling="replace")
            self.stream.write("".join(lines.to_pylist()).encode())


class JsonlWriter(Writer):
    """Write one JSON object per line; missing cells are null, a column `(N, D)` is a list in each row."""

    def _write_rows(self, columns: Columns, size: int) -> None:
        for chunk in _split(columns, size):
            pieces: list[pa.Array | str] = []
            for name, values in chunk.items():
                key = json.dumps(name, ensure_ascii=False)
                pieces += [f"{',' if pieces else '{'}{key}:", encode_json(values)]
            lines = pc.binary_join_element_wise(
                *pieces, "}\n", "", null_handling="replace", null_replacement="null"
            )
            self.stream.write("".join(lines.to_pylist()).encode())


def encode_csv(cells: pa.Array, delimiter: str) -> pa.Array:
    """Convert the cells of a column to text, quoted where RFC 4180 requires it; null stays null.

    A number has as few digits as reproduce it exactly, at most 9 in single precision.

    >>> encode_csv(pa.array(["a", 'b"c', None]), ",").to_pylist()
    ['a', '"b""c"', None]
    >>> encode_csv(pa.array([0.1, 1.0], pa.float32()), ",").to_pylist()
    ['0.1', '1']
    """
    if is_plain(cells.type):
        return pc.cast(cells, pa.string())
    cells = to_text(cells)
    special = pc.match_substring_regex(cells, f'["\r\n{delimiter}]')
    if not pc.any(special).as_py():
        return cells
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(special, quoted, cells)


def encode_json(values: Array) -> pa.Array:
    r"""Convert the cells of a column to JSON; missing cells, NaN and infinities become null.

    >>> encode_json(np.array(['a', 'é', None], dtype=object)).to_pylist()
    ['"a"', '"é"', None]
    >>> encode_json(np.array([[1.0, 0.25], [np.nan, 2.0], [np.nan, np.nan]])).to_pylist()
    ['[1,0.25]', '[null,2]', None]
    """
    if is_matrix(values):
        entries = [encode_json(column) for column in values.T]
        joined = pc.binary_join_element_wise(*entries, ",", null_handling="replace", null_replacement="null")
        lists = pc.binary_join_element_wise("[", joined, "]", "")
        return pc.if_else(pa.array(missing_rows(values)), _NULL, lists)
    cells = to_arrow(values)
    if pa.types.is_floating(cells.type):
        return pc.if_else(pc.is_finite(cells), pc.cast(cells, pa.string()), _NULL)
    if is_plain(cells.type) or pa.types.is_nested(cells.type):
        return to_text(cells)
    cells = to_text(cells)
    quoted = pc.binary_join_element_wise('"', cells, '"', "")
    special = pc.fill_null(pc.match_substring_regex(cells, r'["\\\x00-\x1f]'), False)
    if not pc.any(special).as_py():
        return quoted
    escaped = [json.dumps(text, ensure_ascii=False) for text in pc.filter(cells, special).to_pylist()]
    return pc.replace_with_mask(quoted, special, pa.array(escaped, pa.string()))


def _split(columns: Columns, size: int) -> Iterator[Columns]:
    """Yield chunks of at most about `_MAX_CELLS` cells, to bound the memory that their text takes."""
    width = sum(values.shape[1] if is_matrix(values) else 1 for values in columns.values())
    for part in iterate_batches(size, max(1, _MAX_CELLS // max(1, width))):
        yield {name: values[part] for name, values in columns.items()}


_GROUP_BYTES = 1 << 25  # of a row group in memory


class ParquetWriter(Writer):
    """Write a parquet file; missing cells are null, a column `(N, D)` is a list in each row."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._file: Any = None
        self._group: list[pa.RecordBatch] = []
        self._schema = pa.schema([])

    def _write_header(self, columns: Columns) -> None:
        types = {name: to_arrow(values).type for name, values in columns.items()}
        # without a cell, the type of later chunks is unknown
        self._schema = pa.schema({name: pa.string() if of == pa.null() else of for name, of in types.items()})
        import pyarrow.parquet as pq

        stream = pa.PythonFile(self.stream, mode="w")
        self._file = pq.ParquetWriter(stream, self._schema, compression="zstd")
        self.resources.callback(self._release)

    def _write_rows(self, columns: Columns, size: int) -> None:
        cells = [_cast(to_arrow(columns[field.name]), field) for field in self._schema]
        self._group.append(pa.RecordBatch.from_arrays(cells, schema=self._schema))
        if sum(batch.nbytes for batch in self._group) >= _GROUP_BYTES:
            self._write_group()

    def _write_footer(self) -> None:
        if self._file is None:  # no chunk was written: a file without columns
            self._write_header({})
        self._write_group()
        self._file.close()

    def _write_group(self) -> None:
        if self._group:
            self._file.write_table(pa.Table.from_batches(self._group))
        self._group = []

    def _release(self) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):  # its destructor would write a footer later
            self._file.close()


def _cast(cells: pa.Array, field: pa.Field) -> pa.Array:
    """Give cells the type of the first chunk's."""
    try:
        return cells if cells.type == field.type else cells.cast(field.type)
    except pa.ArrowException as error:
        raise DataError(
            f"column `{field.name}` has cells of the type {field.type} and later {cells.type}",
            hint="a parquet file has one type for each column: write csv or jsonl, or leave the column out",
        ) from error


class NpzWriter(Writer):
    """Write an npz file, one array per column, readable by `numpy.load` without pickle.

    Missing cells are empty strings or NaN, so masked columns become floats. The header of an array holds its
    length and the width of its strings. Until both are known, the chunks of each column are stored in a
    temporary file beside the output.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._chunks: dict[str, IO[bytes]] = {}
        self._empty: dict[str, Array] = {}  # arrays `(0, ...)` of each column's type

    def _write_header(self, columns: Columns) -> None:
        folder = None if self.path is None or is_stream(self.path) else self.path.resolve().parent
        for name in columns:
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            self._chunks[name] = self.resources.enter_context(file)
        self._write_rows({name: values[:0] for name, values in columns.items()}, 0)

    def _write_rows(self, columns: Columns, size: int) -> None:
        for name, values in columns.items():
            chunk = _to_plain_array(values)
            self._empty[name] = np.concatenate([self._empty.get(name, chunk)[:0], chunk[:0]])
            np.save(self._chunks[name], chunk, allow_pickle=False)

    def _write_footer(self) -> None:
        with zipfile.ZipFile(self.stream, "w", allowZip64=True) as archive:
            for name, chunks in self._chunks.items():
                empty, end = self._empty[name], chunks.tell()
                header: dict[str, Any] = {
                    "descr": np.lib.format.dtype_to_descr(empty.dtype),
                    "fortran_order": False,
                    "shape": (self.rows, *empty.shape[1:]),
                }
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    chunks.seek(0)
                    while chunks.tell() < end:
                        chunk = np.load(chunks, allow_pickle=False)
                        member.write(np.ascontiguousarray(chunk, dtype=empty.dtype).tobytes())


def _to_plain_array(values: Array) -> Array:
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data)
    if isinstance(values, pa.Array):
        cells = values if is_plain(values.type) else to_text(values)
        values = cells.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "O":
        return np.array(["" if text is None else str(text) for text in values], dtype=np.str_)
    return values
