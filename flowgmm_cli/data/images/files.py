"""Which files below a folder are images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from flowgmm_cli.data.images.pictures import Pictures
from flowgmm_cli.data.sources.columns import natural_order

_KINDS = "png jpg jpeg jpe jfif webp bmp gif tif tiff ppm pgm pbm pnm jp2 avif tga"
SUFFIXES = tuple(f".{kind}" for kind in _KINDS.split())


@dataclass(frozen=True)
class Listing:
    """What is below a folder, without what is hidden.

    Attributes:
        images: paths in the folder, with `/`, in natural order.
        others: how many other files there are, by suffix.
        folders: paths of all folders in it.
    """

    images: list[str]
    others: Counter[str]
    folders: list[str]


def list_files(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> Listing:
    """List what is below a folder; links to folders are followed, but never in a circle."""
    images, folders = [], []
    others: Counter[str] = Counter()
    seen = set()
    for parent, inner, files in os.walk(folder, followlinks=True):
        here = Path(parent).stat()
        if (here.st_dev, here.st_ino) in seen:
            inner.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        base = Path(parent).relative_to(folder)
        folders += [(base / name).as_posix() for name in inner]
        for name in files:
            if name.startswith("."):
                continue
            if name.lower().endswith(tuple(suffixes)):
                images.append((base / name).as_posix())
            else:
                others[Path(name).suffix.lower()] += 1
    return Listing(natural_order(images), others, natural_order(folders))


def pictures_of(folder: Path, names: Sequence[str]) -> Pictures:
    """The images at some paths in a folder."""
    files = [folder / name for name in names]

    def signature() -> str:
        total = blake2b(digest_size=16)
        for name, file in zip(names, files, strict=True):
            try:
                stat = file.stat()
                line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            except OSError as error:
                line = f"{name}\0{error.errno}\n"
            total.update(line.encode("utf-8", "surrogatepass"))
        return total.hexdigest()

    return Pictures(str(folder), names, files.__getitem__, signature)
