"""Split a table larger than memory into rows that stay in memory and rows that stay on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from flowgmm_cli.api import DataContext, LabelsConfig, Rows, SourceData, SplitConfig, iterate_batches
from flowgmm_cli.data.array_types import Positions
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.data.large.duplicates import find_duplicates
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.large.labels import TableLabels
from flowgmm_cli.data.large.rows import ResidentRows, RowBuilder, load_resident_rows
from flowgmm_cli.data.large.statistics import ColumnStatistics
from flowgmm_cli.data.sampling import split_rng
from flowgmm_cli.data.splits import (
    Candidates,
    Part,
    SplitRows,
    assign_splits,
    drop_unlabelled,
    find_equal,
    renumber_classes,
)
from flowgmm_cli.errors import DataError

MAX_HELD_OUT_ROWS = 20_000
"""Maximum number of test rows, and of validation rows: the standard error of an accuracy is below 0.4 %."""
MAX_SAMPLE_ROWS = 50_000
"""Maximum number of training rows in memory in addition to the labelled rows."""
MIN_ROWS = 1000
"""Number of rows of each kind that stay in memory even if the budget is smaller."""
_MAX_CANDIDATES = 2**20  # labelled rows to choose from; a random subset of each class if there are more
_BLOCK_ROWS = 2**22
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
) -> SplitRows:
    """Split the rows and read those that stay in memory: labelled rows, held-out rows, and a sample.

    The `train` of the result has the training rows in memory.
    """
    row_bytes = _NUMBER_BYTES * source.builder.width
    max_rows = max(MIN_ROWS, source.memory // _OTHER_SHARE // row_bytes)
    table_labels, total = source.table_labels, source.table.rows
    spaced = np.unique(np.linspace(0, total - 1, min(total, max_rows, MAX_SAMPLE_ROWS)).astype(np.int64))
    requested = _require_memory(source, labels, row_bytes)
    parts, notes = assign_splits(
        table_labels.codes,
        None,
        (labels, split),
        source.class_names,
        marked=table_labels.marked,
        given=dict.fromkeys(source.splits, ()),
        candidates=_draw_candidates(
            table_labels, split, spaced, most=min(max_rows, MAX_HELD_OUT_ROWS), requested=requested
        ),
    )
    held_out = np.flatnonzero(parts > Part.LABELLED)
    labelled, sample = np.flatnonzero(parts == Part.LABELLED), np.setdiff1d(spaced, held_out)
    positions = np.unique(np.concatenate([labelled, sample, held_out]))
    resident_rows = load_resident_rows(
        source.table, source.builder, positions, held_out, strict=source.strict, context=context
    )
    notes = [_describe(source), *notes]
    splits = dict(source.splits)
    for name, codes in (("test", (Part.TEST,)), ("val", (Part.VAL, Part.VAL_LABELLED))):
        if name not in splits and (positions := np.flatnonzero(np.isin(parts, codes))).size:
            splits[name] = resident_rows.take(positions, table_labels.codes[positions], parts)
    if "test" in source.splits:
        splits["test"] = drop_unlabelled(splits["test"], notes)
    if "val" in source.splits and not split.val_labels:
        splits["val"] = replace(splits["val"], labels=np.full_like(splits["val"].labels, -1))
    left_out = held_out
    if split.duplicates == "drop" and splits:
        left_out = _leave_out_duplicates(source, splits, held_out, labelled, notes, context)
    resident = np.setdiff1d(np.union1d(labelled, sample), left_out)
    division = renumber_classes(
        SplitRows(
            columns=source.columns,
            class_names=source.class_names,
            train=resident_rows.take(resident, table_labels.codes[resident], parts),
            val=splits.get("val"),
            test=splits.get("test"),
            val_labels=split.val_labels and "val" in splits,
            notes=tuple(notes),
            large=LargeRows(
                table=source.table,
                builder=source.builder,
                left_out=left_out,
                resident=resident,
                sample=np.flatnonzero(np.isin(resident, sample)),
                statistics=resident_rows.statistics,
                memory=source.memory,
            ),
        )
    )
    return replace(division, fingerprint=_digest(source, resident_rows, division))


def _leave_out_duplicates(
    source: LargeSource,
    splits: dict[str, Rows],
    held_out: Positions,
    labelled: Positions,
    notes: list[str],
    context: DataContext,
) -> Positions:
    """Return the held-out rows and those equal to them; leave validation rows equal to test rows out."""
    keys = {name: row_digests(rows, source.columns) for name, rows in splits.items()}
    duplicates = find_duplicates(
        source.table, source.builder, [rows for rows in splits.values() if len(rows)], held_out, context
    )
    left_out = np.union1d(held_out, duplicates)
    if len(left_out) == source.table.rows:
        raise DataError(
            "every training row is equal to a held-out row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    if len(duplicates):
        count = len(np.intersect1d(duplicates, labelled))
        also = f", {count:,} labelled ones among them" if count else ""
        notes.append(f"{len(duplicates):,} training rows are equal to a held-out row and are left out{also}")
    if len(splits) == 2:
        equal = find_equal(keys["val"], keys["test"], "validation", "test", notes)
        splits["val"] = splits["val"].take(~equal)
    return left_out


def _draw_candidates(
    table_labels: TableLabels, split: SplitConfig, spaced: Positions, *, most: int, requested: int
) -> Candidates:
    """Draw the rows that splits are drawn from: all labelled rows, or about `_MAX_CANDIDATES` of them.

    The labelled budget is `requested`, and `most` the maximum number of test and of validation rows.
    """
    codes, marked, rng = table_labels.codes, table_labels.marked, split_rng(split, stream=2)
    max_candidates = max(_MAX_CANDIDATES, 2 * requested)
    counts = np.zeros(int(codes.max()) + 2, dtype=np.int64)  # the last entry counts rows without a label
    for block in iterate_batches(len(codes), _BLOCK_ROWS):
        unmarked = codes[block] if marked is None else codes[block][~marked[block]]
        counts += np.bincount(unmarked.astype(np.int64) % len(counts), minlength=len(counts))
    sizes = {label: count for label, count in enumerate(counts[:-1].tolist()) if count}
    thinned = sum(sizes.values()) > 2 * max_candidates
    share = np.ones(len(counts))
    if thinned:  # enough rows of each class for stratified and for balanced draws
        per_class = max_candidates // len(sizes)
        share = np.minimum(1, max_candidates / sum(sizes.values()) + per_class / np.maximum(counts, 1))
    drawn = []
    for block in iterate_batches(len(codes), _BLOCK_ROWS):
        places = np.flatnonzero(codes[block] >= 0)
        if thinned:
            keep = rng.random(len(places)) < share[codes[block][places]]
            places = places[keep if marked is None else keep | marked[block][places]]
        drawn.append(places + block.start)
    others = np.setdiff1d(rng.integers(len(codes), size=8 * most), spaced)
    if len(codes) <= 8 * most:
        others = np.arange(len(codes))
    return Candidates(np.concatenate(drawn), others, sizes if thinned else None, most)


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


def _require_memory(source: LargeSource, labels: LabelsConfig, row_bytes: int) -> int:
    """Return the number of labelled rows that the budget asks for; `DataError` if memory is too small."""
    codes, count = source.table_labels.codes, labels.count
    if labels.per_class is not None:
        count = labels.per_class * len(source.class_names)
    elif labels.fraction not in (None, 1):
        count = round(labels.fraction * len(codes))
    elif count is None:
        marked = source.table_labels.marked
        count = int(np.count_nonzero(codes >= 0 if marked is None else (codes >= 0) & marked))
    size, available = count * row_bytes, source.memory // _LABELLED_SHARE
    if size > max(available, MIN_ROWS * row_bytes):
        raise DataError(
            f"{source.table.where}: {count:,} labelled rows take {size / 2**30:.2f} GiB, and labelled rows "
            f"are kept in memory, in an eighth of data.memory ({source.memory / 2**30:g} GiB)",
            hint="choose some of them with data.labels.count, or raise data.memory",
        )
    return count


def _describe(source: LargeSource) -> str:
    size = source.table.memory_bytes(column.name for column in source.columns) / 2**30
    return (
        f"{source.table.rows:,} rows would take {size:,.1f} GiB and stay in their files (data.memory); "
        "preprocessing and initialisation are fitted to some of them"
    )


def _digest(source: LargeSource, resident_rows: ResidentRows, division: SplitRows) -> str:
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
