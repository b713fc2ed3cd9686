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
from flowgmm_cli.data.array_types import Array, Bools, Ints, Positions
from flowgmm_cli.data.cache import Arrays, TableCache
from flowgmm_cli.data.preprocessor import has_no_text
from flowgmm_cli.data.readers.row_errors import FaultyRows, OnError, RowError
from flowgmm_cli.data.readers.table import Table, TableReader
from flowgmm_cli.data.sampling import marker_mask
from flowgmm_cli.data.sources.columns import ColumnStatistics, numbers, strings, vectors
from flowgmm_cli.errors import DataError

MAX_CLASSES = 32_000
"""Maximum number of classes."""
_NUMBER_BYTES = 8
_MAX_PART_ROWS, _MAX_PART_BYTES = 16_384, 2**23
_LABEL_ROWS = 2**17


@dataclass(frozen=True)
class ChunkedTable:
    """A table that is read in parts, as often as needed.

    Attributes:
        reader: the table.
        columns: the input columns.
        cells: converts the input columns of a part, and gives position -> error of rows that do not fit.
        names: names of the columns that form the rows.
        id: column of row names; None for row numbers.
        on_error: policy for malformed rows, see `FaultyRows`.
        row_bytes: approximate bytes of a row in memory.
        memory: memory budget in bytes.
        cache: results of passes over the table.
        labels: integers `(N,)`, indices into the class names, -1 for unlabelled rows.
        marked: mask of the rows that `data.labels.column` marks as labelled; None without such a column.
    """

    reader: TableReader
    columns: tuple[Column, ...]
    cells: Callable[[Sequence[Column], Table], tuple[dict[str, Array], dict[int, RowError]]]
    names: tuple[str, ...]
    id: str | None
    on_error: OnError | None
    row_bytes: int
    memory: int
    cache: TableCache
    labels: Array
    marked: Bools | None

    def rows(
        self, context: DataContext, description: str
    ) -> Iterator[tuple[int, Table, Rows, dict[int, RowError]]]:
        """Yield the number of rows before a part, the part, its rows without labels, and position -> error.

        Raises:
            DataError: the table no longer has as many rows.
        """
        start, total = 0, len(self.labels)
        size = max(1, min(_MAX_PART_ROWS, _MAX_PART_BYTES // self.row_bytes))
        names = {*self.names, *([self.id] if self.id else [])}
        for part in read_parts(self.reader, names, self.on_error, size=size):
            context.progress(start, total, description)
            count = part.data.num_rows
            cells, errors = self.cells(self.columns, part)
            ids: Any = part.row_numbers
            yield start, part, Rows(cells, np.full(count, -1, dtype=np.int64), ids), errors
            start += count
        if start != total:
            raise DataError(
                f"{self.reader.name} has {start:,} rows, and had {total:,} when its labels were read",
                hint="do not change the files while they are read; start again",
            )

    def gather(
        self, positions: Positions, test: Positions, context: DataContext
    ) -> tuple[Rows, Mapping[str, ColumnStatistics], Positions, list[str]]:
        """Return the rows at some ascending positions, and the statistics of all rows but those of the test.

        The last two results are the positions of rows that cannot be used, and notes: a cell does not fit its
        column, or there is nothing but an empty text. The result is kept in the cache.
        """
        key = ["rows", self.columns, self.names, self.id, positions, test]
        arrays = self.cache.load_or_compute(key, lambda: self._read_rows(positions, test, context))
        cells = {column.name: arrays[f"cells {index}"] for index, column in enumerate(self.columns)}
        statistics = {
            name: ColumnStatistics(**{**value, "categories": set(value["categories"])})
            for name, value in json.loads(arrays["statistics"][0]).items()
        }
        rows = Rows(cells, self.labels[positions].astype(np.int64), arrays["ids"])
        return rows, statistics, arrays["unusable"], arrays["notes"].tolist()

    def _read_rows(self, positions: Positions, test: Positions, context: DataContext) -> Arrays:
        columns: dict[str, list[Array]] = {column.name: [] for column in self.columns}
        ids = np.array([f"train:{position + 1}" for position in positions.tolist()], dtype=object)
        statistics = {column.name: ColumnStatistics() for column in self.columns}
        faulty, notes = FaultyRows(self.reader.name, self.on_error), list[str]()
        malformed, empty = list[Ints](), list[Ints]()
        for start, part, rows, errors in self.rows(context, "reading all rows once"):
            target, excluded = (
                slice(*np.searchsorted(places, [start, start + len(rows)])) for places in (positions, test)
            )
            chosen = positions[target] - start
            known = faulty.select(len(rows), errors, part.locate)
            if len(test):
                known = np.setdiff1d(known, test[excluded] - start, assume_unique=True)
            malformed.append(start + np.array(sorted(errors), dtype=np.int64))
            empty.append(start + np.flatnonzero(has_no_text(rows, self.columns)))
            for column in self.columns:
                cells = rows.columns[column.name]
                columns[column.name].append(cells[chosen])
                statistics[column.name].add(column, cells[known] if len(known) < len(cells) else cells)
            if self.id is not None and len(chosen):
                ids[target] = strings(part.data.column(self.id).take(pa.array(chosen)))
        faulty.finish(len(self.labels), notes.append)
        if count := sum(map(len, empty)):
            notes.append(f"{count:,} of {len(self.labels):,} rows have no text and are left out")
        values = {
            name: {**vars(value), "categories": [*value.categories]} for name, value in statistics.items()
        }
        return {
            **{f"cells {index}": np.concatenate(parts) for index, parts in enumerate(columns.values())},
            "ids": ids,
            "unusable": np.unique(np.concatenate([*malformed, *empty])),
            "statistics": np.array([json.dumps(values)], dtype=object),
            "notes": np.array(notes, dtype=object),
        }


def read_parts(
    reader: TableReader,
    columns: Collection[str],
    on_error: OnError | None,
    *,
    size: int,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Table]:
    """Yield the rows that are not malformed, at most `size` at once, numbered within their file."""
    faulty, total = FaultyRows(reader.name, on_error), 0
    for batch in reader.batches(columns, size=size):
        part, _ = faulty.drop(batch)
        if len(part):
            yield part
        total += len(batch)
    faulty.finish(total, note)


def read_labels(
    reader: TableReader, label: str, marker: str | None, on_error: OnError | None, context: DataContext
) -> Arrays:
    """Read the labels of all rows.

    Args:
        reader: the table.
        label: the column of the class.
        marker: the column that marks labelled rows.
        on_error: policy for malformed rows.
        context: environment; receives the progress.

    Returns:
        The distinct `labels`, their `counts`, the index of the label of each row in `codes`, -1 for none; the
        rows that are `marked`, if there is a marker; `notes` for the user.
    """
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
        codes.append(np.array(code_of, dtype=np.min_scalar_type(-len(known) - 1))[indices])
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
    encoded = pc.dictionary_encode(cells).combine_chunks()
    indices = pc.fill_null(encoded.indices.cast(pa.int32()), len(encoded.dictionary))
    return encoded.dictionary, indices.to_numpy(zero_copy_only=False)


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
