"""Tables: batches of the rows of a file, or of several with the same columns, with the places of errors.

reader = open_table("rows.csv", ReadSettings(), note=print)     # in flowgmm_cli.data.readers.open
for batch in reader.batches():
    ...                                                         # batch.data, batch.errors
table = load_table(reader, on_error=None, note=print)           # all rows in memory
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Ints, Strings
from flowgmm_cli.data.labels import label_cells
from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import FileStamp
from flowgmm_cli.data.readers.row_errors import FaultyRows, OnError, RowError
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import override, suggest_column

BATCH_ROWS = 8192
"""Default maximum number of rows in a batch."""


@dataclass(frozen=True)
class ReadSettings:
    """Form of text files: the keys of these names in the data section."""

    delimiter: str | None = None
    encoding: str | None = None
    decimal: str = "."
    thousands: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows of a table in memory: a batch of them, or all.

    Cells of csv files are strings, cells of other files have their types.

    Attributes:
        data: the rows; the cells of a malformed row are null.
        class_names: class names of `ClassLabel` columns, whose cells are integer codes, by column.
        where: name of the table in messages, usually a path.
        row_numbers: numbers of the rows in the input, from 1; None if no row was left out.
        find_place: finds the result of `locate` in the input; None counts rows.
        errors: position -> error of the whole row.
        complete: False if these are only the first rows of the input.
    """

    data: pa.Table
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: str = ""
    row_numbers: Ints | None = None
    find_place: Callable[[int], tuple[str, str]] | None = None
    errors: Mapping[int, RowError] = field(default_factory=dict)
    complete: bool = True

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.data.column_names)

    def column(self, name: str, *, key: str) -> pa.ChunkedArray:
        """Return a column; `key` is the recipe key that names it. Raises `DataError` if it is missing."""
        if self.data.schema.get_field_index(name) >= 0:
            return self.data.column(name)
        raise DataError(
            f"{self.where} has no column `{name}` ({key}){suggest_column(name, self.names)}",
            details=[f"columns: {', '.join(self.names)}"],
            hint=f"set {key} to one of these columns"
            if key.startswith("data.")
            else f"add the column, or train without it: {override('data.drop', name)}",
        )

    def label_strings(self, name: str, *, key: str = "data.label") -> Strings:
        """Return a column as strings, None where a cell is empty; codes of classes become class names."""
        cells = label_cells(self.column(name, key=key), name, self.where)
        if (names := self.class_names.get(name)) is None:
            return cells
        by_code = {str(code): class_name for code, class_name in enumerate(names)}
        return np.array([by_code.get(cell) for cell in cells], dtype=object)

    def extra_cells(self, names: Iterable[str]) -> dict[str, Strings]:
        """Return the cells of the columns that there are, by name; for `DataConfig.extra_columns`."""
        return {name: strings(self.data[name]) for name in names if name in self.names}

    def take(self, rows: Ints, data: pa.Table | None = None) -> Table:
        """Return the rows at some positions; `data` are their cells, if they are known."""
        places = {int(row): position for position, row in enumerate(rows)} if self.errors else {}
        return replace(
            self,
            data=self.data.take(pa.array(rows)) if data is None else data,
            row_numbers=None if self.row_numbers is None else self.row_numbers[rows],
            find_place=self.find_place and (lambda position: self.locate(int(rows[position]))),
            errors={places[row]: error for row, error in self.errors.items() if row in places},
        )

    def split(self, size: int) -> Iterator[Table]:
        """Yield batches of at most `size` rows."""
        for part in iterate_batches(len(self), size):
            cells = self.data.slice(part.start, part.stop - part.start)
            yield self.take(np.arange(part.start, part.stop), cells)

    def locate(self, position: int) -> tuple[str, str]:
        """Return the file of a row, and its place: `line 17` or `row 3`."""
        if self.find_place is not None:
            return self.find_place(position)
        return self.where, f"row {self.row_number(position)}"

    def row_number(self, position: int) -> int:
        """Return the number of a row in the input, from 1."""
        return position + 1 if self.row_numbers is None else int(self.row_numbers[position])


class TableReader(ABC):
    """Reader of a table.

    Attributes:
        name: the input as messages call it.
        names: names of the columns, in order.
        rows: number of rows, or None if it is unknown before reading.
        class_names: class names of the columns that hold codes of classes, by column.
        images: names of the columns that hold image files.
        files: stamps of the files; empty for standard input.
    """

    format: ClassVar[str]
    """Name of the format in messages."""
    empty_hint: ClassVar[str | None] = None
    """Hint of the error about an input without rows."""

    name: str
    names: Sequence[str]
    rows: int | None = None
    class_names: Mapping[str, Sequence[str]] = {}
    images: Sequence[str] = ()
    files: Sequence[FileStamp] = ()

    def batches(self, columns: Collection[str] | None = None, *, size: int = BATCH_ROWS) -> Iterator[Table]:
        """Read the rows from the start, in batches of at most `size`; standard input can be read only once.

        Args:
            columns: names of the columns to read; None reads all.
            size: maximum number of rows in a batch.

        Raises:
            DataError: the input is damaged, or has no rows.
        """
        selected = frozenset(self.names if columns is None else columns)
        needed = [name for name in self.names if name in selected]
        start = 0
        with translate_errors(self.name, self.format):
            for rows in self._read(needed, size):
                if not rows.where:
                    row_numbers = np.arange(start + 1, start + len(rows) + 1)
                    rows = replace(
                        rows, class_names=self.class_names, where=self.name, row_numbers=row_numbers
                    )
                start += len(rows)
                yield from rows.split(size)
        if start == 0:
            raise DataError(f"{self.name} has no rows", hint=self.empty_hint)

    def locate(self, row: int) -> tuple[str, str]:
        """Read up to a row, counted from 1; return the result of `Table.locate`."""
        for batch in self.batches(self.names[:1]):
            if row <= len(batch):
                return batch.locate(row - 1)
            row -= len(batch)
        raise IndexError(row)

    @abstractmethod
    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        """Yield the rows from the start of the input; `batches` names and numbers them."""

    def _find_line(
        self, lines: Sequence[int] | Callable[[], Sequence[int]]
    ) -> Callable[[int], tuple[str, str]]:
        """Return the `find_place` of rows on some lines, which may be counted when they are asked for."""
        return lambda position: (self.name, f"line {(lines() if callable(lines) else lines)[position]}")


class SeveralFiles(TableReader):
    """Tables with the same columns, one after the other; those without rows are skipped."""

    def __init__(self, name: str, readers: Sequence[TableReader]) -> None:
        self.name = name
        self._readers = readers
        first = readers[0]
        self.names = first.names
        self.class_names = first.class_names
        self.images = first.images
        self.files = [stamp for reader in readers for stamp in reader.files]
        counts = [reader.rows for reader in readers]
        self.rows = None if None in counts else sum(count or 0 for count in counts)
        for reader in readers[1:]:
            _require_same_columns(first, reader)

    format = "table"

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        for reader in self._readers:
            if reader.rows != 0:
                yield from reader.batches(columns, size=size)


def _require_same_columns(first: TableReader, other: TableReader) -> None:
    names, others = set(first.names), set(other.names)
    details = [f"`{name}` is missing in {other.name}" for name in first.names if name not in others]
    details += [f"`{name}` is missing in {first.name}" for name in other.names if name not in names]
    if details:
        raise DataError(
            f"{first.name} and {other.name} have different columns",
            details=details[:10],
            hint="write the files with the same columns, or name only some of them in data.path",
        )


def load_table(
    reader: TableReader,
    *,
    on_error: OnError | None,
    note: Callable[[str], None],
    max_bytes: int | None = None,
) -> Table:
    """Read a table into memory; see `FaultyRows` for malformed rows.

    With `max_bytes` it stops when the cells take more; malformed rows among the first are then left out.
    """
    faulty = FaultyRows(reader.name, on_error)
    parts, positions, total, size, complete = [], [], 0, 0, True
    for batch in reader.batches(size=2**20 if max_bytes is None else BATCH_ROWS):
        if max_bytes is not None and size > max_bytes:
            complete = False
            break
        rows, good = faulty.drop(batch)
        parts.append(rows.data)
        positions.append(good + total + 1)
        total += len(batch)
        size += rows.data.nbytes
    if complete:
        faulty.finish(total, note)
    numbers = np.concatenate(positions)
    return Table(
        concatenate(parts),
        reader.class_names,
        reader.name,
        numbers if len(numbers) < total else None,
        lambda position: reader.locate(int(numbers[position])),
        complete=complete,
    )


def concatenate(parts: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables with the same columns; a column of several types becomes strings."""
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    parts = [part.select(parts[0].column_names) for part in parts]
    for place, name in enumerate(parts[0].column_names):
        if len({part[name].type for part in parts} - {pa.null()}) > 1:
            texts = [to_arrow_texts(part[name].to_pylist()) for part in parts]
            parts = [part.set_column(place, name, cells) for part, cells in zip(parts, texts, strict=True)]
    return pa.concat_tables(parts, promote_options="permissive")


def to_arrow(values: Sequence[Any]) -> pa.Array:
    """Convert cells to an array of their type, or to strings if their types differ."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return to_arrow_texts(values)


def to_arrow_texts(values: Sequence[Any]) -> pa.Array:
    """Convert cells to an array of strings: whole numbers without `.0`, lists and objects as JSON."""
    return pa.array([_to_text(value) for value in values], pa.string())


def _to_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    # JSON can contain half of a surrogate pair, which is not a character
    return text.encode("utf-8", "replace").decode()
