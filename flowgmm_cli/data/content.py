"""Digests of rows and of whole splits: the same content gives the same digest, on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import Column, Rows, iterate_batches

if TYPE_CHECKING:
    import numpy.typing as npt

_SIZE = 16  # bytes of a digest
_READ = 1024  # images at once


def row_digests(rows: Rows, columns: Sequence[Column]) -> npt.NDArray[np.object_]:
    """Return one `bytes` digest per row of its input columns; labels and ids do not count.

    All NaN are equal, and so are the two zeros.
    """
    hashes = [blake2b(digest_size=_SIZE) for _ in range(len(rows))]
    for column in columns:
        values = rows.columns[column.name]
        if column.kind == "image":
            for part in iterate_batches(len(values), _READ):  # they may be on the disk
                pixels = np.ascontiguousarray(values[part])
                for state, image in zip(hashes[part], pixels, strict=True):
                    state.update(memoryview(image))
        elif values.dtype == object:
            for state, cell in zip(hashes, values, strict=True):
                # a length in front keeps ("ab", "c") apart from ("a", "bc"); None differs from ""
                data = b"" if cell is None else str(cell).encode("utf-8", "surrogatepass")
                state.update(b"-" if cell is None else b"%d:" % len(data))
                state.update(data)
        else:
            for state, row in zip(hashes, _canonical(values), strict=True):
                state.update(row)
    return np.array([state.digest() for state in hashes], dtype=object)


def _canonical(values: npt.NDArray[np.generic]) -> Iterable[memoryview]:
    matrix = values.reshape(len(values), -1).astype(np.float64) + 0.0
    matrix[np.isnan(matrix)] = np.nan
    return (memoryview(row) for row in np.ascontiguousarray(matrix, dtype="<f8"))


def fingerprint(columns: Sequence[Column], class_names: Sequence[str], splits: Mapping[str, Rows]) -> str:
    """Return a hex digest of the input columns, labels and ids of all splits, in order."""
    total = blake2b(digest_size=_SIZE)
    total.update(repr(([(one.name, one.kind, one.shape) for one in columns], list(class_names))).encode())
    for name, rows in splits.items():
        total.update(f"{name}:{len(rows)}:".encode())
        total.update(b"".join(row_digests(rows, columns)))
        total.update(np.ascontiguousarray(rows.labels, dtype="<i8").tobytes())
        total.update("\n".join(str(one) for one in rows.ids).encode("utf-8", "surrogatepass"))
    return total.hexdigest()
