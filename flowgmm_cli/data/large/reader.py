"""Read rows of a table on disk on demand.

Files are not memory-mapped, because the pages of a mapped file count as memory of the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.large.files import TableFile, TableFiles, guard_read
from flowgmm_cli.errors import DataError

_BUFFER_BYTES = 2**16  # read at once of each column, so that a row group need not fit into memory
_BATCH_CELLS = 2**20  # 8 MiB of float64
_MAX_BATCH_ROWS = 16_384
_SAMPLE_GROUPS, _SAMPLE_ROWS = 16, 512  # groups in a sample of the table, and rows of each


def batch_rows(width: int) -> int:
    """Return the number of rows to read at once, given the numbers per row."""
    return max(1, min(_MAX_BATCH_ROWS, _BATCH_CELLS // max(1, width)))


class GroupReader:
    """Read ranges of rows within a row group, as a context manager for a single thread.

    The file of the last group stays open. A batch has at most `rows` rows.
    """

    def __init__(self, table: TableFiles, columns: Sequence[str], rows: int) -> None:
        self._table = table
        self._columns = list(dict.fromkeys(columns))
        self._rows = rows
        self._place = -1
        self._file: Any = None
        self._handle: Any = None

    def __enter__(self) -> GroupReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next call of `read` opens it again."""
        for file in (self._file, self._handle):
            if hasattr(file, "close"):
                file.close()
        self._file = self._handle = None
        self._place = -1
        pa.default_memory_pool().release_unused()  # as much as a whole table took

    def read(self, group: int, start: int = 0, rows: int | None = None) -> Iterator[pa.Table]:
        """Yield the rows `start` to `start + rows` of a group in batches."""
        place, inner = self._table.groups[group]
        file = self._table.files[place]
        where = self._table.describe_group(group)
        stop = file.groups[inner] if rows is None else start + rows
        if place != self._place:
            self.close()
            guard_read(where, file.kind, lambda: self._open(file))
            self._place = place
        batches = (self._parquet if file.is_parquet else self._arrow)(inner)
        count = 0
        while count < stop:
            batch = guard_read(where, file.kind, lambda: next(batches, None))
            if batch is None:
                raise DataError(
                    f"{where} ends after {count:,} of {file.groups[inner]:,} rows",
                    hint="the file is damaged; write it again",
                )
            first, count = count, count + batch.num_rows
            if count > start:  # a group can be read only from its beginning
                low = max(start, first)
                yield batch.slice(low - first, min(stop, count) - low)

    def scan(self, context: DataContext, description: str) -> Iterator[tuple[str, int, pa.Table]]:
        """Yield all rows in batches: their row group in messages, the number of rows before, the rows."""
        start = 0
        for group in range(len(self._table.groups)):
            context.progress(group, len(self._table.groups), description)
            for part in self.read(group):
                yield self._table.describe_group(group), start, part
                start += part.num_rows

    def _open(self, file: TableFile) -> None:
        status = file.path.stat()
        if (status.st_size, status.st_mtime_ns) != (file.size, file.modified):
            raise DataError(
                f"{file.path} has been written since its rows were counted",
                hint="do not change the files during training; start again",
            )
        if file.is_parquet:
            self._file = pq.ParquetFile(
                file.path, buffer_size=_BUFFER_BYTES, pre_buffer=False, memory_map=False
            )
            return
        self._handle = pa.OSFile(str(file.path))
        schema = pa.ipc.open_file(self._handle).schema
        places = [schema.get_field_index(name) for name in self._columns]
        options = pa.ipc.IpcReadOptions(included_fields=sorted(places), use_threads=False)
        self._file = pa.ipc.open_file(self._handle, options=options)

    def _parquet(self, group: int) -> Iterator[pa.Table]:
        batches = self._file.iter_batches(
            self._rows, row_groups=[group], columns=self._columns, use_threads=False
        )
        return (pa.Table.from_batches([batch]) for batch in batches)

    def _arrow(self, group: int) -> Iterator[pa.Table]:
        batch = pa.Table.from_batches([self._file.get_batch(group)])
        for start in range(0, batch.num_rows, self._rows):
            yield batch.slice(start, self._rows)


def read_all(table: TableFiles) -> pa.Table:
    """Read all rows into memory. Raises `DataError` if a file cannot be read."""
    parts = []
    with GroupReader(table, table.names, 2**20) as reader:
        for group in range(len(table.groups)):
            parts += [part.select(table.names) for part in reader.read(group)]
    return guard_read(table.where, "one table", lambda: pa.concat_tables(parts, promote_options="permissive"))


def sample_table(table: TableFiles) -> pa.Table:
    """Read a few rows from all parts of a table, to infer the kinds of its columns."""
    groups = sorted({index * len(table.groups) // _SAMPLE_GROUPS for index in range(_SAMPLE_GROUPS)})
    with GroupReader(table, table.names, _SAMPLE_ROWS) as reader:
        parts = [next(reader.read(group)).select(table.names) for group in groups if table.group_rows[group]]
    return guard_read(table.where, "one table", lambda: pa.concat_tables(parts, promote_options="permissive"))
