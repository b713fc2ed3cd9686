"""Parquet, a row group at a time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.writers.base import Writer
from flowgmm_cli.data.writers.cells import arrow
from flowgmm_cli.data.writers.target import Target

if TYPE_CHECKING:
    from flowgmm_cli.data.writers.base import Columns

_ROWS, _BYTES = 131_072, 1 << 25  # of a row group, whichever is reached first


class ParquetWriter(Writer):
    """A parquet file; a missing cell is null, a column of `(N, D)` a list in each row."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._file: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []

    def _begin(self, columns: Columns) -> None:
        arrays = {name: arrow(values) for name, values in columns.items()}
        schema = pa.schema([(name, array.type) for name, array in arrays.items()])
        self._file = pq.ParquetWriter(pa.PythonFile(self.target.stream, mode="w"), schema, compression="zstd")

    def _add(self, columns: Columns, size: int) -> None:
        self._waiting.append(pa.RecordBatch.from_pydict({k: arrow(v) for k, v in columns.items()}))
        rows = sum(batch.num_rows for batch in self._waiting)
        if rows >= _ROWS or sum(batch.nbytes for batch in self._waiting) >= _BYTES:
            self._write_group()

    def _end(self) -> None:
        if self._file is None:  # not one chunk: a file without columns
            self._begin({})
        self._write_group()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _release(self) -> None:
        if self._file is not None:  # it would write its footer when it is collected, into a closed file
            with contextlib.suppress(OSError, pa.ArrowException):
                self._file.close()
            self._file = None

    def _write_group(self) -> None:
        if self._waiting and self._file is not None:
            self._file.write_table(pa.Table.from_batches(self._waiting))
        self._waiting = []
