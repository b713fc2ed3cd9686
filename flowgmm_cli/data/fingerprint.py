"""Hashes of rows and digests of whole splits, equal for equal content on every machine, and equal rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from flowgmm_cli.api import Column, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array, Bools, Bytes, Hashes
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.errors import DataError

_MAX_ROWS, _MAX_NUMBERS = 2**14, 2**22  # hashed at once
_MAX_WORDS = 64  # numbers of a row that are mixed one by one; more are digested together


def row_hashes(rows: Rows, columns: Sequence[Column]) -> Hashes:
    """Return a 64-bit hash of the input columns of each row `(N,)`; labels and ids do not count.

    All NaN are equal, and so are the two zeros. Equal content has equal hashes on every machine.
    """
    first = rows.columns[columns[0].name]
    if len(columns) == 1 and isinstance(first, LazyPixels) and first.hashes is not None:
        return first.hashes
    hashes: Hashes = np.zeros(len(rows), dtype=np.uint64)
    width = max(1, sum(math.prod(column.shape) for column in columns))
    size = max(1, min(_MAX_ROWS, _MAX_NUMBERS // width))
    for batch in iterate_batches(len(rows), size):  # images may be on disk
        for column in columns:
            cells = rows.columns[column.name][batch]
            words = _digest_rows(cells) if column.kind == "image" else _cell_words(cells)
            hashes[batch] = _mix(hashes[batch], words)
    return hashes


def pixel_hashes(pixels: Bytes) -> Hashes:
    """Return the `row_hashes` of images `(N, ...)`, uint8."""
    return _mix(np.zeros(len(pixels), dtype=np.uint64), _digest_rows(pixels))


def _mix(hashes: Hashes, words: Hashes) -> Hashes:
    """Return the hashes `(N,)` extended by words `(N, d)`: different rows stay different with each word."""
    for word in words.T:
        hashes = (hashes ^ word ^ (word >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _digest_rows(rows: Array) -> Hashes:
    """Return a word for each row, `(N, 1)`."""
    digests = (blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(rows))
    return np.frombuffer(b"".join(digests), dtype="<u8")[:, None]


def _cell_words(cells: Array) -> Hashes:
    if cells.dtype == object:
        distinct = {cell: _hash_text(cell) for cell in set(cells.tolist())}
        return np.fromiter(map(distinct.__getitem__, cells.tolist()), np.uint64, len(cells))[:, None]
    numbers = cells.reshape(len(cells), -1).astype(np.float64) + 0.0  # no -0
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view(np.uint64) if numbers.shape[1] <= _MAX_WORDS else _digest_rows(numbers.astype("<f8"))


def _hash_text(cell: str | None) -> int:
    data = b"-" if cell is None else b"+" + str(cell).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def find_equal(keys: Hashes, held_out: Hashes, kind: str, held_out_kind: str, notes: list[str]) -> Bools:
    """Return a mask of the rows with the key of a held-out row; `DataError` if these are all rows."""
    equal: Bools = np.isin(keys, held_out)
    if len(equal) and equal.all():
        raise DataError(
            f"every {kind} row is equal to a {held_out_kind} row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    if equal.any():
        notes.append(f"{equal.sum():,} {kind} rows are equal to a {held_out_kind} row and are left out")
    return equal


def contradiction_notes(labels: Array, keys: Hashes, ids: Array) -> list[str]:
    """Describe the labelled rows that are equal to an earlier row with another label, in a line or none."""
    first: dict[np.uint64, int] = {}
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
    keys: Mapping[str, Hashes],
) -> str:
    """Return a hex digest of the input columns, labels and ids of all splits, in order.

    `keys` are the `row_hashes` of each split.
    """
    total = blake2b(digest_size=16)
    described = [(column.name, column.kind, column.shape) for column in columns]
    total.update(repr((described, list(class_names))).encode())
    for name, rows in splits.items():
        total.update(f"{name}:{len(rows)}:".encode())
        total.update(keys[name].astype("<u8").tobytes())
        total.update(np.ascontiguousarray(rows.labels, dtype="<i8").tobytes())
        total.update("\n".join(map(str, rows.ids)).encode("utf-8", "surrogatepass"))
    return total.hexdigest()
