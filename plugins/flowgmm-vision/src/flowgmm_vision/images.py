"""Folders of images: lists of their files, and decoding."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from flowgmm_cli.api import DataError

_KINDS = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "jp2", "avif")
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS)


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        file: the path.
        name: its path below the folder, with `/`.
        label: its class; None without a label.
    """

    file: Path
    name: str
    label: str | None


def list_images(folder: str, unlabelled: str) -> list[ImageFile]:
    """List the images below a folder, by name, without hidden files.

    Raises:
        DataError: the folder does not exist, or has no image.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"{folder} {what}; a folder with a folder of images for each class is needed",
            hint=f"check the path; it is looked for in {Path.cwd()}",
        )
    images = []
    for file in root.rglob("*"):
        inner = file.relative_to(root)
        hidden = any(part.startswith((".", "_")) for part in inner.parts)
        if hidden or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        own = inner.parts[0] if len(inner.parts) > 1 else unlabelled
        images.append(ImageFile(file, inner.as_posix(), None if own == unlabelled else own))
    if not images:
        raise DataError(
            f"{folder} holds no image", hint=f"images are files of the types {', '.join(sorted(SUFFIXES))}"
        )
    return sorted(images, key=lambda image: image.name)


def decode(content: bytes) -> Image.Image:
    """Return an RGB image, upright, its first frame.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: raised by Pillow for a damaged image.
    """
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened) or opened
        if image.mode.startswith("I"):  # 16 bits, of which `convert` would cut off all above 255
            values = np.asarray(image).astype(np.int64)
            image = Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
        if image.mode in ("P", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
        if image.mode in ("RGBA", "LA"):  # transparent pixels have any colour: make them white
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key of names that compares the numbers in them by value."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part], name
