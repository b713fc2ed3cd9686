"""Digests of rows and of whole splits, equal for equal content on every machine, and equal rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array, Bools, Strings
from flowgmm_cli.errors import DataError

_DIGEST_BYTES = 16
_BATCH_ROWS = 1024


def row_digests(rows: Rows, columns: Sequence[Column]) -> Strings:
    """Return a `bytes` digest of the input columns of each row; labels and ids do not count.

    All NaN are equal, and so are the two zeros.
    """
    digests = np.empty(len(rows), dtype=object)
    stored = getattr(rows.columns[columns[0].name], "digests", None)
    if stored is not None and len(columns) == 1:
        digests[:] = [digest.tobytes() for digest in stored]
        return digests
    # neighbouring columns of a kind are hashed together: a call for each cell would take most of the time
    groups = [(kind, list(group)) for kind, group in groupby(columns, lambda column: _kind(column, rows))]
    for batch in iterate_batches(len(rows), _BATCH_ROWS):  # images may be on disk
        states = [blake2b(digest_size=_DIGEST_BYTES) for _ in range(len(digests[batch]))]
        for kind, group in groups:
            contents = _TO_BYTES[kind]([rows.columns[column.name][batch] for column in group])
            for state, content in zip(states, contents, strict=True):
                state.update(content)
        digests[batch] = [state.digest() for state in states]
    return digests


def row_hashes(rows: Rows, columns: Sequence[Column]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of the input columns of each row, equal for equal rows, many times faster."""
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in columns:
        cells = rows.columns[column.name]
        if cells.dtype == object:
            distinct = {cell: _hash_text(cell) for cell in set(cells.tolist())}
            bits = np.fromiter(map(distinct.__getitem__, cells.tolist()), np.uint64, len(cells))[:, None]
        else:
            bits = _plain_numbers(cells).view(np.uint64)
        for entry in bits.T:
            hashes = (hashes ^ entry ^ (entry >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
            hashes ^= hashes >> np.uint64(29)
    return hashes


def content_hashes(rows: Rows, columns: Sequence[Column]) -> npt.NDArray[np.uint64]:
    """Return `row_hashes`, or the beginning of `row_digests` for rows with images."""
    if all(column.kind != "image" for column in columns):
        return row_hashes(rows, columns)
    digests = b"".join(row_digests(rows, columns))
    return np.frombuffer(digests, dtype=np.uint64)[:: _DIGEST_BYTES // 8]


def _hash_text(cell: str | None) -> int:
    return int.from_bytes(blake2b(_cell_bytes(cell), digest_size=8).digest(), "little")


def _kind(column: Column, rows: Rows) -> str:
    if column.kind == "image":
        return "pixels"
    return "strings" if rows.columns[column.name].dtype == object else "numbers"


def _pixel_bytes(columns: Sequence[Array]) -> Iterable[bytes]:
    arrays = [np.ascontiguousarray(pixels) for pixels in columns]
    return (b"".join(map(memoryview, row)) for row in zip(*arrays, strict=True))


def _string_bytes(columns: Sequence[Array]) -> Iterable[bytes]:
    return (b"".join(map(_cell_bytes, row)) for row in zip(*columns, strict=True))


def _cell_bytes(cell: Any) -> bytes:
    # the length distinguishes ("ab", "c") from ("a", "bc"); None differs from ""
    if cell is None:
        return b"-"
    data = str(cell).encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(data), data)


def _number_bytes(columns: Sequence[Array]) -> Iterable[bytes]:
    """Return little-endian rows with a single NaN and a single zero."""
    matrix = np.concatenate([_plain_numbers(values) for values in columns], axis=1)
    rows: list[bytes] = matrix.astype("<f8").view(f"V{8 * matrix.shape[1]}")[:, 0].tolist()
    return rows


def _plain_numbers(cells: Array) -> Array:
    """Return numbers as float64 `(N, d)` with a single NaN and a single zero."""
    matrix = cells.reshape(len(cells), -1).astype(np.float64) + 0.0
    matrix[np.isnan(matrix)] = np.nan
    return matrix


_TO_BYTES: Mapping[str, Callable[[Sequence[Array]], Iterable[bytes]]] = {
    "pixels": _pixel_bytes,
    "strings": _string_bytes,
    "numbers": _number_bytes,
}


def find_equal(
    keys: Strings, held_out: Iterable[bytes], kind: str, held_out_kind: str, notes: list[str]
) -> Bools:
    """Return a mask of the rows with the key of a held-out row; `DataError` if these are all rows."""
    held_out_keys = set(held_out)
    equal = np.array([key in held_out_keys for key in keys], dtype=bool)
    if len(equal) and equal.all():
        raise DataError(
            f"every {kind} row is equal to a {held_out_kind} row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    if equal.any():
        notes.append(f"{equal.sum():,} {kind} rows are equal to a {held_out_kind} row and are left out")
    return equal


def contradiction_notes(labels: Array, keys: Strings, ids: Array) -> list[str]:
    """Describe the labelled rows that are equal to an earlier row with another label, in a line or none."""
    first: dict[bytes, int] = {}
    labelled = np.flatnonzero(labels >= 0)
    rows = [row for row in labelled.tolist() if labels[first.setdefault(keys[row], row)] != labels[row]]
    if not rows:
        return []
    name = str(ids[rows[0]]).removeprefix("train:")
    if len(rows) == 1:
        return [f"row {name} equals another row with another label"]
    return [f"{len(rows):,} rows equal another row with another label; the first is row {name}"]


def fingerprint(
    columns: Sequence[Column],
    class_names: Sequence[str],
    splits: Mapping[str, Rows],
    keys: Mapping[str, Strings],
) -> str:
    """Return a hex digest of the input columns, labels and ids of all splits, in order.

    `keys` are the `row_digests` of each split.
    """
    total = blake2b(digest_size=_DIGEST_BYTES)
    described = [(column.name, column.kind, column.shape) for column in columns]
    total.update(repr((described, list(class_names))).encode())
    for name, rows in splits.items():
        total.update(f"{name}:{len(rows)}:".encode())
        total.update(b"".join(keys[name]))
        total.update(np.ascontiguousarray(rows.labels, dtype="<i8").tobytes())
        total.update("\n".join(map(str, rows.ids)).encode("utf-8", "surrogatepass"))
    return total.hexdigest()
