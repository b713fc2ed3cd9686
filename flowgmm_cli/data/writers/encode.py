"""Encode columns as Arrow arrays, and Arrow arrays as text, without a Python loop over the cells."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.data.array_types import Array, Bools


def to_arrow(values: Array) -> pa.Array:
    """Convert a column `(N,)` or `(N, D)` to an Arrow array; `Writer` says which cells become null.

    >>> to_arrow(np.array([0.5, np.nan])).to_pylist()
    [0.5, None]
    >>> to_arrow(np.ma.array([True, False], mask=[False, True])).to_pylist()
    [True, None]
    >>> to_arrow(np.array([[1.0, 2.0], [np.nan, np.nan]])).to_pylist()
    [[1.0, 2.0], None]
    """
    if values.ndim == 2:
        return _list_array(values)
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    if values.dtype.kind in "OU":
        return _string_array(values)
    return pa.array(values, from_pandas=True)


def encode_csv(cells: pa.Array, delimiter: str) -> pa.Array:
    """Convert the cells of a column to text, quoted where RFC 4180 requires it; null stays null.

    A number has as few digits as reproduce it exactly, at most 9 in single precision.

    >>> encode_csv(pa.array(["a", 'b"c', None]), ",").to_pylist()
    ['a', '"b""c"', None]
    >>> encode_csv(pa.array([0.1, 1.0], pa.float32()), ",").to_pylist()
    ['0.1', '1']
    """
    if not pa.types.is_string(cells.type):
        return pc.cast(cells, pa.string())
    special = pc.match_substring_regex(cells, f'["\r\n{delimiter}]')
    if not pc.any(special).as_py():
        return cells
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(special, quoted, cells)


def encode_json(values: Array) -> pa.Array:
    r"""Convert the cells of a column to JSON; missing cells, NaN and infinities become null.

    >>> encode_json(np.array(['a', 'é', None], dtype=object)).to_pylist()
    ['"a"', '"é"', None]
    >>> encode_json(np.array([[1.0, 0.25], [np.nan, 2.0], [np.nan, np.nan]])).to_pylist()
    ['[1,0.25]', '[null,2]', None]
    """
    if values.ndim == 2:
        entries = [encode_json(column) for column in values.T]
        joined = pc.binary_join_element_wise(*entries, ",", null_handling="replace", null_replacement="null")
        lists = pc.binary_join_element_wise("[", joined, "]", "")
        return pc.if_else(pa.array(_missing_rows(values)), pa.scalar(None, pa.string()), lists)
    cells = to_arrow(values)
    if pa.types.is_floating(cells.type):
        finite = pc.is_finite(cells)
        return pc.if_else(finite, pc.cast(cells, pa.string()), pa.scalar(None, pa.string()))
    if not pa.types.is_string(cells.type):
        return pc.cast(cells, pa.string())
    quoted = pc.binary_join_element_wise('"', cells, '"', "")
    special = pc.fill_null(pc.match_substring_regex(cells, r'["\\\x00-\x1f]'), False)
    if not pc.any(special).as_py():
        return quoted
    escaped = [json.dumps(text, ensure_ascii=False) for text in pc.filter(cells, special).to_pylist()]
    return pc.replace_with_mask(quoted, special, pa.array(escaped, pa.string()))


def utf8_bytes(lines: pa.Array) -> memoryview:
    """Return the concatenated UTF-8 bytes of all cells; no cell may be null."""
    _, offsets, data = lines.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[ends[0] : ends[-1]]


def _string_array(values: Array) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # file names may contain bytes that are not UTF-8
        readable = [
            None if text is None else text.encode(errors="backslashreplace").decode() for text in values
        ]
        return pa.array(readable, pa.string())


def _list_array(values: Array) -> pa.Array:
    missing = _missing_rows(values)
    present = np.ascontiguousarray(values[~missing])
    ends = np.concatenate([[0], np.cumsum(~missing) * values.shape[1]])
    offsets = pa.array(ends.astype(np.int32), mask=np.append(missing, False))
    return pa.ListArray.from_arrays(offsets, pa.array(present.reshape(-1), from_pandas=True))


def _missing_rows(values: Array) -> Bools:
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    return np.asarray(np.isnan(values).all(axis=1))
