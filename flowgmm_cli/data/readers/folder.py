"""Reader of a folder of images or text files: each file is a row, and its path in the folder is the id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array, Ints
from flowgmm_cli.data.images.decode import WrongSizeError, looks_grey
from flowgmm_cli.data.images.decode_many import decode_images
from flowgmm_cli.data.images.encoded_images import SUFFIXES, images_in_folder, list_files
from flowgmm_cli.data.images.format import WHITE, ImageFormat
from flowgmm_cli.data.messages import first_line
from flowgmm_cli.data.readers.base import Chunk, ReadOptions, RowError, raise_or_skip
from flowgmm_cli.data.readers.byte_source import ENCODING_HINT, NOT_UTF8
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError

_TEXT_SUFFIXES = (".txt",)
_RESIZE_HINT = "resize the images first, for example with ImageMagick: mogrify -resize"
_REWRITE_HINT = "make the file again"


class FolderReader:
    """Reader of the files below a folder, in natural order of their paths.

    If a parent folder of a file has the name of a class, that class is the label, as in the usual layouts of
    image data sets. Images of an image column are resized as in training, see `ImageRule`.
    """

    def __init__(self, folder: Path, schema: InputSchema, options: ReadOptions, *, name: str) -> None:
        self.name = name
        self._folder = folder
        self._schema = schema
        self._options = options
        self._column = self._require_column()
        suffixes = _TEXT_SUFFIXES if self._column.kind == "text" else SUFFIXES
        self._files = list_files(folder, suffixes).images
        if not self._files:
            raise self._no_files(suffixes)
        self.total: int | None = len(self._files)
        self._size = options.chunk_size(schema.columns)
        self._scale = 1.0
        if self._column.kind == "vector":
            high = schema.ranges.get(self._column.name, (0.0, float(WHITE)))[1]
            self._scale = 1 / WHITE if high <= 1 else 1.0
            white = "1" if high <= 1 else str(WHITE)
            self._note(f"{self.total:,} images, read as numbers from 0 (black) to {white} (white)")

    def __iter__(self) -> Iterator[Chunk]:
        labels = self._labels()
        for part in iterate_batches(len(self._files), self._size):
            files = self._files[part]
            read = self._read_images if self._column.kind == "image" else self._read_files
            cells, errors = read(files)
            problems = raise_or_skip(
                errors, name=self.name, locate=files.__getitem__, on_error=self._options.on_error
            )
            rows = Rows({self._column.name: cells}, labels[part], np.array(files, dtype=object))
            yield Chunk(rows, part.start, problems)

    def _read_images(self, files: list[str]) -> tuple[Array, dict[int, RowError]]:
        image_format = ImageFormat.from_shape(self._column.shape, self._schema.resize)
        pixels, image_errors, changes = decode_images(
            images_in_folder(self._folder, files), np.arange(len(files)), image_format
        )
        for change in sorted(changes):
            self._note(change)
        errors = {
            position: self._size_error(error, f"{image_format.width}x{image_format.height}")
            if isinstance(error, WrongSizeError)
            else RowError(f"cannot be read: {error}", _REWRITE_HINT)
            for position, error in image_errors.items()
        }
        return pixels, errors

    def _read_files(self, files: list[str]) -> tuple[Array, dict[int, RowError]]:
        errors: dict[int, RowError] = {}
        is_text = self._column.kind == "text"
        cells: Array = np.zeros((len(files), *self._column.shape), dtype=np.float32)
        if is_text:
            cells = np.full(len(files), "", dtype=object)
        for position, file in enumerate(files):
            path = self._folder / file
            try:
                cells[position] = (
                    path.read_text(encoding="utf-8-sig")
                    if is_text
                    else _read_vector(path, self._column, self._scale, self._note)
                )
            except UnicodeDecodeError:
                errors[position] = RowError(NOT_UTF8, ENCODING_HINT)
            except WrongSizeError as error:
                height, width, *_ = _image_shape(self._column.shape)
                errors[position] = self._size_error(error, f"{width}x{height}")
            except Exception as error:  # Pillow's decoders raise errors of many types
                errors[position] = RowError(f"cannot be read: {first_line(error)}", _REWRITE_HINT)
        return cells, errors

    def _size_error(self, error: WrongSizeError, size: str) -> RowError:
        return RowError(f"{error}, the model reads {size}", f"{_RESIZE_HINT} {size}!")

    def _note(self, text: str) -> None:
        self._options.note(f"{self.name}: {text}")

    def _require_column(self) -> Column:
        columns = self._schema.columns
        if len(columns) == 1:
            (column,) = columns
            if column.kind in ("text", "image") or (column.kind == "vector" and _holds_images(column)):
                return column
        names = ", ".join(
            f"{column.name} {column.shape}" if column.shape else column.name for column in columns[:12]
        )
        raise DataError(
            f"{self.name} is a folder, but the model reads no images (height, width[, channels]): {names}",
            hint="name a file with these columns",
        )

    def _no_files(self, suffixes: tuple[str, ...]) -> DataError:
        is_text = self._column.kind == "text"
        present = sorted(entry.name for entry in self._folder.iterdir())[:8]
        use, content = ("hf_text", "text files") if is_text else ("images", "images")
        return DataError(
            f"the folder {self.name} holds no {content} ({', '.join(suffixes)})",
            details=[f"it holds: {', '.join(present) or 'nothing'}"],
            hint="name a file in it"
            if self._column.kind == "vector"
            else f"name a file in it, or a data set: --data '{{use: {use}, path: {self.name}}}'",
        )

    def _labels(self) -> Ints:
        index = self._schema.class_index
        parents = [Path(file).parts[:-1] for file in self._files]
        labels = [next((index[name] for name in names if name in index), -1) for names in parents]
        return np.array(labels, dtype=np.int64)


def _holds_images(column: Column) -> bool:
    """Return True if the shape of a vector column is height, width[, channels], or a flattened square."""
    shape = column.shape
    square = len(shape) == 1 and round(shape[0] ** 0.5) ** 2 == shape[0]
    return square or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))


def _read_vector(path: Path, column: Column, scale: float, note: Callable[[str], None]) -> Array:
    """Read the pixels of a file times `scale`, float32 in the shape of the column."""
    from PIL import Image

    height, width, *channels = _image_shape(column.shape)
    with Image.open(path) as image:
        if image.size != (width, height):
            raise WrongSizeError(*image.size)
        pixels = _convert_channels(image, channels[0] if channels else 1, note)
    return (pixels.astype(np.float32) * scale).reshape(column.shape)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return height, width and, if the shape has three axes, channels."""
    if len(shape) == 1:
        side = round(shape[0] ** 0.5)
        return side, side
    return shape


def _convert_channels(image: Any, channels: int, note: Callable[[str], None]) -> Array:
    """Convert an image to 1, 3 or 4 channels of 8 bits; `note` receives the changes."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {mode} (more than 8 bits) are not known to be 0 to {WHITE}")
    alpha = mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    colour = mode not in ("1", "L", "LA", "La")
    if alpha and channels != 4:
        note("transparency is left out")
        image = image.convert("RGBA" if colour else "LA")
    if colour and channels == 1:
        if mode != "P" or not looks_grey(image.convert("RGB")):
            note("colour images are turned grey")
    elif not colour and channels > 1:
        note("grey images are turned into colour")
    target = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return np.asarray(image if image.mode == target else image.convert(target))
