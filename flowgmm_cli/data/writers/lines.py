"""Text formats: csv, tsv and jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.writers.base import Writer
from flowgmm_cli.data.writers.cells import arrow, csv_cells, json_cells, text_bytes
from flowgmm_cli.data.writers.target import Target

if TYPE_CHECKING:
    from flowgmm_cli.data.writers.base import Columns

_CELLS = 1_000_000  # made into text at once


class DelimitedWriter(Writer):
    """csv and tsv: a header, then a line a row; a missing cell is empty, truth values are `true` and `false`.

    A column `z` of `(N, D)` becomes the columns `z_0` to `z_{D-1}`.
    """

    def __init__(self, target: Target, delimiter: str) -> None:
        super().__init__(target)
        self._delimiter = delimiter

    def _begin(self, columns: Columns) -> None:
        names = []
        for name, values in columns.items():
            entries = range(values.shape[1]) if values.ndim == 2 else ()
            names += [f"{name}_{entry}" for entry in entries] if values.ndim == 2 else [name]
        cells = csv_cells(pa.array(names, pa.string()), self._delimiter).to_pylist()
        self.target.stream.write((self._delimiter.join(cells) + "\n").encode())

    def _add(self, columns: Columns, size: int) -> None:
        for part in _parts(columns, size):
            cells: list[pa.Array] = []
            for values in part.values():
                cells += [arrow(one) for one in (values.T if values.ndim == 2 else [values])]
            self.target.stream.write(self._plain(cells) or self._quoted(cells))

    def _plain(self, cells: Sequence[pa.Array]) -> pa.Buffer | None:
        """Lines of cells that need no quotes; None if one may."""
        if len(cells) == 1:  # a line of nothing would be taken for no row
            return None
        lines = pa.BufferOutputStream()
        options = pa_csv.WriteOptions(
            include_header=False, delimiter=self._delimiter, quoting_style="none", batch_size=len(cells[0])
        )
        try:
            pa_csv.write_csv(pa.table(cells, [str(index) for index in range(len(cells))]), lines, options)
        except pa.ArrowInvalid:  # only part of the lines, then
            return None
        return lines.getvalue()

    def _quoted(self, cells: Sequence[pa.Array]) -> memoryview:
        """The same lines, with quotes where they are needed."""
        empty = '""' if len(cells) == 1 else ""
        lines = pc.binary_join_element_wise(
            *(csv_cells(one, self._delimiter) for one in cells),
            self._delimiter,
            null_handling="replace",
            null_replacement=empty,
        )
        if len(cells) == 1:
            lines = pc.if_else(pc.equal(lines, ""), empty, lines)
        return text_bytes(pc.binary_join_element_wise(lines, "\n", ""))


class JsonlWriter(Writer):
    """A JSON object a line; a missing cell is null, a column of `(N, D)` a list in each row."""

    def _begin(self, columns: Columns) -> None:
        return

    def _add(self, columns: Columns, size: int) -> None:
        for part in _parts(columns, size):
            pieces: list[pa.Array | str] = []
            for name, values in part.items():
                key = json.dumps(name, ensure_ascii=False)
                pieces += [f"{',' if pieces else '{'}{key}:", json_cells(values)]
            lines = pc.binary_join_element_wise(
                *pieces, "}\n", "", null_handling="replace", null_replacement="null"
            )
            self.target.stream.write(text_bytes(lines))


def _parts(columns: Columns, size: int) -> Iterator[Columns]:
    """Few enough rows at a time for the texts of their cells to fit into memory many times over."""
    wide = sum(values.shape[1] if values.ndim == 2 else 1 for values in columns.values())
    for part in iterate_batches(size, max(1, _CELLS // max(1, wide))):
        yield {name: values[part] for name, values in columns.items()}
