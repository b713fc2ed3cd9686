"""Labels of all rows of a table in files, in as few bytes as they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.labels import marked_rows
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.kept import Arrays, kept
from flowgmm_cli.data.large.read import PartReader
from flowgmm_cli.data.sources.columns import natural_order, strings
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

MOST = 32_000
"""Classes that are told apart; more are no classes."""
_BATCH = 2**17
_SMALL = 120  # classes whose codes fit into a byte


@dataclass(frozen=True)
class Classes:
    """What the column of labels says.

    Attributes:
        names: index -> name.
        codes: int8 or int16 `(N,)`, an index into the names, -1 where a row is unlabelled.
        marked: `(N,)`, rows that `data.labels.column` marks; None where nothing was asked.
    """

    names: tuple[str, ...]
    codes: npt.NDArray[Any]
    marked: npt.NDArray[np.bool_] | None


def read_classes(
    table: TableFiles, label: str, marker: str | None, others: Sequence[str], context: DataContext
) -> Classes:
    """The labels of all rows, kept from an earlier look or read, and nothing else.

    Args:
        table: the files.
        label: the column of the class.
        marker: the column that marks labelled rows.
        others: names of the classes that other splits show.
        context: told of the progress.

    Raises:
        DataError: a file cannot be read, there are too many classes, or a cell of `marker` says neither true
            nor false.
    """

    def look() -> Arrays:
        found = _read(table, label, marker, others, context)
        names = np.array(found.names, dtype=object)
        marked = {} if found.marked is None else {"marked": found.marked}
        return {"names": names, "codes": found.codes, **marked}

    found = kept(table, context, ["classes", label, marker, sorted(others)], look)
    return Classes(tuple(found["names"].tolist()), found["codes"], found.get("marked"))


def _read(
    table: TableFiles, label: str, marker: str | None, others: Sequence[str], context: DataContext
) -> Classes:
    codes: npt.NDArray[Any] = np.full(table.rows, -1, dtype=np.int8)
    marked = None if marker is None else np.zeros(table.rows, dtype=bool)
    known: dict[str, int] = {}
    named = table.class_names.get(label)
    stored = None if named is None else {str(code): name for code, name in enumerate(named)}

    def code_of(cells: Sequence[str | None]) -> npt.NDArray[Any]:
        names = [stored.get(cell) if stored and cell is not None else cell for cell in cells]
        found = [-1 if name is None else known.setdefault(name, len(known)) for name in names]
        if len(known) > MOST:
            raise DataError(
                f"{table.where}: column `{label}` (data.label) has more than {MOST:,} different values, "
                "which are no classes",
                hint="name another column, or group the values into a few classes first",
            )
        return np.array(found, dtype=np.int64)

    def marks(cells: Sequence[str | None]) -> npt.NDArray[Any]:
        column = np.array(cells, dtype=object)
        return marked_rows(
            Rows({}, np.zeros(len(column), np.int64), column, {str(marker): column}), str(marker)
        )

    with PartReader(table, [label, *([marker] if marker else [])], _BATCH) as reader:
        at = 0
        for group in range(len(table.groups)):
            context.progress(group, len(table.groups), "reading labels")
            for part in reader.read(group):
                rows = slice(at, at + part.num_rows)
                seen = _each(part.column(label), code_of)
                if len(known) > _SMALL and codes.dtype == np.int8:
                    codes = codes.astype(np.int16)
                codes[rows] = seen
                if marked is not None:
                    marked[rows] = _each(part.column(marker), marks)
                at += part.num_rows
    names = natural_order(sorted({*known, *others}))
    place = {name: index for index, name in enumerate(names)}
    if len(names) > _SMALL:
        codes = codes.astype(np.int16, copy=False)
    order = np.array([*(place[name] for name in known), -1], dtype=codes.dtype)
    for rows in (slice(first, first + _BATCH) for first in range(0, len(codes), _BATCH)):
        codes[rows] = order[codes[rows]]
    return Classes(tuple(names), codes, marked)


def _each(
    cells: pa.ChunkedArray, work: Callable[[Sequence[str | None]], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """`work` of every cell as a string, None where it is empty, done once for equal cells."""
    whole = cells.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    if not pa.types.is_dictionary(whole.type):
        whole = pc.dictionary_encode(whole)
    different = strings(pa.chunked_array([whole.dictionary])).tolist()
    table = work([*different, None])
    places = pc.fill_null(whole.indices, len(different)).to_numpy(zero_copy_only=False)
    found: npt.NDArray[Any] = table[places.astype(np.int64)]
    return found
