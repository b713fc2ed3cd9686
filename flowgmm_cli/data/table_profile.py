"""Profile a table before training: infer the kind and role of each column.

Roles are proposals: the starter recipe lists each with its reason, for the user to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.column_checks import are_dates, is_counter, is_identifier, leaks_label
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.column_kinds import FEW_CATEGORIES, MAX_CATEGORIES, mostly_numbers
from flowgmm_cli.data.sources.columns import (
    find_localised_numbers,
    find_non_numeric,
    numbers,
    strings,
    vectors,
)

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
    """A column with the role of its cells in a recipe and the reason, '' if none is needed.

    `missing` cells are empty; there are `distinct` different values. With `categorical` a recipe must declare
    them categories.
    """

    name: str
    kind: Kind
    role: Role
    reason: str = ""
    missing: int = 0
    distinct: int = 0
    categorical: bool = False


@dataclass(frozen=True)
class Profile:
    """A table: rows of each class, in the order of class names, and all columns.

    `english` is True if the texts look English, None without texts.
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
    """Profile every column of a table with the rows of each class in its label column.

    `text` names the text columns; without any, text columns are inferred.
    """
    labels = strings(table.data[label])
    empty_labels = sum(cell is None for cell in labels)
    columns = [
        ColumnProfile(label, "categories", "label", missing=empty_labels, distinct=len(classes))
        if name == label
        else _profile_column(name, table.data[name], labels, text)
        for name in table.names
    ]
    columns = list(_assign_roles(columns))
    texts = [column.name for column in columns if column.role == "text"]
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
    try:
        values = strings(cells)
    except (TypeError, ValueError):
        return ColumnProfile(name, "other", "dropped", "its cells are neither numbers nor words")
    filled = [cell for cell in values if cell is not None]
    distinct, missing = len(set(filled)), len(values) - len(filled)
    as_numbers = numbers(cells)
    kind: Kind
    role: Role
    if name in text:
        kind, role, reason = "text", "text", ""
    elif not filled:
        kind, role, reason = "empty", "dropped", "it is empty"
    elif distinct == 1 and not missing:
        kind, role, reason = "categories" if as_numbers is None else "numbers", "dropped", "it never changes"
    elif as_numbers is not None:
        kind, (role, reason) = "numbers", _number_role(name, as_numbers, values, labels)
    else:
        kind, role, reason = _classify_strings(name, cells, values, labels, infer_text=not text)
    categorical = (kind, role) == ("categories", "input") and distinct > MAX_CATEGORIES
    return ColumnProfile(name, kind, role, reason, missing, distinct, categorical)


def _number_role(
    name: str,
    values: npt.NDArray[np.float64],
    cells: npt.NDArray[np.object_],
    labels: npt.NDArray[np.object_],
) -> tuple[Role, str]:
    if is_counter(values):
        return "id", "it counts the rows"
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
    if whole and _ID_NAME.search(name) and len(np.unique(values)) == len(values):
        return "id", "it names the rows"
    if leaks_label(cells, labels):
        return "dropped", _LEAK
    infinite = int(np.isinf(values).sum())
    return "input", f"{infinite:,} cells are infinite" if infinite else ""


def _classify_strings(
    name: str,
    cells: pa.ChunkedArray,
    values: npt.NDArray[np.object_],
    labels: npt.NDArray[np.object_],
    *,
    infer_text: bool,
) -> tuple[Kind, Role, str]:
    """Return kind, role and reason by the first rule that applies."""
    filled = [cell for cell in values if cell is not None]
    distinct = len(set(filled))
    if (entries := vectors(cells)) is not None:
        return "vectors", "input", f"lists of {entries.shape[1]:,} numbers"
    if pa.types.is_temporal(cells.type) or are_dates(filled):
        return "dates", "dropped", "dates are not inputs; derive numbers from them"
    if pa.types.is_nested(cells.type):
        return "other", "dropped", "its cells are lists or objects"
    if len(localised := find_localised_numbers(cells)):
        example = values[localised[0]]
        return "strings", "dropped", f"numbers with a decimal comma, such as {example}; write 1000.50"
    if distinct > FEW_CATEGORIES and mostly_numbers(cells):
        odd = find_non_numeric(cells)
        return "strings", "dropped", f"numbers except {len(odd):,} cells, the first in row {odd[0] + 1}"
    if infer_text and _is_text(name, filled, distinct):
        return "text", "text", "sentences"
    if is_identifier(filled, len(values) - len(filled), id_name=bool(_ID_NAME.search(name))):
        return "strings", "id", "it names the rows"
    if distinct > 0.9 * len(filled) and distinct > FEW_CATEGORIES:
        return "strings", "dropped", "nearly every row has its own value"
    if leaks_label(values, labels):
        return "categories", "dropped", _LEAK
    if distinct <= MAX_CATEGORIES:
        return "categories", "input", ""
    if distinct <= _MAX_FREQUENT_CATEGORIES and len(filled) >= _MIN_ROWS_PER_CATEGORY * distinct:
        return "categories", "input", f"{distinct} categories, each a feature"
    return "strings", "dropped", f"{distinct:,} different values, too many for categories"


def _is_text(name: str, cells: Sequence[str], distinct: int) -> bool:
    words = float(np.mean([len(cell.split()) for cell in cells[:2000]]))
    varied = distinct > max(MAX_CATEGORIES, 0.3 * len(cells)) or distinct > 0.5 * len(cells) > 10
    text_name = name.strip().casefold() in _TEXT_NAMES
    return varied and (words >= _MIN_WORDS_OF_TEXT or (text_name and words >= 2))


def _assign_roles(columns: Sequence[ColumnProfile]) -> Iterator[ColumnProfile]:
    """Keep the first complete id column with a name, and drop the others; drop inputs beside texts."""
    has_text = any(column.role == "text" for column in columns)
    has_id = False
    for column in columns:
        if column.role == "id":
            usable = not (has_id or column.missing or re.fullmatch(r"Unnamed: \d+", column.name))
            has_id = has_id or usable
            yield column if usable else replace(column, role="dropped")
        elif column.role == "input" and has_text:
            yield replace(column, role="dropped", reason="the text alone is used")
        else:
            yield column
