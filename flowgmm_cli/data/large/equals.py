"""Rows of a table in files that are equal to a row held out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.content import row_digests
from flowgmm_cli.data.large.cells import RowMaker
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.kept import Arrays, kept
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

MOST = 5_000_000
"""Rows that may be left out one by one."""
_KEYS = 3  # columns that nearly always tell rows apart


def equal_rows(
    table: TableFiles, maker: RowMaker, held: Sequence[Rows], skip: Positions, context: DataContext
) -> Positions:
    """Numbers of the rows that are equal to a held-out one, ascending.

    A few columns of all rows are compared; the rows that agree in these are then read in full.

    Args:
        table: the files.
        maker: what their columns mean.
        held: the held-out rows.
        skip: their own numbers, ascending.
        context: told of the progress.

    Raises:
        DataError: a file cannot be read, or the rows are too many.
    """
    digests = {digest for rows in held for digest in row_digests(rows, maker.columns)}

    def look() -> Arrays:
        return {"places": _find(table, maker, held, digests, skip, context)}

    asked = ["equals", maker.columns, sorted(digests), skip]
    return kept(table, context, asked, look)["places"]


def _find(
    table: TableFiles,
    maker: RowMaker,
    held: Sequence[Rows],
    digests: Collection[bytes],
    skip: Positions,
    context: DataContext,
) -> Positions:
    keys = _telling(maker.columns, held)
    words = {
        column.name: {
            cell: number
            for number, cell in enumerate(
                dict.fromkeys(c for rows in held for c in rows.columns[column.name])
            )
        }
        for column in keys
        if column.kind == "category"
    }
    known = np.unique(np.concatenate([_key(rows, keys, words) for rows in held]))
    few = RowMaker(keys, maker.cells)
    found: list[Positions] = []
    count = at = 0
    with few.read(table) as reader, maker.read(table) as whole:
        for group in range(len(table.groups)):
            context.progress(group, len(table.groups), "comparing rows with those held out")
            where = table.place(group)
            start = at
            for part in reader.read(group):
                key = _key(few.rows(part, at, where), keys, words)
                near = np.minimum(np.searchsorted(known, key), len(known) - 1)
                same = np.flatnonzero(known[near] == key) + at
                at += part.num_rows
                same = np.setdiff1d(same, skip[slice(*np.searchsorted(skip, [at - part.num_rows, at]))])
                if not len(same):
                    continue
                for full in whole.read(group, at - part.num_rows - start, part.num_rows):
                    first = at - part.num_rows
                    rows = maker.rows(full, first, where).take(same - first)
                    equal = [digest in digests for digest in row_digests(rows, maker.columns)]
                    found.append(same[np.array(equal, dtype=bool)])
                    count += len(found[-1])
            if count > MOST:
                raise DataError(
                    f"{table.where}: more than {MOST:,} rows are equal to one of the test or validation rows",
                    hint="set data.split.duplicates=keep to train on them as well",
                )
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def _telling(columns: Sequence[Column], held: Sequence[Rows]) -> tuple[Column, ...]:
    """The columns with most different values among the held-out rows; numbers first."""

    def different(column: Column) -> int:
        cells = np.concatenate([rows.columns[column.name] for rows in held])
        return len(set(cells.tolist())) if column.kind == "category" else len(np.unique(_number(cells)))

    ranked = sorted(columns, key=lambda column: (column.kind == "category", -different(column)))
    return tuple(ranked[:_KEYS])


def _number(cells: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A number for each cell: equal for equal cells, all NaN and the two zeros included."""
    matrix = cells.reshape(len(cells), -1).astype(np.float64) + 0.0
    matrix[np.isnan(matrix)] = np.nan
    total = np.zeros(len(matrix), dtype=np.uint64)
    for entry in range(min(matrix.shape[1], _KEYS)):
        total = _mixed(total, np.ascontiguousarray(matrix[:, entry]).view(np.uint64))
    return total


def _key(
    rows: Rows, keys: Sequence[Column], words: Mapping[str, Mapping[Any, int]]
) -> npt.NDArray[np.uint64]:
    total = np.zeros(len(rows), dtype=np.uint64)
    for column in keys:
        cells = rows.columns[column.name]
        if column.kind == "category":
            place = words[column.name]
            number = np.fromiter((place.get(cell, len(place)) for cell in cells), np.uint64, len(cells))
        else:
            number = _number(cells)
        total = _mixed(total, number)
    return total


def _mixed(total: npt.NDArray[np.uint64], number: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed: npt.NDArray[np.uint64] = (total ^ number ^ (number >> np.uint64(31))) * np.uint64(
        0x9E3779B97F4A7C15
    )
    return mixed ^ (mixed >> np.uint64(29))
