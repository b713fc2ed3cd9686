"""Rows of a table in files as tensors, in the order of an epoch; the next are read while these are used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Rows
from flowgmm_cli.data.large.order import LocalShuffle, Piece
from flowgmm_cli.data.large.source import LargeRows
from flowgmm_cli.errors import DataError
from flowgmm_cli.memory import release_arrow

if TYPE_CHECKING:
    import numpy.typing as npt

Made = tuple[Tensor, ...]
"""Forms of the same rows, each `(N, width)`."""

BUFFER_ROWS = 2**19
"""Rows that are shuffled among themselves, at most."""
_LEAST = 4096
_SHARE = 8  # of the budget, for a buffer; two are kept at a time


@dataclass(frozen=True)
class RowStream:
    """All training rows of a table that stay in their files.

    Attributes:
        source: where they are.
        make: tensors of some rows, on the CPU, each a form of them.
        bytes: of a row in all its forms.
    """

    source: LargeRows
    make: Callable[[Rows], Made]
    bytes: int

    def __len__(self) -> int:
        return len(self.source)

    def drawn(self, seed: int, without: npt.NDArray[np.int64] | None = None) -> Draw:
        """The rows in random orders.

        Args:
            seed: fixes the orders.
            without: rows in memory that are not to be among them, as positions in these.
        """
        left_out = self.source.left_out
        if without is not None and len(without):
            left_out = np.union1d(left_out, self.source.resident[without])
        fitting = self.source.memory // _SHARE // max(1, self.bytes)
        shuffle = LocalShuffle(
            self.source.table.group_rows,
            left_out,
            buffer_rows=min(BUFFER_ROWS, max(_LEAST, fitting)),
            seed=seed,
        )
        return Draw(self, shuffle)


class Draw:
    """Rows by epoch and place; a thread of its own reads ahead until it is closed."""

    def __init__(self, stream: RowStream, shuffle: LocalShuffle) -> None:
        self._stream = stream
        self._shuffle = shuffle
        self._buffers: dict[tuple[int, int], Future[Made]] = {}
        self._stopped = threading.Event()
        self._thread: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self._shuffle.rows

    def rows(self, epoch: int, start: int, stop: int) -> Made:
        """The rows `start` to `stop` in the order of an epoch, in every form.

        Raises:
            DataError: rows cannot be read, or they are not what their columns hold.
        """
        ends = self._shuffle.ends(epoch)
        first, last = (int(place) for place in np.searchsorted(ends, [start, stop - 1], side="right"))
        parts = []
        for buffer in range(first, last + 1):
            begin = int(ends[buffer - 1]) if buffer else 0
            forms = self._buffer(epoch, buffer)
            # copies: what is still used must not keep a whole buffer
            parts.append([form[max(start - begin, 0) : stop - begin].clone() for form in forms])
            del forms
        ahead = (epoch, last + 1) if last + 1 < len(ends) else (epoch + 1, 0)
        self._keep((epoch, last), ahead)
        return tuple(torch.cat(forms) if len(parts) > 1 else forms[0] for forms in zip(*parts, strict=True))

    def close(self) -> None:
        """Stop reading ahead and wait for the thread to end."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._buffers.clear()
        self._thread = None

    def _buffer(self, epoch: int, buffer: int) -> Made:
        if (epoch, buffer) not in self._buffers:
            self._keep((epoch, buffer))
        return self._buffers[epoch, buffer].result()

    def _keep(self, *wanted: tuple[int, int]) -> None:
        """Have these buffers, there or on their way, and no others."""
        for other in [one for one in self._buffers if one not in wanted]:
            self._buffers.pop(other).cancel()
        for one in wanted:
            if one not in self._buffers:
                if self._thread is None:
                    self._stopped.clear()
                    self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
                # the plan of an epoch belongs to the thread that asks for rows
                pieces, places = self._shuffle.pieces(*one), self._shuffle.places(*one)
                self._buffers[one] = self._thread.submit(self._read, pieces, places)

    def _read(self, pieces: Sequence[Piece], places: Tensor) -> Made:
        source, at = self._stream.source, 0
        made: list[Tensor] = []
        with source.maker.read(source.table) as reader:
            for piece in pieces:
                where, first = source.table.place(piece.group), piece.start
                for part in reader.read(piece.group, piece.offset, piece.rows):
                    if self._stopped.is_set():
                        raise DataError("reading was stopped")
                    stop = first + part.num_rows
                    rows = source.maker.rows(part, first, where).take(self._shuffle.kept(first, stop))
                    first = stop
                    if not len(rows):
                        continue
                    forms = self._made(rows, where)
                    if not made:
                        made = [form.new_empty(len(places), *form.shape[1:]) for form in forms]
                    here = places[at : at + len(rows)]
                    for whole, form in zip(made, forms, strict=True):
                        whole[here] = form
                    at += len(rows)
        release_arrow()
        return tuple(made)

    def _made(self, rows: Rows, where: str) -> Made:
        try:
            return self._stream.make(rows)
        except DataError as error:
            raise DataError(f"{where}: {error.message}", details=error.details, hint=error.hint) from error
