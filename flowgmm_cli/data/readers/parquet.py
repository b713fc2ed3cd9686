"""Reader of parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.cells import ChunkMaker, Piece
from flowgmm_cli.data.readers.faults import chunk_size, once, reading
from flowgmm_cli.data.readers.match import match_columns
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.errors import DataError

_BUFFER = 2**16  # bytes read at once of each column, so that a long row group need not fit into memory


class ParquetReader:
    """Rows of a parquet file.

    Raises:
        DataError: the file is damaged, or a column that the model reads is missing.
    """

    def __init__(
        self,
        path: Path,
        schema: InputSchema,
        *,
        name: str,
        context: DataContext,
        on_error: OnError,
        chunk_rows: int,
    ) -> None:
        self.name = name
        self._path = path
        self._size = chunk_size(chunk_rows, schema.columns)
        note = once(context)
        with reading(name, "parquet"), pq.ParquetFile(path) as file:
            self.total: int | None = file.metadata.num_rows
            columns = file.schema_arrow
        if self.total == 0:
            raise DataError(f"{name} has no rows")
        self._match = match_columns(schema, columns.names, where=name, note=note)
        codes = None
        if self._match.label is not None and (names := stored_class_names(columns, self._match.label)):
            own = {str(code): schema.class_index.get(one, -2) for code, one in enumerate(names)}
            codes = {"-1": -1} | {code: index for code, index in own.items() if index >= 0}
        self._make = ChunkMaker(schema, self._match, name=name, on_error=on_error, note=note, codes=codes)

    def __iter__(self) -> Iterator[Chunk]:
        start = 0
        needed = self._match.needed
        with (
            reading(self.name, "parquet"),
            pq.ParquetFile(self._path, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            for batch in file.iter_batches(self._size, columns=needed, use_threads=False):
                chunk = self._make(Piece(pa.Table.from_batches([batch])), start)
                start += len(chunk)
                yield chunk


def stored_class_names(columns: pa.Schema, label: str) -> list[str]:
    """Names of the codes in a column of labels, which `datasets` keeps in a file's metadata; or none."""
    found: Mapping[bytes, bytes] = columns.metadata or {}
    if not pa.types.is_integer(columns.field(label).type):
        return []
    try:
        names = json.loads(found[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names]
