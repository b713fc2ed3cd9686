"""Infer the kind of a column of a table: numeric, vector or category."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pyarrow as pa

from flowgmm_cli.api import Column
from flowgmm_cli.data.messages import shorten
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.columns import (
    MISSING_WORDS,
    find_localised_numbers,
    find_non_numeric,
    numbers,
    strings,
    vectors,
)
from flowgmm_cli.errors import DataError

MAX_CATEGORIES = 64
"""A non-numeric column with more distinct values needs its kind in the recipe."""

FEW_CATEGORIES = 10
"""A column of numbers and a few words with at most this many distinct values counts as categories."""


def infer_column(
    name: str, table: Table, *, categorical: Collection[str], note: Callable[[str], None]
) -> Column:
    """Infer the kind of a column from the training rows, or a sample of them.

    The recipe calls the columns in `categorical` categories; `note` receives notes for the user.
    """
    cells = table.data[name]
    if name in categorical:
        return Column(name, "category")
    if numbers(cells) is not None:
        return Column(name, "numeric")
    if (entries := vectors(cells)) is not None:
        return Column(name, "vector", entries.shape[1:])
    known = [cell for cell in strings(cells) if cell is not None]
    distinct = len(set(known))
    if len(localised := find_localised_numbers(cells)):
        row, example = table.row_number(localised[0]), shorten(cells[localised[0]].as_py())
        raise DataError(
            f"{table.where}: column `{name}` holds numbers with a decimal comma or with thousands "
            f"separators, the first in row {row}: `{example}`",
            hint="set data.decimal and data.thousands to their marks, or declare them categories with "
            f"data.categorical=[{name}]",
        )
    if distinct > MAX_CATEGORIES or (distinct > FEW_CATEGORIES and mostly_numbers(cells)):
        raise _unclear_kind(name, table, distinct)
    if distinct > max(FEW_CATEGORIES, len(known) / 2):
        note(
            f"column `{name}` has {distinct} different values in {len(known)} rows, each a feature of "
            f"its own (data.drop=[{name}] leaves it out)"
        )
    return Column(name, "category")


def _unclear_kind(name: str, table: Table, distinct: int) -> DataError:
    """Return the error for a column that is neither numbers nor a few categories."""
    cells = strings(table.data[name])
    if mostly_numbers(table.data[name]):
        odd = find_non_numeric(table.data[name])
        return DataError(
            f"{table.where}: column `{name}` holds numbers except {len(odd):,} cells, the first in row "
            f"{table.row_number(odd[0])}: `{shorten(cells[odd[0]])}`",
            hint="correct these cells (empty means missing), declare all categories with "
            f"data.categorical=[{name}], or leave the column out with data.drop=[{name}]",
        )
    example = next(cell for cell in cells if cell is not None)
    return DataError(
        f"{table.where}: column `{name}` is neither numbers nor a few categories: it has {distinct:,} "
        f"different values, such as `{shorten(example)}`",
        hint=f"name it as text (data.text={name}) or categories (data.categorical=[{name}]), "
        f"or leave it out with data.drop=[{name}]",
    )


def mostly_numbers(cells: pa.ChunkedArray) -> bool:
    """Return True if nine of ten cells that are not missing are numbers."""
    known = [cell for cell in strings(cells) if cell is not None and cell.lower() not in MISSING_WORDS]
    return len(find_non_numeric(cells)) <= 0.1 * len(known)
