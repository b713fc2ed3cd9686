"""Read table files through `datasets` into Arrow tables without guessing types.

Cells of a csv stay strings; `columns.py` converts them to numbers later. `datasets` works in a temporary
folder that is removed, so nothing is written beside the user's files.
"""

from __future__ import annotations

import csv
import glob
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.array_types import Strings
from flowgmm_cli.data.hub import hub_access
from flowgmm_cli.data.labels import label_cells
from flowgmm_cli.data.messages import first_line, suggest_column
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.data.sources.files import column_names, guess_delimiter, require_file
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import datasets

_BUILDERS = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    ".parquet": "parquet",
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
}
_READ_HINTS = {
    "csv": "quote cells that contain the delimiter, or set another one with data.delimiter",
    "parquet": "the file is damaged or not a parquet file; write it again",
    "json": "each line must be a JSON object with the columns as keys",
}
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")  # messages of datasets


@dataclass(frozen=True)
class Table:
    """A table of named columns.

    Attributes:
        data: the rows.
        class_names: class names of `ClassLabel` columns, whose cells are integer codes, by column.
        where: name of the table in messages, usually a path.
    """

    data: pa.Table
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.data.column_names)

    def column(self, name: str, *, key: str) -> pa.ChunkedArray:
        """Return a column; `key` is the recipe key that names it. Raises `DataError` if it is missing."""
        if name in self.names:
            return self.data.column(name)
        raise DataError(
            f"{self.where} has no column `{name}` ({key}){suggest_column(name, self.names)}",
            details=[f"columns: {', '.join(self.names)}"],
            hint=f"set {key} to one of these columns"
            if key.startswith("data.")
            else f"add the column, or train without it: data.drop=[{name}]",
        )

    def label_strings(self, name: str, *, key: str = "data.label") -> Strings:
        """Return a column as strings, None where a cell is empty; codes of classes become class names."""
        cells = label_cells(self.column(name, key=key), name, self.where)
        names = self.class_names.get(name)
        if names is None:
            return cells
        by_code = {str(code): class_name for code, class_name in enumerate(names)}
        return np.array([by_code.get(cell) for cell in cells], dtype=object)

    def marker_cells(self, marker: str | None) -> dict[str, Strings]:
        """Return the cells of the column that marks labelled rows, by its name; {} without it."""
        return {marker: strings(self.data[marker])} if marker in self.names else {}


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


def read_table(path: str, *, delimiter: str | None = None, note: Callable[[str], None]) -> Table:
    """Read a csv, tsv, parquet or jsonl file; `note` receives guesses, such as the delimiter."""
    file = require_file(path)
    builder = _BUILDERS.get(file.suffix.lower())
    if builder is None:
        raise DataError(
            f"{path}: files of type `{file.suffix}` cannot be read",
            hint=f"known types: {', '.join(_BUILDERS)}",
        )
    if file.stat().st_size == 0:
        raise DataError(f"{path} is empty", hint="a header line and rows are needed")
    import datasets  # takes a second to load, and few need it

    options = _csv_options(file, delimiter, note) if builder == "csv" else {}
    with TemporaryDirectory(prefix="flowgmm-") as cache, hub_access(offline=True):
        try:
            with warnings.catch_warnings():
                # pandas only warns if a row has more cells than the header, and drops cells
                warnings.filterwarnings("error", message="Length of header or names")
                dataset = datasets.load_dataset(
                    builder,
                    data_files={"train": [glob.escape(str(file))]},
                    split="train",
                    cache_dir=cache,
                    keep_in_memory=True,
                    **options,
                )
        except Exception as error:  # datasets wraps the errors of its readers
            if any(words in root_cause(error) for words in _NO_ROWS):
                raise DataError(f"{path} has no rows", hint="a header line and rows are needed") from error
            raise DataError(
                f"{path} cannot be read as {builder}: {root_cause(error)}", hint=_READ_HINTS[builder]
            ) from error
        return from_dataset(dataset, path)


def root_cause(error: BaseException) -> str:
    """Return the first line of the innermost message of a chain of exceptions."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return first_line(error)


def _csv_options(file: Path, delimiter: str | None, note: Callable[[str], None]) -> dict[str, Any]:
    """Return options of the csv reader: every column holds strings, and no cell is read as missing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = next((line for line in stream if line.strip()), "")
            separator = delimiter or guess_delimiter(file.suffix, first)
            stream.seek(0)
            rows = csv.reader(stream, delimiter=separator)
            header = next((row for row in rows if row), [])
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 text: {error}", hint="save it as UTF-8 and try again"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{file}: the header line cannot be read: {error}", hint=_READ_HINTS["csv"]
        ) from error
    if delimiter is None and separator not in (",", "\t"):
        note(f"{file.name}: the delimiter is `{separator}` (set data.delimiter to change it)")
    import datasets

    names = column_names(header, where=str(file))
    return {
        "sep": separator,
        "header": 0,
        "names": names,
        "index_col": False,
        "na_filter": False,
        "encoding": "utf-8-sig",
        "features": datasets.Features({name: datasets.Value("string") for name in names}),
    }
