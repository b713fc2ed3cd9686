"""Base class of the writers, choice of a writer by format, destinations, and Arrow arrays of columns."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.array_types import Array, Bools
from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.files import atomic_write
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

Columns = Mapping[str, Array]
FORMATS = ("csv", "tsv", "parquet", "jsonl", "npz")
SUFFIXES = {f".{name}": name for name in FORMATS} | {".ndjson": "jsonl", ".pq": "parquet"}


class Writer(ABC):
    """Write a table chunk by chunk, as a context manager; the file appears when the block succeeds.

        with open_writer("out.csv") as writer:
            writer.write({"id": ids, "confidence": confidence})

    A column is `(N,)` strings (fixed width, or objects with None where missing), floats (NaN where missing),
    integers or booleans (a masked array where some are missing), `(N, D)` floats (a row of NaN where
    missing), or an Arrow array. All chunks have the same columns; a chunk may be empty.

    Args:
        path: the destination; None for standard output.

    Attributes:
        stream: the open destination, within the block.
        rows: number of rows written so far.
        resources: files to close at the end of the block, after success and after errors.
    """

    stream: BinaryIO

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows = 0
        self.resources = ExitStack()
        self._names: tuple[str, ...] | None = None

    def write(self, columns: Columns) -> None:
        """Write a chunk of rows; `ValueError` if its columns differ in length, or from the first chunk's."""
        names = tuple(columns)
        sizes = {len(values) for values in columns.values()}
        if len(sizes) != 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}")
        if self._names not in (None, names):
            raise ValueError(f"columns {names} after {self._names}")
        if self._names is None:
            self._write_header(columns)
            self._names = names
        if (size := sizes.pop()) > 0:
            self._write_rows(columns, size)
            self.rows += size

    def __enter__(self) -> Self:
        self.stream = self.resources.enter_context(_open(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.resources.callback(self._write_footer)
        self.resources.__exit__(kind, error, traceback)

    def _write_header(self, columns: Columns) -> None:
        """Write the part before the rows; the first chunk gives the names and types of the columns."""
        return

    @abstractmethod
    def _write_rows(self, columns: Columns, size: int) -> None:
        """Write `size` rows, at least one."""

    def _write_footer(self) -> None:
        """Write the part after the rows; there may have been no chunk."""
        return


def open_writer(where: str, *, format: str | None = None) -> Writer:
    """Return the writer of a file, or of stdout for `-`, of which the suffix gives the format (else csv)."""
    format = find_format(where, format)
    path = None if where == "-" else Path(where)
    if path is not None and path.is_dir():
        raise UsageError(f"{where} is a folder", hint=f"name a file in it, such as {quote(path / 'out.csv')}")
    if format in ("parquet", "npz") and path is None and sys.stdout.isatty():
        raise UsageError(
            f"{format} is not for a terminal",
            hint=f"--save out.{format}, or a pipe: ... --save - | program",
        )
    from flowgmm_cli.data.writers import formats  # imports this module

    if format in ("csv", "tsv"):
        return formats.DelimitedWriter(path, "," if format == "csv" else "\t")
    if format == "jsonl":
        return formats.JsonlWriter(path)
    return formats.ParquetWriter(path) if format == "parquet" else formats.NpzWriter(path)


def find_format(where: str, format: str | None = None) -> str:
    """Return the format of an output; arguments and errors are those of `open_writer`."""
    if format is not None:
        name = format.lower().removeprefix(".")
        if name not in FORMATS:
            raise UsageError(
                f"--format {format}: there is no such format{did_you_mean(name, FORMATS)}",
                hint=f"one of {', '.join(FORMATS)}",
            )
        return name
    if where == "-":
        return "csv"
    suffix = Path(where).suffix.lower()
    if suffix not in SUFFIXES:
        what = f"the suffix `{suffix}` is not known" if suffix else "the name has no suffix"
        raise UsageError(
            f"{where}: {what}, so its format is not either",
            hint=f"name a file that ends in {', '.join(f'.{name}' for name in FORMATS)}, or give --format",
        )
    return SUFFIXES[suffix]


def is_stream(path: Path | None) -> bool:
    """Tell destinations that cannot be replaced: standard output (None), a device, a named pipe."""
    return path is None or (path.exists() and not path.is_file())


@contextmanager
def _open(path: Path | None) -> Iterator[BinaryIO]:
    """Open a destination: a file is replaced when the block succeeds and stays unchanged after an error.

    A symbolic link is followed, so the file that it points to is replaced and not the link. Bytes sent to a
    stream cannot be taken back.
    """
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if is_stream(path):
        with path.open("wb") as device:
            yield device
        return
    file = Path(os.path.realpath(path))
    folder = file.parent
    if not folder.exists():
        raise UsageError(
            f"{path} cannot be written: there is no folder {folder}", hint=f"mkdir -p {quote(folder)}"
        )
    with ExitStack() as stack:
        with explain_write_errors(path):
            stream = stack.enter_context(atomic_write(file))
        yield stream


def to_arrow(values: Array) -> pa.Array:
    """Convert a column `(N,)` or `(N, D)` to an Arrow array; `Writer` says which cells become null.

    >>> to_arrow(np.array([0.5, np.nan])).to_pylist()
    [0.5, None]
    >>> to_arrow(np.ma.array([True, False], mask=[False, True])).to_pylist()
    [True, None]
    >>> to_arrow(np.array([[1.0, 2.0], [np.nan, np.nan]])).to_pylist()
    [[1.0, 2.0], None]
    """
    if isinstance(values, pa.Array):
        return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    if values.ndim == 2:
        missing = missing_rows(values)
        ends = np.concatenate([[0], np.cumsum(~missing) * values.shape[1]])
        offsets = pa.array(ends.astype(np.int32), mask=np.append(missing, False))
        return pa.ListArray.from_arrays(offsets, pa.array(values[~missing].reshape(-1), from_pandas=True))
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    if values.dtype.kind not in "OU":
        return pa.array(values, from_pandas=True)
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # file names may contain bytes that are not UTF-8
        texts = [None if text is None else text.encode(errors="backslashreplace").decode() for text in values]
        return pa.array(texts, pa.string())


def is_plain(type: pa.DataType) -> bool:
    """Return True for numbers and booleans, whose text needs no quotes."""
    return bool(pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_boolean(type))


def to_text(cells: pa.Array) -> pa.Array:
    """Convert cells to strings, lists and objects to JSON; null stays null.

    >>> to_text(pa.array([[1, 2], None])).to_pylist()
    ['[1, 2]', None]
    """
    if not pa.types.is_nested(cells.type):
        return cells.cast(pa.string())
    values = (
        None if cell is None else json.dumps(cell, ensure_ascii=False, default=str)
        for cell in cells.to_pylist()
    )
    return pa.array(values, pa.string())


def is_matrix(values: Array) -> bool:
    """Return True for a column `(N, D)`."""
    return isinstance(values, np.ndarray) and values.ndim == 2


def missing_rows(values: Array) -> Bools:
    """Mask of the missing rows, `(N,)`, of a column `(N, D)`."""
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    return np.asarray(np.isnan(values).all(axis=1))
