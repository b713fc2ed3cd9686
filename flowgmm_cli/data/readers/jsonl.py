"""Reader of JSON lines: one object per line, with the columns as keys; also of a JSON array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from flowgmm_cli.data.readers.base import ReadOptions
from flowgmm_cli.data.readers.byte_source import ByteSource
from flowgmm_cli.data.readers.chunks import RawBatch, TableReader
from flowgmm_cli.data.readers.row_errors import NOT_UTF8, NOT_UTF8_HINT, RowError, translate_errors
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError

Line = tuple[int, dict[str, Any] | RowError]

_HEAD_ROWS = 100  # objects whose keys are the columns
_HINT = "each line is to be one JSON object with the columns as keys"


class JsonlReader(TableReader):
    """Reader of JSON lines from a file or from standard input.

    The keys of the first 100 objects are the columns; a key that an object lacks is an empty cell.
    """

    format = "json lines"

    def __init__(self, source: ByteSource, schema: InputSchema, options: ReadOptions) -> None:
        super().__init__(source.name, schema, options)
        self._source = source
        with translate_errors(self.name, self.format):
            lines = self._read_lines()
            head = list(islice(lines, _HEAD_ROWS))
        # standard input cannot be opened again: the first iteration continues this one
        self._first_lines = None if source.rereadable else chain(head, lines)
        names = list(dict.fromkeys(key for _, row in head if isinstance(row, dict) for key in row))
        if not names:
            raise self._no_columns(head)
        self._match_columns(names)

    def _read_batches(self) -> Iterator[RawBatch]:
        lines, self._first_lines = self._first_lines or self._read_lines(), None
        while batch := list(islice(lines, self._size)):
            rows = [row if isinstance(row, dict) else {} for _, row in batch]
            yield RawBatch(
                pa.table({name: _to_arrow([row.get(name) for row in rows]) for name in self._match.needed}),
                {position: row for position, (_, row) in enumerate(batch) if isinstance(row, RowError)},
                [number for number, _ in batch],
                "line",
            )

    def _read_lines(self) -> Iterator[Line]:
        """Yield the number and the object of every line that is not blank."""
        with self._source.open() as stream:
            for number, line in enumerate(stream, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                if number == 1 and text.startswith(b"["):
                    yield from _parse_array(text + stream.read(), self.name)
                    return
                if text:
                    yield number, _parse_object(text)

    def _no_columns(self, head: list[Line]) -> DataError:
        error = next((row for _, row in head if isinstance(row, RowError)), None)
        if error is None:
            return DataError(f"{self.name} has no rows", hint=_HINT)
        return DataError(f"{self.name}:{head[0][0]}: {error.message}", hint=_HINT)


def _parse_object(text: bytes) -> dict[str, Any] | RowError:
    try:
        return _require_object(json.loads(text))
    except UnicodeDecodeError:
        return RowError(NOT_UTF8, NOT_UTF8_HINT)
    except (ValueError, RecursionError) as error:
        return RowError(f"not JSON: {error}", _HINT)


def _parse_array(text: bytes, name: str) -> Iterator[Line]:
    """Yield the objects of a JSON array, numbered from 1."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}", hint=_HINT) from error
    for number, value in enumerate(values, start=1):
        yield number, _require_object(value)


def _require_object(value: Any) -> dict[str, Any] | RowError:
    return value if isinstance(value, dict) else RowError("not a JSON object", _HINT)


def _to_arrow(values: list[Any]) -> pa.Array:
    """Convert cells to an array of their type, or to JSON strings if their types differ."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
        return pa.array([_to_text(value) for value in values], pa.string())


def _to_text(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    # JSON can contain half of a surrogate pair, which is not a character
    return None if text is None else text.encode("utf-8", "replace").decode()
