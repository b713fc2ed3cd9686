"""Columns as Arrow arrays, and Arrow arrays as text: whole columns at a time, never a cell in Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt


def arrow(values: npt.NDArray[Any]) -> pa.Array:
    """A column `(N,)` or `(N, D)` as an Arrow array; see `Writer` for what is null.

    >>> arrow(np.array([0.5, np.nan])).to_pylist()
    [0.5, None]
    >>> arrow(np.ma.array([True, False], mask=[False, True])).to_pylist()
    [True, None]
    >>> arrow(np.array([[1.0, 2.0], [np.nan, np.nan]])).to_pylist()
    [[1.0, 2.0], None]
    """
    if values.ndim == 2:
        return _lists(values)
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    if values.dtype.kind in "OU":
        return _strings(values)
    return pa.array(values, from_pandas=True)


def csv_cells(cells: pa.Array, delimiter: str) -> pa.Array:
    """Cells of one column as text, quoted where they must be (RFC 4180); null stays null.

    A number has as many digits as it takes to read the same number again, at most 9 in single precision.

    >>> csv_cells(pa.array(["a", 'b"c', None]), ",").to_pylist()
    ['a', '"b""c"', None]
    >>> csv_cells(pa.array([0.1, 1.0], pa.float32()), ",").to_pylist()
    ['0.1', '1']
    """
    if not pa.types.is_string(cells.type):
        return pc.cast(cells, pa.string())
    special = pc.match_substring_regex(cells, f'["\r\n{delimiter}]')
    if not pc.any(special).as_py():
        return cells
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(special, quoted, cells)


def json_cells(values: npt.NDArray[Any]) -> pa.Array:
    r"""Cells of one column as JSON texts; null where JSON needs `null`, which it has for NaN and infinities.

    >>> json_cells(np.array(['a', 'é', None], dtype=object)).to_pylist()
    ['"a"', '"é"', None]
    >>> json_cells(np.array([[1.0, 0.25], [np.nan, 2.0], [np.nan, np.nan]])).to_pylist()
    ['[1,0.25]', '[null,2]', None]
    """
    if values.ndim == 2:
        parts = [json_cells(column) for column in values.T]
        inner = pc.binary_join_element_wise(*parts, ",", null_handling="replace", null_replacement="null")
        lists = pc.binary_join_element_wise("[", inner, "]", "")
        return pc.if_else(pa.array(_missing(values)), pa.scalar(None, pa.string()), lists)
    cells = arrow(values)
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


def text_bytes(lines: pa.Array) -> memoryview:
    """The characters of all cells, one after the other; no cell may be null."""
    _, offsets, data = lines.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[ends[0] : ends[-1]]


def _strings(values: npt.NDArray[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # file names may hold bytes that are no characters
        readable = [
            None if text is None else text.encode(errors="backslashreplace").decode() for text in values
        ]
        return pa.array(readable, pa.string())


def _lists(values: npt.NDArray[Any]) -> pa.Array:
    missing = _missing(values)
    kept = np.ascontiguousarray(values[~missing])
    ends = np.concatenate([[0], np.cumsum(~missing) * values.shape[1]])
    offsets = pa.array(ends.astype(np.int32), mask=np.append(missing, False))
    return pa.ListArray.from_arrays(offsets, pa.array(kept.reshape(-1), from_pandas=True))


def _missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    missing: npt.NDArray[np.bool_] = np.isnan(values).all(axis=1)
    return missing
