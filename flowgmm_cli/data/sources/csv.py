"""Source `csv`: people's own tables, with numbers, categories and text.

What a column is, the training file decides; validation and test files must then fit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.sources.columns import (
    MISSING_WORDS,
    code_labels,
    foreign_numbers,
    not_numbers,
    numbers,
    row_ids,
    strings,
    texts,
    vectors,
)
from flowgmm_cli.data.sources.tables import Table, read_table
from flowgmm_cli.errors import DataError, RecipeError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from flowgmm_cli.data.specs import CsvConfig

MAX_CATEGORIES = 64
"""A non-numeric column with more distinct values than this must be named as what it is."""

FEW_CATEGORIES = 10
"""Up to so many distinct values, a column of numbers and a few words may well be categories."""

_KIND = {"numeric": "a number", "vector": "a list of numbers of one length"}


class CsvSource:
    """A training file and, if given, files of the other splits with the same columns."""

    def __init__(self, config: CsvConfig) -> None:
        self._config = config
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Read the files and give every column its kind."""
        config = self._config
        paths = {"train": config.path, "val": config.val_path, "test": config.test_path}
        tables = {
            split: read_table(path, delimiter=config.delimiter, note=self._notes.append)
            for split, path in paths.items()
            if path is not None
        }
        labels = {
            split: strings(table.column(config.label, key="data.label")) for split, table in tables.items()
        }
        class_names, codes = code_labels(_named(labels, tables, config.label))
        columns = self._columns(tables["train"])
        splits = {
            split: Rows(
                columns={column.name: self._cells(column, table) for column in columns},
                labels=codes[split],
                ids=self._ids(split, table),
                extras=self._extras(table),
            )
            for split, table in tables.items()
        }
        self._note_extra_columns(tables)
        return SourceData(columns, class_names, splits, tuple(self._notes))

    def _columns(self, table: Table) -> tuple[Column, ...]:
        config = self._config
        for key in ("drop", "categorical"):
            for name in getattr(config, key) or ():
                table.column(name, key=f"data.{key}")
        reserved = {config.label, config.id, config.labels.column, *config.drop}
        parts = _listed(config.text)
        for name in (*parts, *(config.features or ())):
            table.column(name, key="data.text" if name in parts else "data.features")
            if name == config.label:
                raise RecipeError(f"data.label  `{name}` cannot be an input as well")
        inputs: list[Column] = []
        if parts:
            inputs.append(Column(parts[0] if len(parts) == 1 else "text", "text"))
        others = [name for name in table.names if name not in reserved and name not in parts]
        if config.features is not None:
            others = [name for name in config.features if name not in parts]
        elif parts:
            if others:
                self._notes.append(
                    f"the text alone is used; list columns in data.features to add them: {', '.join(others)}"
                )
            others = []
        inputs += [self._column(name, table) for name in others if not self._is_index(name, table)]
        if not inputs:
            raise DataError(
                f"{table.where} has no input column beside the label `{config.label}`",
                hint="check data.features and data.drop",
            )
        return tuple(inputs)

    def _column(self, name: str, table: Table) -> Column:
        cells = table.data[name]
        if name in (self._config.categorical or ()):
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
                f"thousands, the first in row {foreign[0] + 1}: `{_short(str(cells[foreign[0]].as_py()))}`",
                hint=f"write them like 1000.50, or say that they are names with data.categorical=[{name}]",
            )
        if distinct > MAX_CATEGORIES or (distinct > FEW_CATEGORIES and nearly_numbers(cells)):
            raise self._unclear(name, table, distinct)
        if distinct > max(FEW_CATEGORIES, len(known) / 2):
            self._notes.append(
                f"column `{name}` has {distinct} different values in {len(known)} rows, each a feature of "
                f"its own (data.drop=[{name}] leaves it out)"
            )
        return Column(name, "category")

    def _unclear(self, name: str, table: Table, distinct: int) -> DataError:
        """Say what is wrong with a column that is neither numbers nor a few categories."""
        cells = strings(table.data[name])
        if nearly_numbers(table.data[name]):
            odd = not_numbers(table.data[name])
            return DataError(
                f"{table.where}: column `{name}` holds numbers but for {len(odd):,} cells, the first in row "
                f"{odd[0] + 1}: `{_short(cells[odd[0]])}`",
                hint="correct these cells (empty means missing), take all for categories with "
                f"data.categorical=[{name}], or leave the column out with data.drop=[{name}]",
            )
        example = next(cell for cell in cells if cell is not None)
        return DataError(
            f"{table.where}: column `{name}` is neither numbers nor a few categories: it has {distinct:,} "
            f"different values, such as `{_short(example)}`",
            hint=f"name it as text (data.text={name}) or categories (data.categorical=[{name}]), "
            f"or leave it out with data.drop=[{name}]",
        )

    def _is_index(self, name: str, table: Table) -> bool:
        """Whether a nameless column is empty or, as one written by pandas, counts rows."""
        if not re.fullmatch(r"Unnamed: \d+", name) or self._config.features is not None:
            return False
        values = numbers(table.data[name])
        if values is None:
            return False
        empty = bool(np.isnan(values).all())
        if not empty and not (np.diff(values) == 1).all():
            return False
        what = "is empty" if empty else "only counts rows"
        self._notes.append(f"the nameless column `{name}` {what} and is left out")
        return True

    def _cells(self, column: Column, table: Table) -> npt.NDArray[Any]:
        if column.kind == "text":
            parts = _listed(self._config.text)
            return texts([table.column(part, key="data.text") for part in parts])
        cells = table.column(column.name, key="an input column of the training rows")
        if column.kind == "category":
            return strings(cells)
        found = numbers(cells) if column.kind == "numeric" else vectors(cells)
        if found is not None and found.shape[1:] == column.shape:
            return found
        odd = not_numbers(cells)
        row = int(odd[0]) if column.kind == "numeric" and len(odd) else 0
        raise DataError(
            f"{table.where}: column `{column.name}` is {_KIND[column.kind]} in the training file, but row "
            f"{row + 1} has `{_short(str(cells[row].as_py()))}`",
            hint="correct the cell (empty means missing), or leave the column out with "
            f"data.drop=[{column.name}]",
        )

    def _ids(self, split: str, table: Table) -> npt.NDArray[Any]:
        if self._config.id is None:
            return row_ids(split, table.data.num_rows)
        ids = strings(table.column(self._config.id, key="data.id"))
        seen: set[str | None] = set()
        for row, name in enumerate(ids, start=1):
            if name is None or name in seen:
                what = "is empty" if name is None else f"is `{name}` again"
                raise DataError(
                    f"{table.where}: column `{self._config.id}` (data.id) {what} in row {row}",
                    hint="an id names one row; without data.id rows are numbered",
                )
            seen.add(name)
        return ids

    def _extras(self, table: Table) -> dict[str, npt.NDArray[Any]]:
        marker = self._config.labels.column
        return {marker: strings(table.data[marker])} if marker in table.names else {}

    def _note_extra_columns(self, tables: dict[str, Table]) -> None:
        known = set(tables["train"].names)
        for table in tables.values():
            if extra := [name for name in table.names if name not in known]:
                self._notes.append(f"{table.where} has columns that training has not: {', '.join(extra)}")


def _named(
    labels: dict[str, npt.NDArray[np.object_]], tables: dict[str, Table], column: str
) -> dict[str, npt.NDArray[np.object_]]:
    """Replace the codes of a `ClassLabel` column (parquet files keep its names) by the names."""
    named = {}
    for split, cells in labels.items():
        names = tables[split].class_names.get(column)
        of = None if names is None else {str(code): name for code, name in enumerate(names)}
        named[split] = cells if of is None else np.array([of.get(cell) for cell in cells], dtype=object)
    return named


def nearly_numbers(cells: pa.ChunkedArray) -> bool:
    """Whether nine of ten cells that are not missing are numbers."""
    known = [cell for cell in strings(cells) if cell is not None and cell.lower() not in MISSING_WORDS]
    return len(not_numbers(cells)) <= 0.1 * len(known)


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def build(config: CsvConfig, context: DataContext) -> CsvSource:
    """Build the source."""
    return CsvSource(config)
