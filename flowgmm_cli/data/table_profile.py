"""A look at a table before anything is trained on it: what each column is, and whether it can be an input.

Nothing is decided for good here: every column gets a role and the reason for it, which the starter recipe
writes down for its owner to change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.column_checks import counts_rows, dates, names_a_row, predicts
from flowgmm_cli.data.sources.column_kinds import FEW_CATEGORIES, MAX_CATEGORIES, mostly_numbers
from flowgmm_cli.data.sources.columns import (
    localised_number_positions,
    non_numeric_positions,
    numbers,
    strings,
    vectors,
)
from flowgmm_cli.data.sources.tables import Table

if TYPE_CHECKING:
    import numpy.typing as npt

Kind = Literal["numbers", "categories", "text", "vectors", "dates", "strings", "other", "empty"]
Role = Literal["label", "input", "text", "id", "dropped"]

_MANY_CATEGORIES = 200  # so many different values can still be categories, if each is frequent
_FREQUENT = 8  # rows that a category has on average, to be one
_WORDS_OF_TEXT = 4.0  # words in a cell, on average, from which on strings are taken for text
_TEXT_NAMES = {"text", "sentence", "review", "question", "title", "body", "content", "message", "comment"}
_TEXT_NAMES |= {"description", "headline", "abstract", "summary", "tweet", "document", "utterance", "query"}
_ID_NAME = re.compile(r"(^|[_\W])(id|ids|uuid|guid|key|index|idx|rowid|nr|no|number)$", re.IGNORECASE)


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    Attributes:
        name: as in the file.
        kind: what its cells are.
        role: what a recipe does with it.
        reason: why, where that is not plain; for people.
        missing: number of empty cells.
        distinct: number of different values.
        categorical: whether a recipe must say that its values are categories.
    """

    name: str
    kind: Kind
    role: Role
    reason: str = ""
    missing: int = 0
    distinct: int = 0
    categorical: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Profile:
    """A table.

    Attributes:
        rows: number of rows.
        label: the column of the class.
        classes: rows of each class, in the order of the class names.
        columns: all columns, in order.
        english: whether the texts look English; None without texts.
    """

    rows: int
    label: str
    classes: Mapping[str, int]
    columns: tuple[ColumnProfile, ...]
    english: bool | None = None

    @property
    def labelled(self) -> int:
        """Rows with a class."""
        return sum(self.classes.values())

    def with_role(self, *roles: Role) -> list[ColumnProfile]:
        """Columns of a role."""
        return [one for one in self.columns if one.role in roles]


def profile(table: Table, *, label: str, classes: Mapping[str, int], text: Sequence[str] = ()) -> Profile:
    """Look at every column of a table.

    Args:
        table: as `read_table` gives it.
        label: the column of the class.
        classes: rows of each class.
        text: columns that are texts, whatever they look like; without any, texts are recognised.
    """
    labels = strings(table.data[label])
    found = [
        ColumnProfile(label, "categories", "label", missing=_empty(labels), distinct=len(classes))
        if name == label
        else _column(name, table.data[name], labels, text)
        for name in table.names
    ]
    found = _one_id(found)
    texts = [one.name for one in found if one.role == "text"]
    if texts:  # a recipe of texts takes these alone
        found = [
            _with(one, role="dropped", reason="the text alone is used") if one.role == "input" else one
            for one in found
        ]
    english = looks_english([cell for name in texts for cell in strings(table.data[name])]) if texts else None
    return Profile(table.data.num_rows, label, classes, tuple(found), english)


def looks_english(texts: Sequence[str | None]) -> bool:
    """Whether common English words stand in a good part of the texts."""
    common = re.compile(
        r"\b(the|and|to|of|is|in|for|what|how|with|you|it|on|this|that|are|was|my|i|a)\b", re.I
    )
    seen = [text for text in texts[:2000] if text]
    return sum(bool(common.search(text)) for text in seen) >= 0.3 * len(seen)


def _column(
    name: str, cells: pa.ChunkedArray, labels: npt.NDArray[np.object_], text: Sequence[str]
) -> ColumnProfile:
    """What a column is, by the first of the following that holds."""
    try:
        known = strings(cells)
    except (TypeError, ValueError):
        return ColumnProfile(name, "other", "dropped", "its cells are neither numbers nor words")
    filled = [cell for cell in known if cell is not None]
    counts = Counter(filled)
    missing, distinct = len(known) - len(filled), len(counts)

    def made(kind: Kind, role: Role, reason: str = "", *, categorical: bool = False) -> ColumnProfile:
        return ColumnProfile(name, kind, role, reason, missing, distinct, categorical)

    if name in text:
        return made("text", "text")
    if not filled:
        return made("empty", "dropped", "it is empty")
    if distinct == 1 and not missing:
        return made("numbers" if numbers(cells) is not None else "categories", "dropped", "it never changes")
    values = numbers(cells)
    if values is not None:
        return _numeric(name, values, made, known, labels)
    if (entries := vectors(cells)) is not None:
        return made("vectors", "input", f"lists of {entries.shape[1]:,} numbers")
    if pa.types.is_temporal(cells.type) or dates(filled):
        return made("dates", "dropped", "dates are no inputs as they stand; derive numbers from them")
    if pa.types.is_nested(cells.type):
        return made("other", "dropped", "its cells are lists or objects")
    if len(foreign := localised_number_positions(cells)):
        example = known[foreign[0]]
        return made("strings", "dropped", f"numbers with a decimal comma, such as {example}; write 1000.50")
    if distinct > FEW_CATEGORIES and mostly_numbers(cells):
        odd = non_numeric_positions(cells)
        return made(
            "strings", "dropped", f"numbers but for {len(odd):,} cells, the first in row {odd[0] + 1}"
        )
    if not text and _is_text(name, filled, distinct):
        return made("text", "text", "sentences")
    if names_a_row(filled, missing, named_so=bool(_ID_NAME.search(name))):
        return made("strings", "id", "it names the rows")
    if distinct > 0.9 * len(filled) and distinct > FEW_CATEGORIES:
        return made("strings", "dropped", "nearly every row has a value of its own")
    if predicts(known, labels):
        return made(
            "categories", "dropped", "each of its values goes with one class only: it gives the label away"
        )
    if distinct > MAX_CATEGORIES:
        if distinct <= _MANY_CATEGORIES and len(filled) >= _FREQUENT * distinct:
            return made("categories", "input", f"{distinct} categories, each a feature", categorical=True)
        return made("strings", "dropped", f"{distinct:,} different values, too many for categories")
    return made("categories", "input")


def _numeric(
    name: str,
    values: npt.NDArray[np.float64],
    made: Callable[..., ColumnProfile],
    known: npt.NDArray[np.object_],
    labels: npt.NDArray[np.object_],
) -> ColumnProfile:
    if counts_rows(values):
        return made("numbers", "id", "it counts the rows")
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
    if whole and _ID_NAME.search(name) and len(np.unique(values)) == len(values):
        return made("numbers", "id", "it names the rows")
    if predicts(known, labels):
        return made(
            "numbers", "dropped", "each of its values goes with one class only: it gives the label away"
        )
    infinite = int(np.isinf(values).sum())
    return made("numbers", "input", f"{infinite:,} cells are infinite" if infinite else "")


def _is_text(name: str, cells: Sequence[str], distinct: int) -> bool:
    words = float(np.mean([len(cell.split()) for cell in cells[:2000]]))
    varied = distinct > max(MAX_CATEGORIES, 0.3 * len(cells)) or distinct > 0.5 * len(cells) > 10
    named_so = name.strip().casefold() in _TEXT_NAMES
    return varied and (words >= _WORDS_OF_TEXT or (named_so and words >= 2))


def _one_id(columns: list[ColumnProfile]) -> list[ColumnProfile]:
    """The first column that names rows is the id, others are dropped; a nameless index is dropped too."""
    taken = False
    found = []
    for one in columns:
        if one.role == "id" and (taken or one.missing or re.fullmatch(r"Unnamed: \d+", one.name)):
            one = _with(one, role="dropped", reason=one.reason)
        taken = taken or one.role == "id"
        found.append(one)
    return found


def _with(one: ColumnProfile, *, role: Role, reason: str) -> ColumnProfile:
    return ColumnProfile(**{**one.to_dict(), "role": role, "reason": reason})


def _empty(cells: npt.NDArray[np.object_]) -> int:
    return sum(cell is None for cell in cells)
