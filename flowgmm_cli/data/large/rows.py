"""Build rows from parts of a table on disk, and read the rows that stay in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.array_types import Array, Positions
from flowgmm_cli.data.large.cache import Arrays, load_or_compute
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.reader import GroupReader, batch_rows
from flowgmm_cli.data.large.statistics import ColumnStatistics
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.data.splits import take_part
from flowgmm_cli.errors import DataError

MAX_NAMED_CATEGORIES = 10_000
"""Maximum number of categories of a column in `data.categorical`."""


@dataclass(frozen=True)
class RowBuilder:
    """Conversion of table columns to input columns.

    Attributes:
        columns: the input columns; they have the same names in the files.
        cells: function that converts a column of a table, as for a table in memory.
        id: column of row names; None for row numbers.
        named: columns in `data.categorical`, which may have many categories.
    """

    columns: tuple[Column, ...]
    cells: Callable[[Column, Table], Array]
    id: str | None = None
    named: frozenset[str] = frozenset()

    @property
    def width(self) -> int:
        """Numbers per row; a category counts as one."""
        return sum(int(np.prod(column.shape)) for column in self.columns)

    def read(self, table: TableFiles, *, ids: bool = False) -> GroupReader:
        """Return a reader of the columns that form the rows."""
        names = [column.name for column in self.columns] + ([self.id] if ids and self.id else [])
        return GroupReader(table, names, batch_rows(self.width))

    def rows(self, part: pa.Table, first: int, where: str) -> Rows:
        """Build rows without labels from a part of the table that begins at row `first` of it.

        Ids are the numbers of the rows in the table, from 1.
        """
        named = Table(part, {}, f"{where}, rows from {first + 1:,}")
        return Rows(
            columns={column.name: self.cells(column, named) for column in self.columns},
            labels=np.full(part.num_rows, -1, dtype=np.int64),
            ids=np.arange(first + 1, first + part.num_rows + 1),
        )


@dataclass(frozen=True)
class ResidentRows:
    """Rows that stay in memory, and statistics of all rows.

    Attributes:
        positions: indices of the rows in the table, ascending.
        rows: the rows, without labels.
        statistics: column name -> statistics over all rows except the held-out ones.
    """

    positions: Positions
    rows: Rows
    statistics: Mapping[str, ColumnStatistics]

    def take(self, positions: Positions, labels: Array, parts: Array) -> Rows:
        """Return the rows at some of the positions, with the labels that the parts of all rows show."""
        rows = self.rows.take(np.searchsorted(self.positions, positions))
        rows = Rows(rows.columns, labels.astype(np.int64), rows.ids)
        return take_part(rows, parts[positions], np.arange(len(rows)))


def load_resident_rows(
    table: TableFiles,
    builder: RowBuilder,
    positions: Positions,
    held_out: Positions,
    *,
    strict: bool,
    context: DataContext,
) -> ResidentRows:
    """Read the rows at `positions` and the statistics of all rows from the cache, or else from the table.

    Args:
        table: the files.
        builder: conversion of their columns.
        positions: rows that stay in memory, ascending.
        held_out: rows that the statistics leave out, ascending.
        strict: True if a missing or infinite number is an error.
        context: environment; receives the progress.
    """
    names = [column.name for column in builder.columns]

    def compute() -> Arrays:
        resident = _read_resident_rows(table, builder, positions, held_out, strict=strict, context=context)
        statistics = json.dumps({name: value.to_dict() for name, value in resident.statistics.items()})
        cells = {f"cells {index}": resident.rows.columns[name] for index, name in enumerate(names)}
        return {**cells, "ids": resident.rows.ids, "statistics": np.array([statistics], dtype=object)}

    key = ["rows", builder.columns, builder.id, sorted(builder.named), strict, positions, held_out]
    arrays = load_or_compute(table, context, key, compute)
    cells = {name: arrays[f"cells {index}"] for index, name in enumerate(names)}
    statistics = json.loads(arrays["statistics"][0])
    return ResidentRows(
        positions,
        Rows(cells, np.full(len(positions), -1, dtype=np.int64), arrays["ids"]),
        {name: ColumnStatistics.from_dict(value) for name, value in statistics.items()},
    )


def _read_resident_rows(
    table: TableFiles,
    builder: RowBuilder,
    positions: Positions,
    held_out: Positions,
    *,
    strict: bool,
    context: DataContext,
) -> ResidentRows:
    columns = {
        column.name: np.empty(
            (len(positions), *column.shape), dtype=object if _is_text(column) else np.float64
        )
        for column in builder.columns
    }
    ids = np.array([f"train:{position + 1}" for position in positions.tolist()], dtype=object)
    statistics = {column.name: ColumnStatistics() for column in builder.columns}
    with builder.read(table, ids=True) as reader:
        for where, start, part in reader.scan(context, "reading all rows once"):
            rows, stop = builder.rows(part, start, where), start + part.num_rows
            target = _range_of(positions, start, stop)
            chosen = positions[target] - start
            excluded = held_out[_range_of(held_out, start, stop)] - start
            for column in builder.columns:
                cells = rows.columns[column.name]
                columns[column.name][target] = cells[chosen]
                rest = np.delete(cells, excluded, axis=0) if len(excluded) else cells
                _update(statistics[column.name], column, rest, where, named=column.name in builder.named)
                if strict and not _is_text(column) and not statistics[column.name].complete:
                    raise _missing_cell(column, cells, start, where)
            if builder.id is not None and len(chosen):
                ids[target] = strings(part.column(builder.id).take(pa.array(chosen)))
    if builder.id is not None:
        _require_unique_ids(ids, builder.id, table.where)
    rows = Rows(columns, np.full(len(positions), -1, dtype=np.int64), ids)
    return ResidentRows(positions, rows, statistics)


def _range_of(positions: Positions, start: int, stop: int) -> slice:
    """Return the slice of ascending positions that are in `start` to `stop`."""
    return slice(*np.searchsorted(positions, [start, stop]))


def _is_text(column: Column) -> bool:
    return column.kind in ("category", "text")


def _update(statistics: ColumnStatistics, column: Column, cells: Array, where: str, *, named: bool) -> None:
    if not _is_text(column):
        statistics.update(cells)
        return
    statistics.update_categories(cells)
    if named and len(statistics.categories) > MAX_NAMED_CATEGORIES:
        raise DataError(
            f"{where}: column `{column.name}` has more than {MAX_NAMED_CATEGORIES:,} categories",
            hint=f"take it out of data.categorical, or leave it out with data.drop=[{column.name}]",
        )


def _missing_cell(column: Column, cells: Array, first: int, where: str) -> DataError:
    bad = ~np.isfinite(cells.reshape(len(cells), -1)).all(axis=1)
    return DataError(
        f"{where}: column `{column.name}` is missing or infinite in row {first + int(bad.argmax()) + 1:,}",
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
