"""Rows for a finished run to work on: its own, read through its recipe, or single ones out of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.prepare import SplitRows, load_rows
from flowgmm_cli.data.readers.schema import RowReader
from flowgmm_cli.errors import DataError
from flowgmm_cli.trained import TrainedModel


def own_rows(
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


def held_out(rows: SplitRows) -> tuple[str, Rows]:
    """Rows that the model was not trained on, if there are any: test, else validation, else training rows."""
    if rows.test is not None:
        return "test", rows.test
    return ("val", rows.val) if rows.val is not None else ("train", rows.train)


def pick(reader: RowReader, names: Sequence[str]) -> Rows:
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
    return together(chosen)


def first_rows(reader: RowReader, most: int | None) -> Rows:
    """The first `most` rows of an input; all of them for None."""
    found, count = [], 0
    for chunk in reader:
        found.append(chunk.rows)
        count += len(chunk)
        if most is not None and count >= most:
            break
    rows = together(found)
    return rows if most is None else rows.take(np.arange(min(most, len(rows))))


def together(rows: Sequence[Rows]) -> Rows:
    """The same columns of several lots of rows, one after the other; at least one lot."""
    return Rows(
        columns={name: np.concatenate([one.columns[name] for one in rows]) for name in rows[0].columns},
        labels=np.concatenate([one.labels for one in rows]),
        ids=np.concatenate([one.ids.astype(object) for one in rows]),
    )


def _place(trained: TrainedModel) -> str:
    path = getattr(trained.recipe.data.config, "path", None)
    return f"data.path: {path}" if path else f"data.use: {trained.recipe.data.use}"
