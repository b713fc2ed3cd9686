"""Decode an image file to 8-bit pixels, rotated upright, grey or colour, of a given size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from flowgmm_cli.data.array_types import Bytes
from flowgmm_cli.data.images.format import WHITE, ImageFormat, ImageHeader
from flowgmm_cli.messages import first_line

Content = bytes | Path

_GREY_MODES = ("1", "L", "LA", "La")
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_WITH_EXIF = ("JPEG", "MPO", "TIFF", "WEBP")  # for others `getexif` decodes the image
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 0x0100, 0x0101
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_MAX_UINT16 = 65_535
_SCALING = Image.Resampling.BILINEAR
_LARGE_PIXELS = 2**24
_LARGE = Lock()  # for one large image at a time: several threads would take gigabytes


class UnreadableError(ValueError):
    """An image cannot be read; the message says why, and `hint` is the next step."""

    def __init__(self, message: str, hint: str = "make the file again") -> None:
        super().__init__(message)
        self.hint = hint


def read_header(content: Content) -> ImageHeader:
    """Read the size and channels of an image from its first bytes. Raises `UnreadableError`."""
    with _open(content) as image:
        return _header(image)


def decode(content: Content, image_format: ImageFormat) -> tuple[Bytes, frozenset[str]]:
    """Return pixels, uint8 of the format's shape, and descriptions of the changes made to the image.

    Only the first frame of several is read. Raises `UnreadableError`, also for an image of another size
    than a format that does not resize.
    """
    with _open(content) as image:
        if image_format.resize != "error":  # a JPEG can be decoded at 1/2, 1/4 or 1/8 of its size
            side = 2 * max(image_format.height, image_format.width)
            image.draft(None, (side, side))
        elif (header := _header(image)).size != image_format.size:
            raise _wrong_size(header.size, image_format)
        upright = _orientation(image) in (None, 1)
        with _LARGE if image.width * image.height > _LARGE_PIXELS else nullcontext():
            several = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            image.load()
            if not upright and _orientation(image) not in (None, 1):  # Pillow may have turned it
                ImageOps.exif_transpose(image, in_place=True)
            pixels, changes = convert_image(image, image_format)
    return pixels, changes | {"of several frames the first counts"} if several else changes


def convert_image(image: Image.Image, image_format: ImageFormat) -> tuple[Bytes, frozenset[str]]:
    """Return the pixels of an open image; results and errors as for `decode`."""
    changes = set()
    if image.mode.startswith("I"):
        image = _scale_to_8_bits(image)
        changes.add(f"16 bits are scaled to 8, {_MAX_UINT16:,} to {WHITE}")
    elif image.mode == "F":
        raise UnreadableError("its pixels are fractions, which have no defined white")
    elif image.mode == "CMYK":
        changes.add("CMYK is turned into RGB")
    colour = _has_colour(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image, transparent = _flatten_alpha(image)
        if transparent:
            changes.add("transparency becomes white")
    image = image if image.mode in ("L", "RGB") else image.convert("RGB" if colour else "L")
    if colour and not image_format.colour:
        pixels = np.asarray(image)
        if (pixels != pixels[..., :1]).any():
            changes.add("colour is turned into grey")
    if not colour and image_format.colour:
        changes.add("grey is turned into colour")
    target = "RGB" if image_format.colour else "L"
    image = image if image.mode == target else image.convert(target)
    return np.array(_resize(image, image_format), dtype=np.uint8), frozenset(changes)


@contextmanager
def _open(content: Content) -> Iterator[Image.Image]:
    """Open an image; errors in the block are raised as `UnreadableError`."""
    try:
        if not (len(content) if isinstance(content, bytes) else content.stat().st_size):
            raise UnreadableError("it is empty" if isinstance(content, bytes) else "the file is empty")
        # a stream: Pillow 13 maps files into memory and then confuses rows and columns of a turned TIFF
        stream = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
        with stream, Image.open(stream) as image:
            yield image
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:  # Pillow's decoders raise many types
        raise _translate(error) from error


def _header(image: Image.Image) -> ImageHeader:
    width, height = image.size
    if isinstance(image, TiffImageFile):  # newer versions of Pillow give the size after rotation
        width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    if _orientation(image) in _SIDEWAYS:
        width, height = height, width
    return ImageHeader(height, width, _has_colour(image))


def _orientation(image: Image.Image) -> int | None:
    if image.format not in _WITH_EXIF and "exif" not in image.info:
        return None
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged tag does not affect the pixels
        return None
    return orientation if isinstance(orientation, int) else None


def _has_colour(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return not bool((palette == palette[:, :1]).all())
    return not (image.mode in _GREY_MODES or image.mode.startswith(("I", "F")))


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if low < 0 or high > _MAX_UINT16:
        raise UnreadableError(
            f"its pixels are numbers from {low:.0f} to {high:.0f}, which have no defined white"
        )
    return Image.fromarray(np.rint(values * (WHITE / _MAX_UINT16)).astype(np.uint8))


def _flatten_alpha(image: Image.Image) -> tuple[Image.Image, bool]:
    """Put an image on white, as browsers do; also return True if a pixel was transparent."""
    image = image.convert("RGBA")
    lowest, _ = image.getchannel("A").getextrema()
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB"), lowest != WHITE


def _resize(image: Image.Image, image_format: ImageFormat) -> Image.Image:
    size = (image_format.width, image_format.height)
    if image.size == size:
        return image
    if image_format.resize == "error":
        raise _wrong_size(f"{image.width}x{image.height}", image_format)
    if image_format.resize == "stretch":
        return image.resize(size, _SCALING)
    if image_format.resize == "crop":
        return ImageOps.fit(image, size, _SCALING)
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    background = Image.new(image.mode, size)
    corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    background.paste(image.resize(inner, _SCALING), corner)
    return background


def _wrong_size(size: str, image_format: ImageFormat) -> UnreadableError:
    expected = image_format.size
    return UnreadableError(
        f"the image is {size} pixels, the model reads {expected}",
        f"resize the images first, for example with ImageMagick: mogrify -resize {expected}!",
    )


def _translate(error: Exception) -> UnreadableError:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return UnreadableError(f"it has more than {most:,} pixels", "scale it down first")
    if isinstance(error, UnidentifiedImageError):
        return UnreadableError("it is not an image of a known type")
    if isinstance(error, OSError) and error.strerror:
        return UnreadableError(f"it cannot be opened: {error.strerror}")
    return UnreadableError(f"it cannot be decoded: {first_line(error)}")
