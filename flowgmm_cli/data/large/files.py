"""Files of a table that can be read in parts: Parquet files, and Arrow files such as Feather's.

A table is one file, a folder of files or a pattern such as `rows/*.parquet`. Its rows are numbered through
all files, which are taken by name, folders in them as well.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flowgmm_cli.data.readers.parquet import read_class_names
from flowgmm_cli.data.sources.columns import natural_order
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
SUFFIXES = (*PARQUET, *ARROW)
_CELL = 8  # bytes of a number in memory


@dataclass(frozen=True)
class TableFile:
    """One file.

    Attributes:
        path: where it is.
        groups: rows of each of its row groups, of Arrow's record batches.
        size, changed: bytes and time of change in nanoseconds, by which another file is noticed.
        words: by column, bytes of the cells that are no numbers, unpacked, as far as the file tells.
    """

    path: Path
    groups: tuple[int, ...]
    size: int
    changed: int
    words: Mapping[str, int]

    @property
    def rows(self) -> int:
        """Rows of all groups."""
        return sum(self.groups)

    @property
    def kind(self) -> str:
        """What its type is called."""
        return "parquet" if self.is_parquet else "arrow"

    @property
    def is_parquet(self) -> bool:
        """Whether it is a Parquet file, else Arrow's."""
        return self.path.suffix.lower() in PARQUET


@dataclass(frozen=True)
class TableFiles:
    """A table in files.

    Attributes:
        where: what the user calls it.
        files: those with rows, in the order of rows.
        schema: of the first file.
    """

    where: str
    files: tuple[TableFile, ...]
    schema: pa.Schema

    @cached_property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    @cached_property
    def groups(self) -> Sequence[tuple[int, int]]:
        """(file, group in it) of every group, in the order of rows."""
        return [(place, group) for place, file in enumerate(self.files) for group in range(len(file.groups))]

    @cached_property
    def group_rows(self) -> npt.NDArray[np.int64]:
        """Rows of every group, in the order of rows."""
        return np.array([rows for file in self.files for rows in file.groups], dtype=np.int64)

    @cached_property
    def group_starts(self) -> npt.NDArray[np.int64]:
        """Number of rows before each group."""
        starts: npt.NDArray[np.int64] = np.cumsum(self.group_rows) - self.group_rows
        return starts

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def in_memory(self, columns: Iterable[str]) -> int:
        """Bytes that some of the columns take in memory, about."""
        names = list(columns)
        numbers = sum(_width(self.schema.field(name).type) for name in names)
        words = sum(file.words.get(name, 0) for name in names for file in self.files)
        return self.rows * _CELL * numbers + words

    @property
    def class_names(self) -> Mapping[str, Sequence[str]]:
        """Names of the codes in columns of `ClassLabel`, which `datasets` keeps in the metadata."""
        found = {name: read_class_names(self.schema, name) for name in self.names}
        return {name: names for name, names in found.items() if names}

    def place(self, group: int) -> str:
        """What to call a group in messages."""
        file, inner = self.groups[group]
        what = "row group" if self.files[file].is_parquet else "record batch"
        return f"{self.files[file].path}, {what} {inner + 1}"


def in_parts(path: str) -> bool:
    """Whether a path names a file, a folder or a pattern of files that can be read in parts."""
    place = Path(path).expanduser()
    if place.exists():
        return place.is_dir() or place.suffix.lower() in SUFFIXES
    return glob.has_magic(path)


def find_files(path: str) -> TableFiles:
    """Look at the files of a table; no rows are read.

    Raises:
        DataError: there are none, one is damaged, or two have different columns.
    """
    files, schema, first = [], None, None
    for place in _listed(path):
        file, own = _look(place)
        if schema is None or first is None:
            schema, first = own, place
        else:
            _require_alike(schema, own, first, place)
        if file.rows:
            files.append(file)
    if schema is None or not files:
        raise DataError(f"{path} has no rows", hint="check the path (data.path)")
    return TableFiles(path, tuple(files), schema)


def _listed(path: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        inner = [one for one in place.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file()]
        # hidden files and those that start with _ are notes of the program that wrote the others
        found = [one for one in inner if not any(p[0] in "._" for p in one.relative_to(place).parts)]
        what = f"{path} is a folder without a file of a table"
    elif place.exists():
        return [place.resolve()]
    else:
        found = [Path(one) for one in glob.glob(str(place), recursive=True)]  # noqa: PTH207 - as a shell does
        found = [one for one in found if one.suffix.lower() in SUFFIXES and one.is_file()]
        what = f"no file of a table matches {path}"
    if not found:
        raise DataError(what, hint=f"known types: {', '.join(SUFFIXES)}; a csv file is named by itself")
    by_name = {str(one): one.resolve() for one in found}
    return [by_name[name] for name in natural_order(list(by_name))]


def _look(place: Path) -> tuple[TableFile, pa.Schema]:
    about = place.stat()
    if about.st_size == 0:
        raise DataError(f"{place} is empty", hint="write it again, or take it out of the folder")
    parquet = place.suffix.lower() in PARQUET
    groups, words, schema = reading_part(
        str(place), "parquet" if parquet else "arrow", lambda: (_footer if parquet else _batches)(place)
    )
    return TableFile(place, tuple(groups), about.st_size, about.st_mtime_ns, words), schema


def _footer(place: Path) -> tuple[list[int], dict[str, int], pa.Schema]:
    with pq.ParquetFile(place, memory_map=False) as file:
        found, schema = file.metadata, file.schema_arrow
        groups = [found.row_group(index) for index in range(found.num_row_groups)]
        # only columns of lists and structures are several in a footer
        place_of = {found.schema.column(index).path: index for index in range(found.num_columns)}
        words = {
            name: sum(group.column(place_of[name]).total_uncompressed_size for group in groups)
            for name in _words(schema)
            if name in place_of
        }
        return [group.num_rows for group in groups], words, schema


def _batches(place: Path) -> tuple[list[int], dict[str, int], pa.Schema]:
    # Of a file that is mapped only the pages with these numbers are read.
    with pa.memory_map(str(place)) as stream:
        schema = pa.ipc.open_file(stream).schema
        one = pa.ipc.IpcReadOptions(included_fields=[0])
        reader = pa.ipc.open_file(stream, options=one)
        rows = [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]
    share = place.stat().st_size // max(1, len(schema))
    return rows, dict.fromkeys(_words(schema), share), schema


def _words(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if _family(field.type) == "words"]


def reading_part(where: str, kind: str, read: Callable[[], Any]) -> Any:
    """`read()`, whose errors become ours.

    Raises:
        DataError: the part cannot be read.
    """
    try:
        return read()
    except (OSError, EOFError, pa.ArrowException) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        stream = "not an arrow file" in lines[0].casefold()
        raise DataError(
            f"{where} cannot be read as {kind}: {lines[0]}",
            hint="it may be of Arrow's stream format, which cannot be read in parts: write it as Parquet"
            if stream
            else "the file is damaged, cut short or gone; write it again, or take it out of the folder",
        ) from error


def _require_alike(schema: pa.Schema, other: pa.Schema, first: Path, place: Path) -> None:
    fields, own = ({field.name: field.type for field in one} for one in (schema, other))
    details = [f"`{name}` is missing in {place}" for name in fields if name not in own]
    details += [f"`{name}` is missing in {first}" for name in own if name not in fields]
    details += [
        f"`{name}` is {fields[name]} in {first} and {own[name]} in {place}"
        for name in fields
        if name in own and len({_family(fields[name]), _family(own[name])} - {"nothing"}) > 1
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
    return "words"


def _width(kind: pa.DataType) -> int:
    """Numbers of a cell, 0 if it holds words; of a list without a fixed length a guess."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    return {"lists": 100, "numbers": 1}.get(_family(kind), 0)
