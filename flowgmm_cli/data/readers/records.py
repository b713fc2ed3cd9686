"""Lines of a csv file into records, carefully: every record knows its line, and none drags others down.

A quote at the start of a cell lets the cell hold delimiters and line breaks; two quotes stand for one. A
quote that is never closed would swallow the rest of the file: it spoils its own line only, and reading goes
on with the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from flowgmm_cli.data.readers.faults import Fault

MAX_RECORD = 8 * 2**20
"""A record of more bytes than this counts as one whose quote is never closed."""

_QUOTE, _NEWLINE, _RETURN = 34, 10, 13
_CLOSE = "put the closing quote in, or double a quote that is part of the cell"


@dataclass(frozen=True)
class Record:
    """One row of the file.

    Attributes:
        line: the number of its first line, from 1.
        cells: bytes that are not UTF-8 are lone surrogates.
        fault: what is wrong with it as a whole.
    """

    line: int
    cells: Sequence[str]
    fault: Fault | None = None


def regular_end(data: bytes, delimiter: str, *, last: bool) -> int | None:
    """Return where the last complete record ends; None where quotes stand in odd places.

    With quotes only at both ends of cells, a line break ends a record just where the number of quotes before
    it is even.

    Args:
        data: bytes from the start of a record.
        delimiter: between cells.
        last: whether the file ends here.
    """
    if not delimiter.isascii():
        return None
    content = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(content == _QUOTE) if b'"' in data else np.empty(0, dtype=np.int64)
    if len(quotes) and not _regular(content, quotes, ord(delimiter)):
        return None
    if last:
        return len(data) if len(quotes) % 2 == 0 else None
    if b"\n" in data:
        return _last_break(data, b"\n", len(data), quotes)
    return _last_break(data, b"\r", len(data) - 1, quotes)  # of a last CR, the LF may be still to come


def _last_break(
    data: bytes, mark: bytes, end: int, quotes: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> int:
    """Where the last record that a line break in `data[:end]` ends is over; 0 where there is none."""
    while (found := data.rfind(mark, 0, end)) >= 0:
        before = int(np.searchsorted(quotes, found))
        if before % 2 == 0:
            return found + 1
        end = int(quotes[before - 1])  # this one and all others back to the opening quote stand in a cell
    return 0


def _regular(
    content: np.ndarray[tuple[int], np.dtype[np.uint8]],
    quotes: np.ndarray[tuple[int], np.dtype[np.int64]],
    delimiter: int,
) -> bool:
    """Whether opening quotes stand at the start of cells and closing ones at the end."""
    beside = np.array([delimiter, _NEWLINE, _RETURN, _QUOTE], dtype=np.uint8)
    opening = quotes[0::2]
    opening = opening[opening > 0]
    closing = quotes[1::2]
    closing = closing[closing < len(content) - 1]
    return bool(np.isin(content[opening - 1], beside).all() and np.isin(content[closing + 1], beside).all())


def count_lines(data: bytes) -> int:
    """Number of line breaks: LF, CR LF or CR.

    >>> count_lines(b"a\\nb\\r\\nc\\rd")
    3
    """
    if b"\r" not in data:
        return data.count(b"\n")
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def split_records(data: bytes, *, line: int, delimiter: str, last: bool) -> tuple[list[Record], int]:
    """Split bytes into records; blank lines are none.

    Args:
        data: bytes from the start of a record.
        line: number of the first line.
        delimiter: between cells.
        last: whether the file ends here; if not, a last record that may go on is left.

    Returns:
        The records, and how many bytes they take.
    """
    lines = data.splitlines(keepends=True)
    if lines and not last and not lines[-1].endswith(b"\n"):  # of a last CR, the LF may be still to come
        lines.pop()
    blank = b" \t\r\n".replace(delimiter.encode(), b"") if delimiter == "\t" else b" \t\r\n"
    records: list[Record] = []
    at = used = 0
    while at < len(lines):
        taken = 1
        if lines[at].strip(blank):
            found = _record(lines, at, line + at, delimiter, last)
            if found is None:
                break
            record, taken = found
            records.append(record)
        used += sum(map(len, lines[at : at + taken]))
        at += taken
    return records, used


def _record(
    lines: Sequence[bytes], at: int, number: int, delimiter: str, last: bool
) -> tuple[Record, int] | None:
    """The record that begins at a line, and how many lines it takes; None where it may go on."""
    text = _decode(lines[at])
    if '"' not in text:
        return Record(number, text.rstrip("\r\n").split(delimiter)), 1
    cells, state, _ = _scan(text, delimiter)
    if state != "open":
        return Record(number, cells), 1  # odd quotes in one line are taken as every reader takes them
    size, quotes, end = len(lines[at]), lines[at].count(b'"'), at
    while state == "open":
        end += 1
        if end == len(lines) and not last and size <= MAX_RECORD:
            return None
        if end == len(lines) or size > MAX_RECORD:
            break
        size += len(lines[end])
        quotes += (here := lines[end].count(b'"'))
        if here and quotes % 2 == 0:
            cells, state, length = _scan(_decode(b"".join(lines[at : end + 1])), delimiter)
    if state == "ok":
        taken = sum(1 for _ in _lines_within(lines, at, length))
        return Record(number, cells), taken
    return Record(number, (), Fault("a quote is opened and never closed", _CLOSE)), 1


def _lines_within(lines: Sequence[bytes], at: int, length: int) -> Iterator[bytes]:
    """The lines that the first `length` characters from line `at` on stand in."""
    while length > 0:
        yield lines[at]
        length -= len(_decode(lines[at]))
        at += 1


def _scan(text: str, delimiter: str) -> tuple[list[str], Literal["ok", "open", "junk"], int]:
    """Read one record from the start of a text: its cells, the state of its quotes, its length.

    `open`: a quote is not closed; `junk`: a cell goes on behind its closing quote.
    """
    field = _field(delimiter)
    cells: list[str] = []
    state: Literal["ok", "open", "junk"] = "ok"
    position = 0
    while True:
        found = field.match(text, position)
        if found is None:  # the pattern matches everywhere
            break
        quoted, rest, plain = found.groups()
        if quoted is None:
            cells.append(plain)
            if plain.startswith('"'):
                return cells, "open", len(text)
        else:
            cells.append(quoted.replace('""', '"') + rest)
            state = "junk" if rest.strip() else state
        position = found.end()
        if not text.startswith(delimiter, position):
            break
        position += len(delimiter)
    for ending in ("\r\n", "\n", "\r"):
        if text.startswith(ending, position):
            return cells, state, position + len(ending)
    return cells, state, position


@cache
def _field(delimiter: str) -> re.Pattern[str]:
    plain = rf"[^{re.escape(delimiter)}\r\n]*"
    return re.compile(rf'"((?:[^"]++|"")*+)"({plain})|({plain})')


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
