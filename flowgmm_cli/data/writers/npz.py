"""npz: one array a column, as `numpy.load` reads it without unpickling."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from flowgmm_cli.data.writers.base import Writer
from flowgmm_cli.data.writers.target import Target

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.writers.base import Columns


class NpzWriter(Writer):
    """An npz file. Missing is the empty string or NaN, for which masked columns become floats.

    An array's header tells its length and the width of its texts, so the chunks of each column wait in a file
    of their own, in the folder of the answer, until both are known.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._folder: Path | None = None
        self._spools: dict[str, _Spool] = {}

    def _begin(self, columns: Columns) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=self.target.scratch, prefix=".npz-", suffix=".tmp"))
        for place, (name, values) in enumerate(columns.items()):
            self._spools[name] = _Spool(self._folder / f"{place}.chunks")
            self._spools[name].add(_plain(values[:0]))

    def _add(self, columns: Columns, size: int) -> None:
        for name, values in columns.items():
            self._spools[name].add(_plain(values))

    def _end(self) -> None:
        with zipfile.ZipFile(self.target.stream, "w", allowZip64=True) as archive:
            for name, spool in self._spools.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    spool.copy(cast(BinaryIO, member), self.rows)

    def _release(self) -> None:
        for spool in self._spools.values():
            spool.file.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Spool:
    """Chunks of one column on disk."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")
        self._dtype: np.dtype[Any] | None = None
        self._entry: tuple[int, ...] = ()

    def add(self, values: npt.NDArray[Any]) -> None:
        """Keep a chunk."""
        self._dtype = values.dtype if self._dtype is None else np.promote_types(self._dtype, values.dtype)
        self._entry = values.shape[1:]
        np.save(self.file, values, allow_pickle=False)

    def copy(self, member: BinaryIO, rows: int) -> None:
        """Write all chunks as one array."""
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


def _plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data)
    if values.dtype.kind == "O":
        return np.array(["" if text is None else str(text) for text in values], dtype=np.str_)
    return values
