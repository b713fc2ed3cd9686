"""Arrays in npz, npy and IDX files, whole or a few rows at a time; never unpickled."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import COMPRESSED, ByteSource
from flowgmm_cli.errors import DataError

UNNAMED = ""
"""Name of the array of an npy or IDX file."""
IDX_LABELS = "labels"
"""Name of the labels in the file beside an IDX file."""

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_HEADER = 2**16  # bytes of an npy header
_BLOCK_BYTES = 2**25
_MAX_ROW_BYTES = 2**28
_MAX_FORTRAN_BYTES = 2**31  # of a stream, which has to be read as a whole

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
"""Shape, True for Fortran order, and data type."""


@dataclass(frozen=True)
class StoredArray:
    """Array of rows `(N, ...)` in a file.

    Attributes:
        where: the array as messages call it.
        format: format of its file in messages.
        blocks: yields all rows, at most some at a time.
        path: npy file that can be memory-mapped; else None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    where: str
    format: str
    blocks: Callable[[int], Iterator[Array]]
    path: Path | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self.shape[1:]

    def _require_rows(self) -> None:
        row_bytes = _row_bytes(self.shape, self.dtype)
        if self.dtype.hasobject:
            raise ValueError("Python objects are not read")
        if row_bytes == 0 and self.shape[0]:
            raise ValueError("its rows are empty")
        if row_bytes > _MAX_ROW_BYTES:
            raise ValueError(f"one row of it takes more than {_MAX_ROW_BYTES >> 20} MiB")

    def read(self, size: int) -> Iterator[Array]:
        """Yield all rows, at most `size` at a time, in native byte order and writable."""
        with translate_errors(self.where, self.format):
            self._require_rows()
            yield from self.blocks(size)

    def load(self, *, mapped: bool = False) -> Array:
        """Read all rows; with `mapped`, memory-map an npy file."""
        with translate_errors(self.where, self.format):
            self._require_rows()
            if mapped and self.path is not None:
                return _map_npy(self.path)
            array = np.empty(self.shape, self.dtype.newbyteorder("="))
            start = 0
            for block in self.blocks(max(1, _BLOCK_BYTES // max(1, _row_bytes(self.shape, self.dtype)))):
                array[start : start + len(block)] = block
                start += len(block)
            return array


def find_array_format(path: Path) -> str | None:
    """Return npz, npy or idx for a file of arrays, compressed or not, by its name; None for other files.

    >>> find_array_format(Path("a.NPZ")), find_array_format(Path("t10k-images-idx3-ubyte.gz"))
    ('npz', 'idx')
    """
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    if plain.suffix.lower() in (".npz", ".npy", ".idx"):
        return plain.suffix[1:].lower()
    return "idx" if plain.name.lower().endswith("ubyte") else None


def open_arrays(source: ByteSource, format: str) -> dict[str, StoredArray]:
    """Return the arrays of a file by name, those that have rows; `format` is npz, npy or idx.

    The array of an npy or IDX file is named ''. The labels in the file beside an IDX file with a name like
    MNIST's are `labels`.
    """
    if format == "npz":
        return _open_npz(source)
    if format == "npy":
        is_plain = source.path is not None and source.path.suffix.lower() not in COMPRESSED
        array = _store(source.open, _read_npy_header, source.name, "npy", source.path if is_plain else None)
        if array.dtype.hasobject or not array.shape:
            raise DataError(f"{source.name} holds no rows of numbers", hint="an array (N, ...) is needed")
        return {UNNAMED: array}
    array = _store(source.open, _read_idx_header, source.name, "IDX")
    arrays = {UNNAMED: array}
    if (images := source.path) is not None:
        plain = images.name.removesuffix(".gz")
        name = plain.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
        for file in (images.with_name(f"{name}.gz"), images.with_name(name)):
            if name != plain and file.is_file():
                labels = ByteSource(str(file), file, rereadable=True)
                arrays[IDX_LABELS] = _store(labels.open, _read_idx_header, labels.name, "IDX")
    return arrays


def read_class_names(arrays: Mapping[str, StoredArray]) -> tuple[str, ...] | None:
    """Return the names of the labels 0, 1, ... that a file contains as `names` or `class_names`."""
    for name in ("names", "class_names"):
        if (array := arrays.get(name)) is not None and array.dtype.kind == "U" and len(array.shape) == 1:
            return tuple(array.load().tolist())
    return None


def _open_npz(source: ByteSource) -> dict[str, StoredArray]:
    path = source.path or Path(source.name)

    @contextmanager
    def open_member(member: str) -> Iterator[IO[bytes]]:
        if source.stamp is not None:
            source.stamp.require_unchanged()
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            yield stream

    with translate_errors(source.name, "npz"), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.namelist() if member.endswith(".npy")]
    arrays = {}
    for member in members:
        name = member.removesuffix(".npy")
        where = f"{source.name}, array `{name}`"
        arrays[name] = _store(partial(open_member, member), _read_npy_header, where, "npz")
    return {name: array for name, array in arrays.items() if array.shape}


def _store(
    open_stream: Callable[[], AbstractContextManager[IO[bytes]]],
    read_header: Callable[[IO[bytes]], Header],
    where: str,
    format: str,
    path: Path | None = None,
) -> StoredArray:
    """Return an array whose header and rows are read from a stream that is opened anew each time.

    `path` is that of an npy file that can be memory-mapped.
    """
    with translate_errors(where, format), open_stream() as stream:
        shape, _, dtype = read_header(stream)

    def blocks(size: int) -> Iterator[Array]:
        with open_stream() as stream:
            shape, fortran, dtype = read_header(stream)
            if not fortran or len(shape) < 2:
                yield from _read_rows(stream, shape, dtype, size)
                return
            if path is not None:
                rows = _map_npy(path)
            elif math.prod(shape) * dtype.itemsize > _MAX_FORTRAN_BYTES:
                raise ValueError("it is large and in Fortran order; save numpy.ascontiguousarray of it")
            else:  # in Fortran order rows come last
                rows = next(_read_rows(stream, (1, *shape[::-1]), dtype, 1))[0].T
            for start in range(0, shape[0], size):
                yield np.ascontiguousarray(rows[start : start + size], dtype.newbyteorder("="))

    return StoredArray(shape, dtype, where, format, blocks, path)


def _map_npy(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _read_npy_header(stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    length = stream.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > _MAX_HEADER:
        raise ValueError("its header is too long")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(io.BytesIO(length + stream.read(size)))
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return tuple(map(int, shape)), bool(fortran), dtype


def _read_idx_header(stream: IO[bytes]) -> Header:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or magic[3] == 0:
        raise ValueError("it is not an IDX file")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise EOFError("it ends within its header")
    return struct.unpack(f">{magic[3]}I", sizes), False, np.dtype(_IDX_TYPES[magic[2]])


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape[1:]) * dtype.itemsize


def _read_rows(stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> Iterator[Array]:
    row_bytes = _row_bytes(shape, dtype)
    for start in range(0, shape[0], size):
        count = min(size, shape[0] - start)
        data = stream.read(count * row_bytes)
        if len(data) < count * row_bytes:
            raise EOFError(f"it ends after row {start + len(data) // max(row_bytes, 1):,} of {shape[0]:,}")
        # copy, because torch warns of read-only arrays
        rows: Array = np.frombuffer(data, dtype=dtype).copy().reshape(count, *shape[1:])
        yield rows.astype(dtype.newbyteorder("="), copy=False)
