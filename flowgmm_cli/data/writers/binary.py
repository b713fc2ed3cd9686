"""Writers of parquet and npz files."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.writers.base import Columns, Writer, is_plain, is_stream, to_arrow, to_text
from flowgmm_cli.errors import DataError

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
