"""Rows that a Python program hands over, in whatever form it has them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.prepare import SplitRows, load_rows
from flowgmm_cli.data.readers.base import Chunk, OnError, ReadOptions, RowReader, row_numbers
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError
from flowgmm_cli.trained import TrainedModel

if TYPE_CHECKING:
    import pyarrow as pa


NAME = "the given rows"


class InputRows:
    """A reader of one chunk that is in memory."""

    def __init__(self, chunk: Chunk, name: str = NAME) -> None:
        self.name = name
        self.total: int | None = len(chunk)
        self._chunk = chunk

    def __iter__(self) -> Iterator[Chunk]:
        yield self._chunk


def read_input(data: Any, schema: InputSchema, *, context: DataContext, on_error: OnError) -> RowReader:
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
        return InputRows(Chunk(data, 0))
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
    return InputRows(Chunk(_rows(cells, len(flat)), 0))


def _rows(cells: Mapping[str, np.ndarray[Any, Any]], count: int) -> Rows:
    return Rows(cells, np.full(count, -1, dtype=np.int64), row_numbers(0, count))


def _from_columns(
    cells: Mapping[str, Any], schema: InputSchema, context: DataContext, on_error: OnError
) -> RowReader:
    """The way that rows of a table in a file go, so that names and cells mean the same here."""
    import pyarrow as pa

    from flowgmm_cli.data.readers.chunks import ChunkBuilder, RawBatch
    from flowgmm_cli.data.readers.match import match_columns

    match = match_columns(schema, list(cells), where=NAME, note=context.note)
    arrays = {name: _arrow(cells[name]) for name in match.needed}
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"the columns of {NAME} differ in length",
            details=[f"`{name}`: {size:,}" for name, size in sizes.items()],
        )
    options = ReadOptions(context.note, on_error)
    build_chunk = ChunkBuilder(schema, match, name=NAME, options=options)
    return InputRows(build_chunk(RawBatch(pa.table(arrays)), 0))


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


def load_run_rows(
    trained: TrainedModel,
    context: DataContext,
    *,
    fingerprint: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
    purpose: str = "this",
) -> SplitRows:
    """The rows of a run, divided as in training.

    Args:
        trained: the run's model.
        context: surroundings of the data source.
        fingerprint: what `run.json` says of the rows; None if that is not known.
        warn: told if the rows are not the same any more.
        purpose: what the rows are wanted for, for the error.

    Raises:
        DataError: the data is gone or malformed.
    """
    try:
        rows = load_rows(trained.recipe.data, context)
    except DataError as error:
        raise DataError(
            f"{purpose} needs the data of the run, which cannot be read: {error.message}",
            details=error.details,
            hint=f"put the data back where the recipe finds it ({_place(trained)})",
        ) from error
    if fingerprint is not None and rows.fingerprint != fingerprint:
        warn("the data has changed since this run was trained")
    return rows


def held_out_rows(rows: SplitRows) -> tuple[str, Rows]:
    """Rows that the model was not trained on, if there are any: test, else validation, else training rows."""
    if rows.test is not None:
        return "test", rows.test
    return ("val", rows.val) if rows.val is not None else ("train", rows.train)


def select_rows(reader: RowReader, names: Sequence[str]) -> Rows:
    """Single rows by id, or by number from 1 where no id is so called, in the order of `names`.

    Raises:
        DataError: there is no such row, or it cannot be used.
    """
    by_id: dict[str, Rows] = {}
    by_number: dict[str, Rows] = {}
    problems: dict[str, str] = {}
    wanted = set(names)
    numbers = {int(name): name for name in wanted if name.isascii() and name.isdigit()}
    seen = 0
    for chunk in reader:
        ids = chunk.rows.ids.astype(str)
        for place in np.flatnonzero(np.isin(ids, list(wanted))).tolist():
            if (name := str(ids[place])) not in by_id:
                by_id[name] = chunk.rows.take(np.array([place]))
                problems |= {name: chunk.problems[place]} if place in chunk.problems else {}
        for number, name in numbers.items():
            place = number - 1 - chunk.start
            if 0 <= place < len(chunk):
                by_number[name] = chunk.rows.take(np.array([place]))
                if place in chunk.problems:
                    problems.setdefault(name, chunk.problems[place])
        seen = chunk.start + len(chunk)
        if wanted <= by_id.keys():
            break
    chosen = []
    for name in names:
        row = by_id.get(name, by_number.get(name))
        if row is None:
            raise DataError(
                f"{reader.name} has no row `{name}`",
                hint=f"rows go by their id, or by their number from 1 to {seen:,}",
            )
        if name in problems:
            raise DataError(f"row `{name}` of {reader.name} cannot be used: {problems[name]}")
        chosen.append(row)
    return concatenate_rows(chosen)


def read_first_rows(reader: RowReader, most: int | None) -> Rows:
    """The first `most` rows of an input; all of them for None."""
    found, count = [], 0
    for chunk in reader:
        found.append(chunk.rows)
        count += len(chunk)
        if most is not None and count >= most:
            break
    rows = concatenate_rows(found)
    return rows if most is None else rows.take(np.arange(min(most, len(rows))))


def concatenate_rows(rows: Sequence[Rows]) -> Rows:
    """The same columns of several lots of rows, one after the other; at least one lot."""
    return Rows(
        columns={name: np.concatenate([one.columns[name] for one in rows]) for name in rows[0].columns},
        labels=np.concatenate([one.labels for one in rows]),
        ids=np.concatenate([one.ids.astype(object) for one in rows]),
    )


def _place(trained: TrainedModel) -> str:
    path = getattr(trained.recipe.data.config, "path", None)
    return f"data.path: {path}" if path else f"data.use: {trained.recipe.data.use}"
