"""Rows for a finished run: its own splits, rows of a file, or data of a Python program."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, Component, DataContext, Rows
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.data.readers.base import (
    MemoryReader,
    ReadOptions,
    RowReader,
    row_numbers,
    unlabelled,
)
from flowgmm_cli.data.readers.row_errors import OnError
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.splits import SplitRows
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import quote
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_NAME = "the given rows"


def input_schema(trained: TrainedModel) -> InputSchema:
    """Return the columns that a model reads."""
    feature_encoder = trained.preprocessor.feature_encoder
    return InputSchema.from_config(
        trained.recipe.data, feature_encoder.columns, trained.class_names, ranges=feature_encoder.ranges
    )


def load_run_rows(
    run: Run,
    trained: TrainedModel,
    context: DataContext,
    *,
    warn: Callable[[str], None] = lambda text: None,
    purpose: str = "this",
) -> SplitRows:
    """Load the rows of a run, with the splits of its training.

    `warn` is called with a message if the rows have changed since. `purpose` is the subject of the error
    message, such as `ood without --in`.

    Raises:
        DataError: the data is gone or malformed.
    """
    info = run.info()
    try:
        rows = load_rows(trained.recipe.data, context)
    except DataError as error:
        raise _explain_missing_data(error, trained.recipe.data, info.get("folder"), purpose) from error
    if rows.fingerprint != info.get("fingerprint"):
        warn("the data has changed since this run was trained: rows held out now may be rows it has seen")
    return rows


def _explain_missing_data(error: DataError, data: Component, folder: str | None, purpose: str) -> DataError:
    """Return the error for data of a run that cannot be read; a relative path may be one of its folder."""
    values = dict(data.config)
    path = values.get("path")
    keys = [values.get(key) for key in ("path", "test_path", "val_path")]
    relative = [key for key in keys if isinstance(key, str) and not Path(key).expanduser().is_absolute()]
    missing = [key for key in relative if not Path(key).exists()]
    if folder and missing and (Path(folder) / missing[0]).exists():
        return DataError(
            f"{purpose} needs the data of the run; no such file: {missing[0]}",
            details=[f"it is looked for in {Path.cwd()}", f"the run was trained in {folder}"],
            hint=f"cd {quote(folder)}, or give the recipe an absolute path",
        )
    key = f"data.path: {path}" if path else f"data.use: {data.use}"
    return DataError(
        f"{purpose} needs the data of the run, which cannot be read: {error.message}",
        details=[*error.details, *([f"the run was trained in {folder}"] if folder and missing else [])],
        hint=f"put the data back where the recipe finds it ({key})",
    )


def select_held_out(rows: SplitRows) -> tuple[str, Rows]:
    """Return the name and rows of the first split there is: test, validation, training."""
    if rows.test is not None:
        return "test", rows.test
    return ("val", rows.val) if rows.val is not None else ("train", rows.train)


def select_rows(reader: RowReader, names: Sequence[str]) -> Rows:
    """Read single rows by id, or by number from 1 if no row has that id, in the order of `names`.

    Raises:
        DataError: there is no such row, or it cannot be used.
    """
    by_id: dict[str, tuple[Rows, str | None]] = {}
    by_number: dict[str, tuple[Rows, str | None]] = {}
    numbers = {int(name): name for name in names if name.isascii() and name.isdigit()}
    count = 0
    for chunk in reader:
        ids = chunk.rows.ids.astype(str)
        places = {place: str(ids[place]) for place in np.flatnonzero(np.isin(ids, list(names))).tolist()}
        numbered = {
            number - 1 - chunk.start: name
            for number, name in numbers.items()
            if 0 <= number - 1 - chunk.start < len(chunk)
        }
        for selected, table in ((places, by_id), (numbered, by_number)):
            for place, name in selected.items():
                table.setdefault(name, (chunk.rows.take(np.array([place])), chunk.problems.get(place)))
        count = chunk.start + len(chunk)
        if set(names) <= by_id.keys():
            break
    rows = {**by_number, **by_id}
    for name in names:
        if name not in rows:
            raise DataError(
                f"{reader.name} has no row `{name}`",
                hint=f"rows go by their id, or by their number from 1 to {count:,}",
            )
        if (problem := rows[name][1]) is not None:
            raise DataError(f"row `{name}` of {reader.name} cannot be used: {problem}")
    return concatenate_rows([rows[name][0] for name in names])


def read_first_rows(reader: RowReader, count: int | None) -> Rows:
    """Read the first `count` rows of an input; all of them for None."""
    chunks, total = [], 0
    for chunk in reader:
        chunks.append(chunk.rows)
        total += len(chunk)
        if count is not None and total >= count:
            break
    rows = concatenate_rows(chunks)
    return rows if count is None else rows.take(np.arange(min(count, len(rows))))


def read_rows_at(reader: RowReader, places: npt.NDArray[np.int64]) -> Rows:
    """Read rows by their position in the input, from 0, in the order of `places`."""
    unique = np.unique(places)
    parts = []
    for chunk in reader:
        inside = unique[(unique >= chunk.start) & (unique < chunk.start + len(chunk))] - chunk.start
        if len(inside):
            parts.append(chunk.rows.take(inside))
        if not len(unique) or chunk.start + len(chunk) > unique[-1]:
            break
    return concatenate_rows(parts).take(np.searchsorted(unique, places))


def concatenate_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenate rows with the same columns; at least one part."""
    return Rows(
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        labels=np.concatenate([part.labels for part in parts]),
        ids=np.concatenate([part.ids.astype(object) for part in parts]),
        extras={name: np.concatenate([part.extras[name] for part in parts]) for name in parts[0].extras},
    )


def open_input(data: Any, schema: InputSchema, *, context: DataContext, on_error: OnError) -> RowReader:
    """Return a reader of rows in one of these forms:

    - a path or a data spec, as for `--data`;
    - an array `(N, F)`: the numeric columns in the order of training, or the entries of the only vector
      column, which may keep their shape `(N, ...)`;
    - a list of texts, for a model of texts;
    - a mapping of column names to cells, such as a dict or a pandas data frame, with or without the label and
      id columns of training;
    - `Rows`, or a `RowReader`.

    Raises:
        DataError: the rows do not fit the model; with `on_error="fail"`, a row is malformed.
    """
    if isinstance(data, str | os.PathLike):
        from flowgmm_cli.data.readers.open import open_rows

        return open_rows(os.fspath(data), schema, context=context, on_error=on_error)
    if isinstance(data, Rows):
        return MemoryReader(data, _NAME)
    if isinstance(data, Mapping) or (hasattr(data, "keys") and hasattr(data, "__getitem__")):
        return _from_columns({str(name): data[name] for name in data.keys()}, schema, context, on_error)  # noqa: SIM118
    if isinstance(data, Sequence) and all(isinstance(cell, str) for cell in data):
        if schema.text is None:
            raise DataError("a list of texts is for a model of texts", hint=_describe_columns(schema))
        return _from_columns({schema.text.name: list(data)}, schema, context, on_error)
    if isinstance(data, np.ndarray | Sequence) or hasattr(data, "__array__"):
        return _from_array(np.asarray(data), schema, context, on_error)
    if hasattr(data, "__iter__") and hasattr(data, "total"):
        reader: RowReader = data
        return reader
    raise DataError(f"rows cannot be a {type(data).__name__}", hint=_describe_columns(schema))


def _from_array(array: Array, schema: InputSchema, context: DataContext, on_error: OnError) -> RowReader:
    if array.ndim == 1 and array.dtype.kind in "OU" and schema.text is not None:
        return _from_columns({schema.text.name: array}, schema, context, on_error)
    if array.ndim < 2 or array.dtype.kind not in "fiub":
        raise DataError(
            f"an array of shape {array.shape} holds no rows of numbers", hint=_describe_columns(schema)
        )
    flat = array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64)
    columns = schema.columns
    single = columns[0] if len(columns) == 1 else None
    if single is not None and single.kind in ("vector", "image") and math.prod(single.shape) == flat.shape[1]:
        cells = {single.name: flat.reshape(len(flat), *single.shape)}
    elif all(column.kind == "numeric" for column in columns) and len(columns) == flat.shape[1]:
        cells = {column.name: flat[:, place] for place, column in enumerate(columns)}
    else:
        raise DataError(
            f"rows of {flat.shape[1]:,} numbers do not fit the model", hint=_describe_columns(schema)
        )
    return MemoryReader(Rows(cells, unlabelled(len(flat)), row_numbers(0, len(flat))), _NAME)


def _from_columns(
    cells: Mapping[str, Any], schema: InputSchema, context: DataContext, on_error: OnError
) -> RowReader:
    """Read columns like a table in a file, so that names and cells have the same meaning."""
    import pyarrow as pa

    from flowgmm_cli.data.readers.chunks import TableChunks
    from flowgmm_cli.data.readers.table import RawBatch, TableReader

    arrays = {name: _to_arrow(values) for name, values in cells.items()}
    if len({len(array) for array in arrays.values()}) > 1:
        raise DataError(
            f"the columns of {_NAME} differ in length",
            details=[f"`{name}`: {len(array):,}" for name, array in arrays.items()],
        )

    class Columns(TableReader):
        format, name, names = "columns", _NAME, list(arrays)

        def _read(self, columns: Sequence[str], numbers: Collection[str], size: int) -> Iterator[RawBatch]:
            yield RawBatch(pa.table({name: arrays[name] for name in columns}))

    return TableChunks(Columns(), schema, ReadOptions(context.note, on_error))


def _to_arrow(values: Any) -> pa.Array:
    import pyarrow as pa

    array = values if isinstance(values, list) else np.asarray(values)
    try:
        if isinstance(array, np.ndarray) and array.ndim > 1:
            flat = pa.array(array.reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, math.prod(array.shape[1:]))
        return pa.array(array, from_pandas=True)
    except pa.ArrowException:  # cells of several types become text, as in a csv file
        return pa.array([None if cell is None or cell != cell else str(cell) for cell in array], pa.string())


def _describe_columns(schema: InputSchema) -> str:
    def describe(column: Column) -> str:
        return f"{column.name} ({column.kind}{' ' + str(column.shape) if column.shape else ''})"

    listed = ", ".join(describe(column) for column in schema.columns[:8])
    return f"the model reads {listed}{', ...' if len(schema.columns) > 8 else ''}"
