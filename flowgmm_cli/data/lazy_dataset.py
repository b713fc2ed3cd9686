"""Tensors of rows that stay on the disk: made of some of the rows whenever these are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]


class LazyDataset:
    """Looks like a tensor `(N, width)`, or `(N,)`, as far as its size and its rows go.

    An index gives a tensor of those rows on `device`; `subset` gives them without reading them yet.

    Args:
        make: tensors of the rows at some positions, on the CPU.
        positions: which of the source's rows these are, int64 `(N,)`.
        width: numbers of a row; None for a single one, whose axis is left out.
        device: where tensors are wanted.
    """

    def __init__(
        self,
        make: Callable[[Positions], Tensor],
        positions: Positions,
        width: int | None,
        device: torch.device | None = None,
    ) -> None:
        self._make = make
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
        """Some of the rows: positions, a mask or a slice."""
        chosen = index if isinstance(index, slice) else index.cpu().numpy()
        return LazyDataset(self._make, self._positions[chosen], self._width, self.device)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The rows' tensor."""
        made = self._make(self.subset(index)._positions)
        if self.device.type == "cuda":  # the copy then goes on while the device works
            return made.pin_memory().to(self.device, non_blocking=True)
        return made.to(self.device)

    def to(self, device: torch.device) -> LazyDataset:
        """The same rows, whose tensors are wanted on a device."""
        return LazyDataset(self._make, self._positions, self._width, device)


RowStore = Tensor | LazyDataset
"""Rows in memory, or rows that are read when they are asked for."""


def load_tensor(store: RowStore) -> Tensor:
    """All of the rows as a tensor."""
    return store if isinstance(store, Tensor) else store[:]


def is_lazy(cells: object) -> bool:
    """Whether a column's cells stay on the disk, by their own account."""
    return bool(getattr(cells, "lazy", False))
