"""A random order of rows that can be read in long stretches.

Pieces of the table, stretches of a few thousand rows, are taken in a random order; the pieces that fit into a
buffer are read together, and their rows are shuffled. The order is a function of seed and epoch alone, and no
list of all rows is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from flowgmm_cli.seeds import derive_seed, generator

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

_PER_BUFFER = 16  # pieces at least, so that a buffer has rows from as many places
_SHORTEST = 1024  # rows of a piece: a file is opened for each


@dataclass(frozen=True)
class Piece:
    """A stretch of rows within a group.

    Attributes:
        group: the group.
        offset: rows of the group before it.
        start: rows of the table before it.
        rows: how many it has.
    """

    group: int
    offset: int
    start: int
    rows: int


class LocalShuffle:
    """The rows of a table but for some, in an order of its own for each epoch.

    Args:
        group_rows: rows of each group, `(G,)`.
        left_out: numbers of rows that are not taken, ascending.
        buffer_rows: most rows that are shuffled among themselves.
        seed: fixes the orders.

    Attributes:
        rows: how many are taken.
    """

    def __init__(self, group_rows: Positions, left_out: Positions, *, buffer_rows: int, seed: int) -> None:
        self._seed = seed
        self._left_out = left_out
        self._buffer_rows = buffer_rows
        longest = max(_SHORTEST, buffer_rows // _PER_BUFFER)
        counts = -(-group_rows // longest)  # pieces of each group
        self._group = np.repeat(np.arange(len(group_rows)), counts)
        number = np.arange(len(self._group)) - np.repeat(np.cumsum(counts) - counts, counts)
        of = np.repeat(counts, counts)
        size = group_rows[self._group]
        self._offset = number * size // of  # of about equal length
        self._length = (number + 1) * size // of - self._offset
        self._start = (np.cumsum(group_rows) - group_rows)[self._group] + self._offset
        lost = np.searchsorted(left_out, self._start + self._length) - np.searchsorted(left_out, self._start)
        self._kept = self._length - lost
        self.rows = int(self._kept.sum())
        self._epoch = -1
        self._order: Positions = np.empty(0, dtype=np.int64)
        self._bounds: Positions = np.empty(0, dtype=np.int64)
        self._ends: Positions = np.empty(0, dtype=np.int64)

    def ends(self, epoch: int) -> Positions:
        """After how many rows of an epoch each of its buffers ends."""
        self._plan(epoch)
        return self._ends

    def pieces(self, epoch: int, buffer: int) -> list[Piece]:
        """What a buffer is read from, in the order of its rows before they are shuffled."""
        self._plan(epoch)
        chosen = self._order[self._bounds[buffer] : self._bounds[buffer + 1]]
        chosen = np.sort(chosen)  # neighbours in a file are read one after the other
        columns = (self._group, self._offset, self._start, self._length)
        return [Piece(*row) for row in zip(*(one[chosen].tolist() for one in columns), strict=True)]

    def kept(self, start: int, stop: int) -> Positions:
        """Which of the rows `start` to `stop` of the table are taken, counted from `start`."""
        out = self._left_out[slice(*np.searchsorted(self._left_out, [start, stop]))] - start
        return np.delete(np.arange(stop - start), out)

    def places(self, epoch: int, buffer: int) -> torch.Tensor:
        """Where in a buffer each of its rows goes, int64."""
        ends = self.ends(epoch)
        rows = int(ends[buffer]) - (int(ends[buffer - 1]) if buffer else 0)
        seed = derive_seed(self._seed, "order", epoch)
        return torch.randperm(rows, generator=generator(seed, "order", buffer + 1))

    def _plan(self, epoch: int) -> None:
        """Take the pieces in a new order and divide them into buffers of about equal length."""
        if epoch == self._epoch:
            return
        seed = derive_seed(self._seed, "order", epoch)
        order = torch.randperm(len(self._kept), generator=generator(seed, "order")).numpy()
        order = order[self._kept[order] > 0]
        ends = np.cumsum(self._kept[order])
        buffers = max(1, -(-self.rows // self._buffer_rows))
        goals = self.rows * np.arange(1, buffers + 1) // buffers
        last = np.unique(np.searchsorted(ends, goals))
        self._order = order
        self._bounds = np.concatenate([[0], last + 1])
        self._ends = ends[last]
        self._epoch = epoch
