"""Writers of text formats, csv, tsv and jsonl, without a Python loop over the cells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.writers.base import (
    Columns,
    Writer,
    is_matrix,
    is_plain,
    missing_rows,
    to_arrow,
    to_text,
)

_MAX_CELLS = 1_000_000  # cells converted to text at once
_NULL = pa.scalar(None, pa.string())


class DelimitedWriter(Writer):
    """Write csv or tsv: a header line and one line per row.

    Missing cells are empty, booleans are `true` or `false`. A column `z` of `(N, D)` becomes the columns
    `z_0` to `z_{D-1}`.
    """

    def __init__(self, path: Path | None, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter

    def _write_header(self, columns: Columns) -> None:
        names: list[str] = []
        for name, values in columns.items():
            names += [f"{name}_{entry}" for entry in range(values.shape[1])] if is_matrix(values) else [name]
        cells = encode_csv(pa.array(names, pa.string()), self._delimiter).to_pylist()
        self.stream.write((self._delimiter.join(cells) + "\n").encode())

    def _write_rows(self, columns: Columns, size: int) -> None:
        for chunk in _split(columns, size):
            cells: list[pa.Array] = []
            for values in chunk.values():
                parts = values.T if is_matrix(values) else [values]
                cells += [encode_csv(to_arrow(part), self._delimiter) for part in parts]
            if len(cells) == 1:  # an empty line would not count as a row
                cells = [pc.if_else(pc.equal(pc.fill_null(cells[0], ""), ""), '""', cells[0])]
            cells[-1] = pc.binary_join_element_wise(cells[-1], "\n", "", null_handling="replace")
            lines = pc.binary_join_element_wise(*cells, self._delimiter, null_handling="replace")
            self.stream.write(_utf8_bytes(lines))


class JsonlWriter(Writer):
    """Write one JSON object per line; missing cells are null, a column `(N, D)` is a list in each row."""

    def _write_rows(self, columns: Columns, size: int) -> None:
        for chunk in _split(columns, size):
            pieces: list[pa.Array | str] = []
            for name, values in chunk.items():
                key = json.dumps(name, ensure_ascii=False)
                pieces += [f"{',' if pieces else '{'}{key}:", encode_json(values)]
            lines = pc.binary_join_element_wise(
                *pieces, "}\n", "", null_handling="replace", null_replacement="null"
            )
            self.stream.write(_utf8_bytes(lines))


def encode_csv(cells: pa.Array, delimiter: str) -> pa.Array:
    """Convert the cells of a column to text, quoted where RFC 4180 requires it; null stays null.

    A number has as few digits as reproduce it exactly, at most 9 in single precision.

    >>> encode_csv(pa.array(["a", 'b"c', None]), ",").to_pylist()
    ['a', '"b""c"', None]
    >>> encode_csv(pa.array([0.1, 1.0], pa.float32()), ",").to_pylist()
    ['0.1', '1']
    """
    if is_plain(cells.type):
        return pc.cast(cells, pa.string())
    cells = to_text(cells)
    content = bytes(_utf8_bytes(cells))
    if not any(mark in content for mark in (b'"', b"\r", b"\n", delimiter.encode())):
        return cells
    special = pc.match_substring_regex(cells, f'["\r\n{delimiter}]')
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(special, quoted, cells)


def encode_json(values: Array) -> pa.Array:
    r"""Convert the cells of a column to JSON; missing cells, NaN and infinities become null.

    >>> encode_json(np.array(['a', 'é', None], dtype=object)).to_pylist()
    ['"a"', '"é"', None]
    >>> encode_json(np.array([[1.0, 0.25], [np.nan, 2.0], [np.nan, np.nan]])).to_pylist()
    ['[1,0.25]', '[null,2]', None]
    """
    if is_matrix(values):
        entries = [encode_json(column) for column in values.T]
        joined = pc.binary_join_element_wise(*entries, ",", null_handling="replace", null_replacement="null")
        lists = pc.binary_join_element_wise("[", joined, "]", "")
        return pc.if_else(pa.array(missing_rows(values)), _NULL, lists)
    cells = to_arrow(values)
    if pa.types.is_floating(cells.type):
        return pc.if_else(pc.is_finite(cells), pc.cast(cells, pa.string()), _NULL)
    if is_plain(cells.type) or pa.types.is_nested(cells.type):
        return to_text(cells)
    cells = to_text(cells)
    quoted = pc.binary_join_element_wise('"', cells, '"', "")
    special = pc.fill_null(pc.match_substring_regex(cells, r'["\\\x00-\x1f]'), False)
    if not pc.any(special).as_py():
        return quoted
    escaped = [json.dumps(text, ensure_ascii=False) for text in pc.filter(cells, special).to_pylist()]
    return pc.replace_with_mask(quoted, special, pa.array(escaped, pa.string()))


def _utf8_bytes(lines: pa.Array) -> memoryview:
    """Return the concatenated UTF-8 bytes of all cells; null cells have none."""
    _, offsets, data = lines.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[ends[0] : ends[-1]]


def _split(columns: Columns, size: int) -> Iterator[Columns]:
    """Yield chunks of at most about `_MAX_CELLS` cells, to bound the memory that their text takes."""
    width = sum(values.shape[1] if is_matrix(values) else 1 for values in columns.values())
    for part in iterate_batches(size, max(1, _MAX_CELLS // max(1, width))):
        yield {name: values[part] for name, values in columns.items()}
