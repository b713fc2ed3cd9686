"""Statistics of columns, updated batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array

MAX_COUNTED = 100_000
"""Distinct categories beyond which no more are collected."""


@dataclass
class ColumnStatistics:
    """Statistics of a numeric or categorical column, updated batch by batch.

    Attributes:
        cells: number of cells.
        finite: number of finite cells.
        minimum, maximum: smallest and largest finite cell.
        integral: True if all finite cells are integers.
        total: sum of the finite cells.
        categories: distinct cells of a categorical column; None stands for an empty cell.
    """

    cells: int = 0
    finite: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    integral: bool = True
    total: float = 0.0
    categories: set[str | None] = field(default_factory=set)

    def add(self, column: Column, cells: Array) -> None:
        """Add cells; those of texts and images are not counted."""
        if column.kind == "category":
            self.cells += len(cells)
            if len(self.categories) <= MAX_COUNTED:
                self.categories.update(None if cell is None else str(cell) for cell in set(cells.tolist()))
        elif column.kind in ("numeric", "vector", "date"):
            is_finite = np.isfinite(cells)
            count = int(np.count_nonzero(is_finite))
            self.cells += cells.size
            self.finite += count
            if not count:
                return
            finite = cells if count == cells.size else cells[is_finite]
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))
            with np.errstate(over="ignore"):
                self.total += float(finite.sum(dtype=np.float64))
            self.integral = self.integral and bool((finite == np.rint(finite)).all())

    @property
    def complete(self) -> bool:
        """True if no cell is missing or infinite."""
        return self.finite == self.cells

    @property
    def constant(self) -> bool:
        """True if all finite cells are equal."""
        return self.minimum == self.maximum
