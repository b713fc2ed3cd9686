"""Dates and times of day: find their format, convert them to seconds, and encode them as features.

Cells of a date column are seconds since 1970 in UTC, those of times of day seconds since midnight; a date
without a zone is taken as UTC.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.array_types import Array, Floats, Ints, Strings
from flowgmm_cli.data.column_encoders import NumericColumn
from flowgmm_cli.data.sources.columns import MISSING_WORDS, strings

ISO = "ISO 8601"
"""Format of dates such as 2024-01-31 or 2024-01-31T10:00:00+01:00, and of columns of the type of dates."""

_DAYS = [f"%d{mark}%m{mark}%{year}" for mark in "./-" for year in "Yy"]
_DAYS += [f"%m{mark}%d{mark}%{year}" for mark in "/-" for year in "Yy"]
_DAYS += ["%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y"]
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
"""Formats of times of day."""

_FORMATS = (ISO, *TIMES, *_DAYS, *(f"{day} {time}" for day in _DAYS for time in TIMES))
_MIN_SHARE = 0.95  # of the cells of a column of dates
_MAX_CELLS, _SAMPLE, _FEW = 10_000, 500, 20
_EPOCH = datetime(1970, 1, 1)
_START = (_EPOCH, datetime(1900, 1, 1))
DAY = 86400.0
"""Seconds of a day."""


def find_date_format(cells: Sequence[str]) -> str | None:
    """Return the format of nearly all strings, None if they are no dates or times of day.

    Where both fit, a day comes before a month.

    >>> find_date_format(["2024-01-31", "2024-02-01 10:00"]), find_date_format(["12/25/99", "01/02/99"])
    ('ISO 8601', '%m/%d/%y')
    >>> find_date_format(["1.5", "May"]) is None
    True
    """
    distinct = sorted({cell for cell in cells[:_MAX_CELLS] if cell.casefold() not in MISSING_WORDS})
    sample = distinct[:: max(1, len(distinct) // _SAMPLE)]
    if not sample or not re.search(r"\d\D+\d", sample[0]):
        return None
    few = sample[:: max(1, len(sample) // _FEW)]
    likely = [form for form in _FORMATS if _share(few, form) >= _MIN_SHARE / 2]
    best = max(likely, key=lambda form: _share(sample, form), default=ISO)
    return best if _share(sample, best) >= _MIN_SHARE else None


def _share(cells: Sequence[str], form: str) -> float:
    return sum(_parse(cell, form) is not None for cell in cells) / len(cells)


def is_day_first(cells: Sequence[str], form: str) -> str:
    """Return a remark if dates are read day first, but could be read month first, too; else ''."""
    other = f"%m{form[2:3]}%d{form[5:]}" if re.match("%d.%m", form) else form
    if other == form or other not in _FORMATS or _share(cells[:_MAX_CELLS], other) < 1:
        return ""
    return f"`{cells[0]}` is read day first; if that is wrong, write the year first"


def _parse(cell: str, form: str) -> float | None:
    """Return the seconds of a date or time of day, None if it has another format."""
    try:
        if form != ISO:
            return (datetime.strptime(cell, form) - _START[form in TIMES]).total_seconds()
        if len(cell) < 8 or not cell[:4].isdigit() or cell[4:8].isdigit():
            return None
        date = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return ((date.astimezone(UTC).replace(tzinfo=None) if date.tzinfo else date) - _EPOCH).total_seconds()


def parse_dates(cells: pa.ChunkedArray, form: str) -> tuple[Floats, Ints]:
    """Return the seconds of cells, NaN where missing, and the positions of cells of another format."""
    if pa.types.is_temporal(cells.type):
        kind, is_time = cells.type, pa.types.is_time(cells.type)
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        cells = pc.cast(cells, pa.time64("us") if is_time else pa.timestamp("us", zone), safe=is_time)
        micros = pc.cast(pc.cast(cells, pa.int64()), pa.float64())
        values: Floats = pc.fill_null(micros, float("nan")).to_numpy() / 1e6
        return values, np.empty(0, dtype=np.int64)
    texts = strings(cells).tolist()
    parsed = {
        cell: _parse(cell, form) for cell in set(texts) if cell and cell.casefold() not in MISSING_WORDS
    }
    odd = {cell for cell, value in parsed.items() if value is None}
    seconds = {None: np.nan} | {cell: np.nan if value is None else value for cell, value in parsed.items()}
    values = np.fromiter((seconds.get(cell, np.nan) for cell in texts), np.float64, len(texts))
    positions = [position for position, cell in enumerate(texts) if cell in odd] if odd else []
    return values, np.array(positions, dtype=np.int64)


def format_dates(seconds: Floats, form: str) -> Strings:
    """Return the strings of dates or times of day in a format; None where a cell is NaN."""
    days = bool((seconds[np.isfinite(seconds)] % DAY == 0).all())

    def write(value: float) -> str | None:
        if np.isnan(value):
            return None
        date = _EPOCH + timedelta(seconds=round(value))
        if form != ISO:
            return date.strftime(form)
        return date.date().isoformat() if days else date.isoformat()

    return np.array([write(value) for value in seconds.tolist()], dtype=object)


def readable_cells(column: Column, cells: Array) -> Array:
    """Return cells of a column as its table holds them: dates as text in their format."""
    return format_dates(cells, column.format) if column.kind == "date" else cells


def _month(seconds: Floats) -> Floats:
    months = seconds.astype("M8[s]").astype("M8[M]").astype(np.int64)
    return np.asarray((months % 12) / 12)


CYCLES: dict[str, Callable[[Floats], Floats]] = {
    "month": _month,
    "weekday": lambda seconds: np.asarray((seconds // DAY + 3) % 7 / 7),  # 1970 began on a Thursday
    "hour": lambda seconds: np.asarray(seconds % DAY / DAY),
}
"""Position of dates in a cycle, from 0 to 1, by the name of the cycle."""


@dataclass(frozen=True)
class DateColumn(NumericColumn):
    """A column of dates or times of day: elapsed days, and the place in each cycle as sine and cosine."""

    parts: tuple[str, ...] = ()  # `elapsed` and names of `CYCLES`
    origin: float = 0.0  # elapsed days are counted from these seconds
    inexact = "{} are dates; the density is that of their features"

    def choose_parts(self, parts: Sequence[str], cells: Array) -> DateColumn:
        """Return the encoder with the parts that differ between training cells; of times of day the hour."""
        known = cells[np.isfinite(cells)]
        possible = [part for part in parts if part == "hour" or self.column.format not in TIMES]
        used = [part for part in possible if np.ptp(CYCLES[part](known) if part in CYCLES else known) > 0]
        return dataclasses.replace(self, parts=tuple(used), origin=float(known.min()))

    @property
    def names(self) -> list[str]:
        """`name[days]`, `name[month sin]`, ...; `name=(missing)` for the mark."""
        waves = [f"{part} {wave}" for part in self.parts if part in CYCLES for wave in ("sin", "cos")]
        parts = ["days", *waves] if "elapsed" in self.parts else waves
        return [*(f"{self.column.name}[{part}]" for part in parts), *super().names[1:]]

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return the features of the parts, and the mark."""
        matrix = super().transform(cells, context)
        seconds = matrix[:, :1]
        features = [(seconds - self.origin) / DAY] if "elapsed" in self.parts else []
        angles = [2 * np.pi * CYCLES[part](seconds) for part in self.parts if part in CYCLES]
        waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        return np.hstack([*features, *waves, matrix[:, 1:]])

    def invert(self, features: Floats) -> Array | None:
        """Return seconds, of midnights if training saw no others; None without elapsed days or the hour."""
        if "elapsed" in self.parts:
            step = DAY if "hour" not in self.parts and self.origin % DAY == 0 else 1.0
            seconds = np.rint((self.origin + features[:, 0] * DAY) / step) * step
        elif self.parts == ("hour",) and self.column.format in TIMES:
            seconds = np.rint(np.arctan2(features[:, 0], features[:, 1]) / (2 * np.pi) % 1 * DAY) % DAY
        else:
            return None
        return np.where(features[:, -1] > 0.5, np.nan, seconds) if self.marked else seconds
