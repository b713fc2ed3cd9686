"""Interface of the readers of rows, their settings, and a reader of rows in memory."""

from __future__ import annotations

import errno
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, iterate_batches
from flowgmm_cli.data.array_types import Ints, Strings
from flowgmm_cli.data.readers.row_errors import OnError
from flowgmm_cli.errors import DataError, FlowgmmError
from flowgmm_cli.messages import first_line

Item = TypeVar("Item")
_MAX_CHUNK_NUMBERS = 4 * 2**20  # 32 MiB of float64
_MAX_TEXTS = 4096  # in a chunk: encoding one takes long


@dataclass(frozen=True)
class Chunk(Rows):
    """Consecutive rows of the input, in order.

    Labels are indices into the class names, -1 for a missing label or an unknown class; ids are the cells of
    the id column, else row numbers from 1, else (of images) paths.

    Attributes:
        start: number of rows before this chunk.
        problems: position in the chunk -> reason why the row cannot be scored; its cells are placeholders.
        unknown_labels: position in the chunk -> label that is no class of the model.
        kept: columns of the input to pass on, Arrow arrays `(N,)` by name.
    """

    start: int = 0
    problems: Mapping[int, str] = field(default_factory=dict)
    unknown_labels: Mapping[int, str] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)


class RowReader(ABC):
    """Iterable of the chunks of an input.

    Attributes:
        name: the input as messages call it.
        total: number of rows, or None if it is unknown before reading.
    """

    name: str
    total: int | None

    def __iter__(self) -> Iterator[Chunk]:
        """Read from the start; raises `DataError` only. Standard input can be read only once."""
        with translate_errors(self.name):
            yield from self._read_chunks()

    @abstractmethod
    def _read_chunks(self) -> Iterator[Chunk]:
        """Yield the chunks; any error may be raised."""


@dataclass(frozen=True)
class ReadOptions:
    """Settings of a reader.

    Attributes:
        note: tells the user about something unusual in the input.
        on_error: policy for rows that cannot be read.
        chunk_rows: maximum number of rows in a chunk; chunks of wide rows have fewer.
        keep: columns to pass on as they are; `all` stands for every column.
    """

    note: Callable[[str], None]
    on_error: OnError = "fail"
    chunk_rows: int = 8192
    keep: Sequence[str] = ()

    def chunk_size(self, columns: Sequence[Column]) -> int:
        """Return the rows per chunk: `chunk_rows`, but fewer if that many would take more than 32 MiB."""
        width = sum(math.prod(column.shape) for column in columns)
        largest = _MAX_TEXTS if any(column.kind == "text" for column in columns) else self.chunk_rows
        return max(1, min(self.chunk_rows, largest, _MAX_CHUNK_NUMBERS // max(width, 1)))


class MemoryReader(RowReader):
    """Reader of rows in memory, such as the splits of a run; `unknown_labels` as in `Chunk`."""

    def __init__(
        self,
        rows: Rows,
        name: str,
        *,
        chunk_rows: int = 8192,
        unknown_labels: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.total = len(rows)
        self._rows = rows
        self._chunk_rows = chunk_rows
        self._unknown_labels = unknown_labels

    def _read_chunks(self) -> Iterator[Chunk]:
        for part in iterate_batches(len(self._rows), self._chunk_rows):
            rows = self._rows.take(np.arange(part.start, part.stop))
            unknown = within(self._unknown_labels, part)
            yield Chunk(**vars(rows), start=part.start, unknown_labels=unknown)


def within(items: Mapping[int, Item], part: slice) -> dict[int, Item]:
    """Return the items of the positions in a slice, by position in the slice."""
    return {place - part.start: item for place, item in items.items() if part.start <= place < part.stop}


def note_once(context: DataContext) -> Callable[[str], None]:
    """Return a `note` function that passes every distinct text to the context once."""
    previous: set[str] = set()

    def note(text: str) -> None:
        if text not in previous:
            previous.add(text)
            context.note(text)

    return note


def row_numbers(start: int, count: int) -> Strings:
    """Return the ids of rows without an id column: their numbers in the input, from 1."""
    return np.array([str(row) for row in range(start + 1, start + count + 1)], dtype=object)


def unlabelled(count: int) -> Ints:
    """Return the labels of unlabelled rows: -1."""
    return np.full(count, -1, dtype=np.int64)


@contextmanager
def translate_errors(name: str, format: str = "") -> Iterator[None]:
    """Turn every error of the libraries that read a file into a `DataError` with the name of the file.

    Damaged files make them raise errors of any type, also `MemoryError` for sizes that a file only claims.
    """
    try:
        yield
    except FlowgmmError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise
        raise DataError(
            f"{name} cannot be read{f' as {format}' if format else ''}: {first_line(error)}",
            hint="the file is damaged, cut short or of another type; make it again, or name its type with "
            "--data-format",
        ) from error
