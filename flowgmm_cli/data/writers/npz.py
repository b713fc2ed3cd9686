"""Writer of npz files: one array per column, readable by `numpy.load` without pickle."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.writers.base import Columns, Writer
from flowgmm_cli.data.writers.target import Target


class NpzWriter(Writer):
    """Write an npz file; missing cells are empty strings or NaN, so masked columns become floats.

    The header of an array holds its length and the width of its strings. Until both are known, the chunks of
    each column are stored in a temporary file beside the output.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._folder: Path | None = None
        self._spools: dict[str, _Spool] = {}

    def _write_header(self, columns: Columns) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=self.target.temporary_folder, prefix=".npz-", suffix=".tmp"))
        for index, (name, values) in enumerate(columns.items()):
            self._spools[name] = _Spool(self._folder / f"{index}.chunks")
            self._spools[name].add(_to_plain_array(values[:0]))

    def _write_rows(self, columns: Columns, size: int) -> None:
        for name, values in columns.items():
            self._spools[name].add(_to_plain_array(values))

    def _write_footer(self) -> None:
        with zipfile.ZipFile(self.stream, "w", allowZip64=True) as archive:
            for name, spool in self._spools.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    spool.copy(cast(BinaryIO, member), self.rows)

    def _release(self) -> None:
        for spool in self._spools.values():
            spool.file.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Spool:
    """Chunks of one column in a temporary file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")
        self._dtype: np.dtype[Any] | None = None
        self._entry: tuple[int, ...] = ()

    def add(self, values: Array) -> None:
        """Append a chunk."""
        self._dtype = values.dtype if self._dtype is None else np.promote_types(self._dtype, values.dtype)
        self._entry = values.shape[1:]
        np.save(self.file, values, allow_pickle=False)

    def copy(self, member: BinaryIO, rows: int) -> None:
        """Write all chunks to `member` as one array."""
        dtype = np.dtype(np.float64) if self._dtype is None else self._dtype
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (rows, *self._entry),
        }
        np.lib.format.write_array_header_1_0(member, header)
        end = self.file.tell()
        self.file.seek(0)
        while self.file.tell() < end:
            chunk = np.load(self.file, allow_pickle=False)
            member.write(np.ascontiguousarray(chunk, dtype=dtype).tobytes())


def _to_plain_array(values: Array) -> Array:
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data)
    if values.dtype.kind == "O":
        return np.array(["" if text is None else str(text) for text in values], dtype=np.str_)
    return values
