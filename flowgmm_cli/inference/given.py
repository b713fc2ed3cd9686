"""Rows that a Python program hands over, in whatever form it has them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError, RowReader
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "the given rows"


class GivenRows:
    """A reader of one chunk that is in memory."""

    def __init__(self, chunk: Chunk, name: str = NAME) -> None:
        self.name = name
        self.total: int | None = len(chunk)
        self._chunk = chunk

    def __iter__(self) -> Iterator[Chunk]:
        yield self._chunk


def read_given(data: Any, schema: InputSchema, *, context: DataContext, on_error: OnError) -> RowReader:
    """A reader of rows given as:

    - a path, or a data spec, as `--data` takes them;
    - an array `(N, F)`: the numeric columns in the order of training, or the entries of the one column of
      vectors, which may keep their shape `(N, ...)`;
    - a list of texts, for a model of texts;
    - a mapping of column names to cells, such as a dict or a pandas data frame; the label and id columns of
      training are read where they are there;
    - `Rows`, or a `RowReader`.

    Raises:
        DataError: the rows do not fit the model; with `on_error="fail"`, a row is malformed.
    """
    if isinstance(data, str | os.PathLike):
        from flowgmm_cli.data.readers.open import open_rows

        return open_rows(os.fspath(data), schema, context=context, on_error=on_error)
    if isinstance(data, Rows):
        return GivenRows(Chunk(data, 0))
    if isinstance(data, Mapping) or (hasattr(data, "keys") and hasattr(data, "__getitem__")):
        return _from_columns({str(name): data[name] for name in data.keys()}, schema, context, on_error)  # noqa: SIM118
    if isinstance(data, Sequence) and all(isinstance(one, str) for one in data):
        if schema.text is None:
            raise DataError("a list of texts is for a model of texts", hint=_wanted(schema))
        return _from_columns({schema.text.name: list(data)}, schema, context, on_error)
    if isinstance(data, np.ndarray | Sequence) or hasattr(data, "__array__"):
        return _from_array(np.asarray(data), schema, context, on_error)
    if hasattr(data, "__iter__") and hasattr(data, "total"):
        reader: RowReader = data
        return reader
    raise DataError(f"rows cannot be a {type(data).__name__}", hint=_wanted(schema))


def _from_array(
    array: np.ndarray[Any, Any], schema: InputSchema, context: DataContext, on_error: OnError
) -> RowReader:
    if array.ndim == 1 and array.dtype.kind in "OU" and schema.text is not None:
        return _from_columns({schema.text.name: array}, schema, context, on_error)
    if array.ndim < 2 or array.dtype.kind not in "fiub":
        raise DataError(f"an array of shape {array.shape} holds no rows of numbers", hint=_wanted(schema))
    flat = array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64)
    columns = schema.columns
    only = columns[0] if len(columns) == 1 else None
    if only is not None and only.kind in ("vector", "image") and math.prod(only.shape) == flat.shape[1]:
        cells = {only.name: flat.reshape(len(flat), *only.shape)}
    elif all(column.kind == "numeric" for column in columns) and len(columns) == flat.shape[1]:
        cells = {column.name: flat[:, place] for place, column in enumerate(columns)}
    else:
        raise DataError(f"rows of {flat.shape[1]:,} numbers do not fit the model", hint=_wanted(schema))
    return GivenRows(Chunk(_rows(cells, len(flat)), 0))


def _rows(cells: Mapping[str, np.ndarray[Any, Any]], count: int) -> Rows:
    from flowgmm_cli.data.readers.cells import row_numbers

    return Rows(cells, np.full(count, -1, dtype=np.int64), row_numbers(0, count))


def _from_columns(
    cells: Mapping[str, Any], schema: InputSchema, context: DataContext, on_error: OnError
) -> RowReader:
    """The way that rows of a table in a file go, so that names and cells mean the same here."""
    import pyarrow as pa

    from flowgmm_cli.data.readers.cells import ChunkMaker, Piece
    from flowgmm_cli.data.readers.match import match_columns

    match = match_columns(schema, list(cells), where=NAME, note=context.note)
    arrays = {name: _arrow(cells[name]) for name in match.needed}
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"the columns of {NAME} differ in length",
            details=[f"`{name}`: {size:,}" for name, size in sizes.items()],
        )
    make = ChunkMaker(schema, match, name=NAME, on_error=on_error, note=context.note)
    return GivenRows(make(Piece(pa.table(arrays)), 0))


def _arrow(values: Any) -> pa.Array:
    import pyarrow as pa

    array = values if isinstance(values, list) else np.asarray(values)
    try:
        if isinstance(array, np.ndarray) and array.ndim > 1:
            flat = pa.array(array.reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, math.prod(array.shape[1:]))
        return pa.array(array, from_pandas=True)
    except pa.ArrowException:  # cells of several types: as they would stand in a csv file
        return pa.array([None if cell is None or cell != cell else str(cell) for cell in array], pa.string())


def _wanted(schema: InputSchema) -> str:
    def tell(column: Column) -> str:
        return f"{column.name} ({column.kind}{' ' + str(column.shape) if column.shape else ''})"

    shown = ", ".join(tell(column) for column in schema.columns[:8])
    return f"the model reads {shown}{', ...' if len(schema.columns) > 8 else ''}"
