"""Labels from an annotation tool: exports of Label Studio, and plain tables with a column of labels.

Label Studio exports JSON, a task with its `data` and annotations; or JSON_MIN and CSV, a row with the data of
the task for each annotation. These two replace a column `id` of the data by a number of their own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from flowgmm_cli.data.readers.byte_source import require_file
from flowgmm_cli.data.sources.tables import read_table
from flowgmm_cli.errors import DataError
from flowgmm_cli.files import load_json
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import first_line, join_some

_ANNOTATION = {"annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
"""Columns that Label Studio adds to those of the task."""


class Reason(Enum):
    """A task has no label that can be used, because it ..."""

    SKIPPED = "skipped"
    EMPTY = "without a label"
    SEVERAL = "with several labels"
    CONTRADICTION = "with labels that contradict each other"


Task = Mapping[str, Any]
"""Values of a task by name, such as its text or the path of its image, and the id of its row."""
Choices = Mapping[str, Any]
"""Labels of an annotation, by the name of the control or column."""


@dataclass(frozen=True)
class Labels:
    """Tasks with their labels.

    Attributes:
        tasks: tasks with a label; those without are left out.
        labels: their classes.
        left_out: number of the others, by reason.
    """

    tasks: tuple[Task, ...]
    labels: tuple[str, ...]
    left_out: Mapping[str, int]

    def describe(self) -> str:
        """Count the labels and the tasks without."""
        reasons = [f"{count:,} {reason}" for reason, count in self.left_out.items()]
        return ", ".join([f"{pluralise(len(self.labels), 'task')} with a label", *reasons])


def read_labels(
    path: str, *, name: str | None, inputs: Collection[str], note: Callable[[str], None]
) -> Labels:
    """Read the labels of an export: JSON, JSON lines, CSV or another table.

    Several annotations of a task are counted, and the label that most of them have is taken.

    Args:
        path: the file.
        name: control or column of the labels; None if there is only one beside the `inputs`.
        inputs: columns that hold no labels.
        note: receives guesses about a table.

    Raises:
        DataError: the file is missing or malformed, or has no such labels.
    """
    annotations = list(_read_annotations(path, note))
    name = name or _find_name(path, (choices for _, choices in annotations if choices), inputs)
    tasks: dict[str, Task] = {}
    votes: dict[str, list[str | Reason]] = {}
    for task, choices in annotations:
        own = {key: value for key, value in task.items() if key != name}
        key = json.dumps(own, sort_keys=True, default=str)
        tasks[key] = own
        vote = Reason.SKIPPED if choices is None else _single_label(choices.get(name))
        votes.setdefault(key, []).append(vote)
    results = {key: _count_votes(cast) for key, cast in votes.items()}
    labels = {key: label for key, label in results.items() if isinstance(label, str)}
    left_out = Counter(reason.value for reason in results.values() if isinstance(reason, Reason))
    if not labels:
        raise DataError(
            f"{path} has no label in `{name}`",
            details=[
                f"{count:,} of {pluralise(len(tasks), 'task')} {why}" for why, count in left_out.items()
            ],
            hint="label the tasks first, or name another control or column with --choices",
        )
    return Labels(tuple(tasks[key] for key in labels), tuple(labels.values()), left_out)


def _count_votes(votes: Sequence[str | Reason]) -> str | Reason:
    """Return the label that most annotations of a task have, or the reason why there is no such label."""
    labels = Counter(vote for vote in votes if isinstance(vote, str)).most_common(2)
    if not labels:
        return votes[0]
    return Reason.CONTRADICTION if len(labels) == 2 and labels[0][1] == labels[1][1] else labels[0][0]


def _read_annotations(path: str, note: Callable[[str], None]) -> Iterator[tuple[Task, Choices | None]]:
    """Yield the task and the labels of each annotation; None of a task that was skipped."""
    file = require_file(path)
    if file.suffix.lower() == ".json":
        yield from _read_json(path, file)
        return
    table = read_table(path, note=note)
    for row in table.data.to_pylist():
        yield _split_row(row)


def _read_json(path: str, file: Path) -> Iterator[tuple[Task, Choices | None]]:
    try:
        records = load_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON: {first_line(error)}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path} is no list of tasks", hint="export JSON, JSON_MIN or CSV from Label Studio")
    for record in records:
        if not isinstance(record.get("data"), dict):
            yield _split_row(record)
            continue
        try:
            for annotation in record.get("annotations") or [{}]:
                results = [item for item in annotation.get("result") or () if item["type"] == "choices"]
                choices = {item["from_name"]: item["value"]["choices"] for item in results}
                skipped = annotation.get("was_cancelled")
                yield record["data"], None if skipped else choices
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{path}: task {record.get('id')} has malformed annotations") from error


def _split_row(row: Mapping[str, Any]) -> tuple[Task, Choices]:
    """Divide a row of JSON_MIN or CSV; its columns hold the task and the labels together."""
    own = {"id", *_ANNOTATION} if "annotation_id" in row else set()
    values = {name: value for name, value in row.items() if name not in own}
    return values, values


def _find_name(path: str, choices: Iterable[Choices], inputs: Collection[str]) -> str:
    """Return the only control or column that may hold the labels, or that is called `label`."""
    names = list(dict.fromkeys(name for values in choices for name in values if name not in inputs))
    if len(names) == 1 or "label" in names:
        return names[0] if len(names) == 1 else "label"
    if not names:
        raise DataError(f"{path} has no labels", hint="label the tasks first, then export them")
    raise DataError(
        f"{path} has several names that may hold the labels: {join_some(names, len(names), 12)}",
        hint=f"name the control or column of the labels: --choices {names[-1]}",
    )


def _single_label(value: Any) -> str | Reason:
    """Return the label of an annotation, or the reason why there is no single one."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):  # CSV holds several as JSON
        try:
            value = json.loads(value)
        except ValueError:
            return str(value).strip()
    if isinstance(value, dict):
        value = value.get("choices")
    values = value if isinstance(value, list) else [] if value is None else [value]
    labels = [str(label).strip() for label in values if str(label).strip()]
    return Reason.EMPTY if not labels else labels[0] if len(labels) == 1 else Reason.SEVERAL


def match_rows(
    tasks: Sequence[Task], ids: Iterable[str], columns: Mapping[str, Iterable[Any]]
) -> list[int | None]:
    """Find the row of each task; None if no row fits.

    A row has the task's id, or the end of its path, and at least half of the cells that both have are equal,
    for dates may be written in another way. Without an id the first row with equal cells is taken.

    Args:
        tasks: the tasks.
        ids: ids of the rows.
        columns: cells of the rows by column.
    """
    places = {name: place for place, name in enumerate(ids)}
    used = {name for task in tasks for name in task}
    cells = {name: list(map(_normalise, values)) for name, values in columns.items() if name in used}
    indices: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
    result: list[int | None] = []
    for task in tasks:
        shared = tuple(name for name in cells if name in task)
        key = tuple(_normalise(task[name]) for name in shared)
        by_id = [
            places[end]
            for name, value in task.items()
            if name not in cells
            for end in _path_ends(str(value))
            if end in places
        ]
        fits = [
            place
            for place in by_id
            if 2 * sum(cells[name][place] == cell for name, cell in zip(shared, key, strict=True)) >= len(key)
        ]
        if not fits and shared:
            if shared not in indices:
                rows = list(zip(*(cells[name] for name in shared), strict=True))
                indices[shared] = {row: len(rows) - 1 - place for place, row in enumerate(reversed(rows))}
            fits = [indices[shared][key]] if key in indices[shared] else []
        result.append(fits[0] if fits else None)
    return result


def _path_ends(value: str) -> Iterator[str]:
    """Yield a value, and the shorter ends of a path or address."""
    yield value
    parts = re.split(r"/|\?d=", value)
    yield from ("/".join(parts[start:]) for start in range(1, len(parts)))


def _normalise(cell: Any) -> str:
    """Return a cell in the form by which cells are compared: numbers alike, blanks alike."""
    text = "" if cell is None or cell != cell else " ".join(str(cell).split())
    try:
        return repr(float(text))
    except ValueError:
        return text
