"""Labels of all rows of a table on disk, in one or two bytes each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.array_types import Array, Bools
from flowgmm_cli.data.large.cache import Arrays, load_or_compute
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.reader import GroupReader
from flowgmm_cli.data.sampling import marker_mask
from flowgmm_cli.data.sources.columns import sort_naturally, strings
from flowgmm_cli.errors import DataError

MAX_CLASSES = 32_000
"""Maximum number of classes."""
_BATCH_ROWS = 2**17
_MAX_INT8_CLASSES = 120


@dataclass(frozen=True)
class TableLabels:
    """Labels of all rows.

    Attributes:
        names: class names.
        codes: int8 or int16 `(N,)`, indices into the names, -1 for unlabelled rows.
        marked: bool `(N,)`, rows that `data.labels.column` marks as labelled; None without such a column.
    """

    names: tuple[str, ...]
    codes: Array
    marked: Bools | None


def read_labels(
    table: TableFiles, label: str, marker: str | None, others: Sequence[str], context: DataContext
) -> TableLabels:
    """Read the labels of all rows from the cache, or else from the table.

    Args:
        table: the files.
        label: the column of the class.
        marker: the column that marks labelled rows.
        others: class names in other splits.
        context: environment; receives the progress.
    """

    def compute() -> Arrays:
        labels = _read(table, label, marker, others, context)
        names = np.array(labels.names, dtype=object)
        marked = {} if labels.marked is None else {"marked": labels.marked}
        return {"names": names, "codes": labels.codes, **marked}

    arrays = load_or_compute(table, context, ["classes", label, marker, sorted(others)], compute)
    return TableLabels(tuple(arrays["names"].tolist()), arrays["codes"], arrays.get("marked"))


def _read(
    table: TableFiles, label: str, marker: str | None, others: Sequence[str], context: DataContext
) -> TableLabels:
    codes: Array = np.full(table.rows, -1, dtype=np.int8)
    marked = None if marker is None else np.zeros(table.rows, dtype=bool)
    known: dict[str, int] = {}
    class_names = table.class_names.get(label)
    name_of = None if class_names is None else {str(code): name for code, name in enumerate(class_names)}

    def encode(cells: Sequence[str | None]) -> Array:
        names = [name_of.get(cell) if name_of and cell is not None else cell for cell in cells]
        encoded = [-1 if name is None else known.setdefault(name, len(known)) for name in names]
        if len(known) > MAX_CLASSES:
            raise DataError(
                f"{table.where}: column `{label}` (data.label) has more than {MAX_CLASSES:,} different "
                "values, too many for a label",
                hint="name another column, or group the values into a few classes first",
            )
        return np.array(encoded, dtype=np.int64)

    def parse_markers(cells: Sequence[str | None]) -> Array:
        return marker_mask({str(marker): np.array(cells, dtype=object)}, str(marker))

    with GroupReader(table, [label, *([marker] if marker else [])], _BATCH_ROWS) as reader:
        for _, start, part in reader.scan(context, "reading labels"):
            rows = slice(start, start + part.num_rows)
            batch_codes = _map_distinct(part.column(label), encode)
            if len(known) > _MAX_INT8_CLASSES and codes.dtype == np.int8:
                codes = codes.astype(np.int16)
            codes[rows] = batch_codes
            if marked is not None:
                marked[rows] = _map_distinct(part.column(marker), parse_markers)
    names = sort_naturally(sorted({*known, *others}))
    index_of = {name: index for index, name in enumerate(names)}
    if len(names) > _MAX_INT8_CLASSES:
        codes = codes.astype(np.int16, copy=False)
    order = np.array([*(index_of[name] for name in known), -1], dtype=codes.dtype)
    for rows in (slice(first, first + _BATCH_ROWS) for first in range(0, len(codes), _BATCH_ROWS)):
        codes[rows] = order[codes[rows]]
    return TableLabels(tuple(names), codes, marked)


def _map_distinct(cells: pa.ChunkedArray, function: Callable[[Sequence[str | None]], Array]) -> Array:
    """Apply `function` to every cell as a string, None if empty, once for equal cells."""
    array = cells.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    distinct = strings(pa.chunked_array([array.dictionary])).tolist()
    values = function([*distinct, None])
    indices = pc.fill_null(array.indices, len(distinct)).to_numpy(zero_copy_only=False)
    mapped: Array = values[indices.astype(np.int64)]
    return mapped
