"""Find the label column of a table, and check that it holds classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from flowgmm_cli.data.messages import join_some
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.columns import numbers, sort_naturally
from flowgmm_cli.errors import DataError, UsageError

_NAMES = ("label", "labels", "class", "target", "y", "category", "outcome", "diagnosis", "intent", "topic")
_MAX_CLASSES = 1000
_MAX_CANDIDATE_CLASSES = 20  # of a column of words whose name does not suggest a label


def find_label_column(table: Table, name: str | None) -> str:
    """Return the label column: the given one, else the only candidate.

    Raises:
        DataError: there is no column `name`.
        UsageError: no name is given, and there are no or several candidates.
    """
    if name is not None:
        table.column(name, key="data.label")
        return name
    named = [name for name in table.names if name.strip().casefold() in _NAMES]
    named = [name for name in named if 2 <= len(_counts(table, name)) <= _MAX_CLASSES]
    candidates = named or [name for name in table.names if _is_candidate(table, name)]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise UsageError(
            f"{table.where}: no column looks like a class",
            details=[f"columns: {', '.join(table.names)}"],
            hint="name it: --label COLUMN",
        )
    raise UsageError(
        f"{table.where}: several columns may be the class",
        details=[f"{name}: {_summarise(_counts(table, name))}" for name in candidates],
        hint=f"name one of them, for instance --label {candidates[0]}",
    )


def class_counts(table: Table, label: str) -> dict[str, int]:
    """Return the number of rows of each class, by name; `DataError` if the column does not hold classes."""
    counts = _counts(table, label)
    labelled = sum(counts.values())
    if len(counts) < 2:
        content = f"only `{next(iter(counts))}`" if counts else "nothing"
        raise DataError(
            f"{table.where}: column `{label}` holds {content}; at least two classes are needed",
            hint="label a few rows of each class, or name another column with --label",
        )
    if len(counts) > max(2, 0.5 * labelled) or len(counts) > _MAX_CLASSES:
        kind = "measurements" if numbers(table.data[label]) is not None else "names or texts"
        raise DataError(
            f"{table.where}: column `{label}` has {len(counts):,} different values in {labelled:,} labelled "
            f"rows; these look like {kind}, not like classes",
            hint="name another column with --label, or group the values into a few classes first",
        )
    return counts


def _counts(table: Table, name: str) -> dict[str, int]:
    try:
        cells = table.label_strings(name)
    except (TypeError, ValueError):
        return {}
    counts = Counter(cell for cell in cells if cell is not None)
    return {name: counts[name] for name in sort_naturally(sorted(counts))}


def _is_candidate(table: Table, name: str) -> bool:
    """Return True if a column of words has few enough values to be a label."""
    counts = _counts(table, name)
    few = 2 <= len(counts) <= _MAX_CANDIDATE_CLASSES
    return few and numbers(table.data[name]) is None and min(counts.values()) > 1


def _summarise(counts: Mapping[str, int], most: int = 5) -> str:
    return join_some((f"{name} ({rows:,} rows)" for name, rows in counts.items()), len(counts), most)
