"""Tables larger than memory, read in parts: labels of all rows, statistics of columns, some of the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.array_types import Array, Bools, Positions
from flowgmm_cli.data.labels import label_codes
from flowgmm_cli.data.readers.row_errors import FaultyRows, OnError
from flowgmm_cli.data.readers.table import Table, TableReader
from flowgmm_cli.data.sampling import marker_mask
from flowgmm_cli.data.sources.columns import numbers, strings, vectors
from flowgmm_cli.data.statistics import ColumnStatistics
from flowgmm_cli.data.table_cache import Arrays, TableCache
from flowgmm_cli.errors import DataError

MAX_CLASSES = 32_000
"""Maximum number of classes."""
MAX_NAMED_CATEGORIES = 10_000
"""Maximum number of categories of a column in `data.categorical`."""
_MAX_INT8_CLASSES = 120
_NUMBER_BYTES = 8
_MAX_PART_ROWS, _MAX_PART_BYTES = 16_384, 2**23
_LABEL_ROWS = 2**17


@dataclass(frozen=True)
class ChunkedTable:
    """A table that is read in parts, as often as needed.

    Attributes:
        reader: the table.
        columns: the input columns.
        cells: converts a column of a part, as for a table in memory.
        names: names of the columns that form the rows.
        id: column of row names; None for row numbers.
        named: columns in `data.categorical`, which may have many categories.
        strict: True if a missing or infinite number is an error.
        on_error: policy for malformed rows, see `FaultyRows`.
        row_bytes: approximate bytes of a row in memory.
        memory: memory budget in bytes.
        cache: results of passes over the table.
    """

    reader: TableReader
    columns: tuple[Column, ...]
    cells: Callable[[Column, Table], Array]
    names: tuple[str, ...]
    id: str | None
    named: frozenset[str]
    strict: bool
    on_error: OnError | None
    row_bytes: int
    memory: int
    cache: TableCache

    @property
    def where(self) -> str:
        """Name of the table in messages."""
        return self.reader.name

    def rows(self, context: DataContext, total: int, description: str) -> Iterator[tuple[int, Table, Rows]]:
        """Yield the number of rows before a part, the part, and its rows without labels.

        Raises:
            DataError: a cell does not fit its column, or the table has no longer `total` rows.
        """
        start, size = 0, max(1, min(_MAX_PART_ROWS, _MAX_PART_BYTES // self.row_bytes))
        numeric = [column.name for column in self.columns if column.kind == "numeric"]
        names = {*self.names, *([self.id] if self.id else [])}
        for part in read_parts(self.reader, names, self.on_error, size=size, numeric=numeric):
            context.progress(start, total, description)
            count = part.data.num_rows
            rows = Rows(
                columns={column.name: self.cells(column, part) for column in self.columns},
                labels=np.full(count, -1, dtype=np.int64),
                ids=part.row_numbers if part.row_numbers is not None else np.arange(1, count + 1),
            )
            yield start, part, rows
            start += count
        if start != total:
            raise DataError(
                f"{self.where} has {start:,} rows, and had {total:,} when its labels were read",
                hint="do not change the files while they are read; start again",
            )


def read_parts(
    reader: TableReader,
    columns: Collection[str],
    on_error: OnError | None,
    *,
    size: int = _MAX_PART_ROWS,
    numeric: Collection[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Table]:
    """Yield the rows that are not malformed, at most `size` at once, numbered within their file."""
    faulty, start, total, source = FaultyRows(reader.name, on_error), 0, 0, ""
    for batch in reader.batches(columns, numbers=numeric, size=size):
        data, positions = faulty.drop(batch)
        if batch.source != source:
            start, source = total, batch.source
        if len(positions):
            yield Table(data, reader.class_names, source, positions + total - start + 1)
        total += len(batch)
    faulty.finish(total, note)


@dataclass(frozen=True)
class TableLabels:
    """Labels of all rows.

    Attributes:
        names: class names.
        codes: int8 or int16 `(N,)`, indices into the names, -1 for unlabelled rows.
        marked: bool `(N,)`, rows that `data.labels.column` marks as labelled; None without such a column.
    """

    names: tuple[str, ...]
    codes: Array
    marked: Bools | None


def read_labels(
    reader: TableReader,
    label: str,
    marker: str | None,
    on_error: OnError | None,
    find_names: Callable[[Mapping[str, int], int], Sequence[str]],
    cache: TableCache,
    context: DataContext,
) -> TableLabels:
    """Read the labels of all rows from the cache, or else from the table.

    Args:
        reader: the table.
        label: the column of the class.
        marker: the column that marks labelled rows.
        on_error: policy for malformed rows.
        find_names: returns the class names, given the number of rows of each label and of all rows.
        cache: results of passes over the table.
        context: environment; receives progress and notes.
    """

    def compute() -> Arrays:
        return _scan_labels(reader, label, marker, on_error, context)

    arrays = cache.load_or_compute(["labels", label, marker, on_error], compute)
    for text in arrays["notes"].tolist():
        context.note(text)
    labels = arrays["labels"].tolist()
    names = tuple(find_names(dict(zip(labels, arrays["counts"].tolist(), strict=True)), len(arrays["codes"])))
    order = np.append(label_codes(arrays["labels"], names), -1)
    order = order.astype(np.int8 if len(names) <= _MAX_INT8_CLASSES else np.int16)
    return TableLabels(names, order[arrays["codes"]], arrays.get("marked"))


def _scan_labels(
    reader: TableReader, label: str, marker: str | None, on_error: OnError | None, context: DataContext
) -> Arrays:
    """Return the distinct labels, their counts, and the index of each row's label; -1 for none."""
    known: dict[str, int] = {}
    counts: Counter[str | None] = Counter()
    codes: list[Array] = []
    marked: list[Bools] = []
    notes: list[str] = []
    columns = [label, *([marker] if marker else [])]
    for part in read_parts(reader, columns, on_error, size=_LABEL_ROWS, note=notes.append):
        context.progress(counts.total(), reader.rows or 0, "reading labels")
        distinct, indices = _dictionary(part.column(label, key="data.label"))
        cells = Table(pa.table({label: distinct}), part.class_names, part.where).label_strings(label)
        names = [*cells.tolist(), None]
        counts.update(dict(zip(names, np.bincount(indices, minlength=len(names)).tolist(), strict=True)))
        code_of = [-1 if name is None else known.setdefault(name, len(known)) for name in names]
        codes.append(np.array(code_of, np.int8 if len(known) <= _MAX_INT8_CLASSES else np.int16)[indices])
        if len(known) > MAX_CLASSES:
            raise DataError(
                f"{part.where}: column `{label}` (data.label) has more than {MAX_CLASSES:,} different "
                "values, too many for a label",
                hint="name another column, or group the values into a few classes first",
            )
        if marker is not None:
            distinct, indices = _dictionary(part.column(marker, key="data.labels.column"))
            mask = marker_mask({marker: strings(pa.chunked_array([distinct]))}, marker)
            marked.append(np.append(mask, False)[indices])
    return {
        "labels": np.array(list(known), dtype=object),
        "counts": np.array([counts[name] for name in known], dtype=np.int64),
        "codes": np.concatenate(codes),
        "notes": np.array(notes, dtype=object),
        **({"marked": np.concatenate(marked)} if marker else {}),
    }


def _dictionary(cells: pa.ChunkedArray) -> tuple[pa.Array, Array]:
    """Return the distinct cells, and the index of each cell in them; the index of null is their number."""
    array = cells.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    indices = pc.fill_null(array.indices.cast(pa.int32()), len(array.dictionary))
    return array.dictionary, indices.to_numpy(zero_copy_only=False)


def gather_rows(
    table: ChunkedTable, positions: Positions, test: Positions, total: int, context: DataContext
) -> tuple[Rows, Mapping[str, ColumnStatistics]]:
    """Return the rows at some positions, and the statistics of all rows but those of the test."""
    names = [column.name for column in table.columns]

    def compute() -> Arrays:
        rows, statistics = _read_cells(table, positions, test, total, context)
        values = json.dumps({name: value.to_dict() for name, value in statistics.items()})
        cells = {f"cells {index}": rows.columns[name] for index, name in enumerate(names)}
        return {**cells, "ids": rows.ids, "statistics": np.array([values], dtype=object)}

    key = ["rows", table.columns, table.names, table.id, sorted(table.named), table.strict, positions, test]
    arrays = table.cache.load_or_compute(key, compute)
    cells = {name: arrays[f"cells {index}"] for index, name in enumerate(names)}
    statistics = json.loads(arrays["statistics"][0])
    return (
        Rows(cells, np.full(len(positions), -1, dtype=np.int64), arrays["ids"]),
        {name: ColumnStatistics.from_dict(value) for name, value in statistics.items()},
    )


def _read_cells(
    table: ChunkedTable, positions: Positions, test: Positions, total: int, context: DataContext
) -> tuple[Rows, dict[str, ColumnStatistics]]:
    count = len(positions)
    columns = {
        column.name: np.empty((count, *column.shape), dtype=object if _is_text(column) else np.float64)
        for column in table.columns
    }
    ids = np.array([f"train:{position + 1}" for position in positions.tolist()], dtype=object)
    statistics = {column.name: ColumnStatistics() for column in table.columns}
    for start, part, rows in table.rows(context, total, "reading all rows once"):
        target = _range_of(positions, start, start + len(rows))
        chosen = positions[target] - start
        excluded = test[_range_of(test, start, start + len(rows))] - start
        for column in table.columns:
            cells = rows.columns[column.name]
            columns[column.name][target] = cells[chosen]
            _update(statistics[column.name], column, np.delete(cells, excluded, axis=0), part.where, table)
            if table.strict and not _is_text(column) and not statistics[column.name].complete:
                raise _missing_cell(column, cells, part)
        if table.id is not None and len(chosen):
            ids[target] = strings(part.data.column(table.id).take(pa.array(chosen)))
    if table.id is not None:
        _require_unique_ids(ids, table.id, table.where)
    return Rows(columns, np.full(count, -1, dtype=np.int64), ids), statistics


def _range_of(positions: Positions, start: int, stop: int) -> slice:
    """Return the slice of ascending positions that are in `start` to `stop`."""
    return slice(*np.searchsorted(positions, [start, stop]))


def _is_text(column: Column) -> bool:
    return column.kind in ("category", "text")


def _update(
    statistics: ColumnStatistics, column: Column, cells: Array, where: str, table: ChunkedTable
) -> None:
    if not _is_text(column):
        statistics.update(cells)
    elif column.kind == "category":
        statistics.update_categories(cells)
        if column.name in table.named and len(statistics.categories) > MAX_NAMED_CATEGORIES:
            raise DataError(
                f"{where}: column `{column.name}` has more than {MAX_NAMED_CATEGORIES:,} categories",
                hint=f"take it out of data.categorical, or leave it out with data.drop=[{column.name}]",
            )


def _missing_cell(column: Column, cells: Array, part: Table) -> DataError:
    bad = ~np.isfinite(cells.reshape(len(cells), -1)).all(axis=1)
    row = part.row_number(int(bad.argmax()))
    return DataError(
        f"{part.where}: column `{column.name}` is missing or infinite in row {row:,}",
        hint="set data.missing=median to fill in such cells",
    )


def _require_unique_ids(ids: Array, column: str, where: str) -> None:
    previous: set[Any] = set()
    for name in ids.tolist():
        if name is None or name in previous:
            raise DataError(
                f"{where}: column `{column}` (data.id) is empty in a row, or `{name}` names two of them",
                hint="an id names one row; without data.id rows are numbered",
            )
        previous.add(name)


def cell_bytes(cells: pa.ChunkedArray) -> int:
    """Return the mean bytes of a cell in memory: 8 for a number."""
    if numbers(cells) is not None:
        return _NUMBER_BYTES
    if (entries := vectors(cells)) is not None:
        return _NUMBER_BYTES * int(entries.shape[1])
    return max(_NUMBER_BYTES, int(cells.nbytes) // max(1, len(cells)))


def text_bytes(table: pa.Table) -> int:
    """Return the mean bytes of a row in a text file, with delimiters."""
    cells = sum(len(str(cell)) for column in table.columns for cell in column.to_pylist() if cell is not None)
    return cells // max(1, int(table.num_rows)) + int(table.num_columns)
