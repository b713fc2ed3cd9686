"""Cells as numbers, categories, dates and texts, with the same meaning as in the training of the model.

A cell is a string of a csv file, or a value of JSON or Python. An empty or blank one is missing; words such
as `NA` are missing where a number or date is expected, since as a category they may be Namibia or a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

MISSING_WORDS = frozenset(("", "na", "n/a", "nan", "null", "none", "nil", "?", "-", ".", "#n/a"))
ISO = "ISO 8601"
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
_NUMBER = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan(\(\w*\))?)", re.ASCII | re.IGNORECASE
)
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_EPOCH, _MIDNIGHT = datetime(1970, 1, 1), datetime(1900, 1, 1)


class InputError(ValueError):
    """Rows that the model cannot read, or a row that it cannot score."""


def to_number(cell: Any) -> float:
    """Return a cell as a number, NaN if it is missing. Raises `InputError` for another cell.

    >>> [to_number(cell) for cell in ("1", " 2.5 ", "", "NA", None, True)]
    [1.0, 2.5, nan, nan, nan, 1.0]
    """
    if cell is None:
        return math.nan
    if not isinstance(cell, str):
        try:
            return float(cell)
        except (TypeError, ValueError):
            raise InputError(f"wants a number, got `{shorten(cell)}`") from None
    text = cell.strip()
    if text.lower() in MISSING_WORDS:
        return math.nan
    if not _NUMBER.fullmatch(text):
        raise InputError(f"wants a number, got `{shorten(text)}`")
    return math.nan if "(" in text else float(text)


def to_string(cell: Any) -> str | None:
    """Return a cell as a stripped string, None if it is missing; whole numbers carry no `.0`.

    >>> [to_string(cell) for cell in (1.0, 2.5, " NA ", "  ", None)]
    ['1', '2.5', 'NA', None, None]
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def to_canonical(cell: str) -> str:
    """Return the spelling by which categories are compared: `1.0` is `1`, `01` is not.

    >>> [to_canonical(cell) for cell in ("1.0", "-2.00", "1.5", "01", "-0.0")]
    ['1', '-2', '1.5', '01', '0']
    """
    match = _WHOLE_NUMBER.fullmatch(cell)
    return cell if match is None else "0" if match[1] == "-0" else match[1]


def to_seconds(cell: Any, form: str) -> float:
    """Return a date as seconds since 1970 in UTC, or a time of day since midnight; NaN if it is missing.

    >>> to_seconds("1970-01-02", ISO), to_seconds("00:01", "%H:%M")
    (86400.0, 60.0)
    """
    text = to_string(cell)
    if text is None or text.casefold() in MISSING_WORDS:
        return math.nan
    try:
        if form != ISO:
            date = datetime.strptime(text, form)
            return (date - (_MIDNIGHT if form in TIMES else _EPOCH)).total_seconds()
        if len(text) < 8 or not text[:4].isdigit() or text[4:8].isdigit():
            raise ValueError
        date = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"wants a date like {form}, got `{shorten(text)}`") from None
    return ((date.astimezone(UTC).replace(tzinfo=None) if date.tzinfo else date) - _EPOCH).total_seconds()


def to_text(cells: Sequence[Any]) -> str:
    """Return the text of a row: its parts, joined by a line break.

    >>> to_text(["a", None, " ", "b"])
    'a\\nb'
    """
    parts = ("" if cell is None else str(cell) for cell in cells)
    return "\n".join(part for part in parts if part.strip())


def shorten(cell: object) -> str:
    """Return a cell for a message, cut to 40 characters."""
    text = str(cell)
    return text if len(text) <= 40 else f"{text[:37]}..."
