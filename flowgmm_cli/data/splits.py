"""Split rows into train, validation and test, and mask the labels that must not be seen.

The order of steps keeps labels honest: the test rows are split off, training rows equal to a test row are
dropped, a validation split that uses labels is split off (if requested), the labelled rows are chosen, and
the default validation split is taken from the remaining rows. Only the test split has labels beyond the
budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from flowgmm_cli.api import Column, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.array_types import Array, Positions, Strings
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.data.label_budget import choose_labelled, marker_mask
from flowgmm_cli.data.stratified_sampling import HELD_OUT_NOTES, sample_held_out, split_rng
from flowgmm_cli.errors import DataError

_INDEX, _DIGEST = "index", "digest"  # columns of index-only rows


@dataclass(frozen=True)
class Splits:
    """Disjoint splits with masked labels.

    Attributes:
        train: never empty; labels are -1 except in the labelled rows.
        val: labels are -1 except where they may be used: rows of the labelled budget, or all with
            `split.val_labels`. None if nothing is held out.
        test: with true labels. None without a test split.
        class_names: index -> name; only classes with a labelled training row.
        notes: for the user.
    """

    train: Rows
    val: Rows | None
    test: Rows | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def split_rows(source: SourceData, *, labels: LabelsConfig, split: SplitConfig) -> Splits:
    """Split the rows of a source.

    Raises:
        DataError: no labels, a single class, a test class without a labelled row, or no rows left.
    """
    notes: list[str] = []
    originals = {name: source.splits.get(name, source.splits["train"]) for name in ("train", "val", "test")}
    needs_digests = split.duplicates == "drop" and (len(source.splits) > 1 or split.test > 0 or split.val > 0)
    digest_columns = source.columns if needs_digests else None
    index_rows = {name: _index_only(rows, digest_columns) for name, rows in source.splits.items()}
    train, val, test = index_rows["train"], index_rows.get("val"), index_rows.get("test")
    if test is not None:
        test = drop_unlabelled(test, notes)
    elif split.test > 0:
        train, test = _hold_out_labelled(train, labels, split, notes, stream=0)
    if split.duplicates == "drop":
        if test is not None and val is not None:
            val = drop_duplicates(val, test, _digests, "validation", "test", notes)
        if test is not None:
            train = drop_duplicates(train, test, _digests, "training", "test", notes)
        if val is not None:
            train = drop_duplicates(train, val, _digests, "training", "validation", notes)

    needs_val = val is None and round(split.val * len(train)) > 0
    if needs_val and split.val_labels:
        train, val = _hold_out_labelled(train, labels, split, notes, stream=1)
        if val is not None and split.duplicates == "drop":
            train = drop_duplicates(train, val, _digests, "training", "validation", notes)
    labelled = choose_labelled(train, labels, source.class_names)
    if needs_val and not split.val_labels:
        train, val = _split_val(train, labelled, split, notes)
    else:
        train = mask_labels(train, labelled)
        if val is not None and not split.val_labels:
            val = mask_labels(val, np.empty(0, dtype=np.int64))
    return renumber_classes(
        Splits(
            train=_take(train, originals["train"]),
            val=None if val is None else _take(val, originals["val"]),
            test=None if test is None else _take(test, originals["test"]),
            class_names=source.class_names,
            notes=tuple(notes),
        )
    )


def _index_only(rows: Rows, digest_columns: tuple[Column, ...] | None) -> Rows:
    """Replace the cells of rows by positions and digests: splitting copies no cells and hashes a row once."""
    columns: dict[str, Array] = {_INDEX: np.arange(len(rows))}
    if digest_columns is not None:
        columns[_DIGEST] = row_digests(rows, digest_columns)
    return replace(rows, columns=columns)


def _take(index_rows: Rows, rows: Rows) -> Rows:
    """Give index-only rows the cells of the original rows."""
    index = index_rows.columns[_INDEX]
    if np.array_equal(index, np.arange(len(rows))):
        return replace(index_rows, columns=rows.columns)
    return replace(index_rows, columns={name: cells[index] for name, cells in rows.columns.items()})


def _digests(index_rows: Rows) -> Strings:
    return index_rows.columns[_DIGEST]


def drop_unlabelled(test: Rows, notes: list[str]) -> Rows:
    """Return the test rows that have a label. Raises `DataError` if none has."""
    labelled = test.labels >= 0
    if not labelled.any():
        raise DataError(
            "no row of the test split has a label, so nothing can be tested",
            hint="leave the test data out, or give it labels",
        )
    if not labelled.all():
        notes.append(f"{(~labelled).sum():,} test rows have no label and are left out")
    return test.take(labelled)


def _hold_out_labelled(
    train: Rows, labels: LabelsConfig, split: SplitConfig, notes: list[str], *, stream: int
) -> tuple[Rows, Rows | None]:
    """Hold out labelled rows for the test (stream 0), or rows beyond the labelled budget (stream 1)."""
    candidates = np.flatnonzero(train.labels >= 0)
    if labels.column is not None:
        unmarked = candidates[~marker_mask(train, labels.column)[candidates]]
        candidates = unmarked if len(unmarked) or stream == 1 else candidates
    count = round(split.val * len(train) if stream == 1 else split.test * len(candidates))
    chosen = sample_held_out(train.labels, candidates, count, split, stream=stream)
    if not len(chosen):
        return train, None
    notes.append(f"{len(chosen):,} rows {HELD_OUT_NOTES[stream]}")
    return _partition(train, chosen)


def _split_val(
    train: Rows, labelled: Positions, split: SplitConfig, notes: list[str]
) -> tuple[Rows, Rows | None]:
    """Hold out rows without a visible label; if there are too few, labelled rows of the budget."""
    visible = mask_labels(train, labelled)
    count = round(split.val * len(train))
    candidates = np.flatnonzero(visible.labels < 0)
    digests = _digests(train) if split.duplicates == "drop" and len(candidates) else None
    if digests is not None:
        labelled_digests = set(digests[labelled])
        candidates = candidates[[digest not in labelled_digests for digest in digests[candidates]]]
    if len(candidates) >= count:
        chosen = np.sort(split_rng(split, stream=1).permutation(candidates)[:count])
    else:
        chosen = sample_held_out(visible.labels, labelled, min(count, len(labelled)), split, stream=1)
        notes.append(f"{len(chosen):,} labelled rows are held out for validation, out of the labelled budget")
    if not len(chosen):
        return visible, None
    rest, val = _partition(visible, chosen)
    if digests is not None and len(candidates) >= count:
        rest = drop_duplicates(rest, val, _digests, "training", "validation", notes)
    return rest, val


def _partition(rows: Rows, held_out: Positions) -> tuple[Rows, Rows]:
    mask = np.zeros(len(rows), dtype=bool)
    mask[held_out] = True
    return rows.take(~mask), rows.take(mask)


def mask_labels(rows: Rows, keep: Positions) -> Rows:
    """Set all labels to -1 except those at some positions."""
    labels = np.full_like(rows.labels, -1)
    labels[keep] = rows.labels[keep]
    return replace(rows, labels=labels)


def drop_duplicates(
    rows: Rows,
    held_out: Rows,
    digests: Callable[[Rows], Strings],
    kind: str,
    held_out_kind: str,
    notes: list[str],
) -> Rows:
    """Drop the rows that are equal to a held-out row; `digests` hashes the cells of rows."""
    held_out_digests = set(digests(held_out))
    equal = np.array([digest in held_out_digests for digest in digests(rows)], dtype=bool)
    if not equal.any():
        return rows
    if equal.all():
        raise DataError(
            f"every {kind} row is equal to a {held_out_kind} row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    notes.append(f"{equal.sum():,} {kind} rows are equal to a {held_out_kind} row and are left out")
    return rows.take(~equal)


def renumber_classes(splits: Splits) -> Splits:
    """Renumber the classes that have labelled training rows; others cannot be learned."""
    names = splits.class_names
    known = np.unique(splits.train.labels[splits.train.labels >= 0])
    for split, rows in (("test", splits.test), ("validation", splits.val)):
        if rows is None:
            continue
        unknown = np.setdiff1d(rows.labels[rows.labels >= 0], known)
        if len(unknown):
            raise DataError(
                f"the {split} split has classes without a labelled training row",
                details=[
                    f"class `{names[label]}`: {(rows.labels == label).sum():,} {split} rows"
                    for label in unknown
                ],
                hint="label a training row of each, or remove the class from the data",
            )
    code = np.full(len(names) + 1, -1, dtype=np.int64)  # the last entry maps -1 to itself
    code[known] = np.arange(len(known))
    lost = [name for label, name in enumerate(names) if label not in set(known.tolist())]
    notes = (*splits.notes, f"no labelled row shows the class {', '.join(lost)}") if lost else splits.notes

    def renumber(rows: Rows | None) -> Rows | None:
        return None if rows is None else replace(rows, labels=code[rows.labels])

    return Splits(
        train=replace(splits.train, labels=code[splits.train.labels]),
        val=renumber(splits.val),
        test=renumber(splits.test),
        class_names=tuple(names[label] for label in known),
        notes=notes,
    )
