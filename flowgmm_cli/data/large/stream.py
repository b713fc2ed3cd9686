"""Tensors of the rows of a table on disk, in the order of an epoch, read ahead by a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from flowgmm_cli.api import Rows
from flowgmm_cli.data.array_types import Ints
from flowgmm_cli.data.large.shuffle import LocalShuffle, RowRange
from flowgmm_cli.data.large.source import LargeRows
from flowgmm_cli.errors import DataError

TensorTuple = tuple[Tensor, ...]
"""Tensors of the same rows, each `(N, width)`."""

MAX_BUFFER_ROWS = 2**19
"""Maximum number of rows that are shuffled together."""
_MIN_BUFFER_ROWS = 4096
_BUFFER_SHARE = 8  # a buffer takes 1/8 of the memory budget; there are two at a time


@dataclass(frozen=True)
class RowStream:
    """Training rows of a table on disk."""

    source: LargeRows  # the rows
    make: Callable[[Rows], TensorTuple]  # function that converts rows to tensors on the CPU
    row_bytes: int  # bytes of a row in all tensors

    def __len__(self) -> int:
        return len(self.source)

    def shuffle(self, seed: int, without: Ints | None = None) -> EpochReader:
        """Return a reader of the rows in random orders, without those at some positions in memory."""
        left_out = self.source.left_out
        if without is not None and len(without):
            left_out = np.union1d(left_out, self.source.resident[without])
        max_rows = self.source.memory // _BUFFER_SHARE // max(1, self.row_bytes)
        shuffle = LocalShuffle(
            self.source.table.group_rows,
            left_out,
            buffer_rows=min(MAX_BUFFER_ROWS, max(_MIN_BUFFER_ROWS, max_rows)),
            seed=seed,
        )
        return EpochReader(self, shuffle)


class EpochReader:
    """Reader of rows by epoch and position; a thread reads ahead until `close` is called."""

    def __init__(self, stream: RowStream, shuffle: LocalShuffle) -> None:
        self._stream = stream
        self._shuffle = shuffle
        self._buffers: dict[tuple[int, int], Future[TensorTuple]] = {}
        self._stopped = threading.Event()
        self._thread: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self._shuffle.rows

    def rows(self, epoch: int, start: int, stop: int) -> TensorTuple:
        """Return the tensors of the rows `start` to `stop` in the order of an epoch."""
        ends = self._shuffle.ends(epoch)
        first, last = (int(buffer) for buffer in np.searchsorted(ends, [start, stop - 1], side="right"))
        parts = []
        for buffer in range(first, last + 1):
            begin = int(ends[buffer - 1]) if buffer else 0
            tensors = self._buffer(epoch, buffer)
            # clone, so that a batch does not keep its whole buffer in memory
            parts.append([tensor[max(start - begin, 0) : stop - begin].clone() for tensor in tensors])
            del tensors
        ahead = (epoch, last + 1) if last + 1 < len(ends) else (epoch + 1, 0)
        self._require((epoch, last), ahead)
        return tuple(
            torch.cat(pieces) if len(parts) > 1 else pieces[0] for pieces in zip(*parts, strict=True)
        )

    def close(self) -> None:
        """Stop reading ahead and wait for the thread to end."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._buffers.clear()
        self._thread = None

    def _buffer(self, epoch: int, buffer: int) -> TensorTuple:
        if (epoch, buffer) not in self._buffers:
            self._require((epoch, buffer))
        return self._buffers[epoch, buffer].result()

    def _require(self, *keys: tuple[int, int]) -> None:
        """Start reading the buffers (epoch, index) that are missing, and drop all others."""
        for key in [key for key in self._buffers if key not in keys]:
            self._buffers.pop(key).cancel()
        for key in keys:
            if key not in self._buffers:
                if self._thread is None:
                    self._stopped.clear()
                    self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
                # the thread that calls `rows` computes the order of the epoch
                ranges, permutation = self._shuffle.ranges(*key), self._shuffle.permutation(*key)
                self._buffers[key] = self._thread.submit(self._read, ranges, permutation)

    def _read(self, ranges: Sequence[RowRange], permutation: Tensor) -> TensorTuple:
        source, position = self._stream.source, 0
        buffer: list[Tensor] = []
        with source.builder.read(source.table) as reader:
            for row_range in ranges:
                where, first = source.table.describe_group(row_range.group), row_range.start
                for part in reader.read(row_range.group, row_range.offset, row_range.rows):
                    if self._stopped.is_set():
                        raise DataError("reading was stopped")
                    stop = first + part.num_rows
                    rows = source.builder.rows(part, first, where).take(self._shuffle.select(first, stop))
                    first = stop
                    if not len(rows):
                        continue
                    tensors = self._convert(rows, where)
                    if not buffer:
                        buffer = [tensor.new_empty(len(permutation), *tensor.shape[1:]) for tensor in tensors]
                    targets = permutation[position : position + len(rows)]
                    for whole, tensor in zip(buffer, tensors, strict=True):
                        whole[targets] = tensor
                    position += len(rows)
        pa.default_memory_pool().release_unused()
        return tuple(buffer)

    def _convert(self, rows: Rows, where: str) -> TensorTuple:
        try:
            return self._stream.make(rows)
        except DataError as error:
            raise DataError(f"{where}: {error.message}", details=error.details, hint=error.hint) from error
