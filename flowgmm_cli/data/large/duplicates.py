"""Find the rows of a table on disk that are equal to a held-out row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.array_types import Array, Positions
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.data.large.cache import Arrays, load_or_compute
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.rows import RowBuilder
from flowgmm_cli.errors import DataError

MAX_DUPLICATES = 5_000_000
"""Maximum number of duplicates."""
_KEY_COLUMNS = 3  # columns that are compared first


def find_duplicates(
    table: TableFiles, builder: RowBuilder, held_out: Sequence[Rows], skip: Positions, context: DataContext
) -> Positions:
    """Return the indices of the rows that are equal to a held-out row, ascending, without those in `skip`.

    A few columns of all rows are compared first; the rows that agree in these are then read in full.
    """
    digests = {digest for rows in held_out for digest in row_digests(rows, builder.columns)}

    def compute() -> Arrays:
        return {"positions": _find(table, builder, held_out, digests, skip, context)}

    key = ["duplicates", builder.columns, sorted(digests), skip]
    return load_or_compute(table, context, key, compute)["positions"]


def _find(
    table: TableFiles,
    builder: RowBuilder,
    held_out: Sequence[Rows],
    digests: Collection[bytes],
    skip: Positions,
    context: DataContext,
) -> Positions:
    keys = _choose_keys(builder.columns, held_out)
    codes = {
        column.name: {
            cell: number
            for number, cell in enumerate(
                dict.fromkeys(c for rows in held_out for c in rows.columns[column.name])
            )
        }
        for column in keys
        if column.kind == "category"
    }
    known = np.unique(np.concatenate([_hash_rows(rows, keys, codes) for rows in held_out]))
    key_builder = RowBuilder(keys, builder.cells)
    duplicates: list[Positions] = []
    count = start = 0
    with key_builder.read(table) as reader, builder.read(table) as row_reader:
        for group in range(len(table.groups)):
            context.progress(group, len(table.groups), "comparing rows with those held out")
            where = table.describe_group(group)
            group_start = start
            for part in reader.read(group):
                hashes = _hash_rows(key_builder.rows(part, start, where), keys, codes)
                nearest = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
                candidates = np.flatnonzero(known[nearest] == hashes) + start
                first, start = start, start + part.num_rows
                candidates = np.setdiff1d(candidates, skip[slice(*np.searchsorted(skip, [first, start]))])
                if not len(candidates):
                    continue
                for full in row_reader.read(group, first - group_start, part.num_rows):
                    rows = builder.rows(full, first, where).take(candidates - first)
                    is_equal = [digest in digests for digest in row_digests(rows, builder.columns)]
                    duplicates.append(candidates[np.array(is_equal, dtype=bool)])
                    count += len(duplicates[-1])
            if count > MAX_DUPLICATES:
                raise DataError(
                    f"{table.where}: more than {MAX_DUPLICATES:,} rows are equal to one of the test or "
                    "validation rows",
                    hint="set data.split.duplicates=keep to train on them as well",
                )
    return np.concatenate([np.empty(0, dtype=np.int64), *duplicates])


def _choose_keys(columns: Sequence[Column], held_out: Sequence[Rows]) -> tuple[Column, ...]:
    """Return the columns with the most distinct values in the held-out rows, numeric columns first."""

    def distinct(column: Column) -> int:
        cells = np.concatenate([rows.columns[column.name] for rows in held_out])
        return len(set(cells.tolist())) if column.kind == "category" else len(np.unique(_hash_numbers(cells)))

    ranked = sorted(columns, key=lambda column: (column.kind == "category", -distinct(column)))
    return tuple(ranked[:_KEY_COLUMNS])


def _hash_numbers(cells: Array) -> npt.NDArray[np.uint64]:
    """Return a hash of each cell, equal for equal cells; NaN equals NaN, and -0 equals 0."""
    matrix = cells.reshape(len(cells), -1).astype(np.float64) + 0.0
    matrix[np.isnan(matrix)] = np.nan
    hashes = np.zeros(len(matrix), dtype=np.uint64)
    for entry in range(min(matrix.shape[1], _KEY_COLUMNS)):
        hashes = _combine(hashes, np.ascontiguousarray(matrix[:, entry]).view(np.uint64))
    return hashes


def _hash_rows(
    rows: Rows, keys: Sequence[Column], codes: Mapping[str, Mapping[Any, int]]
) -> npt.NDArray[np.uint64]:
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in keys:
        cells = rows.columns[column.name]
        if column.kind == "category":
            code_of = codes[column.name]
            values = np.fromiter((code_of.get(cell, len(code_of)) for cell in cells), np.uint64, len(cells))
        else:
            values = _hash_numbers(cells)
        hashes = _combine(hashes, values)
    return hashes


def _combine(hashes: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed: npt.NDArray[np.uint64] = (hashes ^ values ^ (values >> np.uint64(31))) * np.uint64(
        0x9E3779B97F4A7C15
    )
    return mixed ^ (mixed >> np.uint64(29))
