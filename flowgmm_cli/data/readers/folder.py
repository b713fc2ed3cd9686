"""Reader of a folder of images or text files: each file is a row, and its path in the folder is the id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Ints
from flowgmm_cli.data.images.encoded_images import SUFFIXES, EncodedImages, list_files
from flowgmm_cli.data.images.specs import UNLABELLED_FOLDERS
from flowgmm_cli.data.readers.base import Chunk, ReadOptions, RowReader, within
from flowgmm_cli.data.readers.chunks import LabelEncoder
from flowgmm_cli.data.readers.image_cells import ImageDecoder, find_image_format
from flowgmm_cli.data.readers.row_errors import raise_or_skip
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.readers.text_folder import list_texts, read_texts
from flowgmm_cli.data.sources.image_folder import find_tables, read_labels
from flowgmm_cli.errors import DataError

_TEXT_SUFFIXES = (".txt",)


class FolderReader(RowReader):
    """Reader of the files below a folder, in natural order of their paths.

    Labels are those of a table such as labels.csv, if there is one. Else, if a parent folder of a file has
    the name of a class, that class is the label, as in the usual layouts of image data sets. Images are
    decoded, and for an image column resized, as in training.
    """

    def __init__(self, folder: Path, schema: InputSchema, options: ReadOptions, *, name: str) -> None:
        self.name = name
        self._folder = folder
        self._schema = schema
        self._options = options
        columns = schema.columns
        self._column = columns[0]
        is_text = schema.text is not None
        image_format = find_image_format(schema)
        if not is_text and image_format is None:
            names = ", ".join(f"{column.name} {column.shape or ''}".strip() for column in columns[:12])
            raise DataError(
                f"{name} is a folder, but the model reads no images (height, width[, channels]): {names}",
                hint="name a file with these columns",
            )
        self._listing = list_texts(folder) if is_text else list_files(folder)
        self._files = self._listing.files
        if not self._files:
            raise self._no_files(_TEXT_SUFFIXES if is_text else SUFFIXES)
        self.total = len(self._files)
        self._decode = image_format and ImageDecoder(image_format, schema, self._note)
        if self._decode and (scale := self._decode.describe_vectors()):
            self._note(f"{self.total:,} {scale}")

    def _read_chunks(self) -> Iterator[Chunk]:
        labels, unknown = self._read_labels()
        for part in iterate_batches(len(self._files), self._options.chunk_size(self._schema.columns)):
            files = self._files[part]
            if self._decode:
                cells, errors = self._decode(EncodedImages.in_folder(self._folder, files))
            else:
                texts, errors = read_texts(self._folder, files, self._schema.settings.encoding)
                cells = np.array(["" if text is None else text for text in texts], dtype=object)
            places = [(self.name, file) for file in files]
            problems = raise_or_skip(errors, places.__getitem__, self._options.on_error)
            yield Chunk(
                {self._column.name: cells},
                labels[part],
                np.array(files, dtype=object),
                start=part.start,
                problems=problems,
                unknown_labels=within(unknown, part),
            )

    def _note(self, text: str) -> None:
        self._options.note(f"{self.name}: {text}")

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

    def _read_labels(self) -> tuple[Ints, dict[int, str]]:
        """Return the classes, and position -> label, or folder beside those of classes, that is no class."""
        index, listing = self._schema.class_index, self._listing
        parents = [Path(file).parts[:-1] for file in self._files]
        beside = {names[:level] for names in parents for level, name in enumerate(names) if name in index}
        labels: dict[str, str | None] = {}
        for file, names in zip(self._files, parents, strict=True):
            classes = [name for name in names if name in index]
            others = [name for level, name in enumerate(names) if names[:level] in beside]
            labels[file] = next(iter(classes + others), None)
        for root, path in sorted(find_tables(listing, ["", *listing.folders]).items()):
            files = [file for file in self._files if not root or file.startswith(f"{root}/")]
            column = self._schema.label or "label"
            table = read_labels(self._folder / path, files, root, note=self._options.note, label=column)
            if table is not None:
                labels |= {file: table[0].get(file) for file in files}
        none = {*self._schema.unlabelled, *UNLABELLED_FOLDERS}
        return LabelEncoder({**dict.fromkeys(none, -1), **index})(np.array([*labels.values()], dtype=object))


def holds_images(folder: Path, schema: InputSchema) -> bool:
    """Return True if a model reads images, and a folder holds some, or the model reads nothing else."""
    if find_image_format(schema) is None:
        return False
    return schema.columns[0].kind == "image" or bool(list_files(folder).files)
