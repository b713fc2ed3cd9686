"""Rows that are in memory already, behind the interface of a reader."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowgmm_cli.api import Rows, iterate_batches
from flowgmm_cli.data.readers.schema import Chunk, RowReader


class MemoryReader:
    """Chunks of given rows."""

    def __init__(self, rows: Rows, name: str, chunk_rows: int) -> None:
        self.name = name
        self.total: int | None = len(rows)
        self._rows = rows
        self._chunk_rows = chunk_rows

    def __iter__(self) -> Iterator[Chunk]:
        for part in iterate_batches(len(self._rows), self._chunk_rows):
            yield Chunk(self._rows.take(np.arange(part.start, part.stop)), part.start)


def reader_of(rows: Rows, name: str, *, chunk_rows: int = 8192) -> RowReader:
    """Return a reader of rows in memory, such as a run's own splits."""
    return MemoryReader(rows, name, chunk_rows)
