"""One image file to pixels, turned upright, of 8 bits, grey or colour, of the wanted size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flowgmm_cli.data.image_shape import WHITE
from flowgmm_cli.data.images.rule import Header, ImageRule

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

Content = bytes | Path

_GREY_MODES = ("1", "L", "LA", "La")
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_WITH_EXIF = ("JPEG", "MPO", "TIFF", "WEBP")  # for others `getexif` decodes the image
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 0x0100, 0x0101
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_SIXTEEN_BITS = 65_535
_SCALING = Image.Resampling.BILINEAR


class UnreadableError(ValueError):
    """Why an image cannot be read, in words for people."""


class WrongSizeError(ValueError):
    """An image has another size than the rule's.

    Args:
        width: in pixels.
        height: in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"the image is {width}x{height} pixels")
        self.width = width
        self.height = height


def header(content: Content) -> Header:
    """What an image is, from the first bytes of it.

    Raises:
        UnreadableError: it is none.
    """
    try:
        with _open(content) as image:
            width, height = _stored_size(image)
            if _orientation(image) in _SIDEWAYS:
                width, height = height, width
            return Header(width, height, _in_colour(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many things
        raise _unreadable(error) from error


def decode(content: Content, rule: ImageRule) -> tuple[Pixels, frozenset[str]]:
    """Return the pixels, uint8 of the rule's shape, and what was changed on the way, in words for people.

    An image of several frames is its first one.

    Raises:
        UnreadableError: it is no image, or a damaged one.
        WrongSizeError: it has another size, and the rule is to refuse it.
    """
    try:
        with _open(content) as image:
            several = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            if rule.resize != "error":  # a JPEG can be decoded at 1/2, 1/4 or 1/8 of its size
                side = 2 * max(rule.height, rule.width)
                image.draft(None, (side, side))
            if _orientation(image) not in (None, 1):
                ImageOps.exif_transpose(image, in_place=True)
            image.load()
            pixels, changes = convert(image, rule)
        return pixels, changes | {"of several frames the first counts"} if several else changes
    except (MemoryError, WrongSizeError, UnreadableError):
        raise
    except Exception as error:
        raise _unreadable(error) from error


def convert(image: Image.Image, rule: ImageRule) -> tuple[Pixels, frozenset[str]]:
    """Return the pixels of an open image; results and errors as for `decode`."""
    changes = set()
    if image.mode.startswith("I"):
        image = _of_8_bits(image)
        changes.add(f"16 bits are scaled to 8, {_SIXTEEN_BITS:,} to {WHITE}")
    elif image.mode == "F":
        raise UnreadableError("its pixels are fractions, of which nobody knows what is white")
    elif image.mode == "CMYK":
        changes.add("CMYK is turned into RGB")
    colour = _in_colour(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image, transparent = _on_white(image)
        if transparent:
            changes.add("what is transparent becomes white")
    image = image if image.mode in ("L", "RGB") else image.convert("RGB" if colour else "L")
    if colour and not rule.colour and not _looks_grey(image):
        changes.add("colour is turned into grey")
    if not colour and rule.colour:
        changes.add("grey is turned into colour")
    target = "RGB" if rule.colour else "L"
    image = image if image.mode == target else image.convert(target)
    return np.array(_fitted(image, rule), dtype=np.uint8), frozenset(changes)


def _open(content: Content) -> Image.Image:
    if isinstance(content, bytes):
        if not content:
            raise UnreadableError("it is empty")
        return Image.open(io.BytesIO(content))
    if content.stat().st_size == 0:
        raise UnreadableError("the file is empty")
    return Image.open(content)


def _orientation(image: Image.Image) -> int | None:
    if image.format not in _WITH_EXIF and "exif" not in image.info:
        return None
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged tag spoils no pixel
        return None
    return found if isinstance(found, int) else None


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height before the image is turned; of a TIFF `size` is that after it in newer versions."""
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags is not None:
        return int(tags[_WIDTH]), int(tags[_HEIGHT])
    return image.size


def _in_colour(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return not bool((palette == palette[:, :1]).all())
    return not (image.mode in _GREY_MODES or image.mode.startswith(("I", "F")))


def _of_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if low < 0 or high > _SIXTEEN_BITS:
        raise UnreadableError(
            f"its pixels are numbers from {low:.0f} to {high:.0f}, of which nobody knows what is white"
        )
    return Image.fromarray(np.rint(values * (WHITE / _SIXTEEN_BITS)).astype(np.uint8))


def _on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """An image without transparency, as browsers show it; and whether it had any."""
    image = image.convert("RGBA")
    lowest, _ = image.getchannel("A").getextrema()
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB"), lowest != WHITE


def _looks_grey(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())


def _fitted(image: Image.Image, rule: ImageRule) -> Image.Image:
    wanted = (rule.width, rule.height)
    if image.size == wanted:
        return image
    if rule.resize == "error":
        raise WrongSizeError(*image.size)
    if rule.resize == "stretch":
        return image.resize(wanted, _SCALING)
    if rule.resize == "crop":
        return ImageOps.fit(image, wanted, _SCALING)
    scale = min(rule.width / image.width, rule.height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    black = Image.new(image.mode, wanted)
    black.paste(image.resize(inner, _SCALING), ((rule.width - inner[0]) // 2, (rule.height - inner[1]) // 2))
    return black


def _unreadable(error: Exception) -> UnreadableError:
    if isinstance(error, UnreadableError):
        return error
    if isinstance(error, UnidentifiedImageError):
        return UnreadableError("it is no image of a known type")
    if isinstance(error, OSError) and error.strerror:
        return UnreadableError(f"it cannot be opened: {error.strerror}")
    lines = str(error).strip().splitlines()
    return UnreadableError(f"it cannot be decoded: {lines[0] if lines else type(error).__name__}")
