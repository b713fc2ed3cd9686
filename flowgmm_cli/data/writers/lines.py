"""Text formats: csv, tsv and jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

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
                split = values.T if values.ndim == 2 else [values]
                cells += [csv_cells(arrow(one), self._delimiter) for one in split]
            # a line of nothing would be taken for no row
            empty = '""' if len(cells) == 1 else ""
            lines = pc.binary_join_element_wise(
                *cells, self._delimiter, null_handling="replace", null_replacement=empty
            )
            if len(cells) == 1:
                lines = pc.if_else(pc.equal(lines, ""), empty, lines)
            self.target.stream.write(text_bytes(pc.binary_join_element_wise(lines, "\n", "")))


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
