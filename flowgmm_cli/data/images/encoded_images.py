"""Encoded images, files below a folder or bytes: listed, and decoded by several threads."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np

from flowgmm_cli.data.array_types import Bytes, Positions
from flowgmm_cli.data.images.decode import Content, UnreadableError, WrongSizeError, decode
from flowgmm_cli.data.images.format import ImageFormat
from flowgmm_cli.data.readers.base import RowError
from flowgmm_cli.data.sources.columns import sort_naturally
from flowgmm_cli.errors import DataError

_TYPES = "png jpg jpeg jpe jfif webp bmp gif tif tiff ppm pgm pbm pnm jp2 avif tga"
SUFFIXES = tuple(f".{suffix}" for suffix in _TYPES.split())
LABEL_TABLES = ("labels.csv", "metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of tables of labels beside images; `metadata` is that of the Hugging Face hub."""

_BATCH_IMAGES = 256  # results held at once
_WARNINGS_LOCK = Lock()  # warning filters belong to the whole process

Decoded = tuple[Bytes, frozenset[str]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Listing:
    """The contents of a folder and its subfolders, without hidden files.

    Paths are relative to the folder, with `/`, in natural order.
    """

    images: list[str]
    others: Counter[str]  # number of other files by suffix
    folders: list[str]  # all subfolders
    tables: list[str]  # files named as `LABEL_TABLES`


def list_files(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> Listing:
    """List the files below a folder; links to folders are followed, each folder once."""
    images, folders, tables = [], [], []
    others: Counter[str] = Counter()
    visited = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=_raise_unlisted):
        stat = Path(parent).stat()
        if (stat.st_dev, stat.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((stat.st_dev, stat.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        base = Path(parent).relative_to(folder)
        folders += [(base / name).as_posix() for name in subfolders]
        for name in files:
            path = (base / name).as_posix()
            if name.startswith("."):
                continue
            if name.lower().endswith(tuple(suffixes)):
                images.append(path)
            elif name in LABEL_TABLES:
                tables.append(path)
            else:
                others[Path(name).suffix.lower()] += 1
    return Listing(sort_naturally(images), others, sort_naturally(folders), sort_naturally(tables))


def _raise_unlisted(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}") from error


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


def map_in_order(
    work: Callable[[int], Result], count: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Result]:
    """Yield `work(0)` to `work(count - 1)` in that order, computed by several threads.

    Pillow releases the interpreter lock while it decodes. Its warnings about oddities that do not change
    pixels are suppressed.
    """
    with ThreadPoolExecutor(thread_name_prefix="images") as pool:
        for start in range(0, count, _BATCH_IMAGES):
            progress(start, count)
            with _WARNINGS_LOCK, warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="PIL")
                results = list(pool.map(work, range(start, min(start + _BATCH_IMAGES, count))))
            yield from results
    progress(count, count)


def decode_each(
    images: EncodedImages,
    positions: Positions,
    image_format: ImageFormat,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Decoded | RowError]:
    """Yield the result of `decode` for the images at some positions, or the error of an unusable one.

    An error is text: an exception would keep its frames alive, and with them the image.
    """

    def work(index: int) -> Decoded | RowError:
        try:
            return decode(images.content(int(positions[index])), image_format)
        except WrongSizeError as error:
            size = f"{image_format.width}x{image_format.height}"
            return RowError(
                f"{error}, the model reads {size}",
                f"resize the images first, for example with ImageMagick: mogrify -resize {size}!",
            )
        except (UnreadableError, OSError) as error:
            return unreadable(error)

    return map_in_order(work, len(positions), progress)


def decode_images(
    images: EncodedImages, positions: Positions, image_format: ImageFormat
) -> tuple[Bytes, dict[int, RowError], frozenset[str]]:
    """Decode some images.

    Returns:
        Pixels `(n, *image_format.shape)`, 0 where an image cannot be used; the errors of those, by place in
        the result; and descriptions of the changes to others.
    """
    pixels = np.zeros((len(positions), *image_format.shape), dtype=np.uint8)
    errors = {}
    changes: frozenset[str] = frozenset()
    for index, result in enumerate(decode_each(images, positions, image_format)):
        if isinstance(result, RowError):
            errors[index] = result
        else:
            pixels[index] = result[0]
            changes |= result[1]
    return pixels, errors, changes


def unreadable(error: Exception) -> RowError:
    """Return the description of an image that cannot be read."""
    message = error.strerror if isinstance(error, OSError) else None
    return RowError(message or str(error), "make the file again")
