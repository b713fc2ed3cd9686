"""Reader of parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.readers.base import ReadOptions
from flowgmm_cli.data.readers.chunks import RawBatch, TableReader
from flowgmm_cli.data.readers.row_errors import translate_errors
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError

_BUFFER_BYTES = 2**16  # read at once of each column, so that a long row group need not fit into memory


class ParquetReader(TableReader):
    """Reader of a parquet file."""

    format = "parquet"

    def __init__(self, path: Path, schema: InputSchema, options: ReadOptions, *, name: str) -> None:
        super().__init__(name, schema, options)
        self._path = path
        with translate_errors(name, "parquet"), pq.ParquetFile(path) as file:
            self.total = file.metadata.num_rows
            columns = file.schema_arrow
        if self.total == 0:
            raise DataError(f"{name} has no rows")
        codes = None
        label = schema.label
        if label is not None and label in columns.names and (names := read_class_names(columns, label)):
            index = schema.class_index
            codes = {str(code): index[name] for code, name in enumerate(names) if name in index} | {"-1": -1}
        self._match_columns(columns.names, codes)

    def _read_batches(self) -> Iterator[RawBatch]:
        with pq.ParquetFile(self._path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            for batch in file.iter_batches(self._size, columns=self._match.needed, use_threads=False):
                yield RawBatch(pa.Table.from_batches([batch]))


def read_class_names(columns: pa.Schema, label: str) -> list[str]:
    """Return the class names of a label column that `datasets` stores in the metadata, else []."""
    if not pa.types.is_integer(columns.field(label).type):
        return []
    try:
        names = json.loads((columns.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names]
