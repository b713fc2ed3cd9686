"""Convert arrays of images to cells of the image column that the model reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array, Bytes
from flowgmm_cli.data.images.arrays import channels_last, convert_pixels, pixel_scale, value_range
from flowgmm_cli.data.images.format import WHITE, ImageFormat, Resize
from flowgmm_cli.data.images.lazy_pixels import LazyPixels


def images_fit(row: tuple[int, ...], column: Column, resize: Resize) -> bool:
    """Return True if entries of a shape fit an image column; entries of a grey column may be flat."""
    if _is_flat(row, column):
        return True
    images = channels_last(np.empty((0, *row), dtype=np.uint8), column.shape[:2])
    return images is not None and (resize != "error" or images.shape[1:3] == column.shape[:2])


class ImageConverter:
    """Convert arrays `(N, *row)` to uint8 cells `(N, *column.shape)`.

    All arrays, `blocks`, are read only if `dtype` does not determine the value of white.
    """

    def __init__(
        self, dtype: np.dtype[Any], blocks: Iterable[Array], column: Column, resize: Resize, *, where: str
    ) -> None:
        self._column = column
        self._rule = ImageFormat.from_shape(column.shape, resize)
        self._factor, note = 1.0, ""
        if dtype != np.uint8:
            lows, highs, are_whole = zip(*(value_range(block) for block in blocks if block.size), strict=True)
            low = float("nan") if any(map(np.isnan, lows)) else min(lows)
            high, whole = max(highs), all(are_whole)
            self._factor, note = pixel_scale(dtype, low, high, whole, where=where)
        self.notes = [note] if note else []

    def __call__(self, array: Array) -> Bytes:
        """Convert an array; `notes` lists the changes to the images."""
        pixels = (
            array if self._factor == 1 and array.dtype != bool else np.rint(np.asarray(array) * self._factor)
        )
        pixels = pixels.astype(np.uint8, copy=False)
        if _is_flat(array.shape[1:], self._column):
            return pixels.reshape(len(pixels), *self._column.shape)
        images = channels_last(pixels, self._column.shape[:2])
        if images is None:
            raise ValueError(f"entries of shape {array.shape[1:]} are not images")
        cells, changes = convert_pixels(images, self._rule)
        self.notes += [change for change in changes if change not in self.notes]
        return cells


def convert_images(
    cells: Array | LazyPixels, column: Column, resize: Resize, *, where: str
) -> Array | LazyPixels:
    """Convert entries to cells of an image column; a store on disk is converted when it is read."""
    blocks = [cells] if isinstance(cells, np.ndarray) else []
    convert = ImageConverter(cells.dtype, blocks, column, resize, where=where)
    if isinstance(cells, np.ndarray):
        return convert(cells)
    store = cells
    return LazyPixels(lambda positions: convert(store.read(positions)), np.arange(len(store)), column.shape)


def convert_to_vectors(cells: Array | LazyPixels, column: Column, high: float) -> Array:
    """Convert uint8 pixels to cells of a vector column, scaled to 0 to 1 if `high` is at most 1."""
    pixels = np.asarray(cells)
    if pixels.ndim == 4 and pixels.shape[1:] != column.shape and len(column.shape) == 3:
        pixels = np.moveaxis(pixels, 3, 1)
    values = pixels.reshape(len(pixels), *column.shape).astype(np.float32)
    return values / WHITE if high <= 1 else values


def _is_flat(row: tuple[int, ...], column: Column) -> bool:
    return len(row) == 1 and len(column.shape) == 2 and row[0] == column.shape[0] * column.shape[1]
