"""Read tables of files and of `datasets` into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from flowgmm_cli.data.messages import first_line
from flowgmm_cli.data.readers.base import OnError
from flowgmm_cli.data.readers.open import open_table
from flowgmm_cli.data.readers.table import ReadSettings, Table, load_table

if TYPE_CHECKING:
    import datasets


def read_table(
    path: str,
    settings: ReadSettings | None = None,
    *,
    note: Callable[[str], None],
    on_error: OnError | None = None,
) -> Table:
    """Read a table into memory: see `open_table` for files, and `FaultyRows` for malformed rows."""
    return load_table(open_table(path, settings, note=note), on_error=on_error, note=note)


def common_class_names(tables: Sequence[Table], label: str) -> tuple[str, ...] | None:
    """Return the class names of a `ClassLabel` column; None if tables lack them or differ."""
    names = [table.class_names.get(label) for table in tables]
    return tuple(names[0]) if names[0] is not None and all(other == names[0] for other in names) else None


def from_dataset(dataset: datasets.Dataset, where: str) -> Table:
    """Return the rows of a `datasets.Dataset` as a table."""
    import datasets

    json_type = getattr(datasets, "Json", ())  # since datasets 5
    names = {
        name: feature.names
        for name, feature in dataset.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    data = dataset.with_format("arrow")[:]
    for index, (name, feature) in enumerate(dataset.features.items()):
        if isinstance(feature, json_type):
            data = data.set_column(index, name, _parse_json(data.column(name)))
    return Table(data, names, where)


def _parse_json(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse JSON cells, the form of a column of mixed types, to plain strings."""
    values = [None if cell is None else json.loads(cell) for cell in cells.to_pylist()]
    texts = [
        value if isinstance(value, str | None) else cell
        for value, cell in zip(values, cells.to_pylist(), strict=True)
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


def root_cause(error: BaseException) -> str:
    """Return the first line of the innermost message of a chain of exceptions."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return first_line(error)
