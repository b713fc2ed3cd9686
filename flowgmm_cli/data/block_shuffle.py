"""Random orders of the rows of a store, read in blocks by one or more processes.

Blocks of consecutive rows are put in a random order, and the sequence of their rows is divided into lanes of
equal length. Position p of an epoch belongs to lane p mod L, so that a batch has rows of every lane. A buffer
holds the next rows of each lane, in random order. The order is a function of the seed and the epoch alone;
process r of W reads the lanes r, r + W, ..., whose rows are the positions r, r + W, ... of the epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.data.array_types import Array, Ints, Positions
from flowgmm_cli.data.tensors import Store
from flowgmm_cli.errors import DataError
from flowgmm_cli.seeds import derive_seed

MAX_BUFFER_ROWS = 2**19
"""Maximum number of rows in the buffers of all processes."""
_MIN_BUFFER_ROWS = 4096
_BUFFER_SHARE = 8  # a buffer takes 1/8 of the memory; there are two at a time
_LANES = 48  # a multiple of most numbers of processes, so that batches do not depend on it
_MIN_LANE_ROWS = 16
_BLOCKS = 4  # in a buffer of a lane
_MIN_BLOCK_BYTES = 2**16


class BlockShuffle:
    """Rows of a store by epoch and position; a thread reads ahead until `close` is called.

    Args:
        store: the rows.
        left_out: positions of rows that are never read, ascending.
        seed: seed of the orders.
        rank, world_size: this process among those that train together.
    """

    def __init__(
        self, store: Store, left_out: Positions, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._store, self._left_out, self._seed = store, left_out, seed
        self._rank, self._world_size = rank, world_size
        rows = store.rows - len(left_out)
        lanes = _LANES if rows >= _LANES * _MIN_LANE_ROWS else 1
        self._lanes = world_size * -(-lanes // world_size)
        self._lane_rows = rows // self._lanes
        row_bytes = store.width * store.dtype.itemsize
        most = min(MAX_BUFFER_ROWS, max(_MIN_BUFFER_ROWS, store.memory // _BUFFER_SHARE // row_bytes))
        self._buffers = max(1, -(-self._lane_rows * self._lanes // most))
        self._depth = max(1, -(-self._lane_rows // self._buffers))  # rows of a lane in a buffer
        self._block_rows = max(1, self._depth // _BLOCKS, min(self._depth, _MIN_BLOCK_BYTES // row_bytes))
        self._epoch = -1
        self._ready: dict[tuple[int, int], Future[Tensor]] = {}
        self._free: list[Tensor] = []  # memory of dropped buffers; new memory costs as much time as reading
        self._stopped = threading.Event()
        self._thread: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Return the number of rows of an epoch, over all processes."""
        return self._lane_rows * self._lanes

    def batch(self, epoch: int, start: int, rows: int) -> Tensor:
        """Return the share of this process in `rows` rows from position `start` of an epoch, `(n, width)`.

        All processes get equally many, `rows / world_size` rounded up.
        """
        share = -(-rows // self._world_size)
        start = min(start, len(self) - share * self._world_size)
        first = -(-(start - self._rank) // self._world_size)
        size = self._depth * (self._lanes // self._world_size)  # of a buffer
        buffers = range(first // size, (first + share - 1) // size + 1)
        parts = []
        for buffer in buffers:
            if (epoch, buffer) not in self._ready:
                self._require((epoch, buffer))
            part = slice(max(first - buffer * size, 0), first + share - buffer * size)
            # clone, because the memory of the buffer is used again
            parts.append(self._ready[epoch, buffer].result()[part].clone())
        ahead = (epoch, buffers.stop) if buffers.stop < self._buffers else (epoch + 1, 0)
        self._require((epoch, buffers[-1]), ahead)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def close(self) -> None:
        """Stop reading ahead and wait for the thread to end; reading can begin again."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._ready.clear()
        self._free.clear()
        self._thread = None

    def _require(self, *keys: tuple[int, int]) -> None:
        """Start reading the buffers (epoch, index) that are missing, and drop all others."""
        for key in [key for key in self._ready if key not in keys]:
            dropped = self._ready.pop(key)
            dropped.cancel()
            dropped.add_done_callback(self._recycle)
        for key in keys:
            if key not in self._ready:
                if self._thread is None:
                    self._stopped.clear()
                    self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
                self._ready[key] = self._thread.submit(self._fill, *key)

    def _recycle(self, dropped: Future[Tensor]) -> None:
        if not dropped.cancelled() and not dropped.exception():
            self._free.append(dropped.result())

    def _fill(self, epoch: int, buffer: int) -> Tensor:
        """Read the rows of a buffer; runs in the thread, one at a time."""
        self._plan(epoch)
        lanes = range(self._rank, self._lanes, self._world_size)
        first = buffer * self._depth
        depth = min(self._depth, self._lane_rows - first)
        if self._free:
            rows = self._free.pop().numpy()
        else:
            rows = np.empty((self._depth * len(lanes), self._store.width), dtype=self._store.dtype)
        for index, lane in enumerate(lanes):
            order = np.random.default_rng([derive_seed(self._seed, "order", epoch), buffer, lane])
            targets = order.permutation(depth) * len(lanes) + index
            done = 0
            for part in self._read(lane * self._lane_rows + first, depth):
                if self._stopped.is_set():
                    raise DataError("reading was stopped")
                rows[targets[done : done + len(part)]] = part
                done += len(part)
        return torch.from_numpy(rows)

    def _plan(self, epoch: int) -> None:
        """Put the blocks into the order of an epoch."""
        if epoch == self._epoch:
            return
        starts = np.arange(0, self._store.rows, self._block_rows)
        stops = np.minimum(starts + self._block_rows, self._store.rows)
        bounds = np.searchsorted(self._left_out, np.append(starts, self._store.rows))
        counts = stops - starts - np.diff(bounds)
        order = np.random.default_rng(derive_seed(self._seed, "order", epoch)).permutation(len(starts))
        self._starts: Ints = starts[order]
        self._counts: Ints = counts[order]
        self._ends: Ints = np.cumsum(counts[order])
        self._epoch = epoch

    def _read(self, start: int, count: int) -> Iterator[Array]:
        """Yield the rows `start` to `start + count` of the sequence of an epoch, block by block."""
        block = int(np.searchsorted(self._ends, start, side="right"))
        while count:
            skip = start - int(self._ends[block] - self._counts[block])
            take = min(count, int(self._counts[block]) - skip)
            if take:
                first = int(self._starts[block])
                last = min(first + self._block_rows, self._store.rows)
                out = self._left_out[slice(*np.searchsorted(self._left_out, [first, last]))]
                if len(out):
                    rows = np.delete(np.arange(last - first), out - first)[skip : skip + take]
                    begin, end = int(rows[0]), int(rows[-1]) + 1
                    yield self._store.read(first + begin, first + end)[rows - begin]
                else:
                    yield self._store.read(first + skip, first + skip + take)
            start, count, block = start + take, count - take, block + 1
