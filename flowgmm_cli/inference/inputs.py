"""Rows for a finished run: its own splits, and selections of rows of a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowgmm_cli.api import Column, Component, DataContext, Rows
from flowgmm_cli.data.array_types import Columns, Ints
from flowgmm_cli.data.dates import readable_cells
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.data.readers.base import RowReader
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import DataError
from flowgmm_cli.evaluation.evaluation_file import find_test_hashes
from flowgmm_cli.messages import quote
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel


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
) -> SplitData:
    """Load the rows of a run, with the splits of its training and without the network.

    `warn` is called with a message if the rows have changed since. `purpose` is the subject of the error
    message, such as `ood without --in`.

    Raises:
        DataError: the data is gone or malformed.
    """
    info = run.info()
    try:
        context = replace(context, offline=True)
        rows = load_rows(trained.recipe.data, context, test=find_test_hashes(run))
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


def select_held_out(rows: SplitData) -> tuple[str, Rows]:
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
        ids = chunk.ids.astype(str)
        found = [
            (by_id, place, str(ids[place])) for place in np.flatnonzero(np.isin(ids, list(names))).tolist()
        ]
        places = ((number - 1 - chunk.start, name) for number, name in numbers.items())
        found += [(by_number, place, name) for place, name in places if 0 <= place < len(chunk)]
        for table, place, name in found:
            table.setdefault(name, (chunk.take(np.array([place])), chunk.problems.get(place)))
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
        chunks.append(chunk)
        total += len(chunk)
        if count is not None and total >= count:
            break
    rows = concatenate_rows(chunks)
    return rows if count is None else rows.take(np.arange(min(count, len(rows))))


def balance_classes(labels: Ints, count: int) -> Ints:
    """Return positions of `count` rows, about equally many of each class, sorted by class.

    Rows without a label, -1, count as a class, the last.

    >>> balance_classes(np.array([1, 1, 1, 0, 1, -1]), 4).tolist()
    [3, 0, 1, 5]
    """
    classes = np.where(labels < 0, labels.max(initial=0) + 1, labels)
    rank = np.zeros(len(labels), np.int64)  # within the class
    for index in np.unique(classes):
        rank[classes == index] = np.arange((classes == index).sum())
    places = np.lexsort((classes, rank))[:count]
    return places[np.argsort(classes[places], kind="stable")]


def read_rows_at(reader: RowReader, places: Ints) -> Rows:
    """Read rows by their position in the input, from 0, in the order of `places`."""
    unique = np.unique(places)
    parts = []
    for chunk in reader:
        inside = unique[(unique >= chunk.start) & (unique < chunk.start + len(chunk))] - chunk.start
        if len(inside):
            parts.append(chunk.take(inside))
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


def training_rows(rows: SplitData) -> Rows:
    """Return the training and validation rows of a run in memory; an extra that rows lack is empty."""
    parts = [part for part in (rows.train, rows.val) if part is not None]
    cells = {name: cells for part in parts for name, cells in part.extras.items()}

    def fill(part: Rows) -> Rows:
        empty = {
            name: np.full((len(part), *example.shape[1:]), None if example.dtype == object else 0)
            for name, example in cells.items()
        }
        return replace(part, extras={**empty, **part.extras})

    return concatenate_rows(list(map(fill, parts)))


def add_inputs(own: Columns, rows: Rows, columns: Sequence[Column]) -> Columns:
    """Add the input columns of rows to a table; one whose name is taken becomes `input_NAME`.

    Vectors and images have no columns in a table; the ids of their rows name them.
    """
    inputs = {
        column.name: readable_cells(column, rows.columns[column.name])
        for column in columns
        if not column.shape
    }
    return {**own, **{f"input_{name}" if name in own else name: cells for name, cells in inputs.items()}}
