"""From a piece of a table in files to rows, as the source makes them of a whole table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.large.facts import Facts
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.kept import Arrays, kept
from flowgmm_cli.data.large.read import PartReader, batch_rows
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.data.sources.kinds import MAX_CATEGORIES
from flowgmm_cli.data.sources.tables import Table
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

MAX_NAMED_CATEGORIES = 10_000
"""A column of categories with more different values than this fits into no model."""


@dataclass(frozen=True)
class RowMaker:
    """What the columns of the files mean.

    Attributes:
        columns: the input columns, each of the same name in the files.
        cells: what the source makes of a column of a table.
        id: the column that names a row; None for its number.
        named: columns that are said to hold categories, however many.
    """

    columns: tuple[Column, ...]
    cells: Callable[[Column, Table], npt.NDArray[Any]]
    id: str | None = None
    named: frozenset[str] = frozenset()

    @property
    def width(self) -> int:
        """Numbers of a row, a category counted as one."""
        return sum(int(np.prod(column.shape)) for column in self.columns)

    def read(self, table: TableFiles, *, ids: bool = False) -> PartReader:
        """A reader of what rows are made of."""
        names = [column.name for column in self.columns] + ([self.id] if ids and self.id else [])
        return PartReader(table, names, batch_rows(self.width))

    def rows(self, part: pa.Table, first: int, where: str) -> Rows:
        """Rows without labels; their ids are their numbers in the table, from 1.

        Args:
            part: some rows.
            first: number of rows before them in the table.
            where: what to call the group they are of.

        Raises:
            DataError: a cell is not what its column holds.
        """
        named = Table(part, {}, f"{where}, rows from {first + 1:,}")
        return Rows(
            columns={column.name: self.cells(column, named) for column in self.columns},
            labels=np.full(part.num_rows, -1, dtype=np.int64),
            ids=np.arange(first + 1, first + part.num_rows + 1),
        )


@dataclass(frozen=True)
class Gathered:
    """Rows in memory, and what a look at all of them has shown.

    Attributes:
        positions: of the rows in the table, ascending.
        rows: without labels.
        facts: of each input column, over all rows but the hidden ones.
    """

    positions: Positions
    rows: Rows
    facts: Mapping[str, Facts]

    def at(self, positions: Positions, labels: npt.NDArray[Any]) -> Rows:
        """Some of them, with labels."""
        found = self.rows.take(np.searchsorted(self.positions, positions))
        return Rows(found.columns, labels.astype(np.int64), found.ids)


def gather(
    table: TableFiles,
    maker: RowMaker,
    wanted: Positions,
    hidden: Positions,
    *,
    strict: bool,
    context: DataContext,
) -> Gathered:
    """Rows to keep and facts of all, from an earlier look, or else by reading the table once.

    Args:
        table: the files.
        maker: what their columns mean.
        wanted: rows to keep, ascending.
        hidden: rows that say nothing of the columns, ascending: those held out.
        strict: whether a missing or infinite number is an error.
        context: told of the progress.

    Raises:
        DataError: a file or a cell cannot be read, or an id is empty or twice among the rows to keep.
    """
    names = [column.name for column in maker.columns]

    def look() -> Arrays:
        found = _gather(table, maker, wanted, hidden, strict=strict, context=context)
        facts = json.dumps({name: one.to_dict() for name, one in found.facts.items()})
        cells = {f"cells {place}": found.rows.columns[name] for place, name in enumerate(names)}
        return {**cells, "ids": found.rows.ids, "facts": np.array([facts], dtype=object)}

    asked = ["rows", maker.columns, maker.id, sorted(maker.named), strict, wanted, hidden]
    found = kept(table, context, asked, look)
    cells = {name: found[f"cells {place}"] for place, name in enumerate(names)}
    facts = json.loads(found["facts"][0])
    return Gathered(
        wanted,
        Rows(cells, np.full(len(wanted), -1, dtype=np.int64), found["ids"]),
        {name: Facts.from_dict(one) for name, one in facts.items()},
    )


def _gather(
    table: TableFiles,
    maker: RowMaker,
    wanted: Positions,
    hidden: Positions,
    *,
    strict: bool,
    context: DataContext,
) -> Gathered:
    columns = {
        column.name: np.empty((len(wanted), *column.shape), dtype=object if _is_words(column) else np.float64)
        for column in maker.columns
    }
    ids = np.array([f"train:{position + 1}" for position in wanted.tolist()], dtype=object)
    facts = {column.name: Facts() for column in maker.columns}
    at = 0
    with maker.read(table, ids=True) as reader:
        for group in range(len(table.groups)):
            context.progress(group, len(table.groups), "reading all rows once")
            where = table.place(group)
            for part in reader.read(group):
                rows, end = maker.rows(part, at, where), at + part.num_rows
                mine = slice(*np.searchsorted(wanted, [at, end]))
                chosen = wanted[mine] - at
                out = hidden[slice(*np.searchsorted(hidden, [at, end]))] - at
                for column in maker.columns:
                    cells = rows.columns[column.name]
                    columns[column.name][mine] = cells[chosen]
                    seen = np.delete(cells, out, axis=0) if len(out) else cells
                    _learn(facts[column.name], column, seen, where, named=column.name in maker.named)
                    if strict and not _is_words(column) and not facts[column.name].complete:
                        raise _missing(column, cells, at, where)
                if maker.id is not None and len(chosen):
                    ids[mine] = strings(part.column(maker.id).take(pa.array(chosen)))
                at = end
    if maker.id is not None:
        _require_names(ids, maker.id, table.where)
    return Gathered(wanted, Rows(columns, np.full(len(wanted), -1, dtype=np.int64), ids), facts)


def _is_words(column: Column) -> bool:
    return column.kind in ("category", "text")


def _learn(facts: Facts, column: Column, cells: npt.NDArray[Any], where: str, *, named: bool) -> None:
    if not _is_words(column):
        facts.see_numbers(cells)
        return
    facts.cells += len(cells)
    facts.categories.update(cells.tolist())
    most = MAX_NAMED_CATEGORIES if named else MAX_CATEGORIES
    if len(facts.categories) > most:
        raise DataError(
            f"{where}: column `{column.name}` is neither numbers nor a few categories: it has more "
            f"than {most:,} different values",
            hint=f"leave it out with data.drop=[{column.name}]"
            + ("" if named else f", or name it as categories with data.categorical=[{column.name}]"),
        )


def _missing(column: Column, cells: npt.NDArray[Any], first: int, where: str) -> DataError:
    bad = ~np.isfinite(cells.reshape(len(cells), -1)).all(axis=1)
    return DataError(
        f"{where}: column `{column.name}` is missing or infinite in row {first + int(bad.argmax()) + 1:,}",
        hint="set data.missing=median to fill such cells in",
    )


def _require_names(ids: npt.NDArray[Any], column: str, where: str) -> None:
    seen: set[Any] = set()
    for name in ids.tolist():
        if name is None or name in seen:
            raise DataError(
                f"{where}: column `{column}` (data.id) is empty in a row, or `{name}` names two of them",
                hint="an id names one row; without data.id rows are numbered",
            )
        seen.add(name)
