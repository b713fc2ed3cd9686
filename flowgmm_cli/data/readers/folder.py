"""Reader of a folder of images, or of text files: each file is a row, named by its path in the folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, iterate_batches
from flowgmm_cli.data.image_shape import WHITE
from flowgmm_cli.data.images.decode import WrongSizeError
from flowgmm_cli.data.images.files import SUFFIXES, list_files, pictures_of
from flowgmm_cli.data.images.read import read_pictures
from flowgmm_cli.data.images.rule import ImageRule
from flowgmm_cli.data.readers.faults import Fault, chunk_size, first_line, once, settle
from flowgmm_cli.data.readers.folder_vectors import read_vector, reads_images, size_read
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Cells = npt.NDArray[Any]

_TEXTS = (".txt",)
_RESIZE = "resize the images first, for example with ImageMagick: mogrify -resize"
_AGAIN = "make the file again"


class FolderReader:
    """Files below a folder, in natural order of their paths.

    Where a folder that a file is in is named like a class, that is its label, as in the usual layouts of
    image sets. Images of an image column go the way that they went in training, see `ImageRule`.

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
        suffixes = _TEXTS if self._column.kind == "text" else SUFFIXES
        self._files = list_files(folder, suffixes).images
        if not self._files:
            raise self._nothing(suffixes)
        self.total: int | None = len(self._files)
        self._size = chunk_size(chunk_rows, schema.columns)
        self._note = once(context)
        self._scale = 1.0
        if self._column.kind == "vector":
            high = schema.ranges.get(self._column.name, (0.0, float(WHITE)))[1]
            self._scale = 1 / WHITE if high <= 1 else 1.0
            white = "1" if high <= 1 else str(WHITE)
            self._note(f"{name}: {self.total:,} images, read as numbers from 0 (black) to {white} (white)")

    def __iter__(self) -> Iterator[Chunk]:
        labels = self._labels()
        for part in iterate_batches(len(self._files), self._size):
            files = self._files[part]
            cells, faults = self._images(files) if self._column.kind == "image" else self._read(files)
            problems = settle(faults, name=self.name, place=files.__getitem__, on_error=self._on_error)
            rows = Rows({self._column.name: cells}, labels[part], np.array(files, dtype=object))
            yield Chunk(rows, part.start, problems)

    def _images(self, files: list[str]) -> tuple[Cells, dict[int, Fault]]:
        rule = ImageRule.of(self._column.shape, self._schema.resize)
        pixels, errors, changes = read_pictures(pictures_of(self._folder, files), np.arange(len(files)), rule)
        for change in sorted(changes):
            self._told(change)
        faults = {
            position: self._wrong_size(error, f"{rule.width}x{rule.height}")
            if isinstance(error, WrongSizeError)
            else Fault(f"cannot be read: {error}", _AGAIN)
            for position, error in errors.items()
        }
        return pixels, faults

    def _read(self, files: list[str]) -> tuple[Cells, dict[int, Fault]]:
        faults: dict[int, Fault] = {}
        texts = self._column.kind == "text"
        cells: Cells = np.zeros((len(files), *self._column.shape), dtype=np.float32)
        if texts:
            cells = np.full(len(files), "", dtype=object)
        for position, file in enumerate(files):
            path = self._folder / file
            try:
                cells[position] = (
                    path.read_text(encoding="utf-8-sig")
                    if texts
                    else read_vector(path, self._column, self._scale, self._told)
                )
            except UnicodeDecodeError:
                faults[position] = Fault("not UTF-8 text", "save the file as UTF-8")
            except WrongSizeError as error:
                faults[position] = self._wrong_size(error, size_read(self._column))
            except Exception as error:  # Pillow's decoders raise many things
                faults[position] = Fault(f"cannot be read: {first_line(error)}", _AGAIN)
        return cells, faults

    def _wrong_size(self, error: WrongSizeError, size: str) -> Fault:
        return Fault(f"{error}, the model reads {size}", f"{_RESIZE} {size}!")

    def _told(self, what: str) -> None:
        self._note(f"{self.name}: {what}")

    def _only_column(self) -> Column:
        columns = self._schema.columns
        only = columns[0] if len(columns) == 1 else None
        if only is not None and only.kind in ("text", "image"):
            return only
        if only is not None and only.kind == "vector" and reads_images(only):
            return only
        names = ", ".join(
            f"{column.name} {column.shape}" if column.shape else column.name for column in columns[:12]
        )
        raise DataError(
            f"{self.name} is a folder, but the model reads no images (height, width[, channels]): {names}",
            hint="name a file with these columns",
        )

    def _nothing(self, suffixes: tuple[str, ...]) -> DataError:
        texts = self._column.kind == "text"
        there = sorted(entry.name for entry in self._folder.iterdir())[:8]
        use = "hf_text" if texts else "images"
        return DataError(
            f"the folder {self.name} holds no {'text files' if texts else 'images'} ({', '.join(suffixes)})",
            details=[f"it holds: {', '.join(there) or 'nothing'}"],
            hint="name a file in it"
            if self._column.kind == "vector"
            else f"name a file in it, or a data set: --data '{{use: {use}, path: {self.name}}}'",
        )

    def _labels(self) -> npt.NDArray[np.int64]:
        index = self._schema.class_index
        parents = [Path(file).parts[:-1] for file in self._files]
        found = [next((index[name] for name in names if name in index), -1) for names in parents]
        return np.array(found, dtype=np.int64)
