"""Arrays in npz, npy and IDX files, read a few rows at a time."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.readers.byte_source import ByteSource
from flowgmm_cli.errors import DataError

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class StoredArray:
    """Array of rows `(N, ...)` in a file; `read(size)` yields all rows, at most `size` at a time."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int], Iterator[Array]]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self.shape[1:]


def open_npz(path: Path, name: str) -> dict[str, StoredArray]:
    """Return the arrays of an npz file that have rows, by name, without pickle."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                shape, fortran, dtype = _read_npy_header(stream, f"{name}, array `{member[:-4]}`")
            if dtype.hasobject or not shape:
                continue
            arrays[member.removesuffix(".npy")] = StoredArray(
                shape, dtype, _member_reader(path, member, fortran and len(shape) > 1)
            )
    return arrays


def open_npy(path: Path, name: str) -> StoredArray:
    """Return the array of an npy file. Raises `DataError` if it is a scalar or contains Python objects."""
    with path.open("rb") as stream:
        shape, _, dtype = _read_npy_header(stream, name)
    if dtype.hasobject or not shape:
        raise DataError(f"{name} holds no rows of numbers", hint="an array (N, ...) is needed")

    def read(size: int) -> Iterator[Array]:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(array), size):
            yield np.array(array[start : start + size])

    return StoredArray(shape, dtype, read)


def open_idx(source: ByteSource) -> StoredArray:
    """Return the array of an IDX file, the format of MNIST, gzipped or not."""
    with source.open() as stream:
        shape, dtype = _read_idx_header(stream, source.name)

    def read(size: int) -> Iterator[Array]:
        with source.open() as stream:
            _read_idx_header(stream, source.name)
            yield from _read_rows(stream, shape, dtype, size)

    return StoredArray(shape, dtype, read)


def open_idx_with_labels(source: ByteSource) -> dict[str, StoredArray]:
    """Return the array of an IDX file, and the labels of the file beside it if MNIST's names are used."""
    arrays = {"": open_idx(source)}
    if source.path is not None and "images" in source.path.name:
        name = source.path.name.replace("images", "labels").replace("idx3", "idx1")
        labels = source.path.with_name(name)
        if labels.is_file():
            arrays["labels"] = open_idx(ByteSource(str(labels), labels, rereadable=True))
    return arrays


def _member_reader(path: Path, member: str, fortran: bool) -> Callable[[int], Iterator[Array]]:
    def read(size: int) -> Iterator[Array]:
        if fortran:  # Fortran order cannot be streamed by row
            with np.load(path, allow_pickle=False) as archive:
                array = archive[member.removesuffix(".npy")]
            for start in range(0, len(array), size):
                yield array[start : start + size]
            return
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            shape, _, dtype = _read_npy_header(stream, member)
            yield from _read_rows(stream, shape, dtype, size)

    return read


def _read_npy_header(stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except (ValueError, SyntaxError) as error:
        raise DataError(f"{name} is not in NumPy's format: {error}") from error
    return tuple(shape), bool(fortran), dtype


def _read_idx_header(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or magic[3] == 0:
        raise DataError(f"{name} is not an IDX file", hint="name its type with --data-format")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{name} is cut short")
    return struct.unpack(f">{magic[3]}I", sizes), np.dtype(_IDX_TYPES[magic[2]])


def _read_rows(stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> Iterator[Array]:
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    for start in range(0, shape[0], size):
        count = min(size, shape[0] - start)
        data = stream.read(count * row_bytes)
        if len(data) < count * row_bytes:
            raise EOFError(f"it ends after row {start + len(data) // max(row_bytes, 1):,} of {shape[0]:,}")
        # copy, because torch warns of read-only arrays
        rows: Array = np.frombuffer(data, dtype=dtype).copy().reshape(count, *shape[1:])
        yield rows.astype(dtype.newbyteorder("="), copy=False)
