"""Profile a table before training: infer the kind and role of each column.

Roles are proposals: the starter recipe lists each with its reason, for the user to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.column_checks import are_dates, is_counter, is_identifier, leaks_label
from flowgmm_cli.data.sources.column_kinds import FEW_CATEGORIES, MAX_CATEGORIES, mostly_numbers
from flowgmm_cli.data.sources.columns import (
    find_localised_numbers,
    find_non_numeric,
    numbers,
    strings,
    vectors,
)
from flowgmm_cli.data.sources.tables import Table

if TYPE_CHECKING:
    import numpy.typing as npt

Kind = Literal["numbers", "categories", "text", "vectors", "dates", "strings", "other", "empty"]
Role = Literal["label", "input", "text", "id", "dropped"]

_MAX_FREQUENT_CATEGORIES = 200  # distinct values that can be categories if each is frequent
_MIN_ROWS_PER_CATEGORY = 8  # on average, for a value to be frequent
_MIN_WORDS_OF_TEXT = 4.0  # words in a cell, on average
_TEXT_NAMES = {"text", "sentence", "review", "question", "title", "body", "content", "message", "comment"}
_TEXT_NAMES |= {"description", "headline", "abstract", "summary", "tweet", "document", "utterance", "query"}
_ID_NAME = re.compile(r"(^|[_\W])(id|ids|uuid|guid|key|index|idx|rowid|nr|no|number)$", re.IGNORECASE)
_LEAK = "each of its values goes with one class only: it gives the label away"


@dataclass(frozen=True)
class ColumnProfile:
    """A column.

    Attributes:
        name: as in the file.
        kind: kind of its cells.
        role: its role in a recipe.
        reason: explanation of the role, '' if none is needed.
        missing: number of empty cells.
        distinct: number of distinct values.
        categorical: True if a recipe must declare its values categories.
    """

    name: str
    kind: Kind
    role: Role
    reason: str = ""
    missing: int = 0
    distinct: int = 0
    categorical: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Profile:
    """A table.

    Attributes:
        rows: number of rows.
        label: name of the label column.
        classes: rows of each class, in the order of class names.
        columns: all columns, in order.
        english: True if the texts look English; None without texts.
    """

    rows: int
    label: str
    classes: Mapping[str, int]
    columns: tuple[ColumnProfile, ...]
    english: bool | None = None

    @property
    def labelled(self) -> int:
        """Number of labelled rows."""
        return sum(self.classes.values())

    def with_role(self, *roles: Role) -> list[ColumnProfile]:
        """Return the columns of some roles."""
        return [column for column in self.columns if column.role in roles]


def profile_table(
    table: Table, *, label: str, classes: Mapping[str, int], text: Sequence[str] = ()
) -> Profile:
    """Profile every column of a table.

    Args:
        table: result of `read_table`.
        label: name of the label column.
        classes: rows of each class.
        text: names of text columns; without any, text columns are inferred.
    """
    labels = strings(table.data[label])
    empty_labels = sum(cell is None for cell in labels)
    columns = [
        ColumnProfile(label, "categories", "label", missing=empty_labels, distinct=len(classes))
        if name == label
        else _profile_column(name, table.data[name], labels, text)
        for name in table.names
    ]
    columns = _keep_first_id(columns)
    texts = [column.name for column in columns if column.role == "text"]
    if texts:  # a text recipe uses only the text
        columns = [
            replace(column, role="dropped", reason="the text alone is used")
            if column.role == "input"
            else column
            for column in columns
        ]
    english = looks_english([cell for name in texts for cell in strings(table.data[name])]) if texts else None
    return Profile(table.data.num_rows, label, classes, tuple(columns), english)


def looks_english(texts: Sequence[str | None]) -> bool:
    """Return True if at least 30 % of the texts contain a common English word."""
    common = re.compile(
        r"\b(the|and|to|of|is|in|for|what|how|with|you|it|on|this|that|are|was|my|i|a)\b", re.I
    )
    sample = [text for text in texts[:2000] if text]
    return sum(bool(common.search(text)) for text in sample) >= 0.3 * len(sample)


def _profile_column(
    name: str, cells: pa.ChunkedArray, labels: npt.NDArray[np.object_], text: Sequence[str]
) -> ColumnProfile:
    """Return the profile by the first rule that applies."""
    try:
        values = strings(cells)
    except (TypeError, ValueError):
        return ColumnProfile(name, "other", "dropped", "its cells are neither numbers nor words")
    filled = [cell for cell in values if cell is not None]
    distinct = len(set(filled))
    missing = len(values) - len(filled)

    def column(kind: Kind, role: Role, reason: str = "", *, categorical: bool = False) -> ColumnProfile:
        return ColumnProfile(name, kind, role, reason, missing, distinct, categorical)

    if name in text:
        return column("text", "text")
    if not filled:
        return column("empty", "dropped", "it is empty")
    if distinct == 1 and not missing:
        kind: Kind = "numbers" if numbers(cells) is not None else "categories"
        return column(kind, "dropped", "it never changes")
    as_numbers = numbers(cells)
    if as_numbers is not None:
        return _profile_numbers(name, as_numbers, column, values, labels)
    if (entries := vectors(cells)) is not None:
        return column("vectors", "input", f"lists of {entries.shape[1]:,} numbers")
    if pa.types.is_temporal(cells.type) or are_dates(filled):
        return column("dates", "dropped", "dates are not inputs; derive numbers from them")
    if pa.types.is_nested(cells.type):
        return column("other", "dropped", "its cells are lists or objects")
    if len(localised := find_localised_numbers(cells)):
        example = values[localised[0]]
        return column("strings", "dropped", f"numbers with a decimal comma, such as {example}; write 1000.50")
    if distinct > FEW_CATEGORIES and mostly_numbers(cells):
        odd = find_non_numeric(cells)
        reason = f"numbers except {len(odd):,} cells, the first in row {odd[0] + 1}"
        return column("strings", "dropped", reason)
    if not text and _is_text(name, filled, distinct):
        return column("text", "text", "sentences")
    if is_identifier(filled, missing, id_name=bool(_ID_NAME.search(name))):
        return column("strings", "id", "it names the rows")
    return _profile_strings(values, filled, distinct, labels, column)


def _profile_numbers(
    name: str,
    values: npt.NDArray[np.float64],
    column: Callable[..., ColumnProfile],
    cells: npt.NDArray[np.object_],
    labels: npt.NDArray[np.object_],
) -> ColumnProfile:
    if is_counter(values):
        return column("numbers", "id", "it counts the rows")
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
    if whole and _ID_NAME.search(name) and len(np.unique(values)) == len(values):
        return column("numbers", "id", "it names the rows")
    if leaks_label(cells, labels):
        return column("numbers", "dropped", _LEAK)
    infinite = int(np.isinf(values).sum())
    return column("numbers", "input", f"{infinite:,} cells are infinite" if infinite else "")


def _profile_strings(
    values: npt.NDArray[np.object_],
    filled: Sequence[str],
    distinct: int,
    labels: npt.NDArray[np.object_],
    column: Callable[..., ColumnProfile],
) -> ColumnProfile:
    if distinct > 0.9 * len(filled) and distinct > FEW_CATEGORIES:
        return column("strings", "dropped", "nearly every row has its own value")
    if leaks_label(values, labels):
        return column("categories", "dropped", _LEAK)
    if distinct <= MAX_CATEGORIES:
        return column("categories", "input")
    if distinct <= _MAX_FREQUENT_CATEGORIES and len(filled) >= _MIN_ROWS_PER_CATEGORY * distinct:
        return column("categories", "input", f"{distinct} categories, each a feature", categorical=True)
    return column("strings", "dropped", f"{distinct:,} different values, too many for categories")


def _is_text(name: str, cells: Sequence[str], distinct: int) -> bool:
    words = float(np.mean([len(cell.split()) for cell in cells[:2000]]))
    varied = distinct > max(MAX_CATEGORIES, 0.3 * len(cells)) or distinct > 0.5 * len(cells) > 10
    text_name = name.strip().casefold() in _TEXT_NAMES
    return varied and (words >= _MIN_WORDS_OF_TEXT or (text_name and words >= 2))


def _keep_first_id(columns: list[ColumnProfile]) -> list[ColumnProfile]:
    """Keep the first complete id column with a name, and drop the others."""
    has_id = False
    kept = []
    for column in columns:
        if column.role == "id":
            if has_id or column.missing or re.fullmatch(r"Unnamed: \d+", column.name):
                column = replace(column, role="dropped")
            else:
                has_id = True
        kept.append(column)
    return kept
