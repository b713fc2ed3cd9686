"""Writer of parquet files."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.writers.base import Columns, Writer
from flowgmm_cli.data.writers.encode import to_arrow
from flowgmm_cli.data.writers.target import Target

_GROUP_ROWS, _GROUP_BYTES = 131_072, 1 << 25  # a row group ends when it reaches either


class ParquetWriter(Writer):
    """Write a parquet file; missing cells are null, a column `(N, D)` is a list in each row."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._file: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []

    def _write_header(self, columns: Columns) -> None:
        arrays = {name: to_arrow(values) for name, values in columns.items()}
        schema = pa.schema([(name, array.type) for name, array in arrays.items()])
        self._file = pq.ParquetWriter(pa.PythonFile(self.stream, mode="w"), schema, compression="zstd")

    def _write_rows(self, columns: Columns, size: int) -> None:
        self._pending.append(pa.RecordBatch.from_pydict({k: to_arrow(v) for k, v in columns.items()}))
        rows = sum(batch.num_rows for batch in self._pending)
        if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in self._pending) >= _GROUP_BYTES:
            self._write_group()

    def _write_footer(self) -> None:
        if self._file is None:  # no chunk was written: a file without columns
            self._write_header({})
        self._write_group()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _release(self) -> None:
        if self._file is not None:  # otherwise its destructor writes a footer into the closed file
            with contextlib.suppress(OSError, pa.ArrowException):
                self._file.close()
            self._file = None

    def _write_group(self) -> None:
        if self._pending and self._file is not None:
            self._file.write_table(pa.Table.from_batches(self._pending))
        self._pending = []
