"""Arrays of images, however they are laid out, as uint8 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.data.image_shape import WHITE
from flowgmm_cli.data.images.load import Wanted
from flowgmm_cli.data.images.rule import Header, ImageRule, choose_rule
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]

_CHANNELS = (1, 3, 4)
_SIXTEEN_BITS = 65_535


def channels_last(array: Array, size: tuple[int, ...] | None = None) -> Array | None:
    """A view `(N, height, width)` or `(N, height, width, 3 or 4)`; None if the entries are no images.

    Where the channels may be first or last, the `size` (height, width) that is expected decides, else they
    are last.

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
    """The smallest and the largest value, NaN if any is, and whether all are whole numbers."""
    if array.dtype.kind in "iub":
        return float(array.min()), float(array.max()), True
    low, high = float(array.min()), float(array.max())
    return low, high, bool(np.isfinite(low + high) and (array == np.rint(array)).all())


def scale_of(dtype: np.dtype[Any], low: float, high: float, whole: bool, *, where: str) -> tuple[float, str]:
    """What values are multiplied by to be pixels from 0 to 255, and a note; '' where that is plain.

    Raises:
        DataError: nobody knows what is black and what is white.
    """
    if dtype == np.uint8:
        return 1.0, ""
    if dtype.kind == "b" or (dtype.kind == "f" and low >= 0 and high <= 1):
        return float(WHITE), f"{where}: values from 0 to 1 are scaled to pixels from 0 to {WHITE}"
    if whole and low >= 0 and high <= WHITE:
        return 1.0, f"{where}: {dtype} values from {low:.0f} to {high:.0f} are read as pixels"
    if dtype == np.uint16:
        return (
            WHITE / _SIXTEEN_BITS,
            f"{where}: 16 bits are scaled to 8, {_SIXTEEN_BITS:,} to {WHITE}; the largest is {high:,.0f}",
        )
    found = f"{low:g} to {high:g}" if np.isfinite(low + high) else "NaN or infinite ones among them"
    raise DataError(
        f"{where}: {dtype} values ({found}) are no pixels",
        hint=f"give uint8, whole numbers from 0 to {WHITE}, or fractions from 0 to 1; for other numbers "
        "there is the source `arrays`",
    )


def as_pixels(array: Array, *, where: str) -> tuple[Bytes, str]:
    """Return uint8 `(N, height, width)` or `(N, height, width, 3 or 4)`, and a note; '' for none.

    Raises:
        DataError: the array holds no images, or values that are no pixels.
    """
    images = channels_last(array)
    if images is None or array.dtype.kind not in "fiub":
        raise DataError(
            f"{where} must hold images (N, height, width), (N, height, width, channels) or "
            f"(N, channels, height, width), got {array.dtype} {array.shape}",
            hint="reshape it; for vectors there is the source `arrays`",
        )
    if len(images) == 0:
        raise DataError(f"{where} has no rows")
    if images.dtype == np.uint8:
        return images, ""
    factor, note = scale_of(images.dtype, *value_range(images), where=where)
    pixels = np.empty(images.shape, dtype=np.uint8)
    for index, image in enumerate(images):  # one at a time: float copies of all are eight times as large
        pixels[index] = np.rint(image * factor) if factor != 1 else image
    return pixels, note


def fit_pixels(
    arrays: Mapping[str, Bytes], wanted: Wanted, *, where: str
) -> tuple[dict[str, Bytes], ImageRule, list[str]]:
    """Bring arrays of images, by name, to one shape; return them, the shape and notes.

    Raises:
        DataError: sizes differ and nothing may be done about it.
    """
    headers = [
        (f"the image in `{name}`", Header(one.shape[2], one.shape[1], one.ndim == 4))
        for name, one in arrays.items()
    ]
    rule = choose_rule(headers, where=where, channels=wanted.channels, size=wanted.size, resize=wanted.resize)
    fitted, notes = {}, []
    for name, pixels in arrays.items():
        fitted[name], changes = convert_pixels(pixels, rule)
        notes += [f"`{name}`: {change}" for change in changes]
    return fitted, rule, notes


def convert_pixels(pixels: Bytes, rule: ImageRule) -> tuple[Bytes, list[str]]:
    """Bring images `(N, height, width)` or `(N, height, width, 3 or 4)` to `(N, *rule.shape)`, with notes.

    Raises:
        WrongSizeError: they have another size, and the rule is to refuse it.
    """
    if pixels.shape[1:] == rule.shape:
        return pixels, []
    from PIL import Image

    from flowgmm_cli.data.images.decode import convert
    from flowgmm_cli.data.images.pool import in_order

    made = np.empty((len(pixels), *rule.shape), dtype=np.uint8)
    changes: set[str] = set()

    def one(index: int) -> tuple[Bytes, frozenset[str]]:
        return convert(Image.fromarray(np.ascontiguousarray(pixels[index])), rule)

    for index, (image, changed) in enumerate(in_order(one, len(pixels))):
        made[index] = image
        changes |= changed
    return made, sorted(changes)
