"""Source `csv`: tables of the user, with numbers, categories and text.

The training file decides the kind of each column; validation and test files must then fit.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Array, Ints, Strings
from flowgmm_cli.data.column_analysis import input_columns
from flowgmm_cli.data.dates import parse_dates
from flowgmm_cli.data.labels import TABLE_REMEDY, encode_labels, label_codes
from flowgmm_cli.data.large.files import TableFiles, find_files, is_table_path
from flowgmm_cli.data.large.labels import read_labels
from flowgmm_cli.data.large.reader import sample_table
from flowgmm_cli.data.large.rows import RowBuilder
from flowgmm_cli.data.large.source import LargeSource, require_small_batches
from flowgmm_cli.data.messages import shorten
from flowgmm_cli.data.readers.schema import read_settings
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.columns import (
    find_non_numeric,
    numbers,
    row_ids,
    strings,
    texts,
    vectors,
)
from flowgmm_cli.data.sources.tables import read_table
from flowgmm_cli.data.specs import CsvConfig
from flowgmm_cli.errors import DataError, RecipeError

_GIB = 2**30
_HELD_OUT_BYTES = 2**26  # test or validation rows that fit in memory with any budget
_DESCRIPTIONS = {"numeric": "a number", "vector": "a list of numbers of equal length", "date": "a date"}


class CsvSource:
    """A training file and optional files of the other splits with the same columns."""

    def __init__(self, config: CsvConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Read the files and infer the kinds of columns; training rows beyond `memory` stay on disk."""
        config = self._config
        parts = find_files(config.path) if is_table_path(config.path) else None
        if parts is not None and self._memory_bytes(parts) > config.memory * _GIB:
            return self._load_on_disk(parts)
        paths = {"train": config.path, "val": config.val_path, "test": config.test_path}
        return self._load_in_memory(
            {split: self._read_table(path, split) for split, path in paths.items() if path is not None}
        )

    def _read_table(self, path: str, split: str) -> Table:
        config = self._config
        settings = read_settings(dict(config))
        if split == "train" or not is_table_path(path):
            return read_table(path, settings, note=self._notes.append, on_error=config.on_error)
        parts = find_files(path)
        if self._memory_bytes(parts) > max(self._config.memory * _GIB, _HELD_OUT_BYTES):
            raise DataError(
                f"{path}: {parts.rows:,} {split} rows would take more than data.memory "
                f"({self._config.memory:g} GiB), and only training rows can stay on disk",
                hint=f"give fewer rows as data.{split}_path, or raise data.memory",
            )
        return read_table(path, settings, note=self._notes.append, on_error=config.on_error)

    def _memory_bytes(self, parts: TableFiles) -> int:
        """Return the approximate bytes of the input columns in memory."""
        config = self._config
        used = {*(config.features or ()), *_as_list(config.text)}
        if not used:
            used = set(parts.names) - {config.label, str(config.id), *config.drop}
        return parts.memory_bytes(name for name in parts.names if name in used)

    def _load_on_disk(self, parts: TableFiles) -> LargeSource:
        """Return a source whose training rows stay on disk; other splits are read."""
        config = self._config
        if config.text:
            raise DataError(
                f"{parts.where}: texts of {parts.rows:,} rows would take more than data.memory "
                f"({config.memory:g} GiB), and texts cannot stay on disk",
                hint="encode the texts first and give a column of vectors, or raise data.memory",
            )
        head = Table(sample_table(parts), parts.class_names, parts.where)
        for name in (config.label, *([config.id] if config.id else [])):
            head.column(name, key="data.label" if name == config.label else "data.id")
        columns = self._infer_columns(head)
        others = {"val": config.val_path, "test": config.test_path}
        tables = {split: self._read_table(path, split) for split, path in others.items() if path is not None}
        labels = self._read_labels(tables)
        names = sorted({name for cells in labels.values() for name in cells if name is not None})
        marker = config.labels.column
        if marker is not None:
            head.column(marker, key="data.labels.column")
        builder = RowBuilder(columns, self._convert_cells, config.id, frozenset(config.categorical or ()))
        require_small_batches(parts, builder, int(config.memory * _GIB))
        table_labels = read_labels(parts, config.label, marker, names, self._context)
        splits = {
            split: self._build_rows(split, tables[split], columns, label_codes(cells, table_labels.names))
            for split, cells in labels.items()
        }
        self._note_extra_columns({"train": head, **tables})
        return LargeSource(
            columns,
            table_labels.names,
            splits,
            tuple(self._notes),
            table=parts,
            builder=builder,
            table_labels=table_labels,
            memory=int(config.memory * _GIB),
            strict=config.missing == "error",
        )

    def _load_in_memory(self, tables: dict[str, Table]) -> SourceData:
        config = self._config
        class_names, codes = encode_labels(
            self._read_labels(tables),
            where=f"{config.path}: column `{config.label}`",
            note=self._notes.append,
            unlabelled=config.unlabelled,
            remedy=TABLE_REMEDY,
            single_class=config.labels.single_class,
        )
        columns = self._infer_columns(tables["train"])
        splits = {
            split: self._build_rows(split, table, columns, codes[split]) for split, table in tables.items()
        }
        self._note_extra_columns(tables)
        return SourceData(columns, class_names, splits, tuple(self._notes))

    def _read_labels(self, tables: dict[str, Table]) -> dict[str, Strings]:
        return {split: table.label_strings(self._config.label) for split, table in tables.items()}

    def _build_rows(self, split: str, table: Table, columns: tuple[Column, ...], codes: Ints) -> Rows:
        return Rows(
            columns={column.name: self._convert_cells(column, table) for column in columns},
            labels=codes,
            ids=self._read_ids(split, table),
            extras=table.marker_cells(self._config.labels.column),
        )

    def _infer_columns(self, table: Table) -> tuple[Column, ...]:
        config = self._config
        for key in ("drop", "categorical"):
            for name in getattr(config, key) or ():
                table.column(name, key=f"data.{key}")
        reserved = {config.label, config.id, config.labels.column, *config.drop}
        parts = _as_list(config.text)
        for name in (*parts, *(config.features or ())):
            table.column(name, key="data.text" if name in parts else "data.features")
            if name == config.label:
                raise RecipeError(f"data.label  `{name}` cannot be an input as well")
        others = [name for name in table.names if name not in reserved and name not in parts]
        if config.features is not None:
            others = [name for name in config.features if name not in parts]
        elif parts and others:
            self._notes.append(
                f"the text alone is used; list columns in data.features to add them: {', '.join(others)}"
            )
            others = []
        notes: list[str] = []
        columns = input_columns(
            table,
            others,
            categorical=config.categorical or (),
            chosen=config.features or (),
            dates=config.dates != "drop",
            note=notes.append,
        )
        if parts:
            columns = (Column(parts[0] if len(parts) == 1 else "text", "text"), *columns)
        if not columns:
            raise DataError(
                f"{table.where} has no input column beside the label `{config.label}`",
                details=notes,
                hint="check data.features and data.drop",
            )
        self._notes += notes
        return columns

    def _convert_cells(self, column: Column, table: Table) -> Array:
        if column.kind == "text":
            parts = _as_list(self._config.text)
            return texts([table.column(part, key="data.text") for part in parts])
        cells = table.column(column.name, key="an input column of the training rows")
        if column.kind == "category":
            return strings(cells)
        if column.kind == "date":
            values, odd = parse_dates(cells, column.format)
            if not len(odd):
                return values
        else:
            parsed = numbers(cells) if column.kind == "numeric" else vectors(cells)
            if parsed is not None and parsed.shape[1:] == column.shape:
                return parsed
            odd = find_non_numeric(cells)
        row = int(odd[0]) if column.kind != "vector" and len(odd) else 0
        raise DataError(
            f"{table.where}: column `{column.name}` is {_DESCRIPTIONS[column.kind]} in the training file, "
            f"but row {table.row_number(row)} has `{shorten(cells[row].as_py())}`",
            hint="correct the cell (empty means missing), or leave the column out with "
            f"data.drop=[{column.name}]",
        )

    def _read_ids(self, split: str, table: Table) -> Array:
        if self._config.id is None:
            return row_ids(split, table.data.num_rows, table.row_numbers)
        ids = strings(table.column(self._config.id, key="data.id"))
        seen: set[str | None] = set()
        for position, name in enumerate(ids):
            if name is None or name in seen:
                fault = "is empty" if name is None else f"repeats `{name}`"
                row = table.row_number(position)
                raise DataError(
                    f"{table.where}: column `{self._config.id}` (data.id) {fault} in row {row}",
                    hint="an id must name a single row; without data.id rows are numbered",
                )
            seen.add(name)
        return ids

    def _note_extra_columns(self, tables: dict[str, Table]) -> None:
        known = set(tables["train"].names)
        for table in tables.values():
            if extra := [name for name in table.names if name not in known]:
                self._notes.append(f"{table.where} has columns that training lacks: {', '.join(extra)}")


def _as_list(names: str | Sequence[str] | None) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)


build = CsvSource
