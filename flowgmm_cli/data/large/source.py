"""Split a table larger than memory into rows that stay in memory and rows that stay on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

import numpy as np

from flowgmm_cli.api import DataContext, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.array_types import Positions
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.data.large.duplicates import find_duplicates
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.labels import TableLabels
from flowgmm_cli.data.large.rows import ResidentRows, RowBuilder, load_resident_rows
from flowgmm_cli.data.large.split import MIN_ROWS, SplitIndex, assign_splits
from flowgmm_cli.data.large.statistics import ColumnStatistics
from flowgmm_cli.data.splits import Splits, drop_duplicates, drop_unlabelled, mask_labels, renumber_classes
from flowgmm_cli.errors import DataError

_NUMBER_BYTES = 8
_MIN_BATCH_BYTES = 2**26  # a record batch may be this large even if the budget is smaller
_LABELLED_SHARE, _OTHER_SHARE = 8, 32  # labelled rows may take 1/8 of the budget, each other kind 1/32


@dataclass(frozen=True, kw_only=True)
class LargeSource(SourceData):
    """Source whose training rows stay on disk; `splits` lacks them.

    Attributes:
        table: the files.
        builder: conversion of their columns.
        table_labels: labels of all rows.
        memory: memory budget in bytes.
        strict: True if a missing or infinite number is an error.
    """

    table: TableFiles
    builder: RowBuilder
    table_labels: TableLabels
    memory: int
    strict: bool


@dataclass(frozen=True)
class LargeRows:
    """Training rows that stay on disk.

    Attributes:
        table, builder: see `LargeSource`.
        left_out: indices of the rows that are not training rows, ascending.
        resident: indices of the training rows in memory, ascending, in the order of `train`.
        sample: positions in `train` of the rows that were sampled at equal distances.
        statistics: column name -> statistics of all training rows.
        memory: memory budget in bytes.
    """

    table: TableFiles
    builder: RowBuilder
    left_out: Positions
    resident: Positions
    sample: Positions
    statistics: Mapping[str, ColumnStatistics]
    memory: int

    def __len__(self) -> int:
        return self.table.rows - len(self.left_out)


def split_large_table(
    source: LargeSource, *, labels: LabelsConfig, split: SplitConfig, context: DataContext
) -> tuple[Splits, LargeRows, str]:
    """Split the rows and read those that stay in memory: labelled rows, held-out rows, and a sample.

    Returns:
        The splits, whose `train` has the training rows in memory; all training rows; and a digest.
    """
    row_bytes = _NUMBER_BYTES * source.builder.width
    given = {name: source.splits.get(name) for name in ("test", "val")}
    index = assign_splits(
        source.table_labels,
        labels,
        split,
        max_rows=source.memory // _OTHER_SHARE // row_bytes,
        has_test=given["test"] is not None,
        has_val=given["val"] is not None,
        require_memory=lambda count: _require_memory(count, source, row_bytes),
    )
    held_out = np.union1d(index.test, index.val)
    positions = np.unique(np.concatenate([index.labelled, index.sample, held_out]))
    resident_rows = load_resident_rows(
        source.table, source.builder, positions, held_out, strict=source.strict, context=context
    )
    notes = [_describe(source), *index.notes]
    test, val = (
        _find_held_out_rows(name, given[name], resident_rows, source, index, notes)
        for name in ("test", "val")
    )
    if val is not None and not split.val_labels:
        val = mask_labels(val, np.empty(0, dtype=np.int64))
    left_out = held_out
    if split.duplicates == "drop" and (splits := [rows for rows in (test, val) if rows is not None]):
        duplicates = find_duplicates(source.table, source.builder, splits, held_out, context)
        left_out = np.union1d(held_out, duplicates)
        if len(left_out) == source.table.rows:
            raise DataError(
                "every training row is equal to a held-out row",
                hint="give other test rows, or set data.split.duplicates=keep",
            )
        if len(duplicates):
            labelled = len(np.intersect1d(duplicates, index.labelled))
            also = f", {labelled:,} labelled ones among them" if labelled else ""
            notes.append(
                f"{len(duplicates):,} training rows are equal to a held-out row and are left out{also}"
            )
        if test is not None and val is not None:
            digests = partial(row_digests, columns=source.columns)
            val = drop_duplicates(val, test, digests, "validation", "test", notes)
    resident = np.setdiff1d(np.union1d(index.labelled, index.sample), left_out)
    visible = np.isin(resident, index.labelled)
    train = resident_rows.take(resident, np.where(visible, source.table_labels.codes[resident], -1))
    division = renumber_classes(Splits(train, val, test, source.class_names, tuple(notes)))
    large = LargeRows(
        table=source.table,
        builder=source.builder,
        left_out=left_out,
        resident=resident,
        sample=np.flatnonzero(np.isin(resident, index.sample)),
        statistics=resident_rows.statistics,
        memory=source.memory,
    )
    return division, large, _digest(source, resident_rows, division)


def require_small_batches(table: TableFiles, builder: RowBuilder, memory: int) -> None:
    """Check that the record batches of Arrow files, which are read as a whole, fit into memory."""
    row_bytes = _NUMBER_BYTES * builder.width
    max_rows = max(memory // _LABELLED_SHARE, _MIN_BATCH_BYTES) // row_bytes
    for file in table.files:
        if not file.is_parquet and max(file.groups) > max_rows:
            raise DataError(
                f"{file.path} has a record batch of {max(file.groups):,} rows, and one is read as a whole",
                hint=f"write it in batches of at most {max_rows:,} rows (max_chunksize), or as Parquet",
            )


def _find_held_out_rows(
    name: str,
    given: Rows | None,
    resident_rows: ResidentRows,
    source: LargeSource,
    index: SplitIndex,
    notes: list[str],
) -> Rows | None:
    if given is not None:
        return drop_unlabelled(given, notes) if name == "test" else given
    positions = index.test if name == "test" else index.val
    return resident_rows.take(positions, source.table_labels.codes[positions]) if len(positions) else None


def _require_memory(count: int, source: LargeSource, row_bytes: int) -> None:
    size, available = count * row_bytes, source.memory // _LABELLED_SHARE
    if size > max(available, MIN_ROWS * row_bytes):
        raise DataError(
            f"{source.table.where}: {count:,} labelled rows take {size / 2**30:.2f} GiB, and labelled rows "
            f"are kept in memory, in an eighth of data.memory ({source.memory / 2**30:g} GiB)",
            hint="choose some of them with data.labels.count, or raise data.memory",
        )


def _describe(source: LargeSource) -> str:
    size = source.table.memory_bytes(column.name for column in source.columns) / 2**30
    return (
        f"{source.table.rows:,} rows would take {size:,.1f} GiB and stay in their files (data.memory); "
        "preprocessing and initialisation are fitted to some of them"
    )


def _digest(source: LargeSource, resident_rows: ResidentRows, division: Splits) -> str:
    """Return a digest of the rows and labels, from the statistics of the columns instead of every cell."""
    total = blake2b(digest_size=16)
    columns = [(column.name, column.kind, column.shape) for column in source.columns]
    total.update(repr((columns, division.class_names, source.table.rows)).encode())
    for name, statistics in resident_rows.statistics.items():
        numbers = replace(statistics, categories=set())
        total.update(repr((name, numbers, sorted(map(str, statistics.categories)))).encode())
    total.update(
        np.ascontiguousarray(source.table.group_rows, dtype="<i8").tobytes()
    )  # they determine the order of an epoch
    total.update(np.ascontiguousarray(source.table_labels.codes).data)
    for rows in (division.train, division.val, division.test):
        if rows is not None:
            total.update(np.ascontiguousarray(rows.labels, dtype="<i8").tobytes())
            total.update("\n".join(map(str, rows.ids)).encode("utf-8", "surrogatepass"))
            for cells in rows.columns.values():
                if cells.dtype != object:
                    total.update(np.ascontiguousarray(cells, dtype="<f8").tobytes())
    return total.hexdigest()
