"""Shuffle the rows of a table on disk so that they can be read in long ranges.

Ranges of a few thousand rows are taken in a random order. The ranges that fit into a buffer are read
together, and their rows are shuffled. The order is a function of seed and epoch, without a list of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from flowgmm_cli.data.array_types import Positions
from flowgmm_cli.seeds import derive_seed, generator

_MIN_RANGES = 16  # ranges of a buffer, so that it has rows from many parts of the table
_MIN_RANGE_ROWS = 1024  # a file is opened for each range


@dataclass(frozen=True)
class RowRange:
    """A range of `rows` rows: `offset` in the row group with index `group`, `start` in the table."""

    group: int
    offset: int
    start: int
    rows: int


class LocalShuffle:
    """Random orders of the rows of a table, one for each epoch.

    Args:
        group_rows: number of rows of each group, `(G,)`.
        left_out: indices of excluded rows, ascending.
        buffer_rows: maximum number of rows that are shuffled together.
        seed: seed of the orders.

    Attributes:
        rows: number of rows in an epoch.
    """

    def __init__(self, group_rows: Positions, left_out: Positions, *, buffer_rows: int, seed: int) -> None:
        self._seed = seed
        self._left_out = left_out
        self._buffer_rows = buffer_rows
        longest = max(_MIN_RANGE_ROWS, buffer_rows // _MIN_RANGES)
        counts = -(-group_rows // longest)  # ranges of each group
        self._group = np.repeat(np.arange(len(group_rows)), counts)
        number = np.arange(len(self._group)) - np.repeat(np.cumsum(counts) - counts, counts)
        total = np.repeat(counts, counts)
        size = group_rows[self._group]
        self._offset = number * size // total  # of about equal length
        self._length = (number + 1) * size // total - self._offset
        self._start = (np.cumsum(group_rows) - group_rows)[self._group] + self._offset
        excluded = np.searchsorted(left_out, self._start + self._length) - np.searchsorted(
            left_out, self._start
        )
        self._rows = self._length - excluded
        self.rows = int(self._rows.sum())
        self._epoch = -1
        self._order: Positions = np.empty(0, dtype=np.int64)
        self._bounds: Positions = np.empty(0, dtype=np.int64)
        self._ends: Positions = np.empty(0, dtype=np.int64)

    def ends(self, epoch: int) -> Positions:
        """Return the number of rows of an epoch up to the end of each buffer."""
        self._plan(epoch)
        return self._ends

    def ranges(self, epoch: int, buffer: int) -> list[RowRange]:
        """Return the ranges of a buffer, in the order of its rows before they are shuffled."""
        self._plan(epoch)
        chosen = self._order[self._bounds[buffer] : self._bounds[buffer + 1]]
        chosen = np.sort(chosen)  # ranges of a file are read in its order
        columns = (self._group, self._offset, self._start, self._length)
        return [RowRange(*row) for row in zip(*(column[chosen].tolist() for column in columns), strict=True)]

    def select(self, start: int, stop: int) -> Positions:
        """Return the positions, counted from `start`, of the rows before `stop` that are not left out."""
        out = self._left_out[slice(*np.searchsorted(self._left_out, [start, stop]))] - start
        return np.delete(np.arange(stop - start), out)

    def permutation(self, epoch: int, buffer: int) -> torch.Tensor:
        """Return the position in the shuffled buffer of each of its rows, int64."""
        ends = self.ends(epoch)
        rows = int(ends[buffer]) - (int(ends[buffer - 1]) if buffer else 0)
        seed = derive_seed(self._seed, "order", epoch)
        return torch.randperm(rows, generator=generator(seed, "order", buffer + 1))

    def _plan(self, epoch: int) -> None:
        """Put the ranges in a new order and divide them into buffers of about equal length."""
        if epoch == self._epoch:
            return
        seed = derive_seed(self._seed, "order", epoch)
        order = torch.randperm(len(self._rows), generator=generator(seed, "order")).numpy()
        order = order[self._rows[order] > 0]
        ends = np.cumsum(self._rows[order])
        buffers = max(1, -(-self.rows // self._buffer_rows))
        goals = self.rows * np.arange(1, buffers + 1) // buffers
        last = np.unique(np.searchsorted(ends, goals))
        self._order = order
        self._bounds = np.concatenate([[0], last + 1])
        self._ends = ends[last]
        self._epoch = epoch
