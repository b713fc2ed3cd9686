"""Readers of Parquet and Arrow (Feather) files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import FileStamp
from flowgmm_cli.data.readers.table import RawBatch, TableReader
from flowgmm_cli.errors import DataError

_BUFFER_BYTES = 2**16  # read at once of each column, so that a long row group need not fit into memory
_ARROW_MAGIC = b"ARROW1"


class ParquetReader(TableReader):
    """Reader of a Parquet file."""

    format = "parquet"

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        self._path = path
        self.files = [require_content(path, name)]
        with translate_errors(name, self.format), pq.ParquetFile(path) as file:
            self.rows = file.metadata.num_rows
            schema = file.schema_arrow
        self.names = schema.names
        self.class_names = read_class_names(schema)

    def _read(self, columns: Sequence[str], numbers: Collection[str], size: int) -> Iterator[RawBatch]:
        self.files[0].require_unchanged()
        with pq.ParquetFile(self._path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            for batch in file.iter_batches(size, columns=columns, use_threads=False):
                yield RawBatch(_decode(pa.Table.from_batches([batch]).select(columns)))


class ArrowReader(TableReader):
    """Reader of an Arrow file, of the file format or the stream format."""

    format = "arrow"

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        self._path = path
        self.files = [require_content(path, name)]
        with translate_errors(name, self.format):
            with path.open("rb") as stream:
                self._is_file = stream.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
            with self._open() as reader:
                schema = reader.schema
        self.names = schema.names
        self.class_names = read_class_names(schema)

    @contextmanager
    def _open(self, columns: Sequence[str] = ()) -> Iterator[Any]:
        # not memory-mapped: the pages of a mapped file count as memory of the process
        with pa.OSFile(str(self._path)) as handle:
            open_reader: Any = pa.ipc.open_file if self._is_file else pa.ipc.open_stream
            with open_reader(handle) as reader:
                if not columns:
                    yield reader
                    return
                places = sorted(reader.schema.get_field_index(name) for name in columns)
            handle.seek(0)
            options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)
            with open_reader(handle, options=options) as reader:
                yield reader

    def _read(self, columns: Sequence[str], numbers: Collection[str], size: int) -> Iterator[RawBatch]:
        self.files[0].require_unchanged()
        with self._open(columns) as reader:
            batches = map(reader.get_batch, range(reader.num_record_batches)) if self._is_file else reader
            for batch in batches:
                yield RawBatch(_decode(pa.Table.from_batches([batch]).select(columns)))


def require_content(path: Path, name: str) -> FileStamp:
    """Return the stamp of a file; `DataError` if it is empty."""
    stamp = FileStamp.of(path)
    if stamp.size == 0:
        raise DataError(f"{name} is empty", hint="write it again, or take it out of the folder")
    return stamp


def _decode(table: pa.Table) -> pa.Table:
    """Replace dictionary-encoded columns by their values, and check the cells.

    Arrow trusts the offsets of a file and would read memory beyond its cells.
    """
    table.validate(full=True)
    if not any(pa.types.is_dictionary(field.type) for field in table.schema):
        return table
    return table.cast(
        pa.schema(
            (field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in table.schema
        )
    )


def read_class_names(schema: pa.Schema) -> Mapping[str, Sequence[str]]:
    """Return the class names of the `ClassLabel` columns, which `datasets` stores in the metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = {name: [str(entry) for entry in feature["names"]] for name, feature in features.items()
                 if isinstance(feature, dict) and "names" in feature}  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {
        name: class_names
        for name, class_names in names.items()
        if name in schema.names and pa.types.is_integer(schema.field(name).type)
    }
