"""Reader of csv and tsv files.

The bytes are cut into blocks of whole records. Arrow parses a block; if it finds anything irregular, the
block is split line by line instead, which gives the line number of every problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv

from flowgmm_cli.data.readers.base import ReadOptions
from flowgmm_cli.data.readers.byte_source import ByteSource
from flowgmm_cli.data.readers.chunks import RawBatch, TableReader
from flowgmm_cli.data.readers.records import MAX_RECORD, Record, count_lines, regular_end, split_records
from flowgmm_cli.data.readers.row_errors import RowError, translate_errors
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.sources.columns import MISSING_WORDS, numbers
from flowgmm_cli.data.sources.files import column_names, guess_delimiter
from flowgmm_cli.errors import DataError

BLOCK = 2**20
"""Bytes read at once."""

_BOM = b"\xef\xbb\xbf"
_NULL_WORDS = [
    "",
    *sorted({change(word) for word, change in product(MISSING_WORDS, (str.lower, str.upper, str.title))}),
]
_NOT_UTF8_HINT = "save the file as UTF-8, for example with iconv -f latin1 -t utf-8"
_EMPTY_HINT = "a header line and rows are needed"


class CsvReader(TableReader):
    """Reader of a csv file or of standard input."""

    format = "csv"
    empty_hint = _EMPTY_HINT

    def __init__(self, source: ByteSource, schema: InputSchema, options: ReadOptions, *, suffix: str) -> None:
        super().__init__(source.name, schema, options)
        self._source = source
        self._delimiter = schema.delimiter or ""
        self._suffix = suffix
        # standard input cannot be opened again: the first iteration continues this stream
        self._open_stream: tuple[BinaryIO, bytes, int] | None = None
        with translate_errors(self.name, "csv"), ExitStack() as stack:
            stream = source.open()
            if source.rereadable:
                stack.enter_context(stream)
            self._names, rest, line = self._read_header(stream)
            if not source.rereadable:
                self._open_stream = (stream, rest, line)
        self._match_columns(self._names)
        self._needed = self._match.needed
        self._place = {name: index for index, name in enumerate(self._names)}
        self._min_cells = 1 + max(self._place[name] for name in self._match.input_names)

    def _read_batches(self) -> Iterator[RawBatch]:
        if self._open_stream is None:
            stream, rest, line = self._source.open(), b"", 0
        else:
            (stream, rest, line), self._open_stream = self._open_stream, None
        with stream:
            if not line:
                _, rest, line = self._read_header(stream)
            yield from self._read_blocks(stream, rest, line)

    def _read_header(self, stream: BinaryIO) -> tuple[list[str], bytes, int]:
        """Return the column names, the bytes read beyond the header, and the number of their first line."""
        data = stream.read(BLOCK)
        last = len(data) < BLOCK
        if not data.removeprefix(_BOM).strip():
            raise DataError(f"{self.name} is empty", hint=_EMPTY_HINT)
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{self.name} is UTF-16, not UTF-8 text", hint="save it as UTF-8")
        data = data.removeprefix(_BOM)
        lines = data.splitlines(keepends=True)
        blank = next(index for index, line in enumerate(lines) if line.strip())
        start = sum(map(len, lines[:blank]))
        where = f"{self.name}:{blank + 1}"
        if not self._delimiter:
            self._delimiter = guess_delimiter(self._suffix, lines[blank].decode("utf-8", "replace"))
            if self._delimiter not in (",", "\t"):
                self._options.note(f"{self.name}: the delimiter is `{self._delimiter}`")
        end = start + len(lines[blank])
        while True:  # a quoted name may contain line breaks
            records, used = split_records(
                data[start:end], line=blank + 1, delimiter=self._delimiter, last=end >= len(data) and last
            )
            if records or end >= len(data):
                break
            end += len(data[end:].splitlines(keepends=True)[0])
        if not records or records[0].error:
            raise DataError(f"{where}: the header line cannot be read", hint="a quote is not closed")
        header, rest = data[start : start + used], data[start + used :]
        if not _is_utf8(header):
            raise DataError(f"{where}: the header line is not UTF-8 text", hint=_NOT_UTF8_HINT)
        names = column_names(records[0].cells, where=self.name)
        return names, rest, blank + 1 + count_lines(header)

    def _read_blocks(self, stream: BinaryIO, tail: bytes, line: int) -> Iterator[RawBatch]:
        last = False
        while not last:
            more = stream.read(BLOCK)
            last = not more
            data = tail + more
            end = regular_end(data, self._delimiter, last=last)
            if end == 0 and not last and len(data) <= MAX_RECORD:
                tail = data
                continue
            if end is None or (end == 0 and not last):
                batch, end = self._parse_lines(data, line, last=last)
                yield batch
            elif end:
                yield self._parse_block(data[:end]) or self._parse_lines(data[:end], line, last=True)[0]
            line += count_lines(data[:end])
            tail = data[end:]

    def _parse_block(self, block: bytes) -> RawBatch | None:
        """Parse a block with Arrow; None if the block is irregular."""
        if len(self._names) == 1:  # Arrow would read a blank line as a row
            return None
        table = self._read_arrow(block, pa.float64())
        if table is not None:
            return RawBatch(table)
        table = self._read_arrow(block, pa.string())
        if table is None:
            return None
        for name in self._match.numbers:  # for example blanks around `NA`
            values = numbers(table.column(name))
            if values is None:
                return None
            table = table.set_column(table.column_names.index(name), name, pa.chunked_array([values]))
        return RawBatch(table)

    def _read_arrow(self, block: bytes, number_type: pa.DataType) -> pa.Table | None:
        types = dict.fromkeys(self._needed, pa.string()) | dict.fromkeys(self._match.numbers, number_type)
        try:
            return pa_csv.read_csv(
                pa.BufferReader(block),
                read_options=pa_csv.ReadOptions(
                    column_names=self._names, use_threads=False, block_size=len(block) + 1
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=b'"' in block
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=types,
                    include_columns=self._needed,
                    null_values=_NULL_WORDS,
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return None

    def _parse_lines(self, block: bytes, line: int, *, last: bool) -> tuple[RawBatch, int]:
        """Parse a block line by line; return the rows and the number of bytes they take."""
        records, used = split_records(block, line=line, delimiter=self._delimiter, last=last)
        check_encoding = not _is_utf8(block[:used])
        errors = {}
        for position, record in enumerate(records):
            error = record.error or self._check_cell_count(record)
            if error is None and check_encoding:
                error = self._check_encoding(record)
            if error is not None:
                errors[position] = error
        columns = {
            name: pa.array(
                [
                    None if position in errors else _cell(record.cells, self._place[name])
                    for position, record in enumerate(records)
                ],
                pa.string(),
            )
            for name in self._needed
        }
        return RawBatch(pa.table(columns), errors, [record.line for record in records], "line"), used

    def _check_cell_count(self, record: Record) -> RowError | None:
        """Return an error if a record has too many cells, or lacks cells of input columns."""
        count, expected = len(record.cells), len(self._names)
        if self._min_cells <= count <= expected:
            return None
        cells = "1 cell" if count == 1 else f"{count:,} cells"
        return RowError(
            f"{cells}, but the header has {expected:,}",
            "correct the line; cells that hold the delimiter go in quotes",
        )

    def _check_encoding(self, record: Record) -> RowError | None:
        for name in self._needed:
            cell = _cell(record.cells, self._place[name]) or ""
            if any("\ud800" <= char <= "\udfff" for char in cell):
                return RowError(f"the cell of column `{name}` is not UTF-8 text", _NOT_UTF8_HINT)
        return None


def _cell(cells: Sequence[str], place: int) -> str | None:
    return cells[place] if place < len(cells) else None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
