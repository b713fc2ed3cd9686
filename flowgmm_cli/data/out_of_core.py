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
from flowgmm_cli.data.array_types import Array, Hashes, Positions
from flowgmm_cli.data.cache import digest
from flowgmm_cli.data.chunked_table import ChunkedTable
from flowgmm_cli.data.feature_file import FeatureFile, write_features
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.readers.base import note_once
from flowgmm_cli.data.sampling import split_rng
from flowgmm_cli.data.sources.columns import ColumnStatistics
from flowgmm_cli.data.splits import Candidates, Part, SplitData, assign_splits, divide
from flowgmm_cli.data.tensors import Store
from flowgmm_cli.errors import DataError

MAX_HELD_OUT_ROWS = 20_000
"""Maximum number of test rows, and of validation rows: the standard error of an accuracy is below 0.4 %."""
MAX_SAMPLE_ROWS = 50_000
"""Maximum number of training rows in memory in addition to the labelled rows."""
MIN_ROWS = 1000
"""Number of rows of each kind that stay in memory even if the budget is smaller."""
MAX_DUPLICATES = 5_000_000
"""Maximum number of rows that are equal to a held-out row."""
_MAX_CANDIDATES = 2**24  # labelled rows that splits are drawn from
_LABELLED_SHARE, _OTHER_SHARE = 8, 32  # labelled rows may take 1/8 of the budget, each other kind 1/32


@dataclass(frozen=True, kw_only=True)
class ChunkedSource(SourceData):
    """Source whose training rows are read in chunks; `splits` lacks them."""

    table: ChunkedTable


@dataclass(frozen=True)
class ChunkedRows:
    """Training rows that are read in chunks.

    Attributes:
        table: the table.
        left_out: positions of the rows that are held out or cannot be used, ascending.
        resident: positions of the training rows in memory, ascending, in the order of `SplitData.train`.
        sample: positions in `SplitData.train` of the rows that were sampled at equal distances.
        statistics: column name -> statistics of all rows except test rows.
        drop_duplicates: True if rows equal to a held-out row are left out.
    """

    table: ChunkedTable
    left_out: Positions
    resident: Positions
    sample: Positions
    statistics: Mapping[str, ColumnStatistics]
    drop_duplicates: bool


def split_chunked(
    source: ChunkedSource, *, labels: LabelsConfig, split: SplitConfig, context: DataContext
) -> SplitData:
    """Split the rows and read those that stay in memory: labelled rows, held-out rows, and a sample.

    The `train` of the result has the training rows in memory.
    """
    if labels.ids is not None:
        hint = "raise data.memory, or mark the rows in a column (data.labels.column)"
        raise DataError("data.labels.ids needs all rows in memory, and these are read in chunks", hint=hint)
    table, total = source.table, len(source.table.labels)
    max_rows = max(MIN_ROWS, table.memory // _OTHER_SHARE // table.row_bytes)
    candidates = _draw_candidates(table, split, min(max_rows, MAX_HELD_OUT_ROWS))
    spaced = np.unique(np.linspace(0, total - 1, min(total, max_rows, MAX_SAMPLE_ROWS)).astype(np.int64))
    parts, notes = assign_splits(
        table.labels,
        None,
        (labels, split),
        source.class_names,
        marked=table.marked,
        given=dict.fromkeys(source.splits, np.empty(0, dtype=np.uint64)),
        candidates=candidates,
    )
    if (available := np.count_nonzero(table.labels >= 0)) > len(candidates.labelled):
        notes.append(f"splits are drawn from {len(candidates.labelled):,} of {available:,} rows with a label")
    held_out, labelled = np.flatnonzero(parts > Part.LABELLED), np.flatnonzero(parts == Part.LABELLED)
    needed = len(labelled) * table.row_bytes
    if needed > max(table.memory // _LABELLED_SHARE, MIN_ROWS * table.row_bytes):
        raise DataError(
            f"{table.reader.name}: {len(labelled):,} labelled rows take {needed / 2**30:.2f} GiB, and "
            f"labelled rows are kept in memory, in an eighth of data.memory ({table.memory / 2**30:g} GiB)",
            hint="choose some of them with data.labels.count, or raise data.memory",
        )
    # validation rows depend on the labelled ones; without their candidates, features do not
    spaced = np.setdiff1d(spaced, np.union1d(held_out, candidates.others))
    positions = np.unique(np.concatenate([labelled, spaced, held_out]))
    rows, statistics, unusable, faults = table.gather(positions, np.flatnonzero(parts == Part.TEST), context)
    notes += faults
    parts[unusable] = Part.LEFT_OUT
    parts = parts[positions]
    keys = {name: row_hashes(some, source.columns) for name, some in source.splits.items()}
    keys["train"] = row_hashes(rows, source.columns)
    if split.duplicates == "drop":
        is_train = (parts == Part.TRAIN) | (parts == Part.LABELLED)
        known = [keys["train"][parts > Part.LABELLED], *(keys[name] for name in source.splits)]
        equal = is_train & np.isin(keys["train"], np.concatenate(known))
        if count := int((equal & (parts == Part.LABELLED)).sum()):
            notes.append(f"{count:,} labelled rows are equal to a held-out row and are left out")
        parts[equal] = Part.LEFT_OUT
    source = replace(source, splits={**source.splits, "train": rows})
    divided = divide(source, split, parts, keys, notes)
    resident = positions[(parts == Part.TRAIN) | (parts == Part.LABELLED)]
    facts = [replace(value, categories=set()) for value in statistics.values()]
    categories = [sorted(map(str, value.categories)) for value in statistics.values()]
    return replace(
        divided,
        fingerprint=digest([divided.fingerprint, table.labels, facts, categories]),
        chunked=ChunkedRows(
            table=table,
            left_out=np.union1d(held_out, unusable),
            resident=resident,
            sample=np.flatnonzero(np.isin(resident, spaced)),
            statistics=statistics,
            drop_duplicates=split.duplicates == "drop",
        ),
    )


def _draw_candidates(table: ChunkedTable, split: SplitConfig, most: int) -> Candidates:
    """Draw the rows that splits are drawn from: labelled rows, and twice as many others as are held out."""
    labels, rng = table.labels, split_rng(split, stream=2)
    is_labelled = labels >= 0
    if (count := int(np.count_nonzero(is_labelled))) > _MAX_CANDIDATES:
        share = 256 * _MAX_CANDIDATES // count + 1
        is_labelled &= rng.integers(256, size=len(labels), dtype=np.uint8) < share
        is_labelled |= False if table.marked is None else table.marked & (labels >= 0)
    count = min(most, round(split.val * len(labels)) + 1)
    count = min(2 * count, max(count, len(labels) // 2))
    others = np.sort(rng.choice(len(labels), min(count, len(labels)), replace=False))
    return Candidates(np.flatnonzero(is_labelled), others, most)


def build_store(
    rows: SplitData, preprocessor: Preprocessor, context: DataContext, *, with_inputs: bool
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

    width = len(preprocessor.feature_names) if with_inputs else preprocessor.dim

    def features(part: Rows) -> Array:
        tensors = preprocessor.apply(part, quiet, with_inputs=with_inputs)
        return np.asarray(tensors.x if tensors.inputs is None else tensors.inputs)

    def parts() -> Iterator[tuple[Array, Hashes]]:
        for _, part, some, errors in table.rows(context, "computing features"):
            good = np.delete(np.arange(len(some)), list(errors))
            matrix = np.zeros((len(some), width), dtype=np.float32)
            try:
                matrix[good] = features(some.take(good) if errors else some)
                yield matrix, row_hashes(some, table.columns)
            except DataError as error:
                message = f"{part.where}: {error.message}"
                raise DataError(message, details=error.details, hint=error.hint) from error

    file = table.cache.open_features(path)
    if file is None:
        write_features(path, (len(table.labels), width), np.float32, parts())
        table.cache.remove_old()
        file = FeatureFile(path)
    size = path.stat().st_size / 2**30
    notes = [f"features of {len(table.labels):,} rows are kept in {path} ({size:,.1f} GiB) for later starts"]
    left_out = chunked.left_out
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
    is_train = ~np.isin(candidates, chunked.left_out, assume_unique=True)
    candidates, matches = candidates[is_train], matches[is_train]
    if len(candidates) > MAX_DUPLICATES:
        raise DataError(
            f"{chunked.table.reader.name}: more than {MAX_DUPLICATES:,} rows are equal to one of the test or "
            "validation rows",
            hint="set data.split.duplicates=keep to train on them as well",
        )
    equal = [
        np.isclose(file.read_at(candidates[part]), features[first[matches[part]]], atol=1e-5).all(axis=1)
        for part in iterate_batches(len(candidates), 2**16)
    ]
    duplicates: Positions = candidates[np.concatenate([np.empty(0, dtype=bool), *equal])]
    if len(duplicates) + len(chunked.left_out) == file.rows:
        raise DataError(
            "every training row is equal to a held-out row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    return duplicates
