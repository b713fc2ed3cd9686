"""Source `arrow`: Parquet and Arrow files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from flowgmm_arrow.columns import select_columns, suggest
from flowgmm_arrow.gather import SplitBuilder, assemble, class_codes
from flowgmm_cli.api import DataContext, DataError, SourceData

if TYPE_CHECKING:
    from flowgmm_arrow.plugin import ArrowConfig

SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""Suffix -> format."""


class ArrowSource:
    """Files of the training rows, and those of other splits with the same columns."""

    def __init__(self, config: ArrowConfig, context: DataContext) -> None:
        self._config = config
        self._context = context

    def load(self) -> SourceData:
        """Read the columns in use, a batch at a time."""
        config = self._config
        given = {"train": config.path, "val": config.val_path, "test": config.test_path}
        tables = {split: _Table(path, config.format) for split, path in given.items() if path is not None}
        train = tables["train"]
        selection = select_columns(train.schema, config, train.where)
        splits = {}
        for split, table in tables.items():
            table.require(selection.read)
            codes = class_codes(table.schema, config.label)
            splits[split] = SplitBuilder(selection, config, table.where, codes)
            total = table.count()
            for batch, ids in table.batches(selection.read, config.batch_rows):
                splits[split].add(batch, (f"{split}:{number}" for number in ids))
                self._context.progress(splits[split].rows, total, f"reading {table.where}")
        return assemble(splits, selection, config)


class _Table:
    """Files with one schema.

    Attributes:
        where: what to call them in messages.
        schema: of all files together.
    """

    def __init__(self, given: str | Sequence[str], form: str | None) -> None:
        patterns = [given] if isinstance(given, str) else list(given)
        self.where = patterns[0] if len(patterns) == 1 else f"{patterns[0]} and {len(patterns) - 1} more"
        located = [_files(pattern, form) for pattern in patterns]
        base = Path(os.path.commonpath([root for root, _ in located]))
        names = {file: file.relative_to(base).as_posix() for _, files in located for file in files}
        self._names = {str(file): name for file, name in sorted(names.items(), key=lambda item: item[1])}
        kinds = {form or SUFFIXES[Path(name).suffix.lower()] for name in self._names.values()}
        if len(kinds) > 1:
            raise DataError(
                f"{self.where} holds Parquet and Arrow files", hint="say which with data.format, or a pattern"
            )
        try:
            data = ds.dataset(
                list(self._names),
                format={"arrow": "ipc"}.get(kind := kinds.pop(), kind),
                partitioning=ds.partitioning(flavor="hive"),
                partition_base_dir=str(base),
            )
            self._parts = list(data.get_fragments())
            schemas = [data.schema, *(part.physical_schema for part in self._parts)]
            self.schema = pa.unify_schemas(schemas, promote_options="permissive")
            self.schema = self.schema.with_metadata(data.schema.metadata)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.where} cannot be read: {_first_line(error)}",
                hint="the files must be Parquet or Arrow files whose columns have the same types",
            ) from error

    def require(self, columns: Sequence[str]) -> None:
        """Make sure that columns are there.

        Raises:
            DataError: one is not.
        """
        for name in columns:
            if name not in self.schema.names:
                raise DataError(
                    f"{self.where} has no column `{name}`, which the training rows have"
                    f"{suggest(name, self.schema.names)}",
                    details=[f"columns: {', '.join(self.schema.names)}"],
                    hint=f"add the column, or train without it: data.drop=[{name}]",
                )

    def count(self) -> int:
        """The number of rows, from the files' headers."""
        return sum(part.count_rows() for part in self._parts)

    def batches(self, columns: Sequence[str], size: int) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
        """Yield batches of some columns, with ids: the file's name and the number of the row in it."""
        try:
            for part in self._parts:
                done, name = 0, self._names[part.path]
                scan = part.to_batches(
                    schema=self.schema, columns=list(columns), batch_size=size, batch_readahead=1
                )
                for batch in scan:
                    yield batch, [f"{name}:{row}" for row in range(done + 1, done + 1 + batch.num_rows)]
                    done += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.where} cannot be read: {_first_line(error)}", hint="write the file again"
            ) from error


def _files(given: str, form: str | None) -> tuple[Path, list[Path]]:
    """Return the root folder and the files of a path or pattern."""
    path = Path(given).expanduser().absolute()
    if path.is_file():
        if form is None and path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{given}: the suffix is unknown: `{path.suffix}`",
                hint=f"set data.format, or use one of {', '.join(SUFFIXES)}",
            )
        return path.parent, [path]
    fixed = next((index for index, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    root = path if path.is_dir() else Path(*path.parts[:fixed])
    pattern = "**/*" if path.is_dir() else "/".join(path.parts[fixed:])
    located = sorted(root.glob(pattern)) if pattern else []
    located = [file for file in located if file.is_file() and not _hidden(file.relative_to(root))]
    if form is None:
        located = [file for file in located if file.suffix.lower() in SUFFIXES]
    if not located:
        kinds = "any file" if form is not None else f"a file of the types {', '.join(SUFFIXES)}"
        what = f"{given} does not hold {kinds}" if path.is_dir() else f"nothing is found at {given}"
        raise DataError(what, hint=f"check the path; it is looked for in {Path.cwd()}")
    return root, located


def _hidden(path: Path) -> bool:
    """Return whether a file is a by-product of writers, such as _SUCCESS or .part.crc."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def build(config: ArrowConfig, context: DataContext) -> ArrowSource:
    """Build the source."""
    return ArrowSource(config, context)
