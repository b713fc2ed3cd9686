"""What the cells of a table mean: numbers, categories, texts, labels.

A cell that is empty or blank is missing. Words such as `NA` or `null` are missing in a column of numbers
only: as a category or a class they may be Namibia or somebody's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

_FOREIGN_NUMBER = re.compile(
    r"[+-]?(\d{1,3}([ .'\u00a0\u202f]\d{3})+(,\d*)?|\d*,\d+|\d{1,3}(,\d{3})+(\.\d*)?)"
)
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
MISSING_WORDS = ("na", "n/a", "nan", "null", "none", "nil", "?", "-", ".", "#n/a")


def strings(cells: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Return cells as stripped strings, None where a cell is empty; whole numbers carry no `.0`.

    >>> strings(pa.chunked_array([[1.0, 2.5, None]])).tolist()
    ['1', '2.5', None]
    >>> strings(pa.chunked_array([[" NA ", "", "  "]])).tolist()
    ['NA', None, None]
    """
    if is_string(cells.type):  # the same as below, many times faster
        trimmed = pc.utf8_trim_whitespace(cells)
        empty = pc.equal(trimmed, "")
        if pc.any(empty).as_py():
            trimmed = pc.if_else(empty, pa.scalar(None, trimmed.type), trimmed)
        found: npt.NDArray[np.object_] = trimmed.to_numpy(zero_copy_only=False).astype(object, copy=False)
        return found
    return np.array([_string(cell) for cell in cells.to_pylist()], dtype=object)


def _string(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def texts(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.object_]:
    """Return one text per row, the parts joined by a line break; an empty text is ''.

    >>> texts([pa.chunked_array([["a", None]]), pa.chunked_array([["b", "c"]])]).tolist()
    ['a\\nb', 'c']
    """
    parts = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in columns]
    joined = ["\n".join(part for part in row if part.strip()) for row in zip(*parts, strict=True)]
    return np.array(joined, dtype=object)


def numbers(cells: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """Return cells as float64, NaN where a cell is missing; None if they are no numbers.

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
    values: npt.NDArray[np.float64] = pc.fill_null(floats, float("nan")).to_numpy()
    return values


def not_numbers(cells: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the positions of cells that are neither missing nor a number."""
    if not is_string(cells.type):
        return np.arange(0 if numbers(cells) is not None else len(cells))
    known = _blank_to_null(cells).to_pylist()
    odd = {cell for cell in set(known) - {None} if not _is_a_number(cell)}
    return np.array([row for row, cell in enumerate(known) if cell in odd], dtype=np.int64)


def _is_a_number(cell: str) -> bool:
    """Whether `numbers` takes a trimmed cell; slow for a single cell, so most are told by their looks."""
    if _PLAIN_NUMBER.fullmatch(cell):
        return True
    try:
        float(cell)  # takes all that Arrow takes but for nan(...), and more
    except ValueError:
        if not cell.lower().startswith(("nan(", "-nan(", "+nan(")):
            return False
    return numbers(pa.chunked_array([[cell]])) is not None


def foreign_numbers(cells: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the positions of numbers with a decimal comma or marks between thousands.

    They are none where any other cell is no number at all.

    >>> foreign_numbers(pa.chunked_array([["1,5", "", "2"]])).tolist()
    [0]
    >>> foreign_numbers(pa.chunked_array([["1,234.5", "1.234,5"]])).tolist()
    [0, 1]
    >>> foreign_numbers(pa.chunked_array([["1,5", "red"]])).tolist()
    []
    """
    odd = not_numbers(cells)
    found = strings(cells)[odd]
    every = all(_FOREIGN_NUMBER.fullmatch(str(cell)) for cell in found)
    return odd if every else odd[:0]


def vectors(cells: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """Return lists of numbers of one length as `(N, length)`; None if the cells are anything else."""
    if not (pa.types.is_list(cells.type) or pa.types.is_fixed_size_list(cells.type)):
        return None
    flat = cells.combine_chunks()
    if flat.null_count or not _is_number(flat.type.value_type):
        return None
    lengths = set(pc.list_value_length(flat).to_pylist())
    if len(lengths) != 1:
        return None
    entries: npt.NDArray[np.float64] = pc.cast(flat.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    return entries.reshape(len(flat), -1)


def _blank_to_null(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(cells)
    missing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(["", *MISSING_WORDS], trimmed.type))
    return pc.if_else(missing, pa.scalar(None, trimmed.type), trimmed)


def is_string(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def natural_order(names: Sequence[str]) -> list[str]:
    """Sort names as people do: numbers by value, others by text with the numbers in it by value.

    >>> natural_order(["10", "9", "-1"]), natural_order(["b", "class 10", "class 9", "A"])
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


def code_labels(
    labels: Mapping[str, npt.NDArray[np.object_]],
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """Turn label strings per split (None = unlabelled) into class names and int64 codes (-1 = unlabelled)."""
    names = natural_order(sorted({name for column in labels.values() for name in column if name is not None}))
    code: Mapping[Any, int] = {None: -1} | {name: index for index, name in enumerate(names)}
    return tuple(names), {split: lookup(column, code.__getitem__) for split, column in labels.items()}


def lookup(cells: npt.NDArray[Any], code: Callable[[Any], int]) -> npt.NDArray[np.int64]:
    """Apply `code` to every cell."""
    return np.fromiter((code(cell) for cell in cells), dtype=np.int64, count=len(cells))


def class_codes(cells: pa.ChunkedArray, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the codes of a `ClassLabel` column; null and -1 are unlabelled."""
    codes: npt.NDArray[np.int64] = pc.fill_null(cells, -1).to_numpy().astype(np.int64)
    return np.where((codes >= 0) & (codes < len(names)), codes, -1)


def row_ids(split: str, count: int) -> npt.NDArray[np.object_]:
    """Ids of rows without a name of their own: `train:1` is the first training row."""
    return np.array([f"{split}:{row}" for row in range(1, count + 1)], dtype=object)
