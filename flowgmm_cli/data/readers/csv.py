"""Reader of csv and tsv files.

The bytes are cut into blocks of whole records. Arrow parses a block; if it finds anything irregular, the
block is split line by line instead, which gives the line number of every problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import (
    ENCODING_HINT,
    MAX_RECORD,
    ByteSource,
    column_names,
    guess_delimiter,
    long_line,
)
from flowgmm_cli.data.readers.records import (
    MAX_CELL_LINES,
    Record,
    count_lines,
    long_cells,
    long_parts,
    read_record,
    regular_end,
    split_records,
)
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.readers.table import ReadSettings, Table, TableReader
from flowgmm_cli.errors import DataError

BLOCK = 2**20
"""Bytes read at once."""
_COLUMN_BYTES, _MAX_BLOCK = 2**7, 2**24  # more are read of wide tables: Arrow prepares each column of a block

_EXTRA = "\0"  # name of the empty column behind a delimiter at the end of each line
_EMPTY_HINT = "a header line and rows are needed"
_SEPARATOR_LINE = re.compile(rb"sep=(.)\s*", re.IGNORECASE)  # Excel writes it above the header


class CsvReader(TableReader):
    """Reader of a csv file or of standard input; all cells are strings.

    Comment lines and a line `sep=;` above the header are skipped, and so is a delimiter that ends each line.
    """

    format = "csv"
    empty_hint = _EMPTY_HINT

    def __init__(
        self, source: ByteSource, settings: ReadSettings, *, suffix: str, note: Callable[[str], None]
    ) -> None:
        self.name = source.name
        self.files = [source.stamp] if source.stamp else []
        self._source = source
        self._settings = settings
        self._delimiter = settings.delimiter or ""
        self._suffix = suffix
        self._extra = False  # a delimiter ends each line
        self._notes: list[str] = []
        self._note = note
        self._has_noted_long_cell = False
        # standard input cannot be opened again: the first iteration continues this stream
        self._open_stream: tuple[BinaryIO, bytes, int] | None = None
        with translate_errors(self.name, "csv"), ExitStack() as stack:
            stream = source.open_text()
            if source.rereadable:
                stack.enter_context(stream)
            self.names, rest, line = self._read_header(stream)
            if not source.rereadable:
                self._open_stream = (stream, rest, line)
        self._place = {name: index for index, name in enumerate(self.names)}
        for text in self._notes:
            note(f"{self.name}: {text}")

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        if self._open_stream is None:
            self._open_stream = (self._source.open_text(), b"", 0)
        (stream, rest, line), self._open_stream = self._open_stream, None
        with stream:
            if not line:
                _, rest, line = self._read_header(stream)
            yield from self._read_blocks(stream, rest, line, columns)

    def _read_header(self, stream: BinaryIO) -> tuple[list[str], bytes, int]:
        """Return the column names, the bytes read beyond the header, and the number of their first line."""
        data, last = b"", False
        while not last and len(data) <= MAX_RECORD and (not data or data.count(b"\n") < 2):
            more = stream.read(BLOCK)
            data, last = data + more, len(more) < BLOCK
        lines = data.splitlines(keepends=True)
        if not last and len(data) > MAX_RECORD and len(lines) == 1:
            raise long_line(self.name, 1)
        at = self._skip_preamble(lines)
        if at == len(lines):
            raise DataError(f"{self.name} is empty", hint=_EMPTY_HINT)
        start = sum(map(len, lines[:at]))
        where = f"{self.name}:{at + 1}"
        if not self._delimiter:
            self._delimiter = guess_delimiter(self._suffix, lines[at].decode("utf-8", "replace"))
            if self._delimiter not in (",", "\t"):
                self._notes.append(f"the delimiter is `{self._delimiter}` (set data.delimiter to change it)")
        record, count = read_record(lines, at, number=at + 1, delimiter=self._delimiter, last=last)
        if record is None or record.error:
            raise DataError(f"{where}: the header line cannot be read", hint="a quote is not closed")
        end = start + sum(map(len, lines[at : at + count]))
        header, rest = data[start:end], data[end:]
        if not _is_utf8(header):
            raise DataError(f"{where}: the header line is not UTF-8 text", hint=ENCODING_HINT)
        cells = list(record.cells)
        is_nameless = len(cells) > 1 and not cells[-1].strip()
        has_cell = self._has_cell(rest, len(cells) + (not is_nameless))
        self._extra = has_cell is False
        if is_nameless and not has_cell:
            cells.pop()
        return column_names(cells, where=self.name), rest, at + 1 + count_lines(header)

    def _skip_preamble(self, lines: Sequence[bytes]) -> int:
        """Return the index of the header line, after blank lines, comments and `sep=;`."""
        at = 0
        while at < len(lines):
            line = lines[at].strip()
            separator = _SEPARATOR_LINE.fullmatch(line) if at == 0 else None
            if separator is not None:
                self._delimiter = self._settings.delimiter or separator[1].decode("latin-1")
            elif line.startswith(b"#") and not _is_like(line, lines[at + 1 :]):
                if not any("above the header" in text for text in self._notes):
                    self._notes.append("lines above the header that begin with # are left out")
            elif line:
                break
            at += 1
        return at

    def _has_cell(self, rest: bytes, count: int) -> bool | None:
        """Return True if the cell `count` of the first record holds something, None if it is missing."""
        lines = rest.splitlines(keepends=True)
        first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
        data = b"".join(lines[first : first + 1])
        records, _ = split_records(data, line=1, delimiter=self._delimiter, last=True)
        if not records or records[0].error or len(records[0].cells) != count:
            return None
        return bool(records[0].cells[-1].strip())

    def _read_blocks(
        self, stream: BinaryIO, tail: bytes, line: int, columns: Sequence[str]
    ) -> Iterator[Table]:
        last = False
        size = max(BLOCK, min(_COLUMN_BYTES * len(self.names), _MAX_BLOCK))
        while not last:
            more = stream.read(size)
            last = not more
            data = tail + more
            end = regular_end(data, self._delimiter, last=last)
            if end == 0 and not last and len(data) <= MAX_RECORD:
                tail = data
                continue
            if end is None or (end == 0 and not last):
                batch, end = self._parse_lines(data, line, columns, last=last)
                if not (end or last):
                    raise long_line(self.name, line)
                lines = count_lines(data[:end])
                yield batch
            else:
                block = data[:end]
                lines = count_lines(block)
                if block:
                    parsed = self._parse_block(block, line, lines, columns)
                    yield parsed or self._parse_lines(block, line, columns, last=True)[0]
            line += lines
            tail = data[end:]

    def _parse_block(self, block: bytes, line: int, lines: int, columns: Sequence[str]) -> Table | None:
        """Parse a block of `lines` line breaks with Arrow; None if the block is irregular."""
        if len(self.names) == 1 or not _is_utf8(block):  # Arrow would read a blank line as a row
            return None
        table = self._read_arrow(block, columns)
        if table is None:
            return None
        rows = table.num_rows
        if lines - rows >= MAX_CELL_LINES - 1 and b'"' in block and not self._has_noted_long_cell:
            self._note_long_cell(long_parts(block, line))
        if lines + (not block.endswith((b"\n", b"\r"))) == rows:
            return Table(self._write_plain(table), find_place=self._find_line(range(line, line + rows)))

        @cache
        def find_lines() -> list[int]:
            records, _ = split_records(block, line=line, delimiter=self._delimiter, last=True)
            return [record.line for record in records]

        return Table(self._write_plain(table), find_place=self._find_line(find_lines))

    def _read_arrow(self, block: bytes, columns: Sequence[str]) -> pa.Table | None:
        try:
            return pa_csv.read_csv(
                pa.BufferReader(block),
                read_options=pa_csv.ReadOptions(
                    column_names=[*self.names, *([_EXTRA] if self._extra else [])],
                    use_threads=False,
                    block_size=len(block) + 1,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=b'"' in block
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()), include_columns=columns
                ),
            )
        except pa.ArrowInvalid:
            return None

    def _write_plain(self, table: pa.Table) -> pa.Table:
        """Write numbers with `data.decimal` and `data.thousands` like 1000.5; other cells stay."""
        decimal, thousands = self._settings.decimal, self._settings.thousands
        if decimal == "." and not thousands:
            return table
        point = re.escape(decimal)
        grouped = rf"|\d{{1,3}}({re.escape(thousands)}\d{{3}})+" if thousands else ""
        pattern = rf"^\s*[+-]?((\d+{grouped})({point}\d*)?|{point}\d+)([eE][+-]?\d+)?\s*$"

        def convert(cells: pa.ChunkedArray) -> pa.ChunkedArray:
            plain = pc.replace_substring(cells, thousands, "") if thousands else cells
            plain = pc.replace_substring(plain, decimal, ".")
            return pc.if_else(pc.match_substring_regex(cells, pattern), plain, cells)

        return pa.table(list(map(convert, table.columns)), names=table.column_names)

    def _parse_lines(
        self, block: bytes, line: int, columns: Sequence[str], *, last: bool
    ) -> tuple[Table, int]:
        """Parse a block line by line; return the rows and the number of bytes they take."""
        records, used = split_records(block, line=line, delimiter=self._delimiter, last=last)
        if count_lines(block[:used]) - len(records) >= MAX_CELL_LINES - 1 and not self._has_noted_long_cell:
            self._note_long_cell(long_cells(records))
        check_encoding = not _is_utf8(block[:used])
        errors = {}
        for position, record in enumerate(records):
            error = record.error or self._check_cell_count(record)
            error = error or (self._check_encoding(record) if check_encoding else None)
            if error is not None:
                errors[position] = error
        rows = [None if position in errors else record.cells for position, record in enumerate(records)]
        columns_at = [(name, self._place[name]) for name in columns]
        table = pa.table(
            {name: pa.array([cells and cells[at] for cells in rows], pa.string()) for name, at in columns_at}
        )
        lines = self._find_line([record.line for record in records])
        return Table(self._write_plain(table), find_place=lines, errors=errors), used

    def _note_long_cell(self, cells: Iterable[tuple[int, str]]) -> None:
        """Note a cell of which most lines look like rows: a stray quote may open it."""
        delimiters = len(self.names) - (not self._extra)
        for line, cell in cells:
            inner = cell.splitlines()[1:-1]
            if 2 * sum(text.count(self._delimiter) == delimiters for text in inner) >= len(inner):
                self._has_noted_long_cell = True
                span = f"the cell at line {line:,} spans {len(inner) + 2:,} lines"
                self._note(f"{self.name}: {span}: a quote that is not closed?")
                return

    def _check_cell_count(self, record: Record) -> RowError | None:
        """Return an error if a record has another number of cells than the header, apart from empty ones."""
        count, expected = len(record.cells), len(self.names)
        if count == expected or (count > expected and not "".join(record.cells[expected:]).strip()):
            return None
        cells = "1 cell" if count == 1 else f"{count:,} cells"
        return RowError(
            f"{cells}, but the header has {expected:,}",
            "correct the line; cells that hold the delimiter go in quotes",
        )

    def _check_encoding(self, record: Record) -> RowError | None:
        for name, cell in zip(self.names, record.cells, strict=False):
            if any("\ud800" <= char <= "\udfff" for char in cell):
                return RowError(f"the cell of column `{name}` is not UTF-8 text", ENCODING_HINT)
        return None


def _is_like(comment: bytes, following: Sequence[bytes]) -> bool:
    """Return True if a line that begins with # may be the header of the lines below: as many cells."""
    below = next((line for line in following if line.strip() and not line.startswith(b"#")), b"")
    counts = [(comment.count(mark), below.count(mark)) for mark in (b",", b";", b"\t", b"|")]
    return any(first == second > 0 for first, second in counts)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
