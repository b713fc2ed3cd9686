"""Profile a table for `init`: its label, its classes, and the kind and role of each column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.column_analysis import (
    LEAK,
    ColumnProfile,
    Role,
    leaks_label,
    profile_column,
    require_names,
)
from flowgmm_cli.data.labels import TABLE_REMEDY, find_classes
from flowgmm_cli.data.readers.byte_source import require_header
from flowgmm_cli.data.readers.open import open_table
from flowgmm_cli.data.readers.table import ReadSettings, Table, TableReader, load_table
from flowgmm_cli.data.sources.columns import MISSING_WORDS, numbers, sort_naturally, strings
from flowgmm_cli.data.sources.columns import texts as join_texts
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.messages import join_some, quote

MAX_BYTES = 2**26
"""Bytes of cells in memory; columns are judged by the first rows of a larger table."""
_NUMBER_FORMS = (
    (re.compile(r"[+-]?([1-9]\d{0,2}(,\d{3})*|\d+)(\.\d*)?"), ".", ","),
    (re.compile(r"[+-]?\d+(,\d*)?"), ",", None),
    (re.compile(r"[+-]?([1-9]\d{0,2}(\.\d{3})*|\d+)(,\d*)?"), ",", "."),
)  # of cells, with data.decimal and data.thousands
_LABEL_NAMES = frozenset(
    ["label", "labels", "class", "target", "y", "category", "outcome", "diagnosis", "intent", "topic"]
)
_MAX_CLASSES = 1000
_MAX_CANDIDATE_CLASSES = 20  # of a column of words whose name does not suggest a label


@dataclass(frozen=True)
class Profile:
    """A table.

    Attributes:
        rows: number of rows.
        label: the label column.
        classes: number of rows of each class, by name.
        columns: all columns.
        english: True if the texts look English, None without texts.
        settings: encoding of its file and form of its numbers.
        without_text: number of rows whose texts are empty.
        head: number of rows, the first, by which columns are judged; 0 if it is all.
    """

    rows: int
    label: str
    classes: Mapping[str, int]
    columns: tuple[ColumnProfile, ...]
    english: bool | None = None
    settings: ReadSettings = field(default_factory=ReadSettings)
    without_text: int = 0
    head: int = 0

    @property
    def judged(self) -> int:
        """Number of rows by which columns are judged."""
        return self.head or self.rows

    @property
    def labelled(self) -> int:
        """Number of labelled rows."""
        return sum(self.classes.values())

    def with_role(self, *roles: Role) -> list[ColumnProfile]:
        """Return the columns of some roles."""
        return [column for column in self.columns if column.role in roles]


def profile_file(
    path: str,
    *,
    label: str | None,
    text: Sequence[str],
    encoding: str | None,
    note: Callable[[str], None],
    report: Callable[[str], None],
) -> Profile:
    """Read and profile a table; of a large one the first rows, and the labels of all.

    Args:
        path: the file, or a folder or pattern of files.
        label: the label column; None takes the only candidate.
        text: columns of text.
        encoding: encoding of text files.
        note: receives notes about labels and rows.
        report: receives guesses about the file and the label.

    Raises:
        DataError, UsageError: the file cannot be read, or has no label or no input.
    """
    settings = ReadSettings(encoding=encoding)
    reader, table = _read(path, settings, report)
    name = find_label_column(table, label)
    if label is None:
        report(f"label   {name} (it looks like the class; --label names another)")
    for column in text:
        table.column(column, key="--text")
        if column == name:
            raise UsageError(f"--text {column}: that is the label", hint="name a column of text")
    counted = None
    if not table.complete:
        from flowgmm_cli.data.chunked_table import read_labels  # imports torch

        found = read_labels(reader, name, None, None, DataContext())
        for line in found["notes"].tolist():
            report(line)
        pairs = zip(found["labels"].tolist(), found["counts"].tolist(), strict=True)
        counted = dict(pairs), len(found["codes"])
    classes = class_counts(table, name, counted=counted, note=note)
    profile = profile_table(table, label=name, classes=classes, text=text)
    if marks := find_number_marks(table, profile):
        settings = replace(marks, encoding=encoding)
        table = _read(path, settings, lambda line: None)[1]
        profile = profile_table(table, label=name, classes=classes, text=text)
    profile = replace(profile, settings=settings)
    if counted is not None:
        profile = replace(profile, rows=counted[1], head=profile.rows)
    if not profile.with_role("input", "text"):
        raise DataError(
            f"{path}: no column can be an input",
            details=[f"{column.name}: {column.reason}" for column in profile.with_role("dropped", "id")],
            hint="add a column of numbers, categories or text, or name one with --text",
        )
    return profile


def _read(path: str, settings: ReadSettings, note: Callable[[str], None]) -> tuple[TableReader, Table]:
    reader = open_table(path, settings, note=note)
    require_header(reader.names, where=path)
    table = load_table(reader, on_error=None, note=note, max_bytes=MAX_BYTES)
    require_names(table)
    return reader, table


def profile_table(
    table: Table, *, label: str, classes: Mapping[str, int], text: Sequence[str] = ()
) -> Profile:
    """Profile every column of a table with the rows of each class in its label column.

    `text` names the text columns; without any, text columns are inferred.
    """
    labels = table.label_strings(label)

    def profile(name: str) -> ColumnProfile:
        if name == label:
            empty = sum(cell is None for cell in labels)
            return ColumnProfile(label, "categories", "label", missing=empty, distinct=len(classes))
        column = profile_column(
            name, table.data[name], infer_text=not text, count=True, row_number=table.row_number
        )
        if name in text:
            return replace(column, kind="text", role="text", reason="", remedy="")
        usable = column.role == "input" and column.kind in ("numbers", "categories")
        if usable and leaks_label(strings(table.data[name]), labels):
            return replace(column, role="dropped", reason=LEAK)
        return column

    columns = tuple(_assign_roles([profile(name) for name in table.names]))
    texts = [column.name for column in columns if column.role == "text"]
    english = looks_english([cell for name in texts for cell in strings(table.data[name])]) if texts else None
    without_text = int((join_texts([table.data[name] for name in texts]) == "").sum()) if texts else 0
    return Profile(table.data.num_rows, label, classes, columns, english, without_text=without_text)


def find_number_marks(table: Table, profile: Profile) -> ReadSettings | None:
    """Return settings for the numbers of columns whose decimal comma or thousands marks must be declared.

    None without such columns, and where 1,234 may be more than a thousand or a little more than one.
    """
    localised = [column.name for column in profile.columns if "decimal comma" in column.reason]
    cells = [cell for name in localised for cell in strings(table.data[name]) if cell is not None]
    fitting = [
        ReadSettings(decimal=decimal, thousands=thousands)
        for form, decimal, thousands in _NUMBER_FORMS
        if cells and all(form.fullmatch(cell) or cell.casefold() in MISSING_WORDS for cell in cells)
    ]
    is_clear = len({settings.decimal for settings in fitting}) == 1
    return fitting[0] if is_clear else None


def looks_english(texts: Sequence[str | None]) -> bool:
    """Return True if at least 30 % of the texts contain a common English word."""
    common = re.compile(
        r"\b(the|and|to|of|is|in|for|what|how|with|you|it|on|this|that|are|was|my|i|a)\b", re.I
    )
    sample = [text for text in texts[:2000] if text]
    return sum(bool(common.search(text)) for text in sample) >= 0.3 * len(sample)


def _assign_roles(columns: Sequence[ColumnProfile]) -> Iterator[ColumnProfile]:
    """Keep the first complete id column with a name, and drop the others; drop inputs beside texts."""
    has_text = any(column.role == "text" for column in columns)
    has_id = False
    for column in columns:
        if column.role == "id":
            usable = not (has_id or column.missing or column.name.startswith("Unnamed: "))
            has_id = has_id or usable
            yield column if usable else replace(column, role="dropped")
        elif column.role == "input" and has_text:
            yield replace(column, role="dropped", reason="the text alone is used")
        else:
            yield column


def find_label_column(table: Table, name: str | None) -> str:
    """Return the label column: the given one, else the only candidate, or the only mostly empty one.

    Raises:
        DataError: there is no column `name`, or it holds lists or objects.
        UsageError: no name is given, and there are no or several candidates.
    """
    if name is not None:
        table.label_strings(name)
        return name
    counts = {name: c for name in table.names if 2 <= len(c := _counts(table, name)) <= _MAX_CLASSES}
    candidates = [name for name in counts if name.strip().casefold() in _LABEL_NAMES] or [
        name
        for name, cells in counts.items()
        if len(cells) <= _MAX_CANDIDATE_CLASSES
        and min(cells.values()) > 1
        and numbers(table.data[name]) is None
    ]
    if len(candidates) > 1:  # labels are missing in most rows, other cells are not
        gaps = [name for name in candidates if sum(counts[name].values()) < table.data.num_rows / 2]
        candidates = gaps if len(gaps) == 1 else candidates
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
        details=[f"{name}: {_summarise(counts[name])}" for name in candidates],
        hint=f"name one of them, for instance --label {quote(candidates[0])}",
    )


def class_counts(
    table: Table,
    label: str,
    *,
    counted: tuple[Mapping[str, int], int] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, int]:
    """Return the number of rows of each class, by name; `DataError` if the column does not hold classes.

    `counted` are the rows of each label and of all, by default those of the table.
    """
    where = f"{table.where}: column `{label}`"
    counts, rows = counted or (_counts(table, label), table.data.num_rows)
    sizes = find_classes(counts, rows, where=where, note=note, remedy=TABLE_REMEDY)
    if len(sizes) < 2:
        content = f"only `{next(iter(counts))}`" if counts else "nothing"
        raise DataError(
            f"{where} holds {content}; at least two classes are needed",
            hint="label a few rows of each class, or name another column with --label",
        )
    return sizes


def _counts(table: Table, name: str) -> Counter[str]:
    try:
        cells = table.label_strings(name)
    except DataError:  # lists or objects
        return Counter()
    return Counter(cell for cell in cells if cell is not None)


def _summarise(counts: Mapping[str, int], most: int = 5) -> str:
    names = sort_naturally(sorted(counts))
    return join_some((f"{name} ({counts[name]:,} rows)" for name in names), len(names), most)
