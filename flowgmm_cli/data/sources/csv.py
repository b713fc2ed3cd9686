"""Source `csv`: tables of the user, with numbers, categories and text.

The training file decides the kind of each column; validation and test files must then fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from itertools import islice
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Array, Ints, Strings
from flowgmm_cli.data.cache import TableCache
from flowgmm_cli.data.chunked_table import ChunkedTable, cell_bytes, read_labels, text_bytes
from flowgmm_cli.data.column_analysis import input_columns, require_names, text_columns
from flowgmm_cli.data.labels import TABLE_REMEDY, encode_labels, find_classes, label_codes
from flowgmm_cli.data.out_of_core import ChunkedSource
from flowgmm_cli.data.readers.byte_source import COMPRESSED, require_header
from flowgmm_cli.data.readers.chunks import parse_cells
from flowgmm_cli.data.readers.open import open_table
from flowgmm_cli.data.readers.row_errors import FaultyRows, RowError
from flowgmm_cli.data.readers.schema import read_settings
from flowgmm_cli.data.readers.table import Table, TableReader, concatenate, load_table
from flowgmm_cli.data.sources.columns import row_ids, strings
from flowgmm_cli.data.specs import CsvConfig
from flowgmm_cli.errors import DataError, RecipeError
from flowgmm_cli.messages import join_some, override, quote

_GIB = 2**30
_HEAD_BATCHES = 8  # of a table that is read in chunks; its columns are inferred from these
_RATIO = 4  # of a compressed file, a guess
_MAX_GROWTH = 16  # of a file in memory
_HELD_OUT_BYTES = 2**26  # test or validation rows that fit in memory with any budget


class CsvSource:
    """A training file and optional files of the other splits with the same columns."""

    def __init__(self, config: CsvConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._settings = read_settings(dict(config))
        self._texts = [config.text] if isinstance(config.text, str) else config.text or []
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Read the files and infer the kinds of columns; training rows beyond `memory` are read in chunks."""
        config = self._config
        reader = self._open(config.path)
        if (size := self._memory_bytes(reader)) > config.memory * _GIB:
            return self._load_in_chunks(reader, size)
        train = load_table(reader, on_error=config.on_error, note=self._notes.append)
        require_names(train)
        tables = {"train": train, **self._read_held_out()}
        class_names, codes = encode_labels(self._read_labels(tables), **self._label_options())
        columns = self._infer_columns(train)
        splits = {
            split: self._build_rows(split, table, columns, codes[split]) for split, table in tables.items()
        }
        self._note_extra_columns(tables)
        return SourceData(columns, class_names, splits, tuple(self._notes))

    def _open(self, path: str) -> TableReader:
        reader = open_table(path, self._settings, note=self._notes.append)
        require_header(reader.names, where=path)
        return reader

    def _read_held_out(self) -> dict[str, Table]:
        config, tables = self._config, {}
        for split, path in (("val", config.val_path), ("test", config.test_path)):
            if path is None:
                continue
            reader = self._open(path)
            if self._memory_bytes(reader) > max(config.memory * _GIB, _HELD_OUT_BYTES):
                raise DataError(
                    f"{path}: the {split} rows would take more than data.memory ({config.memory:g} GiB), "
                    "and only training rows can be read in chunks",
                    hint=f"give fewer rows as data.{split}_path, or raise data.memory",
                )
            tables[split] = load_table(reader, on_error=config.on_error, note=self._notes.append)
        return tables

    def _read_head(self, reader: TableReader) -> Table:
        faulty = FaultyRows(reader.name, "keep")
        parts = [faulty.drop(batch)[0].data for batch in islice(reader.batches(), _HEAD_BATCHES)]
        return Table(concatenate(parts), reader.class_names, reader.name)

    def _memory_bytes(self, reader: TableReader) -> int:
        """Estimate the bytes of the input columns in memory from the first rows; 0 if they are few anyway."""
        config = self._config
        size = sum(stamp.size for stamp in reader.files)
        if size * _MAX_GROWTH <= config.memory * _GIB:
            return 0
        head = self._read_head(reader).data
        used = {*(config.features or ()), *self._texts}
        used = used or set(reader.names) - {config.label, str(config.id), *config.extra_columns, *config.drop}
        rows = reader.rows
        if rows is None:
            packed = any(stamp.path.suffix in COMPRESSED for stamp in reader.files)
            rows = size * (_RATIO if packed else 1) // max(1, text_bytes(head))
        return rows * sum(cell_bytes(head[name]) for name in used.intersection(head.column_names))

    def _load_in_chunks(self, reader: TableReader, size: int) -> SourceData:
        config, head = self._config, self._read_head(reader)
        named = {"label": config.label, "id": config.id, "labels.column": config.labels.column}
        for key, name in named.items():
            if name is not None:
                head.column(name, key=f"data.{key}")
        columns = self._infer_columns(head)
        tables = self._read_held_out()
        identity = [*map(astuple, reader.files), self._settings, config.on_error]
        cache = TableCache(self._context, config.path, identity)
        label, marker = config.label, config.labels.column
        found = cache.load_or_compute(
            ["labels", label, marker],
            lambda: read_labels(reader, label, marker, config.on_error, self._context),
        )
        self._notes += found["notes"].tolist()
        given = self._read_labels(tables)
        counts = Counter(dict(zip(found["labels"].tolist(), found["counts"].tolist(), strict=True)))
        counts.update(cell for cells in given.values() for cell in cells.tolist() if cell is not None)
        names = tuple(find_classes(counts, len(found["codes"]), **self._label_options()))
        order = np.append(label_codes(found["labels"], names), -1).astype(np.min_scalar_type(-len(names) - 1))
        splits = {
            split: self._build_rows(split, tables[split], columns, label_codes(cells, names))
            for split, cells in given.items()
        }
        self._note_extra_columns({"train": head, **tables})
        self._notes.append(
            f"{len(found['codes']):,} rows would take {size / _GIB:,.1f} GiB and are read in chunks "
            "(data.memory); preprocessing and initialisation are fitted to some of them"
        )
        parts = tuple(name for column in columns for name in self._parts_of(column))
        table = ChunkedTable(
            reader=reader,
            columns=columns,
            cells=self._parse_cells,
            names=parts,
            id=config.id,
            on_error=config.on_error,
            row_bytes=sum(cell_bytes(head.data[name]) for name in parts),
            memory=int(config.memory * _GIB),
            cache=cache,
            labels=order[found["codes"]],
            marked=found.get("marked"),
        )
        return ChunkedSource(columns, names, splits, tuple(self._notes), table=table)

    def convert(self, table: Table, class_names: tuple[str, ...], codes: Ints) -> SourceData:
        """Return the rows of a table in memory, with their classes `(N,)`; no file is read."""
        columns = self._infer_columns(table)
        rows = self._build_rows("train", table, columns, codes)
        return SourceData(columns, class_names, {"train": rows}, tuple(self._notes))

    def _label_options(self) -> dict[str, Any]:
        config = self._config
        return {
            "where": f"{config.path}: column `{config.label}`",
            "note": self._notes.append,
            "unlabelled": config.unlabelled,
            "remedy": TABLE_REMEDY,
            "single_class": config.labels.single_class,
        }

    def _read_labels(self, tables: dict[str, Table]) -> dict[str, Strings]:
        return {split: self._label_cells(split, table) for split, table in tables.items()}

    def _label_cells(self, split: str, table: Table) -> Strings:
        label = self._config.label
        if split == "train" and self._config.labels.probabilities and label not in table.names:
            return np.full(table.data.num_rows, None)  # probabilities are the only labels
        return table.label_strings(label)

    def _build_rows(self, split: str, table: Table, columns: tuple[Column, ...], codes: Ints) -> Rows:
        """Return the rows of a table, without those of which a cell does not fit its column."""
        cells, errors = self._parse_cells(columns, table)
        extras = table.extra_cells(self._config.extra_columns)
        rows = Rows(cells, codes, self._read_ids(split, table), extras)
        if not errors:
            return rows
        faulty = FaultyRows(table.where, self._config.on_error)
        good = faulty.select(len(rows), errors, table.locate)
        faulty.finish(len(rows), self._notes.append)
        return rows.take(good)

    def _infer_columns(self, table: Table) -> tuple[Column, ...]:
        config = self._config
        for key in ("drop", "categorical"):
            for name in getattr(config, key) or ():
                table.column(name, key=f"data.{key}")
        if config.weight is not None:
            table.column(config.weight, key="data.weight")
        for name in config.labels.probabilities or ():
            table.column(name, key="data.labels.probabilities")
        reserved = {config.label, config.id, *config.extra_columns, *config.drop}
        parts = self._texts
        _require_texts(table, parts)
        for name in (*parts, *(config.features or ())):
            table.column(name, key="data.features")
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
            on_error=config.on_error,
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

    def _parts_of(self, column: Column) -> list[str]:
        return self._texts if column.kind == "text" else [column.name]

    def _parse_cells(
        self, columns: Sequence[Column], table: Table
    ) -> tuple[dict[str, Array], dict[int, RowError]]:
        """Return the cells of input columns, and position -> error of rows with a cell that does not fit."""
        cells: dict[str, Array] = {}
        errors: dict[int, RowError] = {}
        for column in columns:
            parts = self._parts_of(column)
            key = "data.text" if column.kind == "text" else "an input column of the training rows"
            columns_of_parts = [table.column(part, key=key) for part in parts]
            cells[column.name], bad = parse_cells(column, columns_of_parts, parts)
            for position, error in bad.items():
                hint = f"{error.hint}, leave the column out with {override('data.drop', column.name)}"
                errors.setdefault(position, RowError(error.message, hint))
        return cells, errors

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
                listed = join_some(extra, len(extra), 12)
                self._notes.append(f"{table.where} has columns that training lacks: {listed}")


def _require_texts(table: Table, names: Sequence[str]) -> None:
    """Raise `DataError` for a missing column of texts; its hint names the columns that hold sentences."""
    try:
        for name in names:
            table.column(name, key="data.text")
    except DataError as error:
        found = text_columns(table)
        if not found:
            raise
        listed = " and ".join(f"`{column}`" for column in found)
        several = quote(f"data.text=[{', '.join(found)}]")
        words = override("data.text", found[0], listed=False) if len(found) == 1 else several
        hint = f"set {words}; sentences are in {listed}"
        raise DataError(error.message, details=error.details, hint=hint) from error


build = CsvSource
