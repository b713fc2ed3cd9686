"""Rows of a table in files, read when they are asked for and not kept.

Files are not mapped into memory: pages of a mapped file count as memory of the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.large.files import TableFile, TableFiles, reading_part
from flowgmm_cli.errors import DataError
from flowgmm_cli.memory import release_arrow

_BUFFER = 2**16  # bytes read at once of each column: a row group need not fit into memory
_CELLS = 2**20  # of a batch, about; then its matrix of float64 takes 8 MiB
_ROWS = 16_384  # of a batch, at most
_PLACES, _HEAD = 16, 512  # rows are taken from so many places, so many of each, to see what columns hold


def batch_rows(width: int) -> int:
    """Rows to read at once, of so many numbers each."""
    return max(1, min(_ROWS, _CELLS // max(1, width)))


class PartReader:
    """Reads stretches of rows within a group; the last file stays open. For one thread, as a context manager.

    Args:
        table: the files.
        columns: names of those to read.
        rows: most rows of a batch.
    """

    def __init__(self, table: TableFiles, columns: Sequence[str], rows: int) -> None:
        self._table = table
        self._columns = list(dict.fromkeys(columns))
        self._rows = rows
        self._place = -1
        self._file: Any = None
        self._handle: Any = None

    def __enter__(self) -> PartReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; another call of `read` opens one again."""
        for one in (self._file, self._handle):
            if hasattr(one, "close"):
                one.close()
        self._file = self._handle = None
        self._place = -1
        release_arrow()

    def read(self, group: int, start: int = 0, rows: int | None = None) -> Iterator[pa.Table]:
        """Rows `start` to `start + rows` of a group, in batches.

        Raises:
            DataError: they cannot be read, or the file is no longer what it was.
        """
        place, inner = self._table.groups[group]
        file = self._table.files[place]
        where = self._table.place(group)
        stop = file.groups[inner] if rows is None else start + rows
        if place != self._place:
            self.close()
            reading_part(where, file.kind, lambda: self._open(file))
            self._place = place
        batches = (self._parquet if file.is_parquet else self._arrow)(inner)
        seen = 0
        while seen < stop:
            batch = reading_part(where, file.kind, lambda: next(batches, None))
            if batch is None:
                raise DataError(
                    f"{where} ends after {seen:,} of {file.groups[inner]:,} rows",
                    hint="the file is damaged; write it again",
                )
            first, seen = seen, seen + batch.num_rows
            if seen > start:  # a group has no way in but its beginning
                low = max(start, first)
                yield batch.slice(low - first, min(stop, seen) - low)

    def _open(self, file: TableFile) -> None:
        about = file.path.stat()
        if (about.st_size, about.st_mtime_ns) != (file.size, file.changed):
            raise DataError(
                f"{file.path} has been written since its rows were counted",
                hint="let files be while they are read; then start again",
            )
        if file.is_parquet:
            self._file = pq.ParquetFile(file.path, buffer_size=_BUFFER, pre_buffer=False, memory_map=False)
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


def whole_table(table: TableFiles) -> pa.Table:
    """All rows, in memory.

    Raises:
        DataError: a file cannot be read.
    """
    parts = []
    with PartReader(table, table.names, 2**20) as reader:
        for group in range(len(table.groups)):
            parts += [part.select(table.names) for part in reader.read(group)]
    return reading_part(
        table.where, "one table", lambda: pa.concat_tables(parts, promote_options="permissive")
    )


def head_of(table: TableFiles) -> pa.Table:
    """A few rows from everywhere, by which columns get their kinds.

    Raises:
        DataError: a file cannot be read.
    """
    groups = sorted({index * len(table.groups) // _PLACES for index in range(_PLACES)})
    with PartReader(table, table.names, _HEAD) as reader:
        parts = [next(reader.read(group)).select(table.names) for group in groups if table.group_rows[group]]
    return reading_part(
        table.where, "one table", lambda: pa.concat_tables(parts, promote_options="permissive")
    )
