"""The column of the class: found where nobody named it, and refused where it holds no classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from flowgmm_cli.data.sources.columns import natural_order, numbers, strings
from flowgmm_cli.data.sources.tables import Table
from flowgmm_cli.errors import DataError, UsageError

_NAMES = ("label", "labels", "class", "target", "y", "category", "outcome", "diagnosis", "intent", "topic")
_MOST = 1000  # classes
_FEW = 20  # different values up to which a nameless column of words may be the class


def label_column(table: Table, given: str | None) -> str:
    """The column of the class: the one given, else the only one that can be meant.

    Raises:
        DataError: there is no such column.
        UsageError: none was given, and none or several may be meant.
    """
    if given is not None:
        table.column(given, key="data.label")
        return given
    named = [name for name in table.names if name.strip().casefold() in _NAMES]
    named = [name for name in named if 2 <= len(_counts(table, name)) <= _MOST]
    if len(named) == 1:
        return named[0]
    candidates = named or [name for name in table.names if _may_be_a_class(table, name)]
    if len(candidates) == 1:
        return candidates[0]
    hint = f"--label {candidates[0]}" if candidates else "--label COLUMN"
    if not candidates:
        raise UsageError(
            f"{table.where}: no column looks like a class",
            details=[f"columns: {', '.join(table.names)}"],
            hint=f"name it: {hint}",
        )
    raise UsageError(
        f"{table.where}: several columns may be the class",
        details=[f"{name}: {_few(_counts(table, name))}" for name in candidates],
        hint=f"name one of them, for instance {hint}",
    )


def class_counts(table: Table, label: str) -> dict[str, int]:
    """Rows of each class, in the order of the class names.

    Raises:
        DataError: the column holds no classes: fewer than two, or nearly as many as rows.
    """
    counts = _counts(table, label)
    labelled = sum(counts.values())
    if len(counts) < 2:
        seen = f"only `{next(iter(counts))}`" if counts else "nothing"
        raise DataError(
            f"{table.where}: column `{label}` holds {seen}; at least two classes are needed",
            hint="label a few rows of each class, or name another column with --label",
        )
    if len(counts) > max(2, 0.5 * labelled) or len(counts) > _MOST:
        what = "measurements" if numbers(table.data[label]) is not None else "names or texts"
        raise DataError(
            f"{table.where}: column `{label}` has {len(counts):,} different values in {labelled:,} labelled "
            f"rows; these look like {what}, not like classes",
            hint="name another column with --label, or group the values into a few classes first",
        )
    return counts


def _counts(table: Table, name: str) -> dict[str, int]:
    try:
        cells: Any = strings(table.data[name])
    except (TypeError, ValueError):
        return {}
    codes = table.class_names.get(name)
    if codes is not None:
        names = {str(code): one for code, one in enumerate(codes)}
        cells = [names.get(cell) for cell in cells]
    counts = Counter(cell for cell in cells if cell is not None)
    return {name: counts[name] for name in natural_order(sorted(counts))}


def _may_be_a_class(table: Table, name: str) -> bool:
    """Whether a column of words has few enough values to be the class."""
    counts = _counts(table, name)
    return 2 <= len(counts) <= _FEW and numbers(table.data[name]) is None and min(counts.values()) > 1


def _few(counts: Mapping[str, int], most: int = 5) -> str:
    shown = [f"{name} ({rows:,} rows)" for name, rows in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")
