"""Split csv lines into records with line numbers; a malformed record does not affect the others.

A cell that begins with a quote may contain delimiters and line breaks; two quotes stand for one. An unclosed
quote would extend its cell to the end of the file, so only its own line becomes an error, and reading
continues with the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from flowgmm_cli.data.array_types import Bytes, Ints
from flowgmm_cli.data.readers.byte_source import MAX_RECORD
from flowgmm_cli.data.readers.row_errors import RowError

MAX_CELL_LINES = 30
"""Number of lines from which on a cell is conspicuous."""
_QUOTE, _NEWLINE, _RETURN = 34, 10, 13
_UNCLOSED_HINT = "put the closing quote in, or double a quote that is part of the cell"


@dataclass(frozen=True)
class Record:
    """One row of the file, from line number `line`; bytes that are not UTF-8 become lone surrogates."""

    line: int
    cells: Sequence[str]
    error: RowError | None = None


def regular_end(data: bytes, delimiter: str, *, last: bool) -> int | None:
    """Return the end of the last complete record; None if a quote is inside a cell.

    If all quotes are at the ends of cells, a line break ends a record exactly if the number of quotes before
    it is even. `data` begins with a record; `last` is True if the file ends with it.
    """
    if not delimiter.isascii():
        return None
    content = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(content == _QUOTE) if b'"' in data else np.empty(0, dtype=np.int64)
    if len(quotes) and not _quotes_enclose_cells(content, quotes, ord(delimiter)):
        return None
    if last:
        return len(data) if len(quotes) % 2 == 0 else None
    if b"\n" in data:
        return _last_break(data, b"\n", len(data), quotes)
    return _last_break(data, b"\r", len(data) - 1, quotes)  # an LF may follow the last CR


def _last_break(data: bytes, mark: bytes, end: int, quotes: Ints) -> int:
    """Return the end of the last record that a line break in `data[:end]` completes, or 0."""
    while (position := data.rfind(mark, 0, end)) >= 0:
        before = int(np.searchsorted(quotes, position))
        if before % 2 == 0:
            return position + 1
        end = int(quotes[before - 1])  # the line breaks back to the opening quote are inside a cell
    return 0


def _quotes_enclose_cells(content: Bytes, quotes: Ints, delimiter: int) -> bool:
    """Return True if opening quotes are at the start of cells and closing quotes at the end."""
    beside = np.array([delimiter, _NEWLINE, _RETURN, _QUOTE], dtype=np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    outside = [content[opening[opening > 0] - 1], content[closing[closing < len(content) - 1] + 1]]
    return bool(np.isin(np.concatenate(outside), beside).all())


def count_lines(data: bytes) -> int:
    """Count the line breaks: LF, CR LF or CR.

    >>> count_lines(b"a\\nb\\r\\nc\\rd")
    3
    """
    feeds = int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == _NEWLINE))
    return feeds + data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else feeds


def split_records(data: bytes, *, line: int, delimiter: str, last: bool) -> tuple[list[Record], int]:
    """Split bytes from the start of a record, on line number `line`, into records; also return their bytes.

    Blank lines are skipped, and unless `last`, an incomplete last record is left out.
    """
    lines = data.splitlines(keepends=True)
    if lines and not last and not lines[-1].endswith(b"\n"):  # an LF may follow the last CR
        lines.pop()
    blank = b" \t\r\n".replace(delimiter.encode(), b"") if delimiter == "\t" else b" \t\r\n"
    records: list[Record] = []
    at = used = 0
    while at < len(lines):
        count = 1
        if lines[at].strip(blank):
            record, count = read_record(lines, at, number=line + at, delimiter=delimiter, last=last)
            if record is None:
                break
            records.append(record)
        used += sum(map(len, lines[at : at + count]))
        at += count
    return records, used


def long_parts(data: bytes, line: int) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of quoted parts of many lines, of a block for `regular_end`."""
    mark = b"\n" if b"\n" in data else b"\r"
    for index, part in enumerate(data.split(b'"')):
        breaks = part.count(mark)
        if index % 2 and breaks >= MAX_CELL_LINES - 1:
            yield line, part.decode()
        line += breaks


def long_cells(records: Iterable[Record]) -> Iterator[tuple[int, str]]:
    """Yield the line numbers and the texts of cells of many lines."""
    for record in records:
        line = record.line
        for cell in record.cells:
            breaks = max(cell.count("\n"), cell.count("\r"))
            if breaks >= MAX_CELL_LINES - 1:
                yield line, cell
            line += breaks


def read_record(
    lines: Sequence[bytes], at: int, *, number: int, delimiter: str, last: bool
) -> tuple[Record | None, int]:
    """Return the record that begins at a line, and its number of lines; None if it is incomplete.

    Arguments: `number` is the number of the line in the file, `last` is True if these lines end it.
    """
    text = _decode(lines[at])
    if '"' not in text:
        return Record(number, text.rstrip("\r\n").split(delimiter)), 1
    cells, state, _ = _scan(text, delimiter)
    if state != "open":
        return Record(number, cells), 1  # quotes inside a cell are part of the cell
    size, end, step = len(lines[at]), at + 1, 1
    while state == "open" and end < len(lines) and size <= MAX_RECORD:
        ahead = lines[end : end + step]  # each time twice as many, so that few bytes are scanned often
        size, end, step = size + sum(map(len, ahead)), end + len(ahead), 2 * step
        if any(b'"' in line for line in ahead):
            text = _decode(b"".join(lines[at:end]))
            cells, state, length = _scan(text, delimiter)
    if state == "open" and not last and size <= MAX_RECORD:
        return None, 0
    if state == "ok":
        return Record(number, cells), len(text[:length].encode("utf-8", "surrogateescape").splitlines())
    return Record(number, (), RowError("a quote is opened and never closed", _UNCLOSED_HINT)), 1


def _scan(text: str, delimiter: str) -> tuple[list[str], Literal["ok", "open", "junk"], int]:
    """Parse the record at the start of a text: cells, state of the quotes, length without line end.

    State `open`: a quote is not closed; `junk`: characters follow the closing quote of a cell.
    """
    field = _field(delimiter)
    cells: list[str] = []
    state: Literal["ok", "open", "junk"] = "ok"
    position = 0
    while cell := field.match(text, position):  # which matches the empty string, too
        quoted, rest, plain = cell.groups()
        if quoted is None:
            cells.append(plain)
            if plain.startswith('"'):
                return cells, "open", len(text)
        else:
            cells.append(quoted.replace('""', '"') + rest)
            state = "junk" if rest.strip() else state
        position = cell.end()
        if not text.startswith(delimiter, position):
            break
        position += len(delimiter)
    return cells, state, position


@cache
def _field(delimiter: str) -> re.Pattern[str]:
    plain = rf"[^{re.escape(delimiter)}\r\n]*"
    return re.compile(rf'"((?:[^"]++|"")*+)"({plain})|({plain})')


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
