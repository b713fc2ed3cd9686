"""Files of rows, read through `datasets` into Arrow tables without guessing.

Cells of a csv stay the strings they are; what is a number is decided later, by `columns.py`. Nothing is
written beside the user's files: `datasets` works in a temporary folder that is gone afterwards.
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
from typing import Any

import datasets
import pyarrow as pa

from flowgmm_cli.data.hub import hub_access
from flowgmm_cli.data.sources.files import column_names, existing_file, guess_delimiter
from flowgmm_cli.errors import DataError, did_you_mean

_BUILDERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_READ_HINTS = {
    "csv": "put cells that hold the delimiter in quotes, or name another one with data.delimiter",
    "parquet": "the file is damaged or no parquet file; write it again",
    "json": "each line is to be one JSON object with the columns as keys",
}
_JSON = getattr(datasets, "Json", ())  # since datasets 5
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")  # how datasets says it


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes:
        data: the rows.
        class_names: names of the integer codes of `ClassLabel` columns, by column.
        where: what to call this table in messages, a path as a rule.
    """

    data: pa.Table
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.data.column_names)

    def column(self, name: str, *, key: str) -> pa.ChunkedArray:
        """Return a column; `key` is the recipe key that asks for it.

        Raises:
            DataError: there is no such column.
        """
        if name in self.names:
            return self.data.column(name)
        same = [other for other in self.names if other.casefold() == name.casefold()]
        near = f"; did you mean `{same[0]}`?" if same else did_you_mean(name, self.names)
        raise DataError(
            f"{self.where} has no column `{name}` ({key}){near}",
            details=[f"columns: {', '.join(self.names)}"],
            hint=f"set {key} to one of these columns"
            if key.startswith("data.")
            else f"add the column, or train without it: data.drop=[{name}]",
        )


def from_dataset(dataset: datasets.Dataset, where: str) -> Table:
    """Return the rows of a `datasets.Dataset` as a table."""
    names = {
        name: feature.names
        for name, feature in dataset.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    data = dataset.with_format("arrow")[:]
    for index, (name, feature) in enumerate(dataset.features.items()):
        if isinstance(feature, _JSON):
            data = data.set_column(index, name, _unquoted(data.column(name)))
    return Table(data, names, where)


def _unquoted(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn cells of JSON text, which is how a column of mixed types arrives, into plain strings."""
    values = [None if cell is None else json.loads(cell) for cell in cells.to_pylist()]
    texts = [
        value if isinstance(value, str | None) else cell
        for value, cell in zip(values, cells.to_pylist(), strict=True)
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


def read_table(path: str, *, delimiter: str | None = None, note: Callable[[str], None]) -> Table:
    """Read one csv, tsv, parquet or jsonl file; `note` is told what had to be guessed.

    Raises:
        DataError: the file is missing, empty, of an unknown type or malformed.
    """
    file = existing_file(path)
    builder = _BUILDERS.get(file.suffix.lower())
    if builder is None:
        raise DataError(
            f"{path}: files of type `{file.suffix}` cannot be read",
            hint=f"known types: {', '.join(_BUILDERS)}",
        )
    if file.stat().st_size == 0:
        raise DataError(f"{path} is empty", hint="a header line and rows are needed")
    options = _csv_options(file, delimiter, note) if builder == "csv" else {}
    with TemporaryDirectory(prefix="flowgmm-") as cache, hub_access(offline=True):
        try:
            with warnings.catch_warnings():
                # pandas only warns where a row has more cells than the header, and then drops cells
                warnings.filterwarnings("error", message="Length of header or names")
                dataset = datasets.load_dataset(
                    builder,
                    data_files={"train": [glob.escape(str(file))]},
                    split="train",
                    cache_dir=cache,
                    keep_in_memory=True,
                    **options,
                )
        except Exception as error:  # datasets wraps whatever its reader raises
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
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _csv_options(file: Path, delimiter: str | None, note: Callable[[str], None]) -> dict[str, Any]:
    """Return the reader's options: every column a string, no cell read as missing."""
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
        note(f"{file.name}: cells are divided by `{separator}` (set data.delimiter to change it)")
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
