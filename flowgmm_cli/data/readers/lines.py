"""Readers of JSON lines, one object per line with the columns as keys, of JSON arrays, and of plain text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, BinaryIO

import pyarrow as pa

from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import (
    ENCODING_HINT,
    MAX_RECORD,
    NOT_UTF8,
    ByteSource,
    read_lines,
    take,
)
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.readers.table import Table, TableReader, to_arrow
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import first_line

Line = tuple[int, dict[str, Any] | RowError, int]
"""Number of a line or item, its object, and its length in bytes."""

_HEAD_ROWS = 100  # objects whose keys are the columns
_LENGTH = itemgetter(2)
_FILLED = re.compile(r"\S")
_DECODER = json.JSONDecoder()
_HINT = "each line must be one JSON object with the columns as keys"


class JsonlReader(TableReader):
    """Reader of JSON lines from a file or from standard input.

    The keys of the first 100 objects are the columns; a key that an object lacks is an empty cell.
    """

    format = "json lines"

    def __init__(self, source: ByteSource) -> None:
        self.name = source.name
        self.files = [source.stamp] if source.stamp else []
        self._source = source
        with translate_errors(self.name, self.format):
            lines = self._read_lines()
            head = take(lines, _HEAD_ROWS, _LENGTH)
        # standard input cannot be opened again: the first iteration continues this one
        self._first_lines = None if source.rereadable else chain(head, lines)
        self.names = list(dict.fromkeys(key for _, row, _ in head if isinstance(row, dict) for key in row))
        if not self.names:
            raise self._no_columns(head)

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        lines, self._first_lines = self._first_lines or self._read_lines(), None
        while batch := take(lines, size, _LENGTH):
            rows = [row if isinstance(row, dict) else {} for _, row, _ in batch]
            yield Table(
                pa.table({name: to_arrow([row.get(name) for row in rows]) for name in columns}),
                find_place=self._find_line([number for number, *_ in batch]),
                errors={place: row for place, (_, row, _) in enumerate(batch) if isinstance(row, RowError)},
            )

    def _read_lines(self) -> Iterator[Line]:
        """Yield the number and the object of every line that is not blank, or of an array."""
        with self._source.open_text() as stream:
            if stream.peek(1).lstrip().startswith(b"["):
                yield from self._parse_array(stream)
                return
            for number, line in enumerate(read_lines(stream, self.name), start=1):
                if text := line.strip():
                    yield number, _parse_object(text), len(text)

    def _parse_array(self, stream: BinaryIO) -> Iterator[Line]:
        """Yield the objects of a JSON array, numbered from 1."""
        number = 0
        try:
            for number, (value, length) in enumerate(_ArrayItems(stream), start=1):
                yield number, _require_object(value), length
        except (ValueError, RecursionError) as error:
            message = f"{self.name} is not JSON after item {number}: {first_line(error)}"
            raise DataError(message, hint=_HINT) from error

    def _no_columns(self, head: list[Line]) -> DataError:
        error = next((row for _, row, _ in head if isinstance(row, RowError)), None)
        if error is None:
            return DataError(f"{self.name} has no rows", hint=_HINT)
        return DataError(f"{self.name}:{head[0][0]}: {error.message}", hint=_HINT)


class TextReader(TableReader):
    """Reader of plain text. Every line is a row, also a blank one, so line numbers are row numbers."""

    format = "text"
    empty_hint = "each line is one text"

    def __init__(self, source: ByteSource, *, column: str = "text") -> None:
        self.name = source.name
        self.names = [column]
        self.files = [source.stamp] if source.stamp else []
        self._source = source

    def _read(self, columns: Sequence[str], size: int) -> Iterator[Table]:
        with self._source.open_text() as stream:
            lines = read_lines(stream, self.name)
            start = 1
            while batch := take(lines, size, len):
                cells: list[str | None] = [None] * len(batch)
                errors = {}
                for position, line in enumerate(batch):
                    try:
                        cells[position] = line.decode().rstrip("\r\n")
                    except UnicodeDecodeError:
                        errors[position] = RowError(NOT_UTF8, ENCODING_HINT)
                table = pa.table({name: pa.array(cells, pa.string()) for name in columns})
                place = self._find_line(range(start, start + len(batch)))
                yield Table(table, find_place=place, errors=errors)
                start += len(batch)


class _ArrayItems:
    """The items of a JSON array with their lengths; only the present one is in memory.

    Raises `ValueError` or `RecursionError` at the place where the text is no array.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        more = self._take("[") and not self._take("]")
        while more:
            yield self._take_value()
            more = self._take(",")
            if not more and not self._take("]"):
                raise ValueError("a comma or the end of the array is missing")
        self._skip_blanks()
        if self._at < len(self._text):
            raise ValueError("text follows the end of the array")

    def _read_more(self) -> None:
        more = self._stream.read(max(2**20, len(self._text) - self._at))
        text = self._decoder.decode(more, final=not more)
        self._text, self._at, self._ended = self._text[self._at :] + text, 0, not more

    def _skip_blanks(self) -> None:
        while True:
            filled = _FILLED.search(self._text, self._at)
            self._at = filled.start() if filled else len(self._text)
            if filled or self._ended:
                return
            self._read_more()

    def _take(self, mark: str) -> bool:
        """Step over a mark if it is the next character."""
        self._skip_blanks()
        is_next = self._text.startswith(mark, self._at)
        self._at += is_next
        return is_next

    def _take_value(self) -> tuple[Any, int]:
        self._skip_blanks()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
                value, end = None, len(self._text)
            length = end - self._at
            if length > MAX_RECORD:
                raise ValueError(f"an item has more than {MAX_RECORD >> 20} MiB")
            if end < len(self._text) or self._ended:
                self._at = end
                return value, length
            self._read_more()


def _parse_object(text: bytes) -> dict[str, Any] | RowError:
    try:
        return _require_object(json.loads(text.decode()))
    except UnicodeDecodeError:
        return RowError(NOT_UTF8, ENCODING_HINT)
    except (ValueError, RecursionError) as error:
        return RowError(f"not JSON: {error}", _HINT)


def _require_object(value: Any) -> dict[str, Any] | RowError:
    return value if isinstance(value, dict) else RowError("not a JSON object", _HINT)
