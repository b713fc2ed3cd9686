"""Files of a table that can be read in parts: Parquet and Arrow (Feather) files.

A table is a file, a folder of files or a pattern such as `rows/*.parquet`. Its rows are numbered through all
files in the natural order of their paths.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.array_types import Ints
from flowgmm_cli.data.messages import first_line
from flowgmm_cli.data.readers.columnar import read_class_names
from flowgmm_cli.data.sources.columns import sort_naturally
from flowgmm_cli.errors import DataError

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
SUFFIXES = (*PARQUET, *ARROW)
_NUMBER_BYTES = 8


@dataclass(frozen=True)
class TableFile:
    """File of a table.

    Attributes:
        path: path of the file.
        groups: number of rows of each row group (of Arrow files, of each record batch).
        size, modified: size in bytes and time of modification in nanoseconds; they identify the content.
        text_bytes: column -> estimated bytes of its uncompressed cells, for columns that are not numeric.
    """

    path: Path
    groups: tuple[int, ...]
    size: int
    modified: int
    text_bytes: Mapping[str, int]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.groups)

    @property
    def kind(self) -> str:
        """Name of the format."""
        return "parquet" if self.is_parquet else "arrow"

    @property
    def is_parquet(self) -> bool:
        """True for a Parquet file, False for an Arrow file."""
        return self.path.suffix.lower() in PARQUET


@dataclass(frozen=True)
class TableFiles:
    """Table on disk."""

    where: str  # the path that the user gave
    files: tuple[TableFile, ...]  # files with rows, in the order of rows
    schema: pa.Schema  # schema of the first file

    @cached_property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(file.rows for file in self.files)

    @cached_property
    def groups(self) -> Sequence[tuple[int, int]]:
        """Indices (file, group in the file) of all row groups, in the order of rows."""
        return [(index, group) for index, file in enumerate(self.files) for group in range(len(file.groups))]

    @cached_property
    def group_rows(self) -> Ints:
        """Number of rows of each group, in the order of rows."""
        return np.array([rows for file in self.files for rows in file.groups], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def memory_bytes(self, columns: Iterable[str]) -> int:
        """Estimate the bytes that columns take in memory."""
        names = list(columns)
        numbers = sum(_width(self.schema.field(name).type) for name in names)
        text_bytes = sum(file.text_bytes.get(name, 0) for name in names for file in self.files)
        return self.rows * _NUMBER_BYTES * numbers + text_bytes

    @property
    def class_names(self) -> Mapping[str, Sequence[str]]:
        """Class names of the `ClassLabel` columns, which `datasets` stores in the metadata."""
        return read_class_names(self.schema)

    def describe_group(self, group: int) -> str:
        """Return the file and number of a group, for messages."""
        file, inner = self.groups[group]
        what = "row group" if self.files[file].is_parquet else "record batch"
        return f"{self.files[file].path}, {what} {inner + 1}"


def is_table_path(path: str) -> bool:
    """Return True for a file that can be read in parts, a folder of such files, or a pattern of files."""
    place = Path(path).expanduser()
    if place.is_dir():
        return any(file.suffix.lower() in SUFFIXES for file in place.rglob("*"))
    matches = glob.iglob(path, recursive=True) if glob.has_magic(path) else [path]  # noqa: PTH207
    return any(Path(file).suffix.lower() in SUFFIXES for file in matches)


def find_files(path: str) -> TableFiles:
    """Find the files of a table and read their metadata, but no rows."""
    files, schema, first = [], None, None
    for place in _list_files(path):
        file, file_schema = _read_metadata(place)
        if schema is None or first is None:
            schema, first = file_schema, place
        else:
            _require_same_columns(schema, file_schema, first, place)
        if file.rows:
            files.append(file)
    if schema is None or not files:
        raise DataError(f"{path} has no rows", hint="check the path (data.path)")
    return TableFiles(path, tuple(files), schema)


def _list_files(path: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        # other programs write metadata to files and folders whose names begin with . or _
        files = [
            file
            for file in place.rglob("*")
            if not any(part[0] in "._" for part in file.relative_to(place).parts)
        ]
        error = f"{path} is a folder without a file of a table"
    elif place.exists():
        return [place.resolve()]
    else:
        files = list(map(Path, glob.glob(str(place), recursive=True)))  # noqa: PTH207 - also matches absolute paths
        error = f"no file of a table matches {path}"
    files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        raise DataError(error, hint=f"known types: {', '.join(SUFFIXES)}; a csv file is named by itself")
    by_name = {str(file): file.resolve() for file in files}
    return [by_name[name] for name in sort_naturally(list(by_name))]


def _read_metadata(place: Path) -> tuple[TableFile, pa.Schema]:
    status = place.stat()
    if status.st_size == 0:
        raise DataError(f"{place} is empty", hint="write it again, or take it out of the folder")
    parquet = place.suffix.lower() in PARQUET
    groups, text_bytes, schema = guard_read(
        str(place),
        "parquet" if parquet else "arrow",
        lambda: (_read_footer if parquet else _read_batch_sizes)(place),
    )
    return TableFile(place, tuple(groups), status.st_size, status.st_mtime_ns, text_bytes), schema


def _read_footer(place: Path) -> tuple[list[int], dict[str, int], pa.Schema]:
    with pq.ParquetFile(place, memory_map=False) as file:
        metadata, schema = file.metadata, file.schema_arrow
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        # lists and structures have other paths here
        place_of = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
        text_bytes = {
            name: sum(group.column(place_of[name]).total_uncompressed_size for group in groups)
            for name in _text_columns(schema)
            if name in place_of
        }
        return [group.num_rows for group in groups], text_bytes, schema


def _read_batch_sizes(place: Path) -> tuple[list[int], dict[str, int], pa.Schema]:
    # the memory map reads only the pages that hold the batch sizes
    with pa.memory_map(str(place)) as stream:
        schema = pa.ipc.open_file(stream).schema
        reader = pa.ipc.open_file(stream, options=pa.ipc.IpcReadOptions(included_fields=[0]))
        rows = [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]
    share = place.stat().st_size // max(1, len(schema))
    return rows, dict.fromkeys(_text_columns(schema), share), schema


def _text_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if _family(field.type) == "text"]


def guard_read(where: str, kind: str, read: Callable[[], Any]) -> Any:
    """Call `read` and turn the errors of the libraries into `DataError`."""
    try:
        return read()
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = first_line(error)
        is_stream = "not an arrow file" in reason.casefold()
        raise DataError(
            f"{where} cannot be read as {kind}: {reason}",
            hint="it may be of Arrow's stream format, which cannot be read in parts: write it as Parquet"
            if is_stream
            else "the file is damaged, cut short or missing; write it again, or take it out of the folder",
        ) from error


def _require_same_columns(schema: pa.Schema, other: pa.Schema, first: Path, place: Path) -> None:
    fields, others = ({field.name: field.type for field in fields} for fields in (schema, other))
    details = [f"`{name}` is missing in {place}" for name in fields if name not in others]
    details += [f"`{name}` is missing in {first}" for name in others if name not in fields]
    details += [
        f"`{name}` is {fields[name]} in {first} and {others[name]} in {place}"
        for name in fields
        if name in others and len({_family(fields[name]), _family(others[name])} - {"nothing"}) > 1
    ]
    if details:
        raise DataError(
            f"{first} and {place} have different columns",
            details=details[:10],
            hint="write the files with the same columns and types, or name only some of them in data.path",
        )


def _family(kind: pa.DataType) -> str:
    types = pa.types
    if types.is_null(kind):
        return "nothing"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind):
        return "numbers"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "lists"
    return "text"


def _width(kind: pa.DataType) -> int:
    """Return the numbers in a cell: 0 for text, a guess for lists without a fixed length."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    return {"lists": 100, "numbers": 1}.get(_family(kind), 0)
