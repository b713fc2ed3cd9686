"""Digests of rows and of whole splits: the same content gives the same digest, on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, Rows, iterate_batches

if TYPE_CHECKING:
    import numpy.typing as npt

    Cells = npt.NDArray[Any]

_SIZE = 16  # bytes of a digest
_BLOCK = 1024  # rows at once


def row_digests(rows: Rows, columns: Sequence[Column]) -> npt.NDArray[np.object_]:
    """Return one `bytes` digest per row of its input columns; labels and ids do not count.

    All NaN are equal, and so are the two zeros.
    """
    found = np.empty(len(rows), dtype=object)
    # what is alike side by side is hashed as one piece: a call for each cell takes most of the time
    runs = [list(run) for _, run in groupby(columns, lambda column: _kind(column, rows))]
    for part in iterate_batches(len(rows), _BLOCK):  # images may be on the disk
        states = [blake2b(digest_size=_SIZE) for _ in range(len(found[part]))]
        for run in runs:
            pieces = _PIECES[_kind(run[0], rows)]([rows.columns[column.name][part] for column in run])
            for state, piece in zip(states, pieces, strict=True):
                state.update(piece)
        found[part] = [state.digest() for state in states]
    return found


def _kind(column: Column, rows: Rows) -> str:
    if column.kind == "image":
        return "pixels"
    return "words" if rows.columns[column.name].dtype == object else "numbers"


def _pixels(columns: Sequence[Cells]) -> Iterable[bytes]:
    """Rows of columns of images."""
    whole = [np.ascontiguousarray(pixels) for pixels in columns]
    return (b"".join(map(memoryview, row)) for row in zip(*whole, strict=True))


def _words(columns: Sequence[Cells]) -> Iterable[bytes]:
    """Rows of columns of strings and None."""
    return (b"".join(map(_word, row)) for row in zip(*columns, strict=True))


def _word(cell: Any) -> bytes:
    # a length in front keeps ("ab", "c") apart from ("a", "bc"); None differs from ""
    if cell is None:
        return b"-"
    data = str(cell).encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(data), data)


def _numbers(columns: Sequence[Cells]) -> Iterable[bytes]:
    """Rows of columns of numbers, all NaN alike and both zeros, on every machine."""
    flat = [values.reshape(len(values), -1).astype(np.float64) for values in columns]
    matrix = np.concatenate(flat, axis=1, dtype=np.float64) + 0.0
    matrix[np.isnan(matrix)] = np.nan
    rows: list[bytes] = matrix.astype("<f8").view(f"V{8 * matrix.shape[1]}")[:, 0].tolist()
    return rows


_PIECES: Mapping[str, Callable[[Sequence[Cells]], Iterable[bytes]]] = {
    "pixels": _pixels,
    "words": _words,
    "numbers": _numbers,
}


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
