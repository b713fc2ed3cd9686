"""Reader of csv and tsv: fast where lines are in order, careful where one is not.

Bytes are cut into blocks of whole records. A block goes through Arrow's parser; only where that finds
something odd is the block split line by line, which tells the place of every problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.cells import ChunkMaker, Piece
from flowgmm_cli.data.readers.faults import Fault, chunk_size, once, reading
from flowgmm_cli.data.readers.match import match_columns
from flowgmm_cli.data.readers.records import MAX_RECORD, Record, count_lines, regular_end, split_records
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.data.sources.columns import MISSING_WORDS, numbers
from flowgmm_cli.data.sources.files import column_names, guess_delimiter
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from typing import BinaryIO

    from flowgmm_cli.data.readers.source import ByteSource

BLOCK = 2**20
"""Bytes read at once."""

_BOM = b"\xef\xbb\xbf"
_MISSING = [
    "",
    *sorted({way(word) for word, way in product(MISSING_WORDS, (str.lower, str.upper, str.title))}),
]
_NOT_UTF8 = "save the file as UTF-8, for example with iconv -f latin1 -t utf-8"


class CsvReader:
    """Rows of a csv file, or of standard input.

    Raises:
        DataError: there is no header line, or it lacks a column that the model reads.
    """

    def __init__(
        self,
        source: ByteSource,
        schema: InputSchema,
        *,
        context: DataContext,
        on_error: OnError,
        chunk_rows: int,
        suffix: str,
    ) -> None:
        self.name = source.name
        self.total: int | None = None
        self._source = source
        self._note = once(context)
        self._size = chunk_size(chunk_rows, schema.columns)
        self._delimiter = schema.delimiter or ""
        self._suffix = suffix
        self._first: tuple[BinaryIO, bytes, int] | None = (
            None  # where reading stands, if it cannot begin anew
        )
        with reading(self.name, "csv"), ExitStack() as stack:
            stream = source.open()
            if source.again:
                stack.enter_context(stream)
            self._names, rest, line = self._header(stream)
            if not source.again:
                self._first = (stream, rest, line)
        self._match = match_columns(schema, self._names, where=self.name, note=self._note)
        self._needed = self._match.needed
        self._place = {name: index for index, name in enumerate(self._names)}
        self._least = 1 + max(self._place[name] for name in self._match.input_names)
        self._make = ChunkMaker(schema, self._match, name=self.name, on_error=on_error, note=self._note)

    def __iter__(self) -> Iterator[Chunk]:
        start = 0
        with reading(self.name, "csv"):
            if self._first is None:
                stream, rest, line = self._source.open(), b"", 0
            else:
                (stream, rest, line), self._first = self._first, None
            with stream:
                if not line:
                    _, rest, line = self._header(stream)
                for piece in self._pieces(stream, rest, line):
                    for part in piece.parts(self._size):
                        chunk = self._make(part, start)
                        start += len(chunk)
                        yield chunk
        if start == 0:
            raise DataError(f"{self.name} has no rows", hint="a header line and rows are needed")

    def _header(self, stream: BinaryIO) -> tuple[list[str], bytes, int]:
        """Read the header: the names, the bytes read beyond it, and the number of the line they begin at."""
        data = stream.read(BLOCK)
        last = len(data) < BLOCK
        if not data.removeprefix(_BOM).strip():
            raise DataError(f"{self.name} is empty", hint="a header line and rows are needed")
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{self.name} is UTF-16, not UTF-8 text", hint="save it as UTF-8")
        data = data.removeprefix(_BOM)
        lines = data.splitlines(keepends=True)
        before = next(index for index, line in enumerate(lines) if line.strip())
        skipped = sum(map(len, lines[:before]))
        if not self._delimiter:
            self._delimiter = guess_delimiter(self._suffix, lines[before].decode("utf-8", "replace"))
            if self._delimiter not in (",", "\t"):
                self._note(f"{self.name}: cells are divided by `{self._delimiter}`")
        end = skipped + len(lines[before])
        while True:  # a name may hold line breaks, in quotes
            records, used = split_records(
                data[skipped:end], line=before + 1, delimiter=self._delimiter, last=end >= len(data) and last
            )
            if records or end >= len(data):
                break
            end += len(data[end:].splitlines(keepends=True)[0])
        if not records or records[0].fault:
            raise DataError(
                f"{self.name}:{before + 1}: the header line cannot be read", hint="a quote is not closed"
            )
        if not _is_utf8(data[skipped : skipped + used]):
            raise DataError(f"{self.name}:{before + 1}: the header line is not UTF-8 text", hint=_NOT_UTF8)
        names = column_names(records[0].cells, where=self.name)
        return names, data[skipped + used :], before + 1 + count_lines(data[skipped : skipped + used])

    def _pieces(self, stream: BinaryIO, tail: bytes, line: int) -> Iterator[Piece]:
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
                piece, end = self._careful(data, line, last=last)
                yield piece
            elif end:
                yield self._fast(data[:end]) or self._careful(data[:end], line, last=True)[0]
            line += count_lines(data[:end])
            tail = data[end:]

    def _fast(self, block: bytes) -> Piece | None:
        """A block in which all is well; None if anything in it needs a closer look."""
        if len(self._names) == 1:  # a blank line is no row here, but Arrow would take it for one
            return None
        for plain in (True, False):
            kind = pa.float64() if plain else pa.string()
            types = dict.fromkeys(self._needed, pa.string()) | dict.fromkeys(self._match.numbers, kind)
            try:
                table = pa_csv.read_csv(
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
                        null_values=_MISSING,
                        strings_can_be_null=False,
                    ),
                )
            except pa.ArrowInvalid as error:
                if "CSV parse error" in str(error):
                    return None
                continue
            if plain:
                return Piece(table)
            for name in self._match.numbers:  # blanks around a missing word, say
                values = numbers(table.column(name))
                if values is None:
                    return None
                table = table.set_column(table.column_names.index(name), name, pa.chunked_array([values]))
            return Piece(table)
        return None

    def _careful(self, block: bytes, line: int, *, last: bool) -> tuple[Piece, int]:
        """A block line by line, and how many bytes of it that takes."""
        records, used = split_records(block, line=line, delimiter=self._delimiter, last=last)
        odd_bytes = not _is_utf8(block[:used])
        faults = {}
        for position, record in enumerate(records):
            fault = (
                record.fault or self._miscounted(record) or (self._undecoded(record) if odd_bytes else None)
            )
            if fault is not None:
                faults[position] = fault
        columns = {}
        for name in self._needed:
            place = self._place[name]
            columns[name] = pa.array(
                [
                    None if position in faults or place >= len(record.cells) else record.cells[place]
                    for position, record in enumerate(records)
                ],
                pa.string(),
            )
        return Piece(pa.table(columns), faults, [record.line for record in records], "line"), used

    def _miscounted(self, record: Record) -> Fault | None:
        """Say how many cells are too few or too many. Cells that are no input may be left out at the end."""
        given, wanted = len(record.cells), len(self._names)
        if given > wanted or given < self._least:
            cells = "1 cell" if given == 1 else f"{given:,} cells"
            return Fault(
                f"{cells}, but the header has {wanted:,}",
                "correct the line; cells that hold the delimiter go in quotes",
            )
        return None

    def _undecoded(self, record: Record) -> Fault | None:
        for name in self._needed:
            cell = "".join(record.cells[self._place[name] : self._place[name] + 1])
            if any("\ud800" <= char <= "\udfff" for char in cell):
                return Fault(f"the cell of column `{name}` is not UTF-8 text", _NOT_UTF8)
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
