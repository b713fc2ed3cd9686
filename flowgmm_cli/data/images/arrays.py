"""Arrays of images: pixels that are read on access, and the conversion of any layout and type to uint8."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array, Bytes, Hashes, Positions
from flowgmm_cli.data.images.format import WHITE, ImageFormat, ImageHeader, Resize, channel_axis
from flowgmm_cli.errors import DataError


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


_MAX_UINT16 = 65_535


def channels_last(array: Array, size: tuple[int, ...] | None = None) -> Array | None:
    """Return a view `(N, height, width)` or `(N, height, width, 3 or 4)`; None if the entries are not images.

    See `channel_axis` for the expected `size` (height, width).

    >>> channels_last(np.zeros((5, 3, 8, 6))).shape, channels_last(np.zeros((5, 8, 6, 1))).shape
    ((5, 8, 6, 3), (5, 8, 6))
    """
    axis = channel_axis(array.shape[1:], size)
    if axis is None:
        return None
    array = np.moveaxis(array, 1, 3) if axis == 0 else array
    return array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array


def pixel_scale(dtype: np.dtype[Any], blocks: Iterable[Array], *, where: str) -> tuple[float, str]:
    """Return the factor from values to pixels of 0 to 255, and a note, '' if values are pixels already.

    The values, in `blocks`, are read only if `dtype` does not determine the value of white.
    """
    if dtype == np.uint8:
        return 1.0, ""
    if dtype.kind not in "fiub":
        raise DataError(f"{where}: {dtype} values are not pixels")
    low, high, whole = np.inf, -np.inf, True
    for block in blocks:
        if block.size:  # NaN makes `low` and `high` NaN
            low, high = np.minimum(low, block.min()), np.maximum(high, block.max())
            finite = np.isfinite(low + high)
            whole = whole and bool(finite and (dtype.kind != "f" or (block == np.rint(block)).all()))
    if dtype.kind == "b" or (dtype.kind == "f" and low >= 0 and high <= 1):
        return float(WHITE), f"values from 0 to 1 are scaled to pixels from 0 to {WHITE}"
    if whole and low >= 0 and high <= WHITE:
        return 1.0, f"{dtype} values from {low:.0f} to {high:.0f} are read as pixels"
    if dtype == np.uint16:
        return (
            WHITE / _MAX_UINT16,
            f"16 bits are scaled to 8, {_MAX_UINT16:,} to {WHITE}; the largest is {high:,.0f}",
        )
    observed = f"{low:g} to {high:g}" if np.isfinite(low + high) else "including NaN or infinity"
    raise DataError(
        f"{where}: {dtype} values ({observed}) are not pixels",
        hint=f"give uint8, whole numbers from 0 to {WHITE}, or fractions from 0 to 1; for other numbers "
        "use the source `arrays`",
    )


def read_array_header(array: Array, *, where: str) -> ImageHeader:
    """Return the size and channels of the images in an array. Raises `DataError` if it holds no images."""
    images = channels_last(array)
    if images is None or array.dtype.kind not in "fiub":
        raise DataError(
            f"{where} must hold images (N, height, width), (N, height, width, channels) or "
            f"(N, channels, height, width), got {array.dtype} {array.shape}",
            hint="reshape it; for vectors use the source `arrays`",
        )
    if len(images) == 0:
        raise DataError(f"{where} has no rows")
    return ImageHeader(images.shape[1], images.shape[2], images.ndim == 4)


def images_fit(row: tuple[int, ...], column: Column, resize: Resize) -> bool:
    """Return True if entries of a shape fit an image column; entries of a grey column may be flat."""
    if _is_flat(row, column.shape):
        return True
    axis = channel_axis(row, column.shape[:2])
    return axis is not None and (resize != "error" or (row[1:] if axis == 0 else row[:2]) == column.shape[:2])


class ImageConverter:
    """Convert arrays of images `(N, *row)` to a format, uint8 `(N, *image_format.shape)`.

    The rows may be flat if the images are grey. All arrays, `blocks`, are read at the start if `dtype` does
    not determine the value of white. `notes` lists the changes.
    """

    def __init__(
        self, dtype: np.dtype[Any], blocks: Iterable[Array], image_format: ImageFormat, *, where: str
    ) -> None:
        self._format = image_format
        self._factor, note = pixel_scale(dtype, blocks, where=where)
        self.notes = [note] if note else []

    def __call__(self, array: Array) -> Bytes:
        """Convert an array."""
        pixels = array
        if array.dtype != np.uint8:
            pixels = np.empty(array.shape, dtype=np.uint8)
            for index, image in enumerate(array):  # a float copy of all images is eight times as large
                pixels[index] = np.rint(image * self._factor) if self._factor != 1 else image
        if _is_flat(array.shape[1:], self._format.shape):
            return pixels.reshape(len(pixels), *self._format.shape)
        images = channels_last(pixels, (self._format.height, self._format.width))
        if images is None:
            raise ValueError(f"entries of shape {array.shape[1:]} are not images")
        return images if images.shape[1:] == self._format.shape else self._resize(images)

    def _resize(self, images: Bytes) -> Bytes:
        from PIL import Image

        from flowgmm_cli.data.images.decode import convert_image
        from flowgmm_cli.data.images.encoded_images import map_in_order

        def convert(index: int) -> tuple[Bytes, frozenset[str]]:
            return convert_image(Image.fromarray(np.ascontiguousarray(images[index])), self._format)

        converted = np.empty((len(images), *self._format.shape), dtype=np.uint8)
        changes: set[str] = set()
        for index, (image, image_changes) in enumerate(map_in_order(convert, len(images))):
            converted[index] = image
            changes |= image_changes
        self.notes += sorted(changes - set(self.notes))
        return converted


def convert_images(
    cells: Array | LazyPixels, column: Column, resize: Resize, *, where: str
) -> Array | LazyPixels:
    """Convert entries to cells of an image column; pixels on disk are converted when they are read."""
    image_format = ImageFormat.from_shape(column.shape, resize)
    blocks = [cells] if isinstance(cells, np.ndarray) else []
    convert = ImageConverter(cells.dtype, blocks, image_format, where=where)
    if isinstance(cells, np.ndarray):
        return convert(cells)
    return LazyPixels(lambda index: convert(np.asarray(cells[index])), np.arange(len(cells)), column.shape)


def convert_to_vectors(cells: Array | LazyPixels, column: Column, high: float) -> Array:
    """Convert uint8 pixels to cells of a vector column, scaled to 0 to 1 if `high` is at most 1."""
    pixels = np.asarray(cells)
    if pixels.ndim == 4 and pixels.shape[1:] != column.shape and len(column.shape) == 3:
        pixels = np.moveaxis(pixels, 3, 1)
    values = pixels.reshape(len(pixels), *column.shape).astype(np.float32)
    return values * (1 / WHITE) if high <= 1 else values


def _is_flat(row: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(row) == 1 and len(shape) == 2 and row[0] == shape[0] * shape[1]
