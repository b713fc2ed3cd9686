"""Reader of JSON lines: one object a line, with the columns as keys. An array of objects will do as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.cells import ChunkMaker, Piece
from flowgmm_cli.data.readers.faults import Fault, chunk_size, once, reading
from flowgmm_cli.data.readers.match import Match, match_columns
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.data.readers.source import ByteSource

    Line = tuple[int, dict[str, Any] | Fault]

_PEEK = 100  # objects whose keys are the columns
_ONE_OBJECT = "each line is to be one JSON object with the columns as keys"


class JsonlReader:
    """Rows of a file of JSON lines, or of standard input.

    The first objects say which columns there are; a key that an object lacks is an empty cell.

    Raises:
        DataError: a column that the model reads is missing.
    """

    def __init__(
        self,
        source: ByteSource,
        schema: InputSchema,
        *,
        context: DataContext,
        on_error: OnError,
        chunk_rows: int,
    ) -> None:
        self.name = source.name
        self.total: int | None = None
        self._source = source
        self._schema = schema
        self._note = once(context)
        self._size = chunk_size(chunk_rows, schema.columns)
        self._on_error = on_error
        with reading(self.name, "json lines"):
            lines = self._lines()
            head = list(islice(lines, _PEEK))
        self._first: tuple[list[Line], Iterator[Line]] | None = None if source.again else (head, lines)
        names = list(dict.fromkeys(key for _, row in head if isinstance(row, dict) for key in row))
        if not names:
            raise self._nothing(head)
        self._match = match_columns(schema, names, where=self.name, note=self._note)

    def __iter__(self) -> Iterator[Chunk]:
        make = ChunkMaker(self._schema, self._match, name=self.name, on_error=self._on_error, note=self._note)
        start = 0
        with reading(self.name, "json lines"):
            for batch in self._batches():
                chunk = make(_piece(batch, self._match), start)
                start += len(chunk)
                yield chunk

    def _batches(self) -> Iterator[list[Line]]:
        head: list[Line] = []
        lines = None
        if self._first is not None:
            (head, lines), self._first = self._first, None
        lines = lines or self._lines()
        while batch := [*head, *islice(lines, max(self._size - len(head), 0))]:
            head = batch[self._size :]
            yield batch[: self._size]

    def _lines(self) -> Iterator[Line]:
        """Every line that is not blank, with its number."""
        with self._source.open() as stream:
            for number, line in enumerate(stream, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                if number == 1 and text.startswith(b"["):
                    yield from _array(text + stream.read(), self.name)
                    return
                if text:
                    yield number, _object(text)

    def _nothing(self, head: list[Line]) -> DataError:
        fault = next((row for _, row in head if isinstance(row, Fault)), None)
        if fault is None:
            return DataError(f"{self.name} has no rows", hint=_ONE_OBJECT)
        return DataError(f"{self.name}:{head[0][0]}: {fault.what}", hint=_ONE_OBJECT)


def _object(text: bytes) -> dict[str, Any] | Fault:
    try:
        value = json.loads(text)
    except UnicodeDecodeError:
        return Fault("not UTF-8 text", "save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return Fault(f"not JSON: {error}", _ONE_OBJECT)
    return value if isinstance(value, dict) else Fault("not a JSON object", _ONE_OBJECT)


def _array(text: bytes, name: str) -> Iterator[Line]:
    """The objects of a file that is one JSON array, numbered by their place in it."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}", hint=_ONE_OBJECT) from error
    for number, value in enumerate(values, start=1):
        yield number, value if isinstance(value, dict) else Fault("not a JSON object", _ONE_OBJECT)


def _piece(batch: list[Line], match: Match) -> Piece:
    faults = {position: row for position, (_, row) in enumerate(batch) if isinstance(row, Fault)}
    rows = [row if isinstance(row, dict) else {} for _, row in batch]
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in match.needed})
    return Piece(table, faults, [number for number, _ in batch], "line")


def _column(values: list[Any]) -> pa.Array:
    """Cells of one type where they are; else strings, as JSON writes them."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
        return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    # JSON can spell half of a surrogate pair, which is no character
    return None if text is None else text.encode("utf-8", "replace").decode()
