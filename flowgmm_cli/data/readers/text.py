"""Reader of plain text files: every line is a text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from flowgmm_cli.data.readers.byte_source import ENCODING_HINT, NOT_UTF8, ByteSource, read_lines, take
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.readers.table import RawBatch, TableReader


class TextReader(TableReader):
    """Reader of plain text. Every line is a row, also a blank one, so line numbers are row numbers."""

    format = "text"
    empty_hint = "each line is one text"

    def __init__(self, source: ByteSource, *, column: str = "text") -> None:
        self.name = source.name
        self.names = [column]
        self.files = [source.stamp] if source.stamp else []
        self._source = source

    def _read(self, columns: Sequence[str], numbers: Collection[str], size: int) -> Iterator[RawBatch]:
        with self._source.open_text() as stream:
            lines = read_lines(stream, self.name)
            start = 1
            while batch := take(lines, size, len):
                cells: list[str | None] = []
                errors = {}
                for position, line in enumerate(batch):
                    try:
                        cells.append(line.decode().rstrip("\r\n"))
                    except UnicodeDecodeError:
                        cells.append(None)
                        errors[position] = RowError(NOT_UTF8, ENCODING_HINT)
                table = pa.table({name: pa.array(cells, pa.string()) for name in columns})
                yield RawBatch(table, errors, range(start, start + len(batch)).__getitem__, "line")
                start += len(batch)
