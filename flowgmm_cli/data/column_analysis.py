"""Analysis of the columns of a table, for `train` and `init` alike: the kind of each column, and its role.

Roles are proposals: `train` notes the columns that it leaves out, and `init` lists them with the reasons.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.data.dates import ISO, find_date_format, is_day_first, parse_dates
from flowgmm_cli.data.readers.byte_source import find_values, is_number, missing_header
from flowgmm_cli.data.readers.row_errors import OnError, max_faulty_rows
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.columns import (
    MISSING_WORDS,
    case_variants,
    count_values,
    find_localised_numbers,
    find_non_numeric,
    numbers,
    strings,
    vectors,
)
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import join_some, override, shorten

Kind = Literal["numbers", "categories", "text", "vectors", "dates", "strings", "other", "empty"]
Role = Literal["label", "input", "text", "id", "dropped"]

LEAK = "each of its values goes with one class only: it gives the label away"

_MAX_CATEGORIES, _MAX_FREQUENT_CATEGORIES = 64, 200  # one-hot encoded; the latter if each is frequent
_MIN_ROWS_PER_CATEGORY = 8  # on average, for a category to be frequent
_FEW_CATEGORIES = 10  # numbers and words with at most so many different values are categories
_MIN_COUNTED = 10  # rows, for numbers that increase by 1 to be a counter
_MIN_WORDS_OF_TEXT = 4.0  # words in a cell, on average
_TEXT_NAMES = {"text", "sentence", "review", "question", "title", "body", "content", "message", "comment"}
_TEXT_NAMES |= {"description", "headline", "abstract", "summary", "tweet", "document", "utterance", "query"}
_ID_NAME = re.compile(r"((^|.*[_\W])(id|ids|uuid|guid|key|index|idx|rowid|nr|no|number)|Unnamed: \d+)", re.I)
_CODE = re.compile(r"[0-9a-fA-F]{8,}|[0-9a-fA-F-]{32,}|[A-Za-z]{0,6}[-_ ]?\d+|\S*\d{3,}\S*")
_AMOUNT = re.compile(r"(?=.*[$€£¥%])\(?[+-]?[$€£¥]? ?[+-]?(\d[\d.,' ]*|\.\d+) ?[$€£¥%]?\)?")
_SIGNIFICANCE = 1e-4
_MIN_LABELLED = 30  # labelled rows, as evidence of a leak
_MIN_ROWS_PER_VALUE = 3.0  # labelled rows of a value, on average
_NOTED = ("day first", "case only", "infinite")  # remarks on inputs that training notes
_MAX_LISTED = 8
_MAX_READ = 2000  # cells, to see if they are sentences
_MAX_NAMES = 20  # to see if they are the cells of a row


@dataclass(frozen=True)
class ColumnProfile:
    """A column with the kind of its cells and its role in a recipe.

    Attributes:
        name: its name.
        kind: kind of its cells.
        role: its role.
        reason: reason of the role or a remark, '' if none is needed.
        missing: number of empty cells.
        distinct: number of different values, 0 if they are not counted.
        remedy: advice, if cells must be corrected before training; else ''.
        format: format of dates.
        shape: shape of vectors.
    """

    name: str
    kind: Kind
    role: Role
    reason: str = ""
    missing: int = 0
    distinct: int = 0
    remedy: str = ""
    format: str = ""
    shape: tuple[int, ...] = ()

    def to_column(self) -> Column:
        """Return the input column; strings of any kind are categories."""
        if self.kind == "dates":
            return Column(self.name, "date", format=self.format)
        if self.kind == "vectors":
            return Column(self.name, "vector", self.shape)
        return Column(self.name, "numeric" if self.kind in ("numbers", "empty") else "category")


def has_few_categories(categories: int, cells: int) -> bool:
    """Return True if categories are few or frequent enough for a feature each."""
    frequent = cells >= _MIN_ROWS_PER_CATEGORY * categories
    return categories <= (_MAX_FREQUENT_CATEGORIES if frequent else _MAX_CATEGORIES)


def profile_column(
    name: str,
    cells: pa.ChunkedArray,
    *,
    infer_text: bool = True,
    count: bool = False,
    row_number: Callable[[int], int] = lambda position: position + 1,
) -> ColumnProfile:
    """Return the kind and role of a column, without a look at the labels.

    Args:
        name: its name.
        cells: its cells.
        infer_text: sentences are text.
        count: count the different values of numbers, too.
        row_number: number of the row at a position, for messages.
    """
    kind = cells.type
    if (entries := vectors(cells)) is not None:
        remark = f"lists of {entries.shape[1]:,} numbers"
        return ColumnProfile(name, "vectors", "input", remark, shape=entries.shape[1:])
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return ColumnProfile(name, "other", "dropped", "its cells are lists or objects")
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        form = "%H:%M:%S" if pa.types.is_time(kind) else ISO
        profile = _profile_numbers(name, parse_dates(cells, form)[0], count=count)
        kept = profile if profile.role == "dropped" else replace(profile, role="input", reason="")
        return replace(kept, kind="dates", format=form)
    if not pa.types.is_boolean(kind) and (values := numbers(cells)) is not None:
        return _profile_numbers(name, values, count=count)
    counts, missing = count_values(cells)
    profile = ColumnProfile(name, "categories", "input", missing=missing, distinct=len(counts))
    if not counts:
        return replace(profile, kind="empty", role="dropped", reason="it is empty")
    if len(counts) == 1 and not profile.missing:
        return replace(profile, role="dropped", reason="it never changes")
    if (found := find_date_format(list(counts))) is not None:
        return replace(profile, kind="dates", format=found, reason=is_day_first(list(counts), found))
    fault = _find_fault(profile, cells, counts, row_number)
    return fault or _profile_strings(profile, counts, infer_text=infer_text)


def _profile_numbers(name: str, values: Floats, *, count: bool) -> ColumnProfile:
    known = values[~np.isnan(values)]
    distinct = len(np.unique(known)) if count else 0
    profile = ColumnProfile(name, "numbers", "input", "", len(values) - len(known), distinct)
    if not len(known):
        return replace(profile, kind="empty", role="dropped", reason="it is empty")
    if infinite := int(np.isinf(known).sum()):
        return replace(profile, reason=f"{infinite:,} cells are infinite")
    if not profile.missing and known.min() == known.max():
        return replace(profile, role="dropped", reason="it never changes")
    if profile.missing or not (known == np.rint(known)).all():
        return profile
    id_name = bool(_ID_NAME.fullmatch(name))
    if len(known) >= (3 if id_name else _MIN_COUNTED) and (np.diff(known) == 1).all():
        return replace(profile, role="id", reason="it counts the rows")
    if id_name and len(np.unique(known)) == len(known):
        return replace(profile, role="id", reason="it names the rows")
    return profile


def _find_fault(
    profile: ColumnProfile,
    cells: pa.ChunkedArray,
    counts: Mapping[str, int],
    row_number: Callable[[int], int],
) -> ColumnProfile | None:
    """Return the profile of numbers except some cells, with a remedy if they are many; None for others."""
    distinct = pa.chunked_array([pa.array(list(counts), pa.string())])
    odd = set(strings(distinct)[find_non_numeric(distinct)])
    localised = len(find_localised_numbers(distinct)) > 0
    has_few = profile.distinct <= _FEW_CATEGORIES
    has_sign = bool(odd) and not has_few and all(_AMOUNT.fullmatch(cell) for cell in odd)
    count = sum(counts[cell] for cell in odd)
    filled = sum(rows for cell, rows in counts.items() if cell.lower() not in MISSING_WORDS)
    if not localised and not has_sign and (has_few or not 0 < count <= 0.1 * filled):
        return None
    texts = strings(cells)
    places = [row for row, cell in enumerate(texts) if cell in odd]
    cell = f"`{shorten(texts[places[0]])}`"
    first = f"the first in row {row_number(places[0])}: {cell}"
    if localised:
        reason = f"numbers with a decimal comma or with thousands separators, {first}"
        remedy = "set data.decimal and data.thousands to their marks, write them like 1000.50, set "
        remedy += override("data.categorical", profile.name)
        return replace(profile, kind="strings", role="dropped", reason=reason, remedy=remedy)
    if has_sign:
        reason = f"numbers with a currency or percent sign, {first}"
        remedy = f"write them without the sign, set {override('data.categorical', profile.name)}"
        return replace(profile, kind="strings", role="dropped", reason=reason, remedy=remedy)
    if places == [0]:
        reason = f"{cell} in the first row and numbers below: units, or a second header line"
        return replace(profile, kind="strings", role="dropped", reason=reason, remedy="remove that line")
    cells_of = "1 cell" if count == 1 else f"{count:,} cells"
    profile = replace(profile, kind="numbers", reason=f"numbers except {cells_of}, {first}")
    if count <= max_faulty_rows(len(cells)):
        return profile
    remedy = "correct these cells (empty means missing), leave their rows out with data.on_error=keep, set "
    return replace(profile, role="dropped", remedy=remedy + override("data.categorical", profile.name))


def _profile_strings(profile: ColumnProfile, counts: Mapping[str, int], *, infer_text: bool) -> ColumnProfile:
    distinct, filled = len(counts), sum(counts.values())
    if infer_text and _is_text(profile.name, list(counts)[:_MAX_READ], distinct, filled):
        return replace(profile, kind="text", role="text", reason="sentences")
    if distinct == filled + profile.missing >= 3:
        codes = sum(bool(_CODE.fullmatch(cell)) for cell in counts)
        if codes >= 0.9 * distinct or _ID_NAME.fullmatch(profile.name):
            return replace(profile, kind="strings", role="id", reason="it names the rows")
    if distinct > max(0.9 * filled, _FEW_CATEGORIES):
        return replace(profile, kind="strings", role="dropped", reason="nearly every row has its own value")
    if not has_few_categories(distinct, filled + profile.missing):
        return replace(profile, reason=f"{distinct:,} categories, hashed")
    if variants := [f"`{cell}`" for cell in case_variants(counts)]:
        listed = join_some(variants, len(variants), _MAX_LISTED)
        return replace(profile, reason=f"the categories {listed} differ in case only")
    words = sorted(cell for cell in counts if cell.casefold() in MISSING_WORDS)
    return replace(profile, reason=f"`{words[0]}` is a category") if words else profile


def _is_text(name: str, cells: Sequence[str], distinct: int, filled: int) -> bool:
    words = float(np.mean([len(cell.split()) for cell in cells]))
    varied = distinct > max(_MAX_CATEGORIES, 0.3 * filled) or distinct > 0.5 * filled > 10
    text_name = name.strip().casefold() in _TEXT_NAMES
    return varied and (words >= _MIN_WORDS_OF_TEXT or (text_name and words >= 2))


def leaks_label(cells: Array, labels: Array) -> bool:
    """Return True if every value of a column occurs with a single class, and this is significant.

    The test assumes that the column is independent of the classes. It needs enough rows of each value: a
    value that occurs once is no evidence. Empty cells are None or NaN, the labels of unlabelled rows None.
    """
    both = zip(cells.tolist(), labels.tolist(), strict=True)
    known = [(cell, label) for cell, label in both if label is not None]
    classes = Counter(label for _, label in known)
    pairs = Counter((cell, label) for cell, label in known if cell is not None and cell == cell)
    total, values = len(known), {value for value, _ in pairs}
    if total < max(_MIN_LABELLED, _MIN_ROWS_PER_VALUE * len(values)) or min(len(classes), len(values)) < 2:
        return False
    if len(pairs) > len(values) or len({label for _, label in pairs}) < len(classes):
        return False
    largest = max(classes.values())  # divided by, or the powers of many rows would be 0
    log_probability = sum(
        count * math.log(largest / total)
        + math.log(sum((rows / largest) ** count for rows in classes.values()))
        for count in pairs.values()
    )
    return log_probability < math.log(_SIGNIFICANCE)


def require_names(table: Table) -> None:
    """Raise `DataError` if the first line of a table is a row: most of its cells stand below it again."""
    values = find_values(table.names)
    names = [name for name in table.names[:_MAX_NAMES] if name in values or not is_number(name)]
    rows = table.data.slice(0, _MAX_READ)
    repeated = [name for name in names if name in strings(rows[name]).tolist()]
    if len(repeated) >= max(2, len(names) / 2):
        raise missing_header(table.names, where=table.where, content="the cells of a row")


def text_columns(table: Table) -> list[str]:
    """Return the names of the columns that hold sentences."""
    profiles = (profile_column(name, table.data[name]) for name in table.names)
    return [profile.name for profile in profiles if profile.role == "text"]


def input_columns(
    table: Table,
    names: Sequence[str],
    *,
    categorical: Collection[str] = (),
    chosen: Collection[str] = (),
    dates: bool = True,
    on_error: OnError | None = None,
    note: Callable[[str], None],
) -> tuple[Column, ...]:
    """Return the input columns among some columns of the training rows, or of a sample of them.

    Args:
        table: the rows.
        names: columns that may be inputs.
        categorical: columns of categories.
        chosen: columns that are inputs in any role.
        dates: use dates.
        on_error: `keep` takes a column for numbers if most of its cells are numbers.
        note: receives notes for the user.

    Raises:
        DataError: cells must be corrected.
    """
    profiles = [
        ColumnProfile(name, "categories", "input")
        if name in categorical
        else profile_column(name, table.data[name], row_number=table.row_number)
        for name in names
    ]
    readable = ("numbers",) if on_error == "keep" else ()
    if faults := [profile for profile in profiles if profile.remedy and profile.kind not in readable]:
        first, *others = faults
        raise DataError(
            f"{table.where}: column `{first.name}` holds {first.reason}",
            details=[f"column `{other.name}` holds {other.reason}" for other in others],
            hint=f"{first.remedy}, or leave the column out with {override('data.drop', first.name)}",
        )
    left_out: dict[tuple[str, Role], list[str]] = {}
    columns = []
    for profile in profiles:
        is_input = profile.role == "input" or profile.name in chosen or profile.remedy
        reason = "" if is_input else profile.reason
        if profile.kind == "dates" and not dates:
            reason = "data.dates is `drop`"
        if reason:
            left_out.setdefault((reason, profile.role), []).append(profile.name)
            continue
        columns.append(profile.to_column())
        if any(remark in profile.reason for remark in _NOTED):
            note(f"{table.where}: column `{profile.name}`: {profile.reason}")
    for (reason, role), dropped in left_out.items():
        words = {key: override(f"data.{key}", dropped[0], listed=False) for key in ("text", "id")}
        use = {"text": f"{words['text']} reads them (recipe `text`)", "id": f"{words['id']} names rows by it"}
        listed = join_some((f"`{name}`" for name in dropped), len(dropped), _MAX_LISTED)
        keep = f"data.features=[{dropped[0]}, ...] makes it an input"
        note(f"{table.where}: left out {listed} ({reason}); {use[role] + ', ' if role in use else ''}{keep}")
    return tuple(columns)
