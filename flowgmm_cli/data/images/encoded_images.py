"""Images that are not decoded yet: files below a folder, or bytes."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path

from flowgmm_cli.data.images.decode import Content
from flowgmm_cli.data.sources.columns import sort_naturally

_TYPES = "png jpg jpeg jpe jfif webp bmp gif tif tiff ppm pgm pbm pnm jp2 avif tga"
SUFFIXES = tuple(f".{suffix}" for suffix in _TYPES.split())


@dataclass(frozen=True)
class EncodedImages:
    """A sequence of encoded images.

    Attributes:
        where: their origin, usually a path.
        names: name of each in messages.
        content: returns the bytes of an image, or its file; called from several threads; may raise `OSError`
            and `UnreadableError`.
        signature: computes a digest that changes when the pixels may have changed.
    """

    where: str
    names: Sequence[str]
    content: Callable[[int], Content]
    signature: Callable[[], str]

    def __len__(self) -> int:
        return len(self.names)


def concatenate_images(parts: Sequence[EncodedImages]) -> EncodedImages:
    """Concatenate sequences of images."""
    if len(parts) == 1:
        return parts[0]
    ends = list(accumulate(len(part) for part in parts))

    def content(index: int) -> Content:
        part = bisect_right(ends, index)
        return parts[part].content(index - (ends[part - 1] if part else 0))

    return EncodedImages(
        where=parts[0].where,
        names=[name for part in parts for name in part.names],
        content=content,
        signature=lambda: "".join(part.signature() for part in parts),
    )


@dataclass(frozen=True)
class Listing:
    """The contents of a folder and its subfolders, without hidden files."""

    images: list[str]  # paths relative to the folder, with `/`, in natural order
    others: Counter[str]  # number of other files by suffix
    folders: list[str]  # relative paths of all subfolders


def list_files(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> Listing:
    """List the files below a folder; links to folders are followed, each folder once."""
    images, folders = [], []
    others: Counter[str] = Counter()
    visited = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        stat = Path(parent).stat()
        if (stat.st_dev, stat.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((stat.st_dev, stat.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        base = Path(parent).relative_to(folder)
        folders += [(base / name).as_posix() for name in subfolders]
        for name in files:
            if name.startswith("."):
                continue
            if name.lower().endswith(tuple(suffixes)):
                images.append((base / name).as_posix())
            else:
                others[Path(name).suffix.lower()] += 1
    return Listing(sort_naturally(images), others, sort_naturally(folders))


def images_in_folder(folder: Path, names: Sequence[str]) -> EncodedImages:
    """Return the images at some paths in a folder; size and time of the files make their signature."""
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

    return EncodedImages(str(folder), names, files.__getitem__, signature)
