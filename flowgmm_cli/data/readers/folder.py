"""Reader of a folder of images, or of text files: each file is a row, named by its path in the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, iterate_batches
from flowgmm_cli.data.readers.faults import Fault, chunk_size, first_line, once, settle
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.data.sources.columns import natural_order
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Pixels = npt.NDArray[Any]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_TEXTS = (".txt",)
_WHITE = 255
_RESIZE = "resize the images first, for example with ImageMagick: mogrify -resize"


class FolderReader:
    """Files below a folder, in natural order of their paths.

    Where the folders in it are named like classes, as in the usual layout of image sets, they are the labels.

    Raises:
        DataError: there is no image, or the model reads no images of one column.
    """

    def __init__(
        self,
        folder: Path,
        schema: InputSchema,
        *,
        name: str,
        context: DataContext,
        on_error: OnError,
        chunk_rows: int,
    ) -> None:
        self.name = name
        self._folder = folder
        self._schema = schema
        self._on_error = on_error
        self._column = self._only_column()
        self._texts = self._column.kind == "text"
        self._files = _files(folder, _TEXTS if self._texts else _IMAGES)
        if not self._files:
            kind = "text files" if self._texts else "images"
            there = sorted(entry.name for entry in folder.iterdir())[:8]
            raise DataError(
                f"the folder {name} holds no {kind} ({', '.join(_TEXTS if self._texts else _IMAGES)})",
                details=[f"it holds: {', '.join(there) or 'nothing'}"],
                hint=f"name a file in it, or a data set: --data '{{use: hf_text, path: {name}}}'"
                if self._texts
                else "name a file in it",
            )
        self.total: int | None = len(self._files)
        self._size = chunk_size(chunk_rows, schema.columns)
        self._note = once(context)
        self._scale = 1.0
        if not self._texts:
            high = schema.ranges.get(self._column.name, (0.0, float(_WHITE)))[1]
            self._scale = 1 / _WHITE if high <= 1 else 1.0
            white = "1" if high <= 1 else str(_WHITE)
            self._note(f"{name}: {self.total:,} images, read as numbers from 0 (black) to {white} (white)")

    def __iter__(self) -> Iterator[Chunk]:
        labels = self._labels()
        for part in iterate_batches(len(self._files), self._size):
            files = self._files[part]
            cells, faults = self._read(files)
            problems = settle(faults, name=self.name, place=files.__getitem__, on_error=self._on_error)
            rows = Rows({self._column.name: cells}, labels[part], np.array(files, dtype=object))
            yield Chunk(rows, part.start, problems)

    def _read(self, files: list[str]) -> tuple[npt.NDArray[Any], dict[int, Fault]]:
        faults: dict[int, Fault] = {}
        cells: npt.NDArray[Any] = np.zeros((len(files), *self._column.shape), dtype=np.float32)
        if self._texts:
            cells = np.full(len(files), "", dtype=object)
        for position, file in enumerate(files):
            try:
                path = self._folder / file
                cells[position] = path.read_text(encoding="utf-8-sig") if self._texts else self._image(path)
            except UnicodeDecodeError:
                faults[position] = Fault("not UTF-8 text", "save the file as UTF-8")
            except _WrongSizeError as error:
                faults[position] = Fault(str(error), f"{_RESIZE} {error.size}")
            except Exception as error:  # Pillow's decoders raise many things
                faults[position] = Fault(f"cannot be read: {first_line(error)}", "make the file again")
        return cells, faults

    def _image(self, path: Path) -> Pixels:
        from PIL import Image

        with Image.open(path) as image:
            height, width, *channels = self._axes()
            if image.size != (width, height):
                raise _WrongSizeError(
                    f"the image is {image.size[0]}x{image.size[1]} pixels, the model reads {width}x{height}",
                    f"{width}x{height}!",
                )
            pixels = _with_channels(image, channels[0] if channels else 1, self._told)
        return (pixels.astype(np.float32) * self._scale).reshape(self._column.shape)

    def _told(self, what: str) -> None:
        self._note(f"{self.name}: {what}")

    def _axes(self) -> tuple[int, ...]:
        """Height, width and, where there are several, channels."""
        shape = self._column.shape
        if len(shape) == 1:
            side = round(shape[0] ** 0.5)
            return side, side
        return shape

    def _only_column(self) -> Column:
        columns = self._schema.columns
        only = columns[0] if len(columns) == 1 else None
        if only is not None and only.kind == "text":
            return only
        if only is not None and only.kind in ("vector", "image"):
            shape = only.shape
            square = len(shape) == 1 and round(shape[0] ** 0.5) ** 2 == shape[0]
            if square or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
                return only
        names = ", ".join(
            f"{column.name} {column.shape}" if column.shape else column.name for column in columns[:12]
        )
        raise DataError(
            f"{self.name} is a folder, but the model reads no images (height, width[, channels]): {names}",
            hint="name a file with these columns",
        )

    def _labels(self) -> npt.NDArray[np.int64]:
        index = self._schema.class_index
        return np.array([index.get(Path(file).parts[0], -1) for file in self._files], dtype=np.int64)


class _WrongSizeError(ValueError):
    def __init__(self, message: str, size: str) -> None:
        super().__init__(message)
        self.size = size


def _with_channels(image: Any, channels: int, note: Callable[[str], None]) -> Pixels:
    """The pixels as 1, 3 or 4 channels of 8 bits; `note` is told of what that changes."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {mode} (more than 8 bits) are not known to be 0 to {_WHITE}")
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


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Paths of the files below a folder, relative to it; hidden ones are passed over."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                found.append((Path(parent) / name).relative_to(folder).as_posix())
    return natural_order(found)
