"""Writers of text formats: csv, tsv and jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.writers.base import Columns, Writer
from flowgmm_cli.data.writers.encode import encode_csv, encode_json, to_arrow, utf8_bytes
from flowgmm_cli.data.writers.target import Target

_MAX_CELLS = 1_000_000  # cells converted to text at once


class DelimitedWriter(Writer):
    """Write csv or tsv: a header line and one line per row.

    Missing cells are empty, booleans are `true` or `false`. A column `z` of `(N, D)` becomes the columns
    `z_0` to `z_{D-1}`.
    """

    def __init__(self, target: Target, delimiter: str) -> None:
        super().__init__(target)
        self._delimiter = delimiter

    def _write_header(self, columns: Columns) -> None:
        names: list[str] = []
        for name, values in columns.items():
            if values.ndim == 2:
                names += [f"{name}_{entry}" for entry in range(values.shape[1])]
            else:
                names.append(name)
        cells = encode_csv(pa.array(names, pa.string()), self._delimiter).to_pylist()
        self.stream.write((self._delimiter.join(cells) + "\n").encode())

    def _write_rows(self, columns: Columns, size: int) -> None:
        for chunk in _split(columns, size):
            cells: list[pa.Array] = []
            for values in chunk.values():
                cells += map(to_arrow, values.T if values.ndim == 2 else [values])
            self.stream.write(self._join_unquoted(cells) or self._join_quoted(cells))

    def _join_unquoted(self, cells: Sequence[pa.Array]) -> pa.Buffer | None:
        """Return lines without quotes; None if a cell needs them."""
        if len(cells) == 1:  # an empty line would not count as a row
            return None
        lines = pa.BufferOutputStream()
        options = pa_csv.WriteOptions(
            include_header=False, delimiter=self._delimiter, quoting_style="none", batch_size=len(cells[0])
        )
        try:
            pa_csv.write_csv(pa.table(cells, [str(index) for index in range(len(cells))]), lines, options)
        except pa.ArrowInvalid:
            return None
        return lines.getvalue()

    def _join_quoted(self, cells: Sequence[pa.Array]) -> memoryview:
        """Return lines with quotes where cells need them."""
        empty = '""' if len(cells) == 1 else ""
        lines = pc.binary_join_element_wise(
            *(encode_csv(column, self._delimiter) for column in cells),
            self._delimiter,
            null_handling="replace",
            null_replacement=empty,
        )
        if len(cells) == 1:
            lines = pc.if_else(pc.equal(lines, ""), empty, lines)
        return utf8_bytes(pc.binary_join_element_wise(lines, "\n", ""))


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
            self.stream.write(utf8_bytes(lines))


def _split(columns: Columns, size: int) -> Iterator[Columns]:
    """Yield chunks of at most about `_MAX_CELLS` cells, to bound the memory that their text takes."""
    width = sum(values.shape[1] if values.ndim == 2 else 1 for values in columns.values())
    for part in iterate_batches(size, max(1, _MAX_CELLS // max(1, width))):
        yield {name: values[part] for name, values in columns.items()}
