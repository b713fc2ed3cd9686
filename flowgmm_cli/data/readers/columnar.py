"""Readers of Parquet and Arrow (Feather) files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import FileStamp
from flowgmm_cli.data.readers.table import Table, TableReader
from flowgmm_cli.data.sources.columns import is_image_type
from flowgmm_cli.errors import DataError

_BUFFER_BYTES = 2**16  # read at once of each column, so that a long row group need not fit into memory
_ARROW_MAGIC = b"ARROW1"


class ParquetReader(TableReader):
    """Reader of a Parquet file."""

    format = "parquet"

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        self._path = path
        self._stamp = FileStamp.of(path)
        if self._stamp.size == 0:
            raise DataError(f"{name} is empty", hint="write it again, or take it out of the folder")
        self.files = [self._stamp]
        with translate_errors(name, self.format):
            schema = self._read_schema()
        self.names = schema.names
        self.class_names = _read_class_names(schema)
        self.images = [field.name for field in schema if is_image_type(field.type)]

    def _read_schema(self) -> pa.Schema:
        with pq.ParquetFile(self._path) as file:
            self.rows = file.metadata.num_rows
            return file.schema_arrow

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        self._stamp.require_unchanged()
        for batch in self._batches(columns, size):
            yield Table(_decode(pa.Table.from_batches([batch]).select(columns)))

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield from file.iter_batches(size, columns=columns, use_threads=False)


class ArrowReader(ParquetReader):
    """Reader of an Arrow file, of the file format or the stream format."""

    format = "arrow"

    def _read_schema(self) -> pa.Schema:
        with self._path.open("rb") as stream:
            self._is_file = stream.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
        with self._open() as reader:
            return reader.schema

    @contextmanager
    def _open(self, columns: Sequence[str] = ()) -> Iterator[Any]:
        """Open the file for reading some columns, by default all."""
        open_reader: Any = pa.ipc.open_file if self._is_file else pa.ipc.open_stream
        places = sorted(self.names.index(name) for name in columns)
        options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)
        # not memory-mapped: the pages of a mapped file count as memory of the process
        with pa.OSFile(str(self._path)) as handle, open_reader(handle, options=options) as reader:
            yield reader

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        with self._open(columns) as reader:
            if self._is_file:
                yield from map(reader.get_batch, range(reader.num_record_batches))
            else:
                yield from reader


def _decode(table: pa.Table) -> pa.Table:
    """Replace dictionary-encoded columns by their values, and check the cells.

    Arrow trusts the offsets of a file and would read memory beyond its cells.
    """
    table.validate(full=True)
    types = {field.name: field.type for field in table.schema}
    if not any(map(pa.types.is_dictionary, types.values())):
        return table
    return table.cast(
        pa.schema({name: of.value_type if pa.types.is_dictionary(of) else of for name, of in types.items()})
    )


def _read_class_names(schema: pa.Schema) -> Mapping[str, Sequence[str]]:
    """Return the class names of the `ClassLabel` columns, which `datasets` stores in the metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        coded = {field.name: features.get(field.name) for field in schema if pa.types.is_integer(field.type)}
        return {
            name: [str(entry) for entry in feature["names"]]
            for name, feature in coded.items()
            if isinstance(feature, dict) and "names" in feature
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
