"""Rows on disk behind the interface of a tensor: an index reads rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowgmm_cli.data.array_types import Positions


class LazyDataset:
    """A map-style dataset with the shape of a tensor `(N, width)`, or `(N,)`.

    An index reads rows as a tensor on `device`; `subset` selects rows without reading them.

    Args:
        read: reads the rows at some positions as a tensor on the CPU.
        positions: positions of the rows in their source, int64 `(N,)`.
        width: numbers in a row; None for a single number, without an axis.
        device: device of the tensors.
    """

    def __init__(
        self,
        read: Callable[[Positions], Tensor],
        positions: Positions,
        width: int | None,
        device: torch.device | None = None,
    ) -> None:
        self._read = read
        self._positions = positions
        self._width = width
        self.device = device or torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, width)` or `(N,)`."""
        return (len(self),) if self._width is None else (len(self), self._width)

    def __len__(self) -> int:
        return len(self._positions)

    def subset(self, index: Tensor | slice) -> LazyDataset:
        """Select rows by positions, a mask or a slice."""
        selection = index if isinstance(index, slice) else index.cpu().numpy()
        return LazyDataset(self._read, self._positions[selection], self._width, self.device)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows as a tensor."""
        rows = self._read(self.subset(index)._positions)
        if self.device.type == "cuda":  # pinned memory is copied while the device works
            return rows.pin_memory().to(self.device, non_blocking=True)
        return rows.to(self.device)

    def to(self, device: torch.device) -> LazyDataset:
        """Return the same rows with tensors on another device."""
        return LazyDataset(self._read, self._positions, self._width, device)


RowStore = Tensor | LazyDataset
"""Rows in memory, or rows that are read on access."""


def load_tensor(store: RowStore) -> Tensor:
    """Return all rows as a tensor."""
    return store if isinstance(store, Tensor) else store[:]


def is_lazy(cells: object) -> bool:
    """Return True if a column's cells are read on access, by their attribute `lazy`."""
    return bool(getattr(cells, "lazy", False))
