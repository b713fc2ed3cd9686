"""What all writers share: columns in chunks, and an answer that is whole or absent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flowgmm_cli.data.writers.target import Target

if TYPE_CHECKING:
    import numpy.typing as npt

    Columns = Mapping[str, npt.NDArray[Any]]


class Writer(ABC):
    """Writes rows chunk by chunk, as a context manager; the file appears when the block ends well.

        with open_writer("out.csv") as writer:
            writer.write({"id": ids, "confidence": confidence})

    A column is `(N,)` strings (fixed width, or objects with None where missing), floats (NaN where missing),
    whole numbers or truth values (a masked array where some are missing), or `(N, D)` floats (a row of NaN
    where missing). Every chunk has the same columns; a chunk may have no rows.

    Attributes:
        target: where it writes.
        rows: number of rows written so far.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows = 0
        self._names: tuple[str, ...] | None = None

    def write(self, columns: Columns) -> None:
        """Add rows.

        Raises:
            ValueError: the columns differ in length, or are not those of the first chunk.
        """
        names = tuple(columns)
        sizes = {len(values) for values in columns.values()}
        if len(sizes) != 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}")
        if self._names not in (None, names):
            raise ValueError(f"columns {names} after {self._names}")
        if self._names is None:
            self._begin(columns)
            self._names = names
        if (size := sizes.pop()) > 0:
            self._add(columns, size)
            self.rows += size

    def __enter__(self) -> Self:
        self.target.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        complete = False
        try:
            if kind is None:
                self._end()
                self.target.commit()
                complete = True
        finally:
            self._release()
            if not complete:
                self.target.discard()

    @abstractmethod
    def _begin(self, columns: Columns) -> None:
        """Write what comes before the rows; the first chunk tells names and types."""

    @abstractmethod
    def _add(self, columns: Columns, size: int) -> None:
        """Write `size` rows, at least one."""

    def _end(self) -> None:
        """Write what comes after the rows; there may have been no chunk at all."""
        return

    def _release(self) -> None:
        """Let go of whatever is held beside the target, whether the answer is complete or not."""
        return
