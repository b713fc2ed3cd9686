"""Pixels that are read on access, behind the interface of an array."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from flowgmm_cli.data.array_types import Array, Bytes, Hashes, Positions


class LazyPixels:
    """An array-like `(N, *entry)` of uint8 that selects rows by index without reading them.

    `np.asarray` reads all pixels, as does any operation on values. Only the first axis can be indexed.

    Args:
        read: reads the images at some positions, `(n, *entry)`.
        positions: positions of the images, int64 `(N,)`.
        entry: shape of an image.
        hashes: `row_hashes` of the images where they are known, `(N,)`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        read: Callable[[Positions], Bytes],
        positions: Positions,
        entry: tuple[int, ...],
        hashes: Hashes | None = None,
    ) -> None:
        self._read = read
        self._positions = positions
        self._entry = entry
        self.hashes = hashes

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, *entry)`."""
        return (len(self), *self._entry)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 1 + len(self._entry)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels in memory."""
        return len(self) * int(np.prod(self._entry))

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: slice | Array | list[int] | SupportsIndex) -> LazyPixels | Bytes:
        """Select images without reading them; an integer reads the pixels of a single one."""
        chosen = self._positions[index]
        if np.ndim(chosen) == 0:
            image: Bytes = self._read(np.array([chosen], dtype=np.int64))[0]
            return image
        hashes = None if self.hashes is None else self.hashes[index]
        return LazyPixels(self._read, chosen, self._entry, hashes)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("pixels that are read on access are always a copy")
        pixels = self._read(self._positions) if len(self) else np.empty(self.shape, dtype=np.uint8)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


def lazy_pixels_of(pixels: Bytes) -> LazyPixels:
    """Return lazy pixels backed by an array, such as a memory-mapped file."""

    def read(positions: Positions) -> Bytes:
        first = int(positions[0])
        is_range = len(positions) == int(positions[-1]) - first + 1 and (np.diff(positions) == 1).all()
        # a range is read many times faster than positions
        copy = np.array(pixels[first : first + len(positions)] if is_range else pixels[positions])
        if isinstance(pixels, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            # or its pages would count as memory of the process
            pixels._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
        return copy

    return LazyPixels(read, np.arange(len(pixels)), pixels.shape[1:])
