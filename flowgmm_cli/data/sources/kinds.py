"""What a column of somebody's table holds: numbers, vectors or categories."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pyarrow as pa

from flowgmm_cli.api import Column
from flowgmm_cli.data.sources.columns import (
    MISSING_WORDS,
    foreign_numbers,
    not_numbers,
    numbers,
    strings,
    vectors,
)
from flowgmm_cli.data.sources.tables import Table
from flowgmm_cli.errors import DataError

MAX_CATEGORIES = 64
"""A non-numeric column with more distinct values than this must be named as what it is."""

FEW_CATEGORIES = 10
"""Up to so many distinct values, a column of numbers and a few words may well be categories."""


def column_of(
    name: str, table: Table, *, categorical: Collection[str], note: Callable[[str], None]
) -> Column:
    """Give a column of a table its kind.

    Args:
        name: of the column.
        table: the training rows, or some from everywhere.
        categorical: columns that are said to hold categories.
        note: told what the user should know.

    Raises:
        DataError: it holds neither numbers nor a few categories.
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
    if len(foreign := foreign_numbers(cells)):
        raise DataError(
            f"{table.where}: column `{name}` holds numbers with a decimal comma or with marks between "
            f"thousands, the first in row {foreign[0] + 1}: `{short(str(cells[foreign[0]].as_py()))}`",
            hint=f"write them like 1000.50, or say that they are names with data.categorical=[{name}]",
        )
    if distinct > MAX_CATEGORIES or (distinct > FEW_CATEGORIES and nearly_numbers(cells)):
        raise _unclear(name, table, distinct)
    if distinct > max(FEW_CATEGORIES, len(known) / 2):
        note(
            f"column `{name}` has {distinct} different values in {len(known)} rows, each a feature of "
            f"its own (data.drop=[{name}] leaves it out)"
        )
    return Column(name, "category")


def _unclear(name: str, table: Table, distinct: int) -> DataError:
    """Say what is wrong with a column that is neither numbers nor a few categories."""
    cells = strings(table.data[name])
    if nearly_numbers(table.data[name]):
        odd = not_numbers(table.data[name])
        return DataError(
            f"{table.where}: column `{name}` holds numbers but for {len(odd):,} cells, the first in row "
            f"{odd[0] + 1}: `{short(cells[odd[0]])}`",
            hint="correct these cells (empty means missing), take all for categories with "
            f"data.categorical=[{name}], or leave the column out with data.drop=[{name}]",
        )
    example = next(cell for cell in cells if cell is not None)
    return DataError(
        f"{table.where}: column `{name}` is neither numbers nor a few categories: it has {distinct:,} "
        f"different values, such as `{short(example)}`",
        hint=f"name it as text (data.text={name}) or categories (data.categorical=[{name}]), "
        f"or leave it out with data.drop=[{name}]",
    )


def nearly_numbers(cells: pa.ChunkedArray) -> bool:
    """Whether nine of ten cells that are not missing are numbers."""
    known = [cell for cell in strings(cells) if cell is not None and cell.lower() not in MISSING_WORDS]
    return len(not_numbers(cells)) <= 0.1 * len(known)


def short(text: str) -> str:
    """A cell for a message, cut where it is long."""
    return text if len(text) <= 40 else f"{text[:37]}..."
