"""Encoded images, files below a folder or bytes: listed, and decoded by several threads."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.array_types import Bytes, Positions
from flowgmm_cli.data.images.decode import Content, UnreadableError, decode
from flowgmm_cli.data.images.format import ImageFormat
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.sources.columns import sort_naturally
from flowgmm_cli.errors import DataError

_TYPES = "png jpg jpeg jpe jfif webp bmp gif tif tiff ppm pgm pbm pnm jp2 avif tga"
SUFFIXES = tuple(f".{suffix}" for suffix in _TYPES.split())
LABEL_TABLES = ("labels.csv", "metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of tables of labels beside images; `metadata` is that of the Hugging Face hub."""

_BATCH_IMAGES = 256  # results held at once
_WARNINGS_LOCK = Lock()  # warning filters belong to the whole process

Result = TypeVar("Result")


@dataclass(frozen=True)
class Listing:
    """The contents of a folder and its subfolders, without hidden files.

    Paths are relative to the folder, with `/`, in natural order.
    """

    files: list[str]  # with the suffixes asked for
    others: Counter[str]  # number of other files by suffix
    folders: list[str]  # all subfolders
    tables: list[str]  # files named as `LABEL_TABLES`


def top_folder(path: str) -> str:
    """Return the first folder of a path, '' for a file that is in no folder."""
    return path.partition("/")[0] if "/" in path else ""


def list_files(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> Listing:
    """List the files below a folder; links to folders are followed, each folder once."""
    matching, folders, tables = [], [], []
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
            if Path(name).suffix.lower() in suffixes:
                matching.append(path)
            elif name in LABEL_TABLES:
                tables.append(path)
            else:
                others[Path(name).suffix.lower()] += 1
    return Listing(sort_naturally(matching), others, sort_naturally(folders), sort_naturally(tables))


def _raise_unlisted(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class EncodedImages:
    """A sequence of encoded images.

    Attributes:
        where: their origin, usually a path.
        names: name of each in messages.
        contents: each as a file, or as an Arrow scalar of bytes or of `{bytes, path}`.
    """

    where: str
    names: Sequence[str]
    contents: Sequence[Path | pa.Scalar]

    @classmethod
    def in_folder(cls, folder: Path, names: Sequence[str]) -> EncodedImages:
        """Return the images at some paths in a folder."""
        return cls(str(folder), names, [folder / name for name in names])

    def __len__(self) -> int:
        return len(self.names)

    def content(self, index: int) -> Content:
        """Return the bytes of an image, or its file. Raises `UnreadableError` for an empty cell."""
        content = self.contents[index]
        if isinstance(content, Path):
            return content
        cell = content.as_py()
        data, path = (cell["bytes"], cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if data is not None:
            return bytes(data)
        if path is None:
            raise UnreadableError("the cell is empty")
        return Path(path)

    def read_each(
        self,
        read: Callable[[Content], Result],
        positions: Positions,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Result | RowError]:
        """Yield `read` of the content of the images at some positions, or the error of an unusable image.

        An error is text: an exception would keep its frames alive, and with them the image.
        """

        def work(place: int) -> Result | RowError:
            try:
                return read(self.content(int(positions[place])))
            except UnreadableError as error:
                return RowError(str(error), error.hint)

        return map_in_order(work, len(positions), progress)

    def signature(self) -> str:
        """Return a digest that changes with the bytes of images, of files with their size and time."""
        total = blake2b(digest_size=16)
        for index, name in enumerate(self.names):
            try:
                content = self.content(index)
                if isinstance(content, bytes):
                    total.update(b"%d:%b" % (len(content), content))
                    continue
                stat = content.stat()
                line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            except (OSError, UnreadableError) as error:
                line = f"{name}\0{error}\n"
            total.update(line.encode("utf-8", "surrogatepass"))
        return total.hexdigest()


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


def decode_images(
    images: EncodedImages, positions: Positions, image_format: ImageFormat
) -> tuple[Bytes, dict[int, RowError], Counter[str]]:
    """Decode some images.

    Returns:
        Pixels `(n, *image_format.shape)`, 0 where an image cannot be used; the errors of those, by place in
        the result; and the number of images by description of a change that was made to them.
    """
    pixels = np.zeros((len(positions), *image_format.shape), dtype=np.uint8)
    errors = {}
    changes: Counter[str] = Counter()
    results = images.read_each(lambda content: decode(content, image_format), positions)
    for index, result in enumerate(results):
        if isinstance(result, RowError):
            errors[index] = result
        else:
            pixels[index] = result[0]
            changes.update(result[1])
    return pixels, errors, changes
