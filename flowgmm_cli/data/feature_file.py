"""Files of rows beyond memory: a matrix that is written in chunks and read in blocks."""

from __future__ import annotations

import os
import shutil
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Array, Hashes, Positions
from flowgmm_cli.errors import DataError
from flowgmm_cli.files import atomic_write

_BLOCK_ROWS = 2**20
_LOW_BITS = np.uint64(2**20 - 1)
_SPARE_BYTES = 2**28  # free space that is left on the disk
_SMALL_BYTES = 2**26  # a file of this size is read in a moment
_TRAILER = Struct("<IIQ")  # checksums of header and rows, and of the hashes; time of the last change, in ns


class FeatureFile:
    """A matrix `(N, width)` in a file: a NumPy (npy) array, a hash of each row, and a trailer.

    Blocks are read and not memory-mapped, because the pages of a mapped file count as memory of the process.
    The trailer has checksums. They are compared if the file is small, or has changed since it was written.

    Raises:
        OSError, ValueError: there is no such file, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        try:
            if np.lib.format.read_magic(self._file) != (1, 0):
                raise ValueError("another format")
            (self.rows, self.width), _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        except Exception as error:  # NumPy parses the header as Python
            raise ValueError(f"{path} is not a feature file") from error
        self._start = self._file.tell()
        self._row_bytes = self.width * self.dtype.itemsize
        self._lock = Lock()
        self._verify(path)

    def _verify(self, path: Path) -> None:
        """Raise `ValueError` if the file is damaged."""
        status = os.fstat(self._file.fileno())
        middle = self._start + self.rows * self._row_bytes
        end = middle + 8 * self.rows
        if status.st_size != end + _TRAILER.size:
            raise ValueError(f"{path} is cut short")
        self._file.seek(end)
        *checksums, written = _TRAILER.unpack(self._file.read(_TRAILER.size))
        if status.st_mtime_ns == written and status.st_size > _SMALL_BYTES:
            return
        if checksums != [self._checksum(0, middle), self._checksum(middle, end)]:
            raise ValueError(f"{path} does not have its checksum")
        with suppress(OSError):  # a copy of the file, or a read-only one
            os.utime(path, ns=(status.st_atime_ns, written))

    def _checksum(self, start: int, stop: int) -> int:
        self._file.seek(start)
        checksum = 0
        while start < stop and (block := self._file.read(min(_BLOCK_ROWS, stop - start))):
            checksum = crc32(block, checksum)
            start += len(block)
        return checksum

    def read(self, start: int, stop: int) -> Array:
        """Read the rows `start` to `stop`, `(n, width)`."""
        rows = np.empty((stop - start, self.width), dtype=self.dtype)
        self._read_into(rows, self._start + start * self._row_bytes)
        return rows

    def read_at(self, positions: Positions) -> Array:
        """Read the rows at some positions, `(n, width)`; neighbouring rows are read together."""
        if len(positions) and (np.diff(positions) > 0).all():
            first, last = int(positions[0]), int(positions[-1])
            if last - first < 2 * len(positions):  # one read of some rows too many is faster than several
                whole: Array = self.read(first, last + 1)
                return whole if len(whole) == len(positions) else whole[positions - first]
        rows = np.empty((len(positions), self.width), dtype=self.dtype)
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        for begin, end in zip([0, *breaks], [*breaks, len(positions)], strict=True):
            if begin < end:
                self._read_into(rows[begin:end], self._start + int(positions[begin]) * self._row_bytes)
        return rows

    def find(self, hashes: Hashes) -> tuple[Positions, Positions]:
        """Return the rows with one of distinct, sorted hashes: their positions, and those of the hashes."""
        rows, matches = [], []
        present = np.zeros(2**20, dtype=bool)  # by the lowest bits, which few rows share: a search takes long
        present[hashes & _LOW_BITS] = True
        for block in iterate_batches(self.rows, _BLOCK_ROWS):
            own = self.read_hashes(block.start, min(block.stop, self.rows))
            candidates = np.flatnonzero(present[own & _LOW_BITS])
            nearest = np.minimum(np.searchsorted(hashes, own[candidates]), len(hashes) - 1)
            equal = hashes[nearest] == own[candidates]
            rows.append(candidates[equal] + block.start)
            matches.append(nearest[equal])
        return np.concatenate(rows), np.concatenate(matches)

    def read_hashes(self, start: int, stop: int) -> Hashes:
        """Read the hashes of the rows `start` to `stop`, `(n,)`."""
        hashes: Hashes = np.empty(stop - start, dtype=np.uint64)
        self._read_into(hashes, self._start + self.rows * self._row_bytes + 8 * start)
        return hashes

    def _read_into(self, array: npt.NDArray[Any], offset: int) -> None:
        if not array.size:
            return
        buffer = array.reshape(-1).view(np.uint8).data
        with self._lock:
            self._file.seek(offset)
            while buffer:
                count = self._file.readinto(buffer)
                if not count:
                    raise DataError(
                        f"{self._file.name} ends too early",
                        hint="the file is damaged; remove it and start again",
                    )
                buffer = buffer[count:]


def write_features(
    path: Path, shape: tuple[int, int], dtype: npt.DTypeLike, parts: Iterable[tuple[Array, Hashes]]
) -> None:
    """Write a feature file from consecutive parts: rows of the matrix and their hashes.

    Raises:
        DataError: the file cannot be written, or the disk is full.
    """
    rows, width = shape
    dtype = np.dtype(dtype)
    size = rows * (width * dtype.itemsize + 8)
    try:
        require_space(path.parent, size)
        with atomic_write(path) as stream:
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            first = BytesIO()
            np.lib.format.write_array_header_1_0(first, header)
            stream.write(first.getvalue())
            start, position = stream.tell(), 0
            checksums = [crc32(first.getvalue()), 0]
            for features, hashes in parts:
                blocks = np.ascontiguousarray(features, dtype=dtype), np.ascontiguousarray(hashes, np.uint64)
                stream.seek(start + position * width * dtype.itemsize)
                stream.write(blocks[0].data)
                stream.seek(start + rows * width * dtype.itemsize + 8 * position)
                stream.write(blocks[1].data)
                checksums = [crc32(block.data, total) for block, total in zip(blocks, checksums, strict=True)]
                position += len(features)
            if position != rows:
                raise DataError(
                    f"the table has {position:,} rows, and had {rows:,} when it was read first",
                    hint="do not change the files while they are read; start again",
                )
            written = time.time_ns() // 10**9 * 10**9  # whole seconds, which every file system can store
            stream.seek(start + size)
            stream.write(_TRAILER.pack(*checksums, written))
            stream.flush()
            os.utime(stream.fileno(), ns=(time.time_ns(), written))
    except OSError as error:
        raise DataError(
            f"the features of {rows:,} rows need {size / 2**30:.1f} GiB on the disk, and {path.parent} "
            f"cannot take them: {error.strerror}",
            hint="name a folder on a larger disk by the variable FLOWGMM_CACHE_DIR, use fewer columns "
            "(data.drop), or raise data.memory",
        ) from error


def require_space(folder: Path, size: int) -> None:
    """Raise `OSError` if a folder cannot take a file of so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE_BYTES:
        raise OSError(28, f"{free / 2**30:.1f} GiB are free")
