"""Changed copies of rows, of which one for each row is picked in every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Copies:
    """Some copies of each of some rows; nothing is read before one of each is picked.

    Attributes:
        table: copies of all rows there are, `(N, copies, D)`.
        rows: which rows these are, `(n,)`, on the device of the table; None for all.
    """

    table: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.table) if self.rows is None else len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Copies:
        """The copies of some of the rows: positions, a mask or a slice."""
        if isinstance(index, Tensor):
            index = index.to(self.table.device)
            if self.rows is None and index.dtype == torch.int64:
                return Copies(self.table, index)
        return Copies(self.table, self._places()[index])

    def to(self, device: torch.device) -> Copies:
        """The same on a device."""
        return Copies(self.table.to(device), None if self.rows is None else self.rows.to(device))

    def pick(self, generator: torch.Generator) -> Tensor:
        """One copy of each row, `(n, D)`, at random; `generator` is one of the table's device."""
        count = self.table.shape[1]
        picked = torch.randint(count, (len(self),), generator=generator, device=self.table.device)
        return self.table.flatten(0, 1).index_select(0, self._places() * count + picked)

    def all(self) -> Tensor:
        """All copies of the rows, `(n, copies, D)`."""
        return self.table if self.rows is None else self.table[self.rows]

    def _places(self) -> Tensor:
        if self.rows is not None:
            return self.rows
        return torch.arange(len(self.table), device=self.table.device)
