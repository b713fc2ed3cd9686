"""Counts of the cells of categories that training never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flowgmm_cli.api import Rows
from flowgmm_cli.data.column_encoders import EMPTY, UNSEEN, CategoryColumn, ColumnEncoder, cells_of
from flowgmm_cli.messages import shorten, suggest_column


class UnseenCells(NamedTuple):
    """Cells of a column that training never saw: their number, that of all rows, and a sentence."""

    column: str
    cells: int
    rows: int
    text: str


class UnseenCategories:
    """Counts of the cells that training never saw, over the chunks of an input.

    Args:
        encoders: the column encoders, of which some have the categories of training.
    """

    def __init__(self, encoders: Sequence[ColumnEncoder]) -> None:
        self._encoders = [encoder for encoder in encoders if isinstance(encoder, CategoryColumn)]
        self._total = 0
        self._unseen, self._empty = Counter[str](), Counter[str]()
        self._examples: dict[str, str] = {}

    def add(self, rows: Rows) -> None:
        """Count the cells of some rows."""
        self._total += len(rows)
        for encoder in self._encoders:
            name, cells = encoder.column.name, cells_of(encoder.column, rows)
            codes = encoder.codes(cells)
            self._empty[name] += int((codes == EMPTY).sum())
            if count := int((codes == UNSEEN).sum()):
                self._unseen[name] += count
                self._examples.setdefault(name, str(cells[codes.argmin()]))

    def describe(self) -> Iterator[UnseenCells]:
        """Yield the columns with such cells."""
        for encoder in self._encoders:
            name = encoder.column.name
            if (example := self._examples.get(name)) is not None:
                near = suggest_column(example, encoder.categories).removeprefix("; ")
                text = (
                    f"`{name}`: {self._unseen[name]:,} of {self._total:,} cells hold a category that "
                    f"training never saw, such as `{shorten(example)}`" + (f" ({near})" if near else "")
                )
                yield UnseenCells(name, self._unseen[name], self._total, text)
            if empty := self._empty[name]:
                text = f"`{name}`: {empty:,} of {self._total:,} cells are empty; in training none was"
                yield UnseenCells(name, empty, self._total, text)
