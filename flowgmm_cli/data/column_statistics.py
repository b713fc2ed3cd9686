"""What is known of a column beyond the rows in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass
class Facts:
    """Of the numbers of a column, or of its categories; grows while rows are read.

    Attributes:
        cells, known: how many there are, and how many of them are finite.
        low, high: the smallest and the largest known one.
        whole: whether all known ones are whole numbers.
        total: sum of the known ones; another table has another one.
        categories: the different cells of a column of words, None for an empty one.
    """

    cells: int = 0
    known: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    whole: bool = True
    total: float = 0.0
    categories: set[str | None] = field(default_factory=set)

    def see_numbers(self, cells: npt.NDArray[Any]) -> None:
        """Take more numbers into account."""
        finite = np.isfinite(cells)
        count = int(np.count_nonzero(finite))
        self.cells += cells.size
        self.known += count
        if not count:
            return
        known = cells if count == cells.size else cells[finite]
        self.low = min(self.low, float(known.min()))
        self.high = max(self.high, float(known.max()))
        self.total += float(known.sum(dtype=np.float64))
        self.whole = self.whole and bool((known == np.rint(known)).all())

    @property
    def complete(self) -> bool:
        """Whether no cell is missing or infinite."""
        return self.known == self.cells

    @property
    def constant(self) -> bool:
        """Whether all known cells are equal."""
        return self.low == self.high

    def to_dict(self) -> dict[str, Any]:
        """As JSON, infinities included."""
        return {**dataclasses.asdict(self), "categories": list(self.categories)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Facts:
        """What `to_dict` gave."""
        return cls(**{**value, "categories": set(value["categories"])})
