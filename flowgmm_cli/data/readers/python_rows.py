"""Rows of a Python program: data frames, mappings, arrays, lists of texts or of mappings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowgmm_cli.api import Column, DataContext, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.readers.array_files import UNNAMED, StoredArray
from flowgmm_cli.data.readers.arrays import ArrayReader
from flowgmm_cli.data.readers.base import MemoryReader, ReadOptions, RowReader
from flowgmm_cli.data.readers.chunks import TableChunks
from flowgmm_cli.data.readers.row_errors import OnError
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.readers.table import Table, TableReader
from flowgmm_cli.data.sources.columns import is_image_type
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import shorten

_NAME = "the given rows"


class ArrowFrame(Protocol):
    """A data frame of any library with Arrow's PyCapsule interface, such as polars."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the rows as a stream of record batches."""
        ...


class NamedColumns(Protocol):
    """A mapping of names to columns of equal length, such as a pandas data frame."""

    def keys(self) -> Iterable[Any]:
        """Return the names of the columns."""
        ...

    def __getitem__(self, name: Any, /) -> Any:
        """Return the cells of a column."""
        ...


RowsLike: TypeAlias = (
    str
    | os.PathLike[str]
    | NamedColumns
    | ArrowFrame
    | npt.ArrayLike
    | Sequence[str | None]
    | Sequence[Mapping[str, object]]
    | Rows
    | RowReader
)
"""Rows in one of the forms that `open_input` takes."""


class MemoryTable(TableReader):
    """Columns in memory, read like a table in a file, so that names and cells have the same meaning.

    Raises:
        DataError: the columns differ in length.
    """

    format = "columns"

    def __init__(self, columns: Mapping[str, pa.Array], name: str = _NAME) -> None:
        self.name, self.names = name, list(columns)
        sizes = {column: len(cells) for column, cells in columns.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"the columns of {name} differ in length",
                details=[f"`{column}`: {size:,}" for column, size in sizes.items()],
            )
        self.rows = next(iter(sizes.values()), 0)
        self.table = pa.table(dict(columns))
        self.images = [field.name for field in self.table.schema if is_image_type(field.type)]

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        yield Table(self.table.select(list(columns)))


def open_input(data: RowsLike, schema: InputSchema, *, context: DataContext, on_error: OnError) -> RowReader:
    """Return a reader of rows in one of these forms:

    - a path or a data spec, as for `--data`;
    - a data frame of pandas, polars or any library with Arrow's interface, or a mapping of column names to
      cells, with or without the label and id columns of training;
    - a list of mappings, one for each row;
    - a list or Series of texts, for a model of texts;
    - an array `(N, F)`: the numeric columns in the order of training, or the entries of the only vector
      column, which may keep their shape `(N, ...)`;
    - `Rows`, or a `RowReader`.

    Raises:
        DataError: the rows do not fit the model; with `on_error="fail"`, a row is malformed.
    """
    if isinstance(data, str | os.PathLike):
        return _open_path(data, schema, context, on_error)
    if isinstance(data, Rows):
        return MemoryReader(data, _NAME)
    options = ReadOptions(context.note, on_error)
    columns = _columns_of(data, schema)
    if columns is not None:
        table = MemoryTable({name: to_arrow(cells) for name, cells in columns.items()})
        return TableChunks(table, schema, options)
    if isinstance(data, np.ndarray | Sequence) or hasattr(data, "__array__"):
        return _from_array(np.asarray(data), schema, options)
    if isinstance(data, RowReader):
        return data
    raise DataError(f"rows cannot be a {type(data).__name__}", hint=_describe_columns(schema))


def _open_path(
    path: str | os.PathLike[str], schema: InputSchema, context: DataContext, on_error: OnError
) -> RowReader:
    from flowgmm_cli.data.readers.open import open_rows

    where = os.fspath(path)
    # `Path.exists` raises for names that are too long
    if schema.text is not None and " " in where.strip() and where[:1] != "{" and not os.path.exists(where):  # noqa: PTH110
        raise DataError(f"no such file: {shorten(where)}", hint='a text goes in a list: predict(["..."])')
    return open_rows(where, schema, context=context, on_error=on_error)


def _columns_of(data: Any, schema: InputSchema) -> dict[str, Any] | None:
    """Return the columns of rows that have names or are texts; None for others."""
    if hasattr(data, "to_frame") and hasattr(data, "name"):  # a Series of pandas or polars
        names = [column.name for column in schema.columns]
        if len(names) > 1 or (schema.text is None and data.name != names[0]):
            raise DataError(
                f"a Series is one column (`{data.name}`), and the model reads {len(names):,}",
                hint="pass a data frame: series.to_frame(), or frame.iloc[[row]] for a single row",
            )
        return {names[0]: list(data)}
    if (columns := frame_columns(data)) is not None:
        if columns and all(np.ndim(cells) == 0 for cells in columns.values()):
            raise DataError(f"{_NAME} hold cells, not columns", hint="a row goes in a list: [{...}]")
        return columns
    cells = data.tolist() if isinstance(data, np.ndarray) and data.dtype.kind in "OU" else data
    if isinstance(cells, Sequence) and len(cells) and all(isinstance(row, Mapping) for row in cells):
        keys = dict.fromkeys(str(name) for row in cells for name in row)
        return {key: [row.get(key) for row in cells] for key in keys}
    if isinstance(cells, Sequence) and any(isinstance(cell, str) for cell in cells):
        if schema.text is None:
            raise DataError("a list of texts is for a model of texts", hint=_describe_columns(schema))
        return {schema.text.name: list(cells)}
    return None


def frame_columns(data: Any) -> dict[str, Any] | None:
    """Return the columns of a data frame or mapping by name; None for other objects."""
    if isinstance(data, Mapping) or (hasattr(data, "keys") and hasattr(data, "__getitem__")):
        return {str(name): data[name] for name in data.keys()}  # noqa: SIM118 - a data frame iterates over names
    if hasattr(data, "__arrow_c_stream__"):
        table = pa.RecordBatchReader.from_stream(data).read_all()
        return dict(zip(table.column_names, table.columns, strict=True))
    return None


def to_arrow(cells: Any) -> pa.Array:
    """Convert the cells of a column, `(N,)` or `(N, ...)`, to an array of a type that files have, too."""
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    if isinstance(cells, pa.Array):
        kind = cells.type
        if pa.types.is_dictionary(kind):
            return to_arrow(cells.dictionary_decode())
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            return cells.cast(pa.string())
        return cells.cast(pa.list_(kind.value_type)) if pa.types.is_large_list(kind) else cells
    array = cells if isinstance(cells, list) else np.asarray(cells)
    try:
        if isinstance(array, np.ndarray) and array.ndim > 1:
            flat = pa.array(array.reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, math.prod(array.shape[1:]))
        return pa.array(array, from_pandas=True)
    except pa.ArrowException:  # cells of several types become text, as in a csv file
        return pa.array([None if cell is None or cell != cell else str(cell) for cell in array], pa.string())


def _from_array(array: Array, schema: InputSchema, options: ReadOptions) -> RowReader:
    if array.ndim < 2 or array.dtype.kind not in "fiub":
        message = f"an array of shape {array.shape} holds no rows of numbers"
        raise DataError(message, hint=_describe_columns(schema))

    def blocks(size: int) -> Iterator[Array]:
        return map(array.__getitem__, iterate_batches(len(array), size))

    stored = StoredArray(array.shape, array.dtype, _NAME, "array", blocks)
    return ArrayReader({UNNAMED: stored}, schema, options, name=_NAME)


def _describe_columns(schema: InputSchema) -> str:
    def describe(column: Column) -> str:
        return f"{column.name} ({column.kind}{' ' + str(column.shape) if column.shape else ''})"

    listed = ", ".join(describe(column) for column in schema.columns[:8])
    return f"the model reads {listed}{', ...' if len(schema.columns) > 8 else ''}"
