"""Statistics of the columns of a table on disk, and their use for features that were fitted to some rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column
from flowgmm_cli.data.column_encoders import MISSING_CATEGORY, Block, Categories, Numbers

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.specs import MissingPolicy


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

    def update(self, cells: npt.NDArray[Any]) -> None:
        """Add numeric cells."""
        is_finite = np.isfinite(cells)
        count = int(np.count_nonzero(is_finite))
        self.cells += cells.size
        self.finite += count
        if not count:
            return
        finite = cells if count == cells.size else cells[is_finite]
        self.minimum = min(self.minimum, float(finite.min()))
        self.maximum = max(self.maximum, float(finite.max()))
        self.total += float(finite.sum(dtype=np.float64))
        self.integral = self.integral and bool((finite == np.rint(finite)).all())

    def update_categories(self, cells: npt.NDArray[Any]) -> None:
        """Add cells of a categorical column."""
        self.cells += len(cells)
        self.categories.update(cells.tolist())

    @property
    def complete(self) -> bool:
        """True if no cell is missing or infinite."""
        return self.finite == self.cells

    @property
    def constant(self) -> bool:
        """True if all finite cells are equal."""
        return self.minimum == self.maximum

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON values; infinities stay floats."""
        return {**dataclasses.asdict(self), "categories": list(self.categories)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ColumnStatistics:
        """Return the statistics that `to_dict` returned as `value`."""
        return cls(**{**value, "categories": set(value["categories"])})


def apply_statistics(block: Block, statistics: ColumnStatistics) -> Block:
    """Return a block, fitted to some rows, with the categories, range and missing cells of all rows."""
    if isinstance(block, Categories):
        present = {MISSING_CATEGORY if cell is None else cell for cell in statistics.categories}
        return dataclasses.replace(block, categories=tuple(sorted(present)))
    if not isinstance(block, Numbers):
        return block
    has_filled_cells = not statistics.complete and block.fill is not None
    return dataclasses.replace(
        block,
        inexact=f"missing cells of `{block.column.name}` are filled in" if has_filled_cells else "",
        whole=statistics.finite > 0 and statistics.integral,
        range=(statistics.minimum, statistics.maximum) if statistics.finite else None,
    )


def unusable_reason(column: Column, statistics: ColumnStatistics, missing: MissingPolicy) -> str:
    """Return the reason why a column carries no information, or an empty string."""
    if column.kind == "numeric":
        if not statistics.finite:
            return "all its cells are missing"
        if (statistics.complete or missing != "error") and statistics.constant:
            return "all its cells are equal"
    if column.kind == "category":
        if statistics.categories <= {None}:
            return "all its cells are missing"
        if len(statistics.categories) == 1:
            return "all its cells are equal"
    return ""
