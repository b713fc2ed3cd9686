"""Image files as the numbers of a vector column, whose range in training says what white is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column
from flowgmm_cli.data.image_shape import WHITE
from flowgmm_cli.data.images.decode import WrongSizeError

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[Any]


def reads_images(column: Column) -> bool:
    """Whether a vector column can hold pixels: height, width[, channels], or a square laid flat."""
    shape = column.shape
    square = len(shape) == 1 and round(shape[0] ** 0.5) ** 2 == shape[0]
    return square or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))


def read_vector(path: Path, column: Column, scale: float, note: Callable[[str], None]) -> Pixels:
    """The pixels of a file times `scale`, float32 in the column's shape; `note` is told what was changed.

    Raises:
        WrongSizeError: the image has another size.
        Exception: whatever Pillow's decoders raise.
    """
    from PIL import Image

    height, width, *channels = _axes(column.shape)
    with Image.open(path) as image:
        if image.size != (width, height):
            raise WrongSizeError(*image.size)
        pixels = _with_channels(image, channels[0] if channels else 1, note)
    return (pixels.astype(np.float32) * scale).reshape(column.shape)


def size_read(column: Column) -> str:
    """Width and height that a column's images have, for people."""
    height, width, *_ = _axes(column.shape)
    return f"{width}x{height}"


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height, width and, where there are several, channels."""
    if len(shape) == 1:
        side = round(shape[0] ** 0.5)
        return side, side
    return shape


def _with_channels(image: Any, channels: int, note: Callable[[str], None]) -> Pixels:
    """The pixels as 1, 3 or 4 channels of 8 bits; `note` is told of what that changes."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {mode} (more than 8 bits) are not known to be 0 to {WHITE}")
    alpha = mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    colour = mode not in ("1", "L", "LA", "La")
    if alpha and channels != 4:
        note("transparency is left out")
        image = image.convert("RGBA" if colour else "LA")
    if colour and channels == 1:
        if mode != "P" or not _is_grey(image):
            note("colour images are turned grey")
    elif not colour and channels > 1:
        note("grey images are turned into colour")
    target = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return np.asarray(image if image.mode == target else image.convert(target))


def _is_grey(image: Any) -> bool:
    pixels = np.asarray(image.convert("RGB"))
    return bool((pixels[..., :1] == pixels).all())
