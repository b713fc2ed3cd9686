"""Decode image files, in folders or in columns of tables, to the cells of a model's only input column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.images.arrays import convert_to_vectors
from flowgmm_cli.data.images.encoded_images import EncodedImages, decode_images
from flowgmm_cli.data.images.format import WHITE, ImageFormat
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.readers.schema import InputSchema


class ImageDecoder:
    """Decoder to cells of an image column, resized as in training, or of a vector column.

    `note` receives the changes that are made to images.
    """

    def __init__(self, image_format: ImageFormat, schema: InputSchema, note: Callable[[str], None]) -> None:
        self._format = image_format
        self._column = schema.columns[0]
        self._high = schema.ranges.get(self._column.name, (0.0, float(WHITE)))[1]
        self._note = note

    def describe_vectors(self) -> str:
        """Return the scale of the numbers of a vector column, '' for an image column."""
        if self._column.kind == "image":
            return ""
        return f"images, read as numbers from 0 (black) to {1 if self._high <= 1 else WHITE} (white)"

    def __call__(self, images: EncodedImages) -> tuple[Array, dict[int, RowError]]:
        """Return the cells of images, and position -> error of those that cannot be used."""
        pixels, errors, changes = decode_images(images, np.arange(len(images)), self._format)
        for change in sorted(changes):
            self._note(change)
        if self._column.kind == "vector":
            return convert_to_vectors(pixels, self._column, self._high), errors
        return pixels, errors


def find_image_format(schema: InputSchema) -> ImageFormat | None:
    """Return the format of the images for a single image column, or vector column of the shape of an image.

    Vectors are `(height, width)`, with 1 or 3 channels first or last, or a flattened square.
    """
    column, shape = schema.columns[0], schema.columns[0].shape
    if len(schema.columns) != 1 or column.kind not in ("image", "vector"):
        return None
    if column.kind == "image":
        return ImageFormat.from_shape(shape, schema.resize)
    if len(shape) == 1:
        side = round(shape[0] ** 0.5)
        return ImageFormat(side, side, colour=False) if side**2 == shape[0] else None
    if len(shape) == 3:
        channels, shape = (shape[2], shape[:2]) if shape[2] in (1, 3) else (shape[0], shape[1:])
    else:
        channels = 1
    return ImageFormat(*shape, colour=channels == 3) if len(shape) == 2 and channels in (1, 3) else None
