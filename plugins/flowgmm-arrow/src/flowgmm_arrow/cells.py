"""Arrow cells as NumPy arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import DataError

Cells = npt.NDArray[Any]


def numbers(cells: pa.Array) -> npt.NDArray[np.float64]:
    """Return numbers as float64, NaN where a cell is null."""
    floats = pc.cast(decode_dictionary(cells), pa.float64())
    array: npt.NDArray[np.float64] = pc.fill_null(floats, float("nan")).to_numpy(zero_copy_only=False)
    return array


def strings(cells: pa.Array) -> Cells:
    """Return cells as stripped strings, None where one is null, NaN or blank; equal ones share their memory.

    >>> strings(pa.array([1.0, None, 2.5])).tolist()
    ['1', None, '2.5']
    >>> strings(pa.array([" a", ""])).tolist()
    ['a', None]
    """
    coded = cells if isinstance(cells, pa.DictionaryArray) else pc.dictionary_encode(cells)
    values = [_string(cell) for cell in coded.dictionary.to_pylist()]
    table = np.array([*values, None], dtype=object)
    codes = pc.fill_null(coded.indices, len(values)) if coded.indices.null_count else coded.indices
    array: Cells = table[codes.to_numpy(zero_copy_only=False)]
    return array


def _string(cell: Any) -> str | None:
    if cell is None or cell != cell:
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def texts(parts: Sequence[pa.Array]) -> Cells:
    """Return one text a row, its parts joined by a line break; a row of nulls is ''."""
    rows = zip(*(decode_dictionary(part).to_pylist() for part in parts), strict=True)
    joined = ["\n".join(str(cell) for cell in row if cell is not None and str(cell).strip()) for row in rows]
    return np.array(joined, dtype=object)


def vectors(cells: pa.Array, name: str) -> Cells:
    """Return lists of one length as `(N, length)`, tensors as `(N, *shape)`; float32 unless they are doubles.

    Raises:
        DataError: a cell is null, holds a null, or lists have different lengths.
    """
    shape: tuple[int, ...] | None = None
    if isinstance(cells.type, pa.FixedShapeTensorType):
        axes = cells.type.permutation
        if axes is not None and list(axes) != sorted(axes):
            raise DataError(f"column `{name}` holds tensors with permuted axes", hint="write them row by row")
        shape, cells = tuple(cells.type.shape), cells.storage
    lengths = set(pc.unique(pc.list_value_length(cells)).to_pylist())
    flat = pc.list_flatten(cells)
    if cells.null_count or flat.null_count or len(lengths - {None}) > 1:
        what = "an empty cell" if cells.null_count or flat.null_count else "lists of different lengths"
        raise DataError(
            f"column `{name}` holds {what} where vectors of one length are expected",
            hint=f"correct it, or leave the column out with data.drop=[{name}]",
        )
    array: Cells = pc.cast(flat, pa.float64()).to_numpy(zero_copy_only=False)
    if not pa.types.is_float64(cells.type.value_type):
        array = array.astype(np.float32)
    return array.reshape(len(cells), *(shape or (max(lengths, default=0),)))


def decode_dictionary(cells: pa.Array) -> pa.Array:
    """Return the cells of a dictionary array as a plain array."""
    return cells.dictionary_decode() if isinstance(cells, pa.DictionaryArray) else cells


def sort_naturally(names: Iterable[str]) -> list[str]:
    """Sort names as people do: numbers by value, others by text with the numbers in it by value.

    >>> sort_naturally(["10", "9"]), sort_naturally(["b 10", "b 9", "A"])
    (['9', '10'], ['A', 'b 9', 'b 10'])
    """

    def key(name: str) -> tuple[bool, float, list[tuple[int, str]], str]:
        try:
            return False, float(name), [], name
        except ValueError:
            parts = re.split(r"(\d+)", name.casefold())
            return (
                True,
                0.0,
                [(int(cell), "") if cell.isdecimal() else (-1, cell) for cell in parts if cell],
                name,
            )

    return sorted(names, key=key)
