"""Convert arrays of images, in any layout and data type, to uint8 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowgmm_cli.data.array_types import Array, Bytes
from flowgmm_cli.data.images.format import WHITE, ImageFormat, ImageHeader, choose_format
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.errors import DataError

_CHANNELS = (1, 3, 4)
_MAX_UINT16 = 65_535


def channels_last(array: Array, size: tuple[int, ...] | None = None) -> Array | None:
    """Return a view `(N, height, width)` or `(N, height, width, 3 or 4)`; None if the entries are not images.

    If either axis could hold the channels, the expected `size` (height, width) decides; without it they are
    last.

    >>> channels_last(np.zeros((5, 3, 8, 6))).shape, channels_last(np.zeros((5, 8, 6, 1))).shape
    ((5, 8, 6, 3), (5, 8, 6))
    """
    if array.ndim == 3:
        return array if 0 not in array.shape[1:] else None
    if array.ndim != 4 or 0 in array.shape[1:]:
        return None
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if not first and not last:
        return None
    if not last or (first and array.shape[2:] == size and array.shape[1:3] != size):
        array = np.moveaxis(array, 1, 3)
    return array[..., 0] if array.shape[3] == 1 else array


def value_range(array: Array) -> tuple[float, float, bool]:
    """Return minimum and maximum, NaN if there is any, and True if all values are whole numbers."""
    if array.dtype.kind in "iub":
        return float(array.min()), float(array.max()), True
    low, high = float(array.min()), float(array.max())
    return low, high, bool(np.isfinite(low + high) and (array == np.rint(array)).all())


def pixel_scale(
    dtype: np.dtype[Any], low: float, high: float, whole: bool, *, where: str
) -> tuple[float, str]:
    """Return the factor from values to pixels of 0 to 255, and a note, '' if values are pixels already."""
    if dtype == np.uint8:
        return 1.0, ""
    if dtype.kind == "b" or (dtype.kind == "f" and low >= 0 and high <= 1):
        return float(WHITE), f"{where}: values from 0 to 1 are scaled to pixels from 0 to {WHITE}"
    if whole and low >= 0 and high <= WHITE:
        return 1.0, f"{where}: {dtype} values from {low:.0f} to {high:.0f} are read as pixels"
    if dtype == np.uint16:
        return (
            WHITE / _MAX_UINT16,
            f"{where}: 16 bits are scaled to 8, {_MAX_UINT16:,} to {WHITE}; the largest is {high:,.0f}",
        )
    observed = f"{low:g} to {high:g}" if np.isfinite(low + high) else "including NaN or infinity"
    raise DataError(
        f"{where}: {dtype} values ({observed}) are not pixels",
        hint=f"give uint8, whole numbers from 0 to {WHITE}, or fractions from 0 to 1; for other numbers "
        "use the source `arrays`",
    )


def as_pixels(array: Array, *, where: str) -> tuple[Bytes, str]:
    """Return uint8 `(N, height, width)` or `(N, height, width, 3 or 4)`, and a note, which may be empty."""
    images = channels_last(array)
    if images is None or array.dtype.kind not in "fiub":
        raise DataError(
            f"{where} must hold images (N, height, width), (N, height, width, channels) or "
            f"(N, channels, height, width), got {array.dtype} {array.shape}",
            hint="reshape it; for vectors use the source `arrays`",
        )
    if len(images) == 0:
        raise DataError(f"{where} has no rows")
    if images.dtype == np.uint8:
        return images, ""
    factor, note = pixel_scale(images.dtype, *value_range(images), where=where)
    pixels = np.empty(images.shape, dtype=np.uint8)
    for index, image in enumerate(images):  # one by one: a float copy of all is eight times as large
        pixels[index] = np.rint(image * factor) if factor != 1 else image
    return pixels, note


def fit_pixels(
    arrays: Mapping[str, Bytes], config: ImagesConfig, *, where: str
) -> tuple[dict[str, Bytes], list[str]]:
    """Convert arrays of images, by name, to a common format; also return notes."""
    headers = [
        (f"the image in `{name}`", ImageHeader(pixels.shape[1], pixels.shape[2], pixels.ndim == 4))
        for name, pixels in arrays.items()
    ]
    image_format = choose_format(headers, config, where=where)
    converted, notes = {}, []
    for name, pixels in arrays.items():
        converted[name], changes = convert_pixels(pixels, image_format)
        notes += [f"`{name}`: {change}" for change in changes]
    return converted, notes


def convert_pixels(pixels: Bytes, image_format: ImageFormat) -> tuple[Bytes, list[str]]:
    """Convert images `(N, height, width[, 3 or 4])` to a format, `(N, *shape)`; also describe the changes."""
    if pixels.shape[1:] == image_format.shape:
        return pixels, []
    from PIL import Image

    from flowgmm_cli.data.images.decode import convert_image
    from flowgmm_cli.data.images.decode_many import map_in_order

    converted = np.empty((len(pixels), *image_format.shape), dtype=np.uint8)
    changes: set[str] = set()

    def convert(index: int) -> tuple[Bytes, frozenset[str]]:
        return convert_image(Image.fromarray(np.ascontiguousarray(pixels[index])), image_format)

    for index, (image, image_changes) in enumerate(map_in_order(convert, len(pixels))):
        converted[index] = image
        changes |= image_changes
    return converted, sorted(changes)
