"""Convert the cells of Arrow columns to strings, numbers, vectors, texts and labels.

A cell that is empty or blank is missing. Words such as `NA` or `null` are missing in a column of numbers
only: as a category or a class they may be Namibia or a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.data.array_types import Array, Floats, Ints, Strings

_LOCALISED_NUMBER = re.compile(
    r"[+-]?(\d{1,3}([ .'\u00a0\u202f]\d{3})+(,\d*)?|\d*,\d+|\d{1,3}(,\d{3})+(\.\d*)?)"
)
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
MISSING_WORDS = ("na", "n/a", "nan", "null", "none", "nil", "?", "-", ".", "#n/a")


def strings(cells: pa.ChunkedArray) -> Strings:
    """Return cells as stripped strings, None where a cell is empty; whole numbers carry no `.0`.

    >>> strings(pa.chunked_array([[1.0, 2.5, None]])).tolist()
    ['1', '2.5', None]
    >>> strings(pa.chunked_array([[" NA ", "", "  "]])).tolist()
    ['NA', None, None]
    """
    if is_string(cells.type):  # equal to the general case below, many times faster
        trimmed = pc.utf8_trim_whitespace(cells)
        empty = pc.equal(trimmed, "")
        if pc.any(empty).as_py():
            trimmed = pc.if_else(empty, pa.scalar(None, trimmed.type), trimmed)
        values: Strings = trimmed.to_numpy(zero_copy_only=False).astype(object, copy=False)
        return values
    return np.array([_string(cell) for cell in cells.to_pylist()], dtype=object)


def _string(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def texts(columns: Sequence[pa.ChunkedArray]) -> Strings:
    """Return one text per row, the parts joined by a line break; an empty text is ''.

    >>> texts([pa.chunked_array([["a", None]]), pa.chunked_array([["b", "c"]])]).tolist()
    ['a\\nb', 'c']
    """
    parts = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in columns]
    joined = ["\n".join(part for part in row if part.strip()) for row in zip(*parts, strict=True)]
    return np.array(joined, dtype=object)


def numbers(cells: pa.ChunkedArray) -> Floats | None:
    """Return cells as float64, NaN where a cell is missing; None if they are not numbers.

    >>> numbers(pa.chunked_array([["1", " 2.5 ", "", "NA", "inf"]])).tolist()
    [1.0, 2.5, nan, nan, inf]
    >>> numbers(pa.chunked_array([["1", "two"]])) is None
    True
    """
    if is_string(cells.type):
        cells = _blank_to_null(cells)
    elif not (_is_number(cells.type) or pa.types.is_boolean(cells.type) or pa.types.is_null(cells.type)):
        return None
    try:
        floats = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        return None
    values: Floats = pc.fill_null(floats, float("nan")).to_numpy()
    return values


def find_non_numeric(cells: pa.ChunkedArray) -> Ints:
    """Return the positions of cells that are neither missing nor a number."""
    if not is_string(cells.type):
        return np.arange(0 if numbers(cells) is not None else len(cells))
    known = _blank_to_null(cells).to_pylist()
    odd = {cell for cell in set(known) - {None} if not _is_number_text(cell)}
    return np.array([row for row, cell in enumerate(known) if cell in odd], dtype=np.int64)


def _is_number_text(cell: str) -> bool:
    """Return True if `numbers` accepts a trimmed cell; a pattern decides most cells, since it is fast."""
    if _PLAIN_NUMBER.fullmatch(cell):
        return True
    try:
        float(cell)  # accepts a superset of Arrow's numbers, except nan(...)
    except ValueError:
        if not cell.lower().startswith(("nan(", "-nan(", "+nan(")):
            return False
    return numbers(pa.chunked_array([[cell]])) is not None


def find_localised_numbers(cells: pa.ChunkedArray) -> Ints:
    """Return the positions of numbers with a decimal comma or thousands separators.

    Empty if another cell is not a number at all.

    >>> find_localised_numbers(pa.chunked_array([["1,5", "", "2"]])).tolist()
    [0]
    >>> find_localised_numbers(pa.chunked_array([["1,234.5", "1.234,5"]])).tolist()
    [0, 1]
    >>> find_localised_numbers(pa.chunked_array([["1,5", "red"]])).tolist()
    []
    """
    positions = find_non_numeric(cells)
    localised = all(_LOCALISED_NUMBER.fullmatch(str(cell)) for cell in strings(cells)[positions])
    return positions if localised else positions[:0]


def vectors(cells: pa.ChunkedArray) -> Floats | None:
    """Return lists of numbers of one length as `(N, length)`; None for other cells."""
    if not (pa.types.is_list(cells.type) or pa.types.is_fixed_size_list(cells.type)):
        return None
    flat = cells.combine_chunks()
    if flat.null_count or not _is_number(flat.type.value_type):
        return None
    lengths = set(pc.list_value_length(flat).to_pylist())
    if len(lengths) != 1:
        return None
    entries: Floats = pc.cast(flat.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    return entries.reshape(len(flat), -1)


def _blank_to_null(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(cells)
    missing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(["", *MISSING_WORDS], trimmed.type))
    return pc.if_else(missing, pa.scalar(None, trimmed.type), trimmed)


def is_string(kind: pa.DataType) -> bool:
    """Return True for a type of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def sort_naturally(names: Sequence[str]) -> list[str]:
    """Sort names: numbers by value, others by text, in which numbers count by value.

    >>> sort_naturally(["10", "9", "-1"]), sort_naturally(["b", "class 10", "class 9", "A"])
    (['-1', '9', '10'], ['A', 'b', 'class 9', 'class 10'])
    """
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return sorted(names, key=_natural_key)
    if not all(np.isfinite(list(values.values()))):
        return sorted(names, key=_natural_key)
    return sorted(names, key=lambda name: (values[name], name))


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def encode_labels(
    labels: Mapping[str, Strings], names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], dict[str, Ints]]:
    """Encode label strings of each split (None = unlabelled) as int64 (-1 = unlabelled).

    Returns the class names, by default those that occur in natural order, and the codes.
    """
    if names is None:
        names = sort_naturally(
            sorted({name for cells in labels.values() for name in cells if name is not None})
        )
    return tuple(names), {split: label_codes(cells, names) for split, cells in labels.items()}


def label_codes(cells: Array, names: Sequence[str]) -> Ints:
    """Return the index of each cell in `names`, -1 for None and other cells."""
    codes: dict[Any, int] = {name: index for index, name in enumerate(names)}
    return np.fromiter((codes.get(cell, -1) for cell in cells), dtype=np.int64, count=len(cells))


def row_ids(split: str, count: int) -> Strings:
    """Return ids of rows without names: `train:1` is the first training row."""
    return np.array([f"{split}:{row}" for row in range(1, count + 1)], dtype=object)
