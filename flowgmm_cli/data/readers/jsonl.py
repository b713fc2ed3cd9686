"""Reader of JSON lines: one object per line, with the columns as keys; also of a JSON array of objects."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from flowgmm_cli.data.readers.base import translate_errors
from flowgmm_cli.data.readers.byte_source import ENCODING_HINT, NOT_UTF8, ByteSource, read_lines
from flowgmm_cli.data.readers.row_errors import RowError
from flowgmm_cli.data.readers.table import RawBatch, TableReader, to_arrow
from flowgmm_cli.errors import DataError

Line = tuple[int, dict[str, Any] | RowError]

_HEAD_ROWS = 100  # objects whose keys are the columns
_MAX_ARRAY = 2**30  # bytes of an array, which is read as a whole
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
            head = list(islice(lines, _HEAD_ROWS))
        # standard input cannot be opened again: the first iteration continues this one
        self._first_lines = None if source.rereadable else chain(head, lines)
        self.names = list(dict.fromkeys(key for _, row in head if isinstance(row, dict) for key in row))
        if not self.names:
            raise self._no_columns(head)

    def _read(self, columns: Sequence[str], numbers: Collection[str], size: int) -> Iterator[RawBatch]:
        lines, self._first_lines = self._first_lines or self._read_lines(), None
        while batch := list(islice(lines, size)):
            rows = [row if isinstance(row, dict) else {} for _, row in batch]
            yield RawBatch(
                pa.table({name: to_arrow([row.get(name) for row in rows]) for name in columns}),
                {position: row for position, (_, row) in enumerate(batch) if isinstance(row, RowError)},
                [number for number, _ in batch],
                "line",
            )

    def _read_lines(self) -> Iterator[Line]:
        """Yield the number and the object of every line that is not blank, or of an array."""
        with self._source.open_text() as stream:
            if stream.peek(1).lstrip().startswith(b"["):
                yield from self._parse_array(stream.read(_MAX_ARRAY + 1))
                return
            for number, line in enumerate(read_lines(stream, self.name), start=1):
                if text := line.strip():
                    yield number, _parse_object(text)

    def _parse_array(self, text: bytes) -> Iterator[Line]:
        """Yield the objects of a JSON array, numbered from 1."""
        if len(text) > _MAX_ARRAY:
            raise DataError(f"{self.name} is a JSON array of more than {_MAX_ARRAY >> 20} MiB", hint=_HINT)
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.name} is not JSON: {error}", hint=_HINT) from error
        for number, value in enumerate(values, start=1):
            yield number, _require_object(value)

    def _no_columns(self, head: list[Line]) -> DataError:
        error = next((row for _, row in head if isinstance(row, RowError)), None)
        if error is None:
            return DataError(f"{self.name} has no rows", hint=_HINT)
        return DataError(f"{self.name}:{head[0][0]}: {error.message}", hint=_HINT)


def _parse_object(text: bytes) -> dict[str, Any] | RowError:
    try:
        return _require_object(json.loads(text.decode()))
    except UnicodeDecodeError:
        return RowError(NOT_UTF8, ENCODING_HINT)
    except (ValueError, RecursionError) as error:
        return RowError(f"not JSON: {error}", _HINT)


def _require_object(value: Any) -> dict[str, Any] | RowError:
    return value if isinstance(value, dict) else RowError("not a JSON object", _HINT)
