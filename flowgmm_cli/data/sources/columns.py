"""Cells of Arrow columns as strings, numbers, vectors, texts and labels, and statistics of columns.

A cell that is empty or blank is missing. Words such as `NA` or `null` are missing in a column of numbers
only: as a category or a class they may be Namibia or a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array, Floats, Ints, Strings

_LOCALISED_NUMBER = re.compile(
    r"[+-]?(\d{1,3}([ .'\u00a0\u202f]\d{3})+(,\d*)?|\d*,\d+|\d{1,3}(,\d{3})+(\.\d*)?)"
)
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_NO_MATCH = np.iinfo(np.int64).min
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


def count_values(cells: pa.ChunkedArray) -> tuple[dict[str, int], int]:
    """Return the number of cells of each string, see `strings`, and the number of empty cells.

    >>> count_values(pa.chunked_array([["a", " ", " a", None]]))
    ({'a': 2}, 2)
    """
    if is_string(cells.type):  # equal to the general case, many times faster
        pairs = pc.value_counts(pc.utf8_trim_whitespace(cells)).flatten()
        counts = dict(zip(*(part.to_pylist() for part in pairs), strict=True))
    else:
        counts = dict(Counter(strings(cells).tolist()))
    return counts, counts.pop(None, 0) + counts.pop("", 0)


def canonical(cell: str) -> str:
    """Return the spelling by which cells of labels and categories are compared: `1.0` is `1`, `01` is not.

    >>> [canonical(cell) for cell in ("1.0", "-2.00", "1.5", "01", "1.0.0", "-0.0")]
    ['1', '-2', '1.5', '01', '1.0.0', '0']
    """
    match = _WHOLE_NUMBER.fullmatch(cell) if cell.endswith("0") else None
    return cell if match is None else "0" if match[1] == "-0" else match[1]


class ValueIndex:
    """Index of names; a cell matches a name as it is written, or else after `canonical`.

    Args:
        names: the names, or their codes.
    """

    def __init__(self, names: Sequence[str] | Mapping[str, int]) -> None:
        codes = names if isinstance(names, Mapping) else {name: code for code, name in enumerate(names)}
        self._codes: dict[str | None, int] = {canonical(name): codes[name] for name in reversed(list(codes))}
        self._codes.update(codes)

    def codes(self, cells: Array, *, missing: int, unknown: int) -> Ints:
        """Return the code of each cell, `missing` for None and `unknown` for cells without a match."""
        known = {**self._codes, None: missing}
        codes = np.fromiter(map(known.get, cells, repeat(_NO_MATCH)), np.int64, len(cells))
        for place in np.flatnonzero(codes == _NO_MATCH).tolist():
            codes[place] = known.get(canonical(cells[place]), unknown)
        return codes


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
        with suppress(pa.ArrowInvalid):  # most columns of numbers need no preparation
            return _to_floats(cells)
        cells = _blank_to_null(cells)
    elif not (_is_number(cells.type) or pa.types.is_boolean(cells.type) or pa.types.is_null(cells.type)):
        return None
    try:
        return _to_floats(cells)
    except pa.ArrowInvalid:
        return None


def _to_floats(cells: pa.ChunkedArray) -> Floats:
    floats = pc.cast(cells, pa.float64())
    if floats.null_count:
        floats = pc.fill_null(floats, float("nan"))
    values: Floats = floats.to_numpy()
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


def is_image_type(kind: pa.DataType) -> bool:
    """Return True for a type of cells that hold image files: bytes, or the hub's `{bytes, path}`."""
    if pa.types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return "bytes" in names and is_image_type(names["bytes"])
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_finite_number(text: str) -> bool:
    """Return True if a text is a finite number."""
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def case_variants(names: Collection[str]) -> list[str]:
    """Return the names that differ from another one in case only, sorted.

    >>> case_variants(["yes", "no", "Yes"])
    ['Yes', 'yes']
    """
    counts = Counter(map(str.casefold, names))
    return sorted(name for name in names if counts[name.casefold()] > 1)


def sort_naturally(names: Sequence[str]) -> list[str]:
    """Sort names: numbers by value, others by text, in which numbers count by value.

    >>> sort_naturally(["10", "9", "-1"]), sort_naturally(["b", "class 10", "class 9", "A"])
    (['-1', '9', '10'], ['A', 'b', 'class 9', 'class 10'])
    """
    if all(map(is_finite_number, names)):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def row_ids(split: str, count: int, numbers: Ints | None = None) -> Strings:
    """Return ids of rows without names: `train:1` is the first training row.

    `numbers` are those of the rows in the input, by default all from 1.
    """
    rows = range(1, count + 1) if numbers is None else numbers.tolist()
    return np.array([f"{split}:{row}" for row in rows], dtype=object)


MAX_COUNTED = 100_000
"""Distinct categories beyond which no more are collected."""


@dataclass
class ColumnStatistics:
    """Statistics of a numeric or categorical column, updated batch by batch.

    Attributes:
        cells: number of cells.
        finite: number of finite cells.
        minimum, maximum: smallest and largest finite cell.
        integral: True if all finite cells are integers.
        total: sum of the finite cells.
        categories: distinct cells of a categorical column; None stands for an empty cell.
    """

    cells: int = 0
    finite: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    integral: bool = True
    total: float = 0.0
    categories: set[str | None] = field(default_factory=set)

    def add(self, column: Column, cells: Array) -> None:
        """Add cells; those of texts and images are not counted."""
        if column.kind == "category":
            self.cells += len(cells)
            if len(self.categories) <= MAX_COUNTED:
                self.categories.update(None if cell is None else str(cell) for cell in set(cells.tolist()))
        elif column.kind in ("numeric", "vector", "date"):
            is_finite = np.isfinite(cells)
            count = int(np.count_nonzero(is_finite))
            self.cells += cells.size
            self.finite += count
            if not count:
                return
            finite = cells if count == cells.size else cells[is_finite]
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))
            with np.errstate(over="ignore"):
                self.total += float(finite.sum(dtype=np.float64))
            self.integral = self.integral and bool((finite == np.rint(finite)).all())

    @property
    def complete(self) -> bool:
        """True if no cell is missing or infinite."""
        return self.finite == self.cells

    @property
    def constant(self) -> bool:
        """True if all finite cells are equal."""
        return self.minimum == self.maximum
