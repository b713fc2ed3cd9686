"""Reader of a folder with a folder of text files for each class: a table of `id`, `text` and `label`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.images.encoded_images import Listing, list_files, top_folder
from flowgmm_cli.data.images.specs import SPLIT_FOLDERS, UNLABELLED_FOLDERS
from flowgmm_cli.data.readers.byte_source import ENCODING_HINT, MAX_RECORD, NOT_UTF8, ByteSource, FileStamp
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.readers.table import Table, TableReader
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import join_some, quote

_UNLABELLED = (*UNLABELLED_FOLDERS, "unsup")


def list_texts(folder: Path) -> Listing:
    """List the text files below a folder: those in .txt, else those in its folders without a suffix."""
    listing = list_files(folder, (".txt",))
    if listing.files:
        return listing
    listing = list_files(folder, ("",))
    listing.files[:] = [name for name in listing.files if "/" in name]
    return listing


def read_texts(
    folder: Path, files: Sequence[str], encoding: str | None
) -> tuple[list[str | None], dict[int, RowError]]:
    """Read text files; also return position -> error of those that cannot be read."""
    cells: list[str | None] = [None] * len(files)
    errors = {}
    for position, name in enumerate(files):
        path = folder / name
        try:
            with ByteSource(str(path), path, rereadable=True, encoding=encoding).open_text() as stream:
                content = stream.read(MAX_RECORD + 1)
            if len(content) > MAX_RECORD:
                errors[position] = RowError(f"it has more than {MAX_RECORD >> 20} MiB", "divide it")
            cells[position] = content.decode().replace("\r\n", "\n")
        except UnicodeDecodeError:
            errors[position] = RowError(NOT_UTF8, ENCODING_HINT)
        except DataError as error:
            errors[position] = RowError(error.message, error.hint or "make the file again")
        except OSError as error:
            errors[position] = RowError(f"it cannot be opened: {error.strerror}", "make the file again")
    return cells, errors


class TextFolderReader(TableReader):
    """Reader of a folder of texts; the top folder of a file is its label.

    If there are folders, the files beside them are left out. Texts in `unlabelled` or `unsup` have no label.
    """

    format = "text"

    def __init__(
        self, folder: Path, listing: Listing, *, name: str, encoding: str | None, note: Callable[[str], None]
    ) -> None:
        self.name = name
        self._folder, self._encoding = folder, encoding
        inside = [file for file in listing.files if "/" in file]
        if inside and (loose := [file for file in listing.files if "/" not in file]):
            note(f"{name}: files in no class folder are left out: {join_some(loose, len(loose), 5)}")
        self._files = inside or listing.files
        self.names = ["id", "text", *(["label"] if inside else [])]
        self.rows = len(self._files)
        self.files = [FileStamp.of(folder / file) for file in self._files]
        classes = Counter(top_folder(file) for file in inside)
        splits = [top for top in classes if top.lower() in SPLIT_FOLDERS]
        if any(top.lower() == "train" for top in splits) and classes.keys() <= {*splits, *_UNLABELLED}:
            test = next((top for top in splits if top.lower() == "test"), splits[-1])
            raise DataError(
                f"{name}: {' and '.join(sorted(splits))} are folders of splits, not of classes",
                hint=f"data.path={quote(f'{name}/train')} data.test_path={quote(f'{name}/{test}')}",
            )

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        for part in iterate_batches(len(self._files), size):
            files = self._files[part]
            texts, errors = read_texts(self._folder, files, self._encoding) if "text" in columns else ([], {})
            labels = [None if (top := top_folder(file)) in _UNLABELLED else top for file in files]
            cells = {"id": files, "text": texts, "label": labels}
            table = pa.table({name: pa.array(cells[name], pa.string()) for name in columns})
            numbers = np.arange(part.start, part.start + len(files)) + 1
            yield Table(
                table,
                where=self.name,
                row_numbers=numbers,
                find_place=partial(self._find_file, part.start),
                errors=errors,
            )

    def _find_file(self, start: int, position: int) -> tuple[str, str]:
        return self.name, self._files[start + position]
