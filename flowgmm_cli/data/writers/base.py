"""Base class of the writers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO, Self

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.writers.target import Target

Columns = Mapping[str, Array]


class Writer(ABC):
    """Write a table chunk by chunk, as a context manager; the file appears when the block succeeds.

        with open_writer("out.csv") as writer:
            writer.write({"id": ids, "confidence": confidence})

    A column is `(N,)` strings (fixed width, or objects with None where missing), floats (NaN where missing),
    integers or booleans (a masked array where some are missing), or `(N, D)` floats (a row of NaN where
    missing). All chunks have the same columns; a chunk may be empty.

    Attributes:
        target: the destination.
        stream: the open destination, within the block.
        rows: number of rows written so far.
    """

    stream: BinaryIO

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows = 0
        self._names: tuple[str, ...] | None = None
        self._exit_stack = ExitStack()

    def write(self, columns: Columns) -> None:
        """Write a chunk of rows; `ValueError` if its columns differ in length, or from the first chunk's."""
        names = tuple(columns)
        sizes = {len(values) for values in columns.values()}
        if len(sizes) != 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}")
        if self._names not in (None, names):
            raise ValueError(f"columns {names} after {self._names}")
        if self._names is None:
            self._write_header(columns)
            self._names = names
        if (size := sizes.pop()) > 0:
            self._write_rows(columns, size)
            self.rows += size

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.stream = stack.enter_context(self.target.open())
            stack.callback(self._release)
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._exit_stack.callback(self._write_footer)
        self._exit_stack.__exit__(kind, error, traceback)

    def _write_header(self, columns: Columns) -> None:
        """Write the part before the rows; the first chunk gives the names and types of the columns."""
        return

    @abstractmethod
    def _write_rows(self, columns: Columns, size: int) -> None:
        """Write `size` rows, at least one."""

    def _write_footer(self) -> None:
        """Write the part after the rows; there may have been no chunk."""
        return

    def _release(self) -> None:
        """Release other resources, after success and after errors."""
        return
