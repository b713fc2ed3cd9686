"""Reader of plain text files: every line is a text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from flowgmm_cli.api import Rows
from flowgmm_cli.data.readers.base import Chunk, ReadOptions, row_numbers, unlabelled
from flowgmm_cli.data.readers.byte_source import ByteSource
from flowgmm_cli.data.readers.row_errors import (
    NOT_UTF8,
    NOT_UTF8_HINT,
    RowError,
    raise_or_skip,
    translate_errors,
)
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError


class TextReader:
    """Reader of plain text. Every line is a row, also a blank one, so line numbers are row numbers."""

    def __init__(self, source: ByteSource, schema: InputSchema, options: ReadOptions) -> None:
        if schema.text is None:
            columns = ", ".join(column.name for column in schema.columns[:12])
            raise DataError(
                f"{source.name} holds nothing but texts, but the model reads columns: {columns}",
                hint="give it a csv, parquet or jsonl file with these columns",
            )
        self.name = source.name
        self.total: int | None = None
        self._column = schema.text.name
        self._source = source
        self._options = options

    def __iter__(self) -> Iterator[Chunk]:
        start = 0
        with translate_errors(self.name, "text"), self._source.open() as stream:
            while lines := list(islice(stream, self._options.chunk_rows)):
                if start == 0:
                    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                yield self._build_chunk(lines, start)
                start += len(lines)
        if start == 0:
            raise DataError(f"{self.name} has no rows", hint="each line is one text")

    def _build_chunk(self, lines: list[bytes], start: int) -> Chunk:
        cells = np.full(len(lines), "", dtype=object)
        errors = {}
        for position, line in enumerate(lines):
            try:
                cells[position] = line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                errors[position] = RowError(NOT_UTF8, NOT_UTF8_HINT)
        numbers = row_numbers(start, len(lines))
        problems = raise_or_skip(
            errors, name=self.name, locate=lambda at: f"line {numbers[at]}", on_error=self._options.on_error
        )
        return Chunk(Rows({self._column: cells}, unlabelled(len(lines)), numbers), start, problems)
