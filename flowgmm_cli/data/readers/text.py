"""Reader of plain text, one text a line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import Rows
from flowgmm_cli.data.readers.cells import row_numbers
from flowgmm_cli.data.readers.faults import Fault, reading, settle
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.data.readers.source import ByteSource


class TextReader:
    """Every line is a row, blank ones too, so that line numbers are row numbers.

    Raises:
        DataError: the model reads more than one text.
    """

    def __init__(
        self, source: ByteSource, schema: InputSchema, *, on_error: OnError, chunk_rows: int
    ) -> None:
        self.name = source.name
        self.total: int | None = None
        self._column = text_column(schema, f"{source.name} holds")
        self._source = source
        self._on_error = on_error
        self._size = chunk_rows

    def __iter__(self) -> Iterator[Chunk]:
        start = 0
        with reading(self.name, "text"), self._source.open() as stream:
            while lines := list(islice(stream, self._size)):
                if start == 0:
                    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                texts, faults = [], {}
                for position, line in enumerate(lines):
                    try:
                        texts.append(line.decode().rstrip("\r\n"))
                    except UnicodeDecodeError:
                        texts.append("")
                        faults[position] = Fault("not UTF-8 text", "save the file as UTF-8")
                place = partial(_line, start)
                problems = settle(faults, name=self.name, place=place, on_error=self._on_error)
                yield text_chunk(self._column, texts, start, problems)
                start += len(texts)
        if start == 0:
            raise DataError(f"{self.name} has no rows", hint="each line is one text")


def _line(start: int, position: int) -> str:
    return f"line {start + position + 1}"


def text_column(schema: InputSchema, what: str) -> str:
    """The name of the one text column.

    Raises:
        DataError: the model reads something else.
    """
    if schema.text is None:
        columns = ", ".join(column.name for column in schema.columns[:12])
        raise DataError(
            f"{what} nothing but texts, but the model reads columns: {columns}",
            hint="give it a csv, parquet or jsonl file with these columns",
        )
    return schema.text.name


def text_chunk(column: str, texts: list[str], start: int, problems: dict[int, str]) -> Chunk:
    """A chunk of texts without labels."""
    cells = np.array(texts, dtype=object)
    labels = np.full(len(texts), -1, dtype=np.int64)
    return Chunk(Rows({column: cells}, labels, row_numbers(start, len(texts))), start, problems)
