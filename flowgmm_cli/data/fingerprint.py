"""Digests of rows and of whole splits: equal content gives equal digests on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array, Strings

_DIGEST_BYTES = 16
_BATCH_ROWS = 1024


def row_digests(rows: Rows, columns: Sequence[Column]) -> Strings:
    """Return a `bytes` digest of the input columns of each row; labels and ids do not count.

    All NaN are equal, and so are the two zeros.
    """
    digests = np.empty(len(rows), dtype=object)
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
    flat = [values.reshape(len(values), -1).astype(np.float64) for values in columns]
    matrix = np.concatenate(flat, axis=1, dtype=np.float64) + 0.0
    matrix[np.isnan(matrix)] = np.nan
    rows: list[bytes] = matrix.astype("<f8").view(f"V{8 * matrix.shape[1]}")[:, 0].tolist()
    return rows


_TO_BYTES: Mapping[str, Callable[[Sequence[Array]], Iterable[bytes]]] = {
    "pixels": _pixel_bytes,
    "strings": _string_bytes,
    "numbers": _number_bytes,
}


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
