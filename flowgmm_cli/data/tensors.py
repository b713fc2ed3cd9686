"""Preprocessed rows as tensors, in memory or read from the disk when they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.data.array_types import Array, Positions


class StoredRows:
    """Rows behind the interface of a tensor `(N, width)`: an index reads them.

    Args:
        read: reads the rows at some positions as a tensor on the CPU.
        positions: positions of the rows in their source, int64 `(N,)`.
        width: numbers in a row.
        device: device of the tensors.
    """

    def __init__(
        self,
        read: Callable[[Positions], Tensor],
        positions: Positions,
        width: int,
        device: torch.device | None = None,
    ) -> None:
        self._read, self._positions, self._width = read, positions, width
        self.device = device or torch.device("cpu")

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, width)`."""
        return len(self), self._width

    def __len__(self) -> int:
        return len(self._positions)

    def subset(self, index: Tensor | slice) -> StoredRows:
        """Select rows by positions, a mask or a slice."""
        selection = index if isinstance(index, slice) else index.cpu().numpy()
        return StoredRows(self._read, self._positions[selection], self._width, self.device)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows as a tensor."""
        return copy_to(self.device, self._read(self.subset(index)._positions))

    def to(self, device: torch.device) -> StoredRows:
        """Return the same rows with tensors on another device."""
        return StoredRows(self._read, self._positions, self._width, device)

    def as_tensor(self) -> Tensor:
        """Return the rows under the type of a tensor, as fields of `Tensors`."""
        return cast(Tensor, self)


Matrix = Tensor | StoredRows
"""Rows in memory, or rows that are read on access."""


def copy_to(device: torch.device, rows: Tensor) -> Tensor:
    """Copy rows to a device."""
    if device.type == "cuda":  # pinned memory is copied while the device works
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


def load_tensor(rows: Matrix) -> Tensor:
    """Return all rows as a tensor."""
    return rows if isinstance(rows, Tensor) else rows[:]


@dataclass(frozen=True)
class TextCopies:
    """Several encodings of each row, each of a changed text; none is read before one a row is picked.

    Attributes:
        table: encodings of all rows, `(N, copies, D)`.
        index: positions of these rows in the table, `(n,)`, on its device; None for all.
    """

    table: Tensor
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.table) if self.index is None else len(self.index)

    def __getitem__(self, index: Tensor | slice) -> TextCopies:
        """Select rows by positions, a mask or a slice."""
        if isinstance(index, Tensor):
            index = index.to(self.table.device)
            if self.index is None and index.dtype == torch.int64:
                return TextCopies(self.table, index)
        return TextCopies(self.table, self._positions()[index])

    def to(self, device: torch.device) -> TextCopies:
        """Move to a device."""
        return TextCopies(self.table.to(device), None if self.index is None else self.index.to(device))

    def pick(self, generator: torch.Generator) -> Tensor:
        """Pick one copy of each row at random, `(n, D)`; `generator` is on the device of the table."""
        copies = self.table.shape[1]
        choice = torch.randint(copies, (len(self),), generator=generator, device=self.table.device)
        return self.table.flatten(0, 1).index_select(0, self._positions() * copies + choice)

    def all(self) -> Tensor:
        """All copies of the rows, `(n, copies, D)`."""
        return self.table if self.index is None else self.table[self.index]

    def _positions(self) -> Tensor:
        if self.index is not None:
            return self.index
        return torch.arange(len(self.table), device=self.table.device)


_NO_LABELS = torch.empty(0, dtype=torch.int64)
_NO_NUMBERS = torch.empty(0, dtype=torch.float64)
_NO_IDS = np.empty(0, dtype=object)


@dataclass(frozen=True)
class Tensors:
    """Preprocessed rows, in every form from which a view may start.

    `x` and `inputs` are tensors, or `StoredRows` where rows stay on the disk.

    Attributes:
        x: rows after the transforms, float32 `(N, D)`.
        labels: int64 `(N,)`, -1 if unlabelled; empty where they do not matter.
        log_det: log-determinant of all transforms, float64 `(N,)` on the CPU; empty for training rows.
        ids: `(N,)` strings; empty for training rows.
        inputs: the feature matrix before the transforms, `(N, F)`, float32, of images uint8; None where no
            view starts from it.
        copies: encodings of changed texts under the view `weak` or `strong`, of D numbers, or F where the
            view goes on to change inputs.
        guide: class probabilities of simple methods, float32 `(N, K)`; None where no loss uses them.
        weights: weights of labels in the loss, float32 `(N,)`, with mean 1; None if all are equal.
        targets: class probabilities of rows whose label is uncertain, float32 `(N, K)`, 0 for all others;
            None if all labels are certain.
        store: all training rows if they are larger than memory; these are then some of them.
    """

    x: Tensor
    labels: Tensor = _NO_LABELS
    log_det: Tensor = _NO_NUMBERS
    ids: Array = field(default_factory=lambda: _NO_IDS)
    inputs: Tensor | None = None
    copies: Mapping[str, TextCopies] = field(default_factory=dict)
    store: Store | None = None
    guide: Tensor | None = None
    weights: Tensor | None = None
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def total(self) -> int:
        """Number of rows, in memory and on the disk."""
        return len(self) if self.store is None else len(self.store)

    def __getitem__(self, index: Tensor | slice) -> Tensors:
        """Select and read rows by positions, a mask or a slice.

        Text copies are not read yet, nor is `x` on the disk where `inputs` are read.
        """
        inputs = None if self.inputs is None else self.inputs[index]
        place = index  # of arrays on the CPU; reading positions from a device would wait for it
        if not isinstance(index, slice) and (len(self.log_det) or len(self.ids)):
            place = index.cpu()
        x = self.x.subset(index) if isinstance(self.x, StoredRows) and inputs is not None else self.x[index]
        return Tensors(
            x,
            self.labels[index] if len(self.labels) else self.labels,
            self.log_det[place] if len(self.log_det) else self.log_det,
            self.ids[place if isinstance(place, slice) else place.numpy()] if len(self.ids) else self.ids,
            inputs,
            {name: copies[index] for name, copies in self.copies.items()},
            guide=None if self.guide is None else self.guide[index],
            weights=None if self.weights is None else self.weights[index],
            targets=None if self.targets is None else self.targets[index],
        )

    def to(self, device: torch.device) -> Tensors:
        """Move to a device; `log_det` stays on the CPU, since not every device has float64."""
        return replace(
            self,
            x=self.x.to(device),
            labels=self.labels.to(device),
            inputs=None if self.inputs is None else self.inputs.to(device),
            copies={name: table.to(device) for name, table in self.copies.items()},
            guide=None if self.guide is None else self.guide.to(device),
            weights=None if self.weights is None else self.weights.to(device),
            targets=None if self.targets is None else self.targets.to(device),
        )

    def is_finite(self) -> bool:
        """Return True if every number is finite; waits for the device."""
        tensors = [load_tensor(self.x), *([] if self.inputs is None else [load_tensor(self.inputs)])]
        tensors += [table.all() for table in self.copies.values()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)


@dataclass(frozen=True)
class Store:
    """All training rows of a run, of which some are in memory.

    Attributes:
        rows, width, dtype: number of rows in the source, numbers in a row, and their type.
        read: reads the rows `start` to `stop`, `(n, width)`.
        left_out: positions of the rows that are not training rows, ascending.
        resident: positions of the rows of the `Tensors` in memory, in their order.
        memory: memory budget in bytes.
        dim: D, the width of `Tensors.x`.
        transform: maps rows of the feature matrix to `x`; None if the rows are `x` already.
    """

    rows: int
    width: int
    dtype: np.dtype[Any]
    read: Callable[[int, int], Array]
    left_out: Positions
    resident: Positions
    memory: int
    dim: int
    transform: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return self.rows - len(self.left_out)

    def to_tensors(self, rows: Tensor) -> Tensors:
        """Return rows of the store, on their device, in the forms from which views start."""
        transform = self.transform
        if transform is None:
            return Tensors(rows)

        def read(positions: Positions) -> Tensor:
            return transform(rows.cpu()[positions])

        x = StoredRows(read, np.arange(len(rows)), self.dim, rows.device)
        return Tensors(x.as_tensor(), inputs=rows)
