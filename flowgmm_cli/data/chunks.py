"""Tables larger than memory: split by their labels, then written to a file as features.

The labels of all rows are read and the rows are assigned to splits. A pass over the cells collects the
statistics of each column, and the rows that stay in memory: labelled rows, held-out rows and a sample, to
which preprocessing is fitted. Another pass writes the features of all rows to a file, from which training
reads blocks. The result of each pass is kept in the user's cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from flowgmm_cli.api import DataContext, LabelsConfig, Rows, SourceData, SplitConfig, iterate_batches
from flowgmm_cli.data.array_types import Array, Positions
from flowgmm_cli.data.chunked_table import ChunkedTable, TableLabels, gather_rows
from flowgmm_cli.data.fingerprint import contradiction_notes, find_equal, row_digests, row_hashes
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.readers.base import note_once
from flowgmm_cli.data.sampling import split_rng
from flowgmm_cli.data.splits import (
    Candidates,
    Part,
    SplitRows,
    assign_splits,
    drop_unlabelled,
    renumber_classes,
    take_part,
)
from flowgmm_cli.data.statistics import ColumnStatistics
from flowgmm_cli.data.store import FeatureFile, Hashes, Store, write_features
from flowgmm_cli.data.table_cache import digest, touch
from flowgmm_cli.errors import DataError

MAX_HELD_OUT_ROWS = 20_000
"""Maximum number of test rows, and of validation rows: the standard error of an accuracy is below 0.4 %."""
MAX_SAMPLE_ROWS = 50_000
"""Maximum number of training rows in memory in addition to the labelled rows."""
MIN_ROWS = 1000
"""Number of rows of each kind that stay in memory even if the budget is smaller."""
_MAX_CANDIDATES = 2**20  # labelled rows to choose from; a random subset of each class if there are more
_BLOCK_ROWS = 2**22
MAX_DUPLICATES = 5_000_000
"""Maximum number of rows that are equal to a held-out row."""
_LABELLED_SHARE, _OTHER_SHARE = 8, 32  # labelled rows may take 1/8 of the budget, each other kind 1/32


@dataclass(frozen=True, kw_only=True)
class ChunkedSource(SourceData):
    """Source whose training rows are read in chunks; `splits` lacks them."""

    table: ChunkedTable
    table_labels: TableLabels


@dataclass(frozen=True)
class ChunkedRows:
    """Training rows that are read in table.

    Attributes:
        table: the table.
        rows: number of rows in the table.
        held_out: positions of the held-out rows, ascending.
        resident: positions of the training rows in memory, ascending, in the order of `SplitRows.train`.
        sample: positions in `SplitRows.train` of the rows that were sampled at equal distances.
        statistics: column name -> statistics of all rows except test rows.
        drop_duplicates: True if rows equal to a held-out row are left out.
    """

    table: ChunkedTable
    rows: int
    held_out: Positions
    resident: Positions
    sample: Positions
    statistics: Mapping[str, ColumnStatistics]
    drop_duplicates: bool


def split_chunked(
    source: ChunkedSource, *, labels: LabelsConfig, split: SplitConfig, context: DataContext
) -> SplitRows:
    """Split the rows and read those that stay in memory: labelled rows, held-out rows, and a sample.

    The `train` of the result has the training rows in memory.
    """
    table, table_labels = source.table, source.table_labels
    total = len(table_labels.codes)
    max_rows = max(MIN_ROWS, table.memory // _OTHER_SHARE // table.row_bytes)
    spaced = np.unique(np.linspace(0, total - 1, min(total, max_rows, MAX_SAMPLE_ROWS)).astype(np.int64))
    requested = _require_memory(source, labels)
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
    held_out, labelled = np.flatnonzero(parts > Part.LABELLED), np.flatnonzero(parts == Part.LABELLED)
    positions = np.unique(np.concatenate([labelled, spaced, held_out]))
    rows, statistics = gather_rows(table, positions, np.flatnonzero(parts == Part.TEST), total, context)

    def take(chosen: Positions) -> Rows:
        some = rows.take(np.searchsorted(positions, chosen))
        some = Rows(some.columns, table_labels.codes[chosen].astype(np.int64), some.ids)
        return take_part(some, parts[chosen], np.arange(len(some)))

    splits = dict(source.splits)
    for name, codes in (("test", (Part.TEST,)), ("val", (Part.VAL, Part.VAL_LABELLED))):
        if name not in splits and (chosen := np.flatnonzero(np.isin(parts, codes))).size:
            splits[name] = take(chosen)
    if "test" in source.splits:
        splits["test"] = drop_unlabelled(splits["test"], notes)
    if "val" in source.splits and not split.val_labels:
        splits["val"] = replace(splits["val"], labels=np.full_like(splits["val"].labels, -1))
    resident = np.setdiff1d(np.union1d(labelled, spaced), held_out)
    train = take(resident)
    keys = {name: row_digests(some, source.columns) for name, some in {"train": train, **splits}.items()}
    notes += contradiction_notes(train.labels, keys["train"], train.ids)
    if split.duplicates == "drop" and splits:
        if len(splits) == 2:
            equal = find_equal(keys["val"], keys["test"], "validation", "test", notes)
            splits["val"] = splits["val"].take(~equal)
        held_out_keys = {key for name in splits for key in keys[name]}
        equal = np.array([key in held_out_keys for key in keys["train"]], dtype=bool)
        if count := int((equal & (train.labels >= 0)).sum()):
            notes.append(f"{count:,} labelled rows are equal to a held-out row and are left out")
        resident, train = resident[~equal], train.take(~equal)
    divided = renumber_classes(
        SplitRows(
            columns=source.columns,
            class_names=source.class_names,
            train=train,
            val=splits.get("val"),
            test=splits.get("test"),
            val_labels=split.val_labels and "val" in splits,
            notes=tuple(notes),
            chunked=ChunkedRows(
                table=table,
                rows=total,
                held_out=held_out,
                resident=resident,
                sample=np.flatnonzero(np.isin(resident, spaced)),
                statistics=statistics,
                drop_duplicates=split.duplicates == "drop",
            ),
        )
    )
    return replace(divided, fingerprint=_fingerprint(divided, table_labels.codes))


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


def _require_memory(source: ChunkedSource, labels: LabelsConfig) -> int:
    """Return the number of labelled rows that the budget asks for; `DataError` if memory is too small."""
    table, codes, count = source.table, source.table_labels.codes, labels.count
    if labels.per_class is not None:
        count = labels.per_class * len(source.class_names)
    elif labels.fraction is not None and labels.fraction < 1:
        count = round(labels.fraction * len(codes))
    elif count is None:
        marked = source.table_labels.marked
        count = int(np.count_nonzero(codes >= 0 if marked is None else (codes >= 0) & marked))
    size, available = count * table.row_bytes, table.memory // _LABELLED_SHARE
    if size > max(available, MIN_ROWS * table.row_bytes):
        raise DataError(
            f"{table.where}: {count:,} labelled rows take {size / 2**30:.2f} GiB, and labelled rows "
            f"are kept in memory, in an eighth of data.memory ({table.memory / 2**30:g} GiB)",
            hint="choose some of them with data.labels.count, or raise data.memory",
        )
    return count


def _fingerprint(divided: SplitRows, codes: Array) -> str:
    """Return a digest of the rows and labels, from the statistics of the columns instead of every cell."""
    columns = [(column.name, column.kind, column.shape) for column in divided.columns]
    statistics = divided.chunked.statistics if divided.chunked else {}
    described = [
        (name, replace(value, categories=set()), sorted(map(str, value.categories)))
        for name, value in statistics.items()
    ]
    parts: list[object] = [columns, divided.class_names, described, codes]
    for rows in divided.present().values():
        parts += [rows.labels, "\n".join(map(str, rows.ids)), *rows.columns.values()]
    return digest(
        part.tolist() if isinstance(part, np.ndarray) and part.dtype == object else part for part in parts
    )


def build_store(
    rows: SplitRows, preprocessor: Preprocessor, context: DataContext, *, with_inputs: bool
) -> tuple[Store, list[str]]:
    """Open the features of all rows of a table, or else write them; also return notes.

    `with_inputs` keeps the feature matrix, from which `x` is computed in each step, instead of `x`.

    Raises:
        DataError: a row cannot be used, or the disk is full.
    """
    if rows.chunked is None:
        raise ValueError("these rows are in memory")
    chunked, table = rows.chunked, rows.chunked.table
    values, arrays = preprocessor.state()
    key = ["features", table.columns, table.names, json.dumps(values), *arrays.values(), with_inputs]
    path = table.cache.path(key, ".features")
    quiet = replace(context, streaming=True, note=note_once(context))

    def features(part: Rows) -> Array:
        tensors = preprocessor.apply(part, quiet, with_inputs=with_inputs)
        return np.asarray(tensors.x if tensors.inputs is None else tensors.inputs)

    def parts() -> Iterator[tuple[Array, Hashes]]:
        for _, part, some in table.rows(context, chunked.rows, "computing features"):
            try:
                yield features(some), row_hashes(some, table.columns)
            except DataError as error:
                message = f"{part.where}: {error.message}"
                raise DataError(message, details=error.details, hint=error.hint) from error

    try:
        file = FeatureFile(path)
        touch(path)
    except (OSError, ValueError):
        width = len(preprocessor.feature_names) if with_inputs else preprocessor.dim
        write_features(path, (chunked.rows, width), np.float32, parts())
        table.cache.remove_old()
        file = FeatureFile(path)
    size = path.stat().st_size / 2**30
    notes = [f"features of {chunked.rows:,} rows are kept in {path} ({size:,.1f} GiB) for later starts"]
    left_out = chunked.held_out
    held_out = [part for part in (rows.test, rows.val) if part is not None and len(part)]
    if chunked.drop_duplicates and held_out:
        duplicates = _find_duplicates(
            file,
            np.concatenate([row_hashes(part, table.columns) for part in held_out]),
            np.concatenate([features(part) for part in held_out]),
            chunked,
        )
        if len(duplicates):
            notes.append(f"{len(duplicates):,} training rows are equal to a held-out row and are left out")
        left_out = np.union1d(left_out, duplicates)
    store = Store(
        rows=file.rows,
        width=file.width,
        dtype=file.dtype,
        read=file.read,
        left_out=left_out,
        resident=chunked.resident,
        memory=table.memory,
        dim=preprocessor.dim,
        transform=(lambda inputs: preprocessor.transform_features(inputs)[0]) if with_inputs else None,
    )
    return store, notes


def _find_duplicates(file: FeatureFile, hashes: Hashes, features: Array, chunked: ChunkedRows) -> Positions:
    """Return the positions of the training rows that are equal to a held-out row, ascending.

    Rows with the hash of a held-out row are candidates, and their features are compared.
    """
    hashes, first = np.unique(hashes, return_index=True)
    candidates, matches = file.find(hashes)
    is_train = ~np.isin(candidates, chunked.held_out, assume_unique=True)
    candidates, matches = candidates[is_train], matches[is_train]
    if len(candidates) > MAX_DUPLICATES:
        raise DataError(
            f"{chunked.table.where}: more than {MAX_DUPLICATES:,} rows are equal to one of the test or "
            "validation rows",
            hint="set data.split.duplicates=keep to train on them as well",
        )
    equal = [
        np.isclose(file.read_at(candidates[part]), features[first[matches[part]]], atol=1e-5).all(axis=1)
        for part in iterate_batches(len(candidates), 2**16)
    ]
    duplicates: Positions = candidates[np.concatenate([np.empty(0, dtype=bool), *equal])]
    if len(duplicates) + len(chunked.held_out) == file.rows:
        raise DataError(
            "every training row is equal to a held-out row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    return duplicates
