"""Arrays of images as the cells of an image column, of the shape that the model reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column
from flowgmm_cli.data.image_shape import WHITE
from flowgmm_cli.data.images.arrays import channels_last, convert_pixels, scale_of, value_range
from flowgmm_cli.data.images.rule import ImageRule, Resize
from flowgmm_cli.data.images.store import PixelStore

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]


def images_fit(row: tuple[int, ...], column: Column, resize: Resize) -> bool:
    """Whether entries of a shape can become images of a column; those of a grey one may be laid flat."""
    if _laid_flat(row, column):
        return True
    images = channels_last(np.empty((0, *row), dtype=np.uint8), column.shape[:2])
    return images is not None and (resize != "error" or images.shape[1:3] == column.shape[:2])


class ImageCells:
    """Turns arrays `(N, *row)` into uint8 cells `(N, *column.shape)`.

    Args:
        dtype: of the arrays.
        blocks: all of their entries; only looked at where the type leaves open what is white.
        column: of the model.
        resize: what becomes of another size.
        where: what to call the array in messages.

    Raises:
        DataError: the values are no pixels.
    """

    def __init__(
        self, dtype: np.dtype[Any], blocks: Iterable[Array], column: Column, resize: Resize, *, where: str
    ) -> None:
        self._column = column
        self._rule = ImageRule.of(column.shape, resize)
        self._factor, note = 1.0, ""
        if dtype != np.uint8:
            found = [value_range(block) for block in blocks if block.size]
            low, high = min(one[0] for one in found), max(one[1] for one in found)
            if any(np.isnan(one[0]) for one in found):
                low = float("nan")
            whole = all(one[2] for one in found)
            self._factor, note = scale_of(dtype, low, high, whole, where=where)
        self.notes = [note] if note else []

    def __call__(self, array: Array) -> Bytes:
        """The cells; `notes` has what was changed."""
        pixels = (
            array if self._factor == 1 and array.dtype != bool else np.rint(np.asarray(array) * self._factor)
        )
        pixels = pixels.astype(np.uint8, copy=False)
        if _laid_flat(array.shape[1:], self._column):
            return pixels.reshape(len(pixels), *self._column.shape)
        images = channels_last(pixels, self._column.shape[:2])
        if images is None:
            raise ValueError(f"entries of shape {array.shape[1:]} are no images")
        cells, changes = convert_pixels(images, self._rule)
        self.notes += [change for change in changes if change not in self.notes]
        return cells


def as_images(cells: Array | PixelStore, column: Column, resize: Resize, *, where: str) -> Array | PixelStore:
    """Entries that fit as cells of an image column; those that are on the disk stay there.

    Raises:
        DataError: the values are no pixels.
    """
    blocks = [cells] if isinstance(cells, np.ndarray) else []
    made = ImageCells(cells.dtype, blocks, column, resize, where=where)
    if isinstance(cells, np.ndarray):
        return made(cells)
    store = cells
    return PixelStore(lambda positions: made(store.read(positions)), np.arange(len(store)), column.shape)


def as_vectors(cells: Array | PixelStore, column: Column, high: float) -> Array:
    """Pixels as entries of a vector column of the same number of entries.

    Args:
        cells: uint8.
        column: of the model.
        high: its largest value in training; pixels are scaled to 0 to 1 where that is 1.
    """
    pixels = np.asarray(cells)
    if pixels.ndim == 4 and pixels.shape[1:] != column.shape and len(column.shape) == 3:
        pixels = np.moveaxis(pixels, 3, 1)
    values = pixels.reshape(len(pixels), *column.shape).astype(np.float32)
    return values / WHITE if high <= 1 else values


def _laid_flat(row: tuple[int, ...], column: Column) -> bool:
    return len(row) == 1 and len(column.shape) == 2 and row[0] == column.shape[0] * column.shape[1]
