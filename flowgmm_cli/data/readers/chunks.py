"""Chunks from raw table rows: parsed cells, labels, ids, and a description of every malformed row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array, Floats, Ints
from flowgmm_cli.data.dates import parse_dates
from flowgmm_cli.data.labels import UNLABELLED
from flowgmm_cli.data.readers.base import Chunk, ReadOptions, RowReader, row_numbers, unlabelled
from flowgmm_cli.data.readers.byte_source import FOREIGN_MARKS, MARKS_HINT
from flowgmm_cli.data.readers.row_errors import RowError, raise_or_skip
from flowgmm_cli.data.readers.schema import InputSchema, match_columns
from flowgmm_cli.data.readers.table import Table, TableReader
from flowgmm_cli.data.sources.columns import (
    ValueIndex,
    find_localised_numbers,
    find_non_numeric,
    is_finite_number,
    is_image_type,
    numbers,
    strings,
    texts,
    vectors,
)
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import shorten

_UNKNOWN = -2  # code of a label that is not a class of the model


class TableChunks(RowReader):
    """Reader of the chunks of a table for a model; columns are matched now, rows when they are read."""

    def __init__(self, table: TableReader, schema: InputSchema, options: ReadOptions) -> None:
        self.name = table.name
        self.total = table.rows
        if self.total == 0:
            raise DataError(f"{self.name} has no rows", hint=table.empty_hint)
        self._table = table
        self._options = options
        self._size = options.chunk_size(schema.columns)
        self._match = match_columns(
            schema, table.names, where=self.name, note=options.note, keep=options.keep, images=table.images
        )
        self._schema = schema
        codes = index = schema.class_index
        if names := table.class_names.get(self._match.label or ""):  # label cells are codes, -1 for no label
            codes = {str(code): index[name] for code, name in enumerate(names) if name in index} | {"-1": -1}
        self._encode_labels = LabelEncoder({**dict.fromkeys(schema.unlabelled, -1), **(codes or index)})

    def _read_chunks(self) -> Iterator[Chunk]:
        start = 0
        for batch in self._table.batches(self._match.needed, size=self._size):
            yield self._build_chunk(batch, start)
            start += len(batch)

    def _build_chunk(self, batch: Table, start: int) -> Chunk:
        """Convert a batch that begins `start` rows after the start of the input."""
        table, match = batch.data, self._match
        errors = dict(batch.errors)
        columns = {}
        for column, parts in match.inputs:
            cells = [table.column(part) for part in parts]
            if column.kind in ("image", "vector") and is_image_type(cells[0].type):
                columns[column.name], cell_errors = self._decode_images(cells[0], column)
            else:
                columns[column.name], cell_errors = parse_cells(column, cells, parts)
            errors = cell_errors | errors
        problems = raise_or_skip(errors, batch.locate, self._options.on_error)
        labels, unknown = unlabelled(len(batch)), dict[int, str]()
        if match.label is not None:
            labels, unknown = self._encode_labels(strings(table.column(match.label)))
        ids = row_numbers(start, len(batch)) if match.id is None else strings(table.column(match.id))
        if match.id is not None and (empty := ids == None).any():  # noqa: E711 - elementwise
            ids = np.where(empty, row_numbers(start, len(batch)), ids)
        kept = {name: table.column(name).combine_chunks() for name in match.kept}
        return Chunk(columns, labels, ids, start=start, problems=problems, unknown_labels=unknown, kept=kept)

    def _decode_images(self, cells: pa.ChunkedArray, column: Column) -> tuple[Array, dict[int, RowError]]:
        # Pillow is imported for images only
        from flowgmm_cli.data.images.encoded_images import EncodedImages
        from flowgmm_cli.data.readers.image_cells import ImageDecoder, find_image_format

        image_format = find_image_format(self._schema)
        if image_format is None:
            raise DataError(
                f"{self.name}: column `{column.name}` holds image files, and the model reads "
                f"{math.prod(column.shape):,} numbers",
                hint="write it as lists of numbers",
            )
        decode = ImageDecoder(image_format, self._schema, self._note)
        if scale := decode.describe_vectors():
            self._note(scale)
        return decode(EncodedImages(self.name, [""] * len(cells), list(cells)))

    def _note(self, text: str) -> None:
        self._options.note(f"{self.name}: {text}")


class LabelEncoder:
    """Convert label cells to class indices; `codes` maps cells to them, -1 for no label, -2 for no class."""

    def __init__(self, codes: Mapping[str, int]) -> None:
        numbers = {UNLABELLED: -1} if all(map(is_finite_number, codes)) else {}
        self._index = ValueIndex({**numbers, **codes})

    def __call__(self, cells: Array) -> tuple[Ints, dict[int, str]]:
        """Return the class index of each cell, -1 without one, and position -> label that is no class."""
        labels = self._index.codes(cells, missing=-1, unknown=_UNKNOWN)
        unknown = np.flatnonzero(labels == _UNKNOWN).tolist()
        return np.maximum(labels, -1), {place: str(cells[place]) for place in unknown}


def parse_cells(
    column: Column, parts: Sequence[pa.ChunkedArray], names: Sequence[str]
) -> tuple[Array, dict[int, RowError]]:
    """Parse an input column, formed by `parts` with `names`; also return position -> error of bad cells."""
    if column.kind == "text":
        return texts(parts), {}
    if column.kind == "category":
        return strings(parts[0]), {}
    if column.kind == "date":
        seconds, odd = parse_dates(parts[0], column.format)
        return seconds, {position: _date_error(str(parts[0][position]), column) for position in odd.tolist()}
    if column.kind == "numeric":
        return _parse_numbers(parts[0], names[0])
    size = math.prod(column.shape)
    if len(parts) == 1 and not (size == 1 and numbers(parts[0]) is not None):
        return _parse_vectors(parts[0], column)
    matrix = np.empty((len(parts[0]), size))
    errors: dict[int, RowError] = {}
    for entry, (part, name) in enumerate(zip(parts, names, strict=True)):
        matrix[:, entry], entry_errors = _parse_numbers(part, name)
        errors = entry_errors | errors
    return matrix.reshape(-1, *column.shape), errors


def _parse_numbers(cells: pa.ChunkedArray, name: str) -> tuple[Floats, dict[int, RowError]]:
    parsed = numbers(cells)
    if parsed is not None:
        return parsed, {}
    bad = find_non_numeric(cells)
    bad_cells = [str(cell) for cell in cells.take(pa.array(bad)).to_pylist()]
    error_of = {cell: _number_error(cell, name) for cell in set(bad_cells)}
    errors = {position: error_of[cell] for position, cell in zip(bad.tolist(), bad_cells, strict=True)}
    good = np.ones(len(cells), dtype=bool)
    good[bad] = False
    values = np.full(len(cells), np.nan)
    if good.any():
        parsed = numbers(cells.filter(pa.array(good)))
        values[good] = np.nan if parsed is None else parsed
    return values, errors


def _date_error(cell: str, column: Column) -> RowError:
    return RowError(
        f"column `{column.name}` wants a date like {column.format}, got `{shorten(cell)}`",
        "correct the cell (empty means missing)",
    )


def _number_error(cell: str, name: str) -> RowError:
    has_foreign_format = len(find_localised_numbers(pa.chunked_array([[cell]]))) > 0
    message = f"column `{name}` wants a number, got `{shorten(cell)}`"
    hint = "correct the cell (empty means missing)"
    if has_foreign_format:
        message += f", {FOREIGN_MARKS}"
        hint = f"write numbers like 1000.50, or name the marks: {MARKS_HINT}"
    return RowError(message, hint)


def _parse_vectors(cells: pa.ChunkedArray, column: Column) -> tuple[Array, dict[int, RowError]]:
    size = math.prod(column.shape)
    matrix = vectors(cells)
    if matrix is not None and matrix.shape[1] == size:
        return matrix.reshape(-1, *column.shape), {}
    values = np.full((len(cells), *column.shape), np.nan)
    errors = {}
    for position, cell in enumerate(cells.to_pylist()):
        try:
            row = np.asarray(cell, dtype=np.float64)
            if row.size != size or row.ndim == 0:
                raise ValueError
            values[position] = row.reshape(column.shape)
        except (TypeError, ValueError):  # ragged, or not numbers
            actual = f"{len(cell):,} entries" if isinstance(cell, list) else f"`{shorten(cell)}`"
            errors[position] = RowError(
                f"column `{column.name}` wants a list of {size:,} numbers, got {actual}", "correct the cell"
            )
    return values, errors
