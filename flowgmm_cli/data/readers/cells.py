"""From a piece of a table to a chunk of rows: what each cell means, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import Column, Rows, iterate_batches
from flowgmm_cli.data.readers.faults import Fault, settle
from flowgmm_cli.data.readers.match import Match
from flowgmm_cli.data.readers.schema import Chunk, InputSchema, OnError
from flowgmm_cli.data.sources.columns import (
    foreign_numbers,
    not_numbers,
    numbers,
    strings,
    texts,
    vectors,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Cells = npt.NDArray[Any]

_MEANS_MISSING = "correct the cell (empty means missing)"


@dataclass(frozen=True)
class Piece:
    """Some rows as they stand in the input.

    Attributes:
        table: the columns that are read; a broken row's cells are null.
        faults: position -> what is wrong with the row as a whole.
        places: numbers of the rows' places, such as line numbers; None where rows are just counted.
        unit: what `places` count.
    """

    table: pa.Table
    faults: Mapping[int, Fault] = field(default_factory=dict)
    places: Sequence[int] | None = None
    unit: str = "row"

    def parts(self, size: int) -> Iterator[Piece]:
        """Pieces of at most `size` rows."""
        for part in iterate_batches(self.table.num_rows, size):
            yield Piece(
                self.table.slice(part.start, part.stop - part.start),
                {at - part.start: one for at, one in self.faults.items() if part.start <= at < part.stop},
                None if self.places is None else self.places[part],
                self.unit,
            )


class ChunkMaker:
    """Makes chunks of pieces, in their order.

    Args:
        schema: what the model reads.
        match: where the input has it.
        name: the input's.
        on_error: what becomes of rows that cannot be read.
        note: told once of labels that are no class of the model.
        codes: label cell -> class index, for labels that are not the names themselves; -1 for no label.
    """

    def __init__(
        self,
        schema: InputSchema,
        match: Match,
        *,
        name: str,
        on_error: OnError,
        note: Callable[[str], None],
        codes: Mapping[str, int] | None = None,
    ) -> None:
        self._match = match
        self._name = name
        self._on_error = on_error
        self._note = note
        self._codes = schema.class_index if codes is None else codes
        self._foreign = False

    def __call__(self, piece: Piece, start: int) -> Chunk:
        """Make a chunk.

        Raises:
            DataError: a row is malformed, and such rows are not to be kept.
        """
        faults = dict(piece.faults)
        columns = {}
        for column, parts in self._match.inputs:
            cells, found = _cells(column, [piece.table.column(part) for part in parts], parts)
            columns[column.name] = cells
            for position, fault in found.items():
                faults.setdefault(position, fault)

        def place(position: int) -> str:
            number = start + position + 1 if piece.places is None else piece.places[position]
            return f"{piece.unit} {number}"

        problems = settle(faults, name=self._name, place=place, on_error=self._on_error)
        ids = self._ids(piece.table, start)
        return Chunk(Rows(columns, self._labels(piece.table), ids), start, problems)

    def _labels(self, table: pa.Table) -> npt.NDArray[np.int64]:
        if self._match.label is None:
            return np.full(table.num_rows, -1, dtype=np.int64)
        cells = strings(table.column(self._match.label))
        codes = self._codes
        labels = np.fromiter(
            (-1 if cell is None else codes.get(cell, -2) for cell in cells), np.int64, len(cells)
        )
        foreign = labels == -2
        if foreign.any() and not self._foreign:
            self._foreign = True
            self._note(foreign_label_note(self._name, str(cells[foreign.argmax()])))
        return np.where(foreign, -1, labels)

    def _ids(self, table: pa.Table, start: int) -> Cells:
        if self._match.id is None:
            return row_numbers(start, table.num_rows)
        ids = strings(table.column(self._match.id))
        if None in ids.tolist():
            ids = np.where(ids == None, row_numbers(start, len(ids)), ids)  # noqa: E711 - cell by cell
        return ids


def row_numbers(start: int, count: int) -> npt.NDArray[np.object_]:
    """Ids of rows without a name of their own: their numbers in the input, from 1."""
    return np.array([str(row) for row in range(start + 1, start + count + 1)], dtype=object)


def foreign_label_note(name: str, label: str) -> str:
    """What to say of labels that the model does not know."""
    return f"{name} has labels that are no class of the model, such as `{label}`: they count as unlabelled"


def _cells(
    column: Column, parts: Sequence[pa.ChunkedArray], names: Sequence[str]
) -> tuple[Cells, dict[int, Fault]]:
    """The cells of one input column, and what is wrong with some of them."""
    plain = [pc.cast(one, one.type.value_type) if pa.types.is_dictionary(one.type) else one for one in parts]
    if column.kind == "text":
        return texts(plain), {}
    if column.kind == "category":
        return strings(plain[0]), {}
    if column.kind == "numeric":
        return _numbers(plain[0], names[0])
    size = math.prod(column.shape)
    if len(plain) == 1 and not (size == 1 and numbers(plain[0]) is not None):
        return _vectors(plain[0], column)
    matrix = np.empty((len(plain[0]), size))
    faults: dict[int, Fault] = {}
    for entry, (part, name) in enumerate(zip(plain, names, strict=True)):
        matrix[:, entry], found = _numbers(part, name)
        faults = found | faults
    return matrix.reshape(-1, *column.shape), faults


def _numbers(cells: pa.ChunkedArray, name: str) -> tuple[npt.NDArray[np.float64], dict[int, Fault]]:
    found = numbers(cells)
    if found is not None:
        return found, {}
    odd = not_numbers(cells)
    found_odd = [str(cell) for cell in cells.take(pa.array(odd)).to_pylist()]
    fault_of = {cell: _no_number(cell, name) for cell in set(found_odd)}
    faults = {position: fault_of[cell] for position, cell in zip(odd.tolist(), found_odd, strict=True)}
    good = np.ones(len(cells), dtype=bool)
    good[odd] = False
    values = np.full(len(cells), np.nan)
    if good.any():
        rest = numbers(cells.filter(pa.array(good)))
        values[good] = np.nan if rest is None else rest
    return values, faults


def _no_number(cell: str, name: str) -> Fault:
    foreign = len(foreign_numbers(pa.chunked_array([[cell]]))) > 0
    return Fault(
        f"column `{name}` wants a number, got `{short(cell)}`",
        "write numbers like 1000.50, without a decimal comma or marks between thousands"
        if foreign
        else _MEANS_MISSING,
    )


def _vectors(cells: pa.ChunkedArray, column: Column) -> tuple[Cells, dict[int, Fault]]:
    size = math.prod(column.shape)
    whole = vectors(cells)
    if whole is not None and whole.shape[1] == size:
        return whole.reshape(-1, *column.shape), {}
    values = np.full((len(cells), *column.shape), np.nan)
    faults = {}
    for position, cell in enumerate(cells.to_pylist()):
        try:
            row = np.asarray(cell, dtype=np.float64)
            if row.size != size or row.ndim == 0:
                raise ValueError
            values[position] = row.reshape(column.shape)
        except (TypeError, ValueError):  # ragged, or not numbers
            given = f"{len(cell):,} entries" if isinstance(cell, list) else f"`{short(cells[position])}`"
            faults[position] = Fault(
                f"column `{column.name}` wants a list of {size:,} numbers, got {given}", "correct the cell"
            )
    return values, faults


def short(cell: Any) -> str:
    """A cell for a message, cut where it is long."""
    text = str(cell.as_py() if isinstance(cell, pa.Scalar) else cell)
    return text if len(text) <= 40 else f"{text[:37]}..."
