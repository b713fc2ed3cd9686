"""Assign rows to train, validation and test, and mask the labels that must not be seen.

The order of steps keeps labels honest: the test rows are split off, training rows equal to a test row are
dropped, a validation split that uses labels is split off (if requested), the labelled rows are chosen, and
the default validation split is taken from the remaining rows. Only the test split has labels beyond the
budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import Column, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.array_types import Array, Bools, Positions, Strings
from flowgmm_cli.data.fingerprint import contradiction_notes, find_equal, fingerprint, row_digests
from flowgmm_cli.data.sampling import Sizes, choose_labelled, marker_mask, sample_held_out, split_rng
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.data.chunks import ChunkedRows

_HELD_OUT = (
    "are set aside for the test (data.split.test)",
    "with labels beyond the labelled budget form the validation split (data.split.val_labels)",
)
"""Descriptions of the labelled rows that stream 0 and stream 1 hold out, see `split_rng`."""


class Part(IntEnum):
    """Split of a row; in training and validation it has a label only if the part says so."""

    LEFT_OUT = 0
    TRAIN = 1
    LABELLED = 2
    VAL = 3
    VAL_LABELLED = 4
    TEST = 5


@dataclass(frozen=True, kw_only=True)
class SplitRows:
    """Disjoint splits with masked labels.

    Attributes:
        columns: the input columns, in order.
        class_names: index -> name; only classes with a labelled training row.
        train: never empty; labels are -1 except in the labelled rows.
        val: labels are -1 except where they may be used: rows of the labelled budget, or all with
            `split.val_labels`. None if nothing is held out.
        test: with true labels. None without a test split.
        val_labels: True if `val` has labels beyond the labelled budget, which every output must state.
        fingerprint: hex digest of all of it; equal rows give equal digests.
        notes: for the user.
        chunked: all training rows if they are larger than memory; `train` then has some of them.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    train: Rows
    val: Rows | None
    test: Rows | None
    val_labels: bool = False
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
    chunked: ChunkedRows | None = None

    def present(self) -> dict[str, Rows]:
        """Return the splits that exist, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: rows for name, rows in named.items() if rows is not None}


@dataclass(frozen=True)
class Candidates:
    """Rows of a table larger than memory that held-out and labelled rows are drawn from.

    Attributes:
        labelled: positions of labelled rows, ascending.
        others: positions that validation rows without labels are drawn from, ascending.
        sizes: number of labelled rows of each class, without marked ones; None if `labelled` has them all.
        most: maximum number of test rows, and of validation rows.
    """

    labelled: Positions
    others: Positions
    sizes: Sizes | None
    most: int


def assign_splits(
    labels: Array,
    keys: Strings | None,
    config: tuple[LabelsConfig, SplitConfig],
    class_names: Sequence[str],
    *,
    marked: Bools | None = None,
    given: Mapping[str, Iterable[bytes]] | None = None,
    candidates: Candidates | None = None,
) -> tuple[Array, list[str]]:
    """Assign each training row of a source to a part.

    Args:
        labels: integers `(N,)`, -1 where a row has no label.
        keys: equal for equal rows `(N,)`, to leave out rows equal to a held-out row; None keeps them.
        config: settings of labels and splits; they determine all random numbers.
        class_names: index -> name.
        marked: mask of the rows that `labels.column` marks.
        given: keys of the rows of `test` and `val` where the source has these splits.
        candidates: some of the rows, to draw from; None draws from all.

    Returns:
        A `Part` for each row, int8 `(N,)`, and notes for the user.

    Raises:
        DataError: no labels, a single class, too few rows for the labelled budget, or no rows left.
    """
    labels_config, split = config
    given = given or {}
    assignment = _Assignment(labels, keys, split, marked, candidates)
    if "test" in given:
        assignment.drop_equal(given["test"], "test")
    elif split.test > 0:
        assignment.hold_out(Part.TEST)
    if "val" in given:
        assignment.drop_equal(given["val"], "validation")
    count = 0 if "val" in given else round(split.val * len(assignment.free()))
    if count and split.val_labels:
        assignment.hold_out(Part.VAL_LABELLED)
    usable = assignment.free_labelled()
    if marked is not None:
        usable = usable[marked[usable]]
    rows = len(assignment.free())
    labelled = choose_labelled(
        labels, usable, labels_config, class_names, rows=rows, sizes=assignment.sizes or None
    )
    assignment.parts[labelled] = Part.LABELLED
    if count and not split.val_labels:
        assignment.hold_out_unlabelled(labelled, count)
    return assignment.parts, assignment.notes


class _Assignment:
    """Parts of all rows, while they are assigned."""

    def __init__(
        self,
        labels: Array,
        keys: Strings | None,
        split: SplitConfig,
        marked: Bools | None,
        candidates: Candidates | None,
    ) -> None:
        self.labels, self.keys, self.split, self.marked = labels, keys, split, marked
        self.candidates = candidates
        self.sizes = dict(candidates.sizes or {}) if candidates else {}
        self.parts = np.full(len(labels), Part.TRAIN, dtype=np.int8)
        self.notes: list[str] = []

    def free(self, positions: Positions | None = None) -> Positions:
        """Return the positions, by default of all rows, that are training rows so far."""
        if positions is None:
            return np.flatnonzero(self.parts == Part.TRAIN)
        free: Positions = positions[self.parts[positions] == Part.TRAIN]
        return free

    def free_labelled(self) -> Positions:
        return self.free(self.candidates.labelled if self.candidates else np.flatnonzero(self.labels >= 0))

    def drop_equal(self, held_out: Iterable[bytes], kind: str) -> None:
        """Leave out the training rows whose key is that of a held-out row."""
        if self.keys is not None:
            rows = self.free()
            self.parts[rows[find_equal(self.keys[rows], held_out, "training", kind, self.notes)]] = (
                Part.LEFT_OUT
            )

    def hold_out(self, part: Part) -> None:
        """Hold out labelled rows for the test, or for validation rows beyond the labelled budget."""
        stream, pool = int(part != Part.TEST), self.free_labelled()
        if self.marked is not None:
            unmarked = pool[~self.marked[pool]]
            pool = unmarked if len(unmarked) or stream == 1 else pool
        available = sum(self.sizes.values()) or len(pool)
        count = round(self.split.val * len(self.free()) if stream == 1 else self.split.test * available)
        limit = self._limit(min(count, len(pool) // 2) if self.sizes else count)
        chosen = sample_held_out(
            self.labels, pool, limit, self.split, stream=stream, sizes=self.sizes or None
        )
        if not len(chosen):
            return
        self.parts[chosen] = part
        for label in self.labels[chosen].tolist() if self.sizes else ():
            self.sizes[label] -= 1
        self._note(len(chosen), count if limit < count else 0, _HELD_OUT[stream])
        if self.keys is not None:
            self.drop_equal(self.keys[chosen], "validation" if stream else "test")

    def hold_out_unlabelled(self, labelled: Positions, count: int) -> None:
        """Hold out rows without a visible label; if there are too few, labelled rows of the budget."""
        pool = self.free(self.candidates.others if self.candidates else None)
        if self.keys is not None and len(pool):
            labelled_keys = set(self.keys[labelled])
            pool = pool[[key not in labelled_keys for key in self.keys[pool]]]
        limit = self._limit(count)
        if len(pool) >= limit:
            chosen = split_rng(self.split, stream=1).permutation(pool)[:limit]
            self.parts[chosen] = Part.VAL
            if limit < count:
                self._note(limit, count, "are held out (data.split.val)")
            if self.keys is not None:
                self.drop_equal(self.keys[chosen], "validation")
            return
        limit = min(limit, len(labelled))
        chosen = sample_held_out(self.labels, labelled, limit, self.split, stream=1)
        self.parts[chosen] = Part.VAL_LABELLED
        self.notes.append(
            f"{len(chosen):,} labelled rows are held out for validation, out of the labelled budget"
        )

    def _limit(self, count: int) -> int:
        return min(count, self.candidates.most) if self.candidates else count

    def _note(self, count: int, target: int, description: str) -> None:
        reason = f", not {target:,}: they are kept in memory" if target > count else ""
        self.notes.append(f"{count:,} rows {description}{reason}")


def split_rows(source: SourceData, *, labels: LabelsConfig, split: SplitConfig) -> SplitRows:
    """Split the rows of a source.

    Raises:
        DataError: no labels, a single class, a test class without a labelled row, or no rows left.
    """
    notes: list[str] = []
    splits = dict(source.splits)
    if "test" in splits:
        splits["test"] = drop_unlabelled(splits["test"], notes)
    keys = {name: row_digests(rows, source.columns) for name, rows in splits.items()}
    train = splits.pop("train")
    notes += contradiction_notes(train.labels, keys["train"], train.ids)
    drop = split.duplicates == "drop"
    parts, assignment_notes = assign_splits(
        train.labels,
        keys["train"] if drop else None,
        (labels, split),
        source.class_names,
        marked=None if labels.column is None else marker_mask(train.extras, labels.column),
        given={name: keys[name] for name in splits},
    )
    notes += assignment_notes
    for name, codes in (("test", (Part.TEST,)), ("val", (Part.VAL, Part.VAL_LABELLED))):
        if name not in splits and (positions := np.flatnonzero(np.isin(parts, codes))).size:
            splits[name], keys[name] = take_part(train, parts, positions), keys["train"][positions]
        elif name == "val" and name in splits and drop and "test" in splits:
            equal = find_equal(keys["val"], keys["test"], "validation", "test", notes)
            if equal.any():
                splits["val"], keys["val"] = splits["val"].take(~equal), keys["val"][~equal]
    if "val" in source.splits and not split.val_labels:
        splits["val"] = replace(splits["val"], labels=np.full_like(splits["val"].labels, -1))
    positions = np.flatnonzero((parts == Part.TRAIN) | (parts == Part.LABELLED))
    splits["train"], keys["train"] = take_part(train, parts, positions), keys["train"][positions]
    divided = renumber_classes(
        SplitRows(
            columns=source.columns,
            class_names=source.class_names,
            train=splits["train"],
            val=splits.get("val"),
            test=splits.get("test"),
            val_labels=split.val_labels and "val" in splits,
            notes=tuple(notes),
        )
    )
    digest = fingerprint(source.columns, divided.class_names, divided.present(), keys)
    return replace(divided, fingerprint=digest)


def take_part(rows: Rows, parts: Array, positions: Positions) -> Rows:
    """Return the rows at some positions, with the labels that their parts show."""
    if len(positions) < len(rows):
        rows, parts = rows.take(positions), parts[positions]
    hidden = (parts == Part.TRAIN) | (parts == Part.VAL)
    return replace(rows, labels=np.where(hidden, -1, rows.labels))


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
    return test if labelled.all() else test.take(labelled)


def renumber_classes(splits: SplitRows) -> SplitRows:
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
    renumbered = {name: replace(rows, labels=code[rows.labels]) for name, rows in splits.present().items()}
    return replace(
        splits,
        train=renumbered["train"],
        val=renumbered.get("val"),
        test=renumbered.get("test"),
        class_names=tuple(names[label] for label in known),
        notes=notes,
    )
