"""Transformed rows as tensors, in every form in which a view may start from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from flowgmm_cli.data.lazy_dataset import LazyDataset, RowStore, load_tensor

if TYPE_CHECKING:
    from flowgmm_cli.data.large.stream import RowStream


class Split(Protocol):
    """Transformed rows of a split; see `RowTensors` for `x` and `inputs`."""

    @property
    def x(self) -> RowStore:
        """Rows after the transforms."""
        ...

    @property
    def inputs(self) -> RowStore | None:
        """Rows before the transforms."""
        ...

    @property
    def copies(self) -> Mapping[str, Tensor]:
        """Rows with changed texts, by view, `(N, copies, D)`."""
        ...


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


@dataclass(frozen=True)
class RowTensors:
    """Rows in every form from which a view may start.

    Attributes:
        x: rows after the transforms, `(N, D)`; rows that stay on the disk are read when they are used.
        inputs: the feature matrix before the transforms, `(N, F)`, uint8 for images; None where no view
            starts from it.
        copies: encodings of changed texts under the view `weak` or `strong`, of D numbers, or F where the
            view goes on to change inputs.
        stream: all training rows of a table larger than memory, of which these are some; else None.
    """

    x: RowStore
    inputs: RowStore | None = None
    copies: Mapping[str, TextCopies] = field(default_factory=dict)
    stream: RowStream | None = None

    @classmethod
    def from_split(cls, split: Split, stream: RowStream | None = None) -> RowTensors:
        """Collect the tensors of a split."""
        copies = {name: TextCopies(table) for name, table in split.copies.items()}
        return cls(split.x, split.inputs, copies, stream)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> RowTensors:
        """Select and read rows by positions, a mask or a slice.

        Text copies are not read yet, nor is `x` on the disk where `inputs` are read.
        """
        inputs = None if self.inputs is None else self.inputs[index]
        x = self.x.subset(index) if isinstance(self.x, LazyDataset) and inputs is not None else self.x[index]
        return RowTensors(x, inputs, {name: copies[index] for name, copies in self.copies.items()})

    def to(self, device: torch.device) -> RowTensors:
        """Move to a device."""
        inputs = None if self.inputs is None else self.inputs.to(device)
        copies = {name: table.to(device) for name, table in self.copies.items()}
        return RowTensors(self.x.to(device), inputs, copies, self.stream)

    def is_finite(self) -> bool:
        """Return True if every number is finite; waits for the device."""
        tensors = [load_tensor(self.x), *([] if self.inputs is None else [load_tensor(self.inputs)])]
        tensors += [table.all() for table in self.copies.values()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)
