"""Assign rows to train, validation and test, and mask the labels that must not be seen.

The order of steps keeps labels honest: the test rows are split off, training rows equal to a test row are
dropped, a validation split that uses labels is split off (if requested), the labelled rows are chosen, and
the default validation split is taken from the remaining rows. Only the test split has labels beyond the
budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.array_types import Array, Bools, Floats, Hashes, Positions
from flowgmm_cli.data.fingerprint import contradiction_notes, find_equal, fingerprint, row_hashes
from flowgmm_cli.data.sampling import choose_labelled, ids_mask, marker_mask, sample_held_out, split_rng
from flowgmm_cli.errors import DataError
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import join_some

if TYPE_CHECKING:
    from flowgmm_cli.data.out_of_core import ChunkedRows

_HELD_OUT = (
    "are set aside for the test (data.split.test)",
    "with labels beyond the labelled budget form the validation split (data.split.val_labels)",
)
"""Descriptions of the labelled rows that stream 0 and stream 1 hold out, see `split_rng`."""


SOFT_LABELS = "labels.probabilities"
"""Extra of training rows with these probabilities, `(N, K)`, 0 in all classes where a label is certain."""


class Part(IntEnum):
    """Split of a row; in training and validation it has a label only if the part says so."""

    LEFT_OUT = 0
    TRAIN = 1
    LABELLED = 2
    VAL = 3
    VAL_LABELLED = 4
    TEST = 5


@dataclass(frozen=True, kw_only=True)
class SplitData(SourceData):
    """Rows of a source in disjoint splits with masked labels.

    Only classes with a labelled training row have a name. `train` is never empty, and its labels are -1
    except in the labelled rows. Labels of `val` are -1 except where they may be used: rows of the labelled
    budget, or all with `split.val_labels`. `test` has true labels.

    Attributes:
        val_labels: True if `val` has labels beyond the labelled budget, which every output must state.
        fingerprint: hex digest of all of it; equal rows give equal digests.
        weights: weights of the labels of `train`, see `label_weights`; None if all are equal.
        targets: class probabilities of rows of `train` whose label is uncertain, `(N, K)`, 0 for all others;
            None without any.
        chunked: all training rows if they are larger than memory; `train` then has some of them.
    """

    val_labels: bool = False
    fingerprint: str = ""
    weights: Floats | None = None
    targets: Floats | None = None
    chunked: ChunkedRows | None = None

    @property
    def train(self) -> Rows:
        """The training rows."""
        return self.splits["train"]

    @property
    def val(self) -> Rows | None:
        """The validation rows, if there are any."""
        return self.splits.get("val")

    @property
    def test(self) -> Rows | None:
        """The test rows, if there are any."""
        return self.splits.get("test")


@dataclass(frozen=True)
class Candidates:
    """Rows of a table larger than memory that held-out and labelled rows are drawn from.

    Attributes:
        labelled: positions of labelled rows, ascending.
        others: positions that validation rows without labels are drawn from, ascending.
        most: maximum number of test rows, and of validation rows.
    """

    labelled: Positions
    others: Positions
    most: int


def assign_splits(
    labels: Array,
    keys: Hashes | None,
    config: tuple[LabelsConfig, SplitConfig],
    class_names: Sequence[str],
    *,
    marked: Bools | None = None,
    listed: Bools | None = None,
    uncertain: Bools | None = None,
    given: Mapping[str, Hashes] | None = None,
    candidates: Candidates | None = None,
) -> tuple[Array, list[str]]:
    """Assign each training row of a source to a part.

    Args:
        labels: integers `(N,)`, -1 where a row has no label.
        keys: equal for equal rows `(N,)`, to leave out rows equal to a held-out row; None keeps them.
        config: settings of labels and splits; they determine all random numbers.
        class_names: index -> name.
        marked: mask of the rows that `labels.column` marks.
        listed: mask of the rows in the file `labels.ids`; unlike marks they do not change the test rows.
        uncertain: mask of labels that are probabilities; such rows are tested where there are no others.
        given: keys of the rows of `test` and `val` where the source has these splits.
        candidates: some of the rows, to draw from; None draws from all.

    Returns:
        A `Part` for each row, int8 `(N,)`, and notes for the user.

    Raises:
        DataError: no labels, a single class, too few rows for the labelled budget, or no rows left.
    """
    labels_config, split = config
    given = given or {}
    assignment = _Assignment(labels, keys, split, marked, uncertain, candidates)
    if "test" in given:
        assignment.drop_equal(given["test"], "test")
    elif split.test > 0:
        assignment.hold_out(Part.TEST)
    if "val" in given:
        assignment.drop_equal(given["val"], "validation")
    count = 0 if "val" in given else round(split.val * assignment.rows)
    if count and split.val_labels:
        assignment.hold_out(Part.VAL_LABELLED)
    usable = assignment.free_labelled()
    for mask in (marked, listed):
        usable = usable if mask is None else usable[mask[usable]]
    labelled = choose_labelled(labels, usable, labels_config, class_names, rows=assignment.rows)
    assignment.parts[labelled] = Part.LABELLED
    if count and not split.val_labels:
        assignment.hold_out_unlabelled(labelled, count)
    return assignment.parts, assignment.notes


@dataclass
class _Assignment:
    """Parts of all rows, while they are assigned."""

    labels: Array
    keys: Hashes | None
    split: SplitConfig
    marked: Bools | None
    uncertain: Bools | None
    candidates: Candidates | None

    def __post_init__(self) -> None:
        self.parts = np.full(len(self.labels), Part.TRAIN, dtype=np.int8)
        self.notes: list[str] = []

    @property
    def rows(self) -> int:
        """Number of training rows so far, without labelled ones."""
        return int(np.count_nonzero(self.parts == Part.TRAIN))

    def free(self, positions: Positions | None) -> Positions:
        """Return the positions, by default of all rows, that are training rows so far."""
        if positions is None:
            return np.flatnonzero(self.parts == Part.TRAIN)
        free: Positions = positions[self.parts[positions] == Part.TRAIN]
        return free

    def free_labelled(self) -> Positions:
        return self.free(self.candidates.labelled if self.candidates else np.flatnonzero(self.labels >= 0))

    def drop_equal(self, held_out: Hashes, kind: str) -> None:
        """Leave out the training rows whose key is that of a held-out row."""
        if self.keys is not None:
            rows = self.free(None)
            equal = find_equal(self.keys[rows], held_out, "training", kind, self.notes)
            self.parts[rows[equal]] = Part.LEFT_OUT

    def hold_out(self, part: Part) -> None:
        """Hold out labelled rows for the test, or for validation rows beyond the labelled budget."""
        stream, pool = int(part != Part.TEST), self.free_labelled()
        if self.uncertain is not None and not self.uncertain[pool].all():
            pool = pool[~self.uncertain[pool]]
        if self.marked is not None:
            unmarked = pool[~self.marked[pool]]
            pool = unmarked if len(unmarked) or stream == 1 else pool
        count = self._limit(
            round(self.split.val * self.rows if stream == 1 else self.split.test * len(pool)),
            _HELD_OUT[stream],
        )
        chosen = sample_held_out(self.labels, pool, count, self.split, stream=stream)
        if not len(chosen):
            return
        self.parts[chosen] = part
        self.notes.append(f"{len(chosen):,} rows {_HELD_OUT[stream]}")
        if self.keys is not None:
            self.drop_equal(self.keys[chosen], "validation" if stream else "test")

    def hold_out_unlabelled(self, labelled: Positions, count: int) -> None:
        """Hold out rows without a visible label; if there are too few, labelled rows of the budget."""
        pool = self.free(self.candidates.others if self.candidates else None)
        if self.keys is not None and len(pool):
            pool = pool[~np.isin(self.keys[pool], self.keys[labelled])]
        count = self._limit(count, "are held out (data.split.val)")
        if self.candidates is not None and len(pool):
            count = min(count, len(pool))
        if len(pool) >= count:
            chosen = split_rng(self.split, stream=1).permutation(pool)[:count]
            self.parts[chosen] = Part.VAL
            if self.keys is not None:
                self.drop_equal(self.keys[chosen], "validation")
            return
        count = min(count, len(labelled))
        chosen = sample_held_out(self.labels, labelled, count, self.split, stream=1)
        self.parts[chosen] = Part.VAL_LABELLED
        rows = pluralise(len(chosen), "labelled row")
        self.notes.append(f"validation takes {rows} out of the labelled budget")

    def _limit(self, count: int, description: str) -> int:
        if self.candidates is None or count <= self.candidates.most:
            return count
        most = self.candidates.most
        self.notes.append(f"at most {most:,} rows, not {count:,}, {description}: they are kept in memory")
        return most


def split_rows(source: SourceData, *, labels: LabelsConfig, split: SplitConfig) -> SplitData:
    """Split the rows of a source.

    Raises:
        DataError: no labels, a single class, a test class without a labelled row, or no rows left.
    """
    keys = {name: row_hashes(rows, source.columns) for name, rows in source.splits.items()}
    train, test = source.splits["train"], source.splits.get("test")
    given = {name: keys[name] for name in source.splits if name != "train"}
    if test is not None:  # test rows without a label are left out
        given["test"] = keys["test"][test.labels >= 0]
    parts, notes = assign_splits(
        train.labels,
        keys["train"] if split.duplicates == "drop" else None,
        (labels, split),
        source.class_names,
        marked=None if labels.column is None else marker_mask(train.extras, labels.column),
        listed=None if labels.ids is None else ids_mask(train.ids, labels.ids),
        uncertain=train.extras[SOFT_LABELS].sum(axis=1) > 0 if labels.probabilities else None,
        given=given,
    )
    return divide(source, split, parts, keys, notes)


def divide(
    source: SourceData, split: SplitConfig, parts: Array, keys: Mapping[str, Hashes], notes: Sequence[str]
) -> SplitData:
    """Divide the rows of a source by the parts of its training rows, and mask labels.

    Args:
        source: the rows.
        split: settings.
        parts: a `Part` for each training row.
        keys: `row_hashes` of each split.
        notes: for the user.
    """
    train, splits, keys = source.splits["train"], dict(source.splits), dict(keys)
    notes = [*contradiction_notes(train.labels, keys["train"], train.ids), *notes]

    def select(name: str, mask: Bools, origin: str) -> None:
        if not mask.all():
            splits[name], keys[name] = splits[origin].take(mask), keys[origin][mask]

    if "test" in splits:
        labelled = splits["test"].labels >= 0
        if not labelled.any():
            raise DataError(
                "no row of the test split has a label, so nothing can be tested",
                hint="leave the test data out, or give it labels",
            )
        if not labelled.all():
            notes.append(f"{(~labelled).sum():,} test rows have no label and are left out")
        select("test", labelled, "test")
    if "val" in splits and not split.val_labels:
        splits["val"] = replace(splits["val"], labels=np.full_like(splits["val"].labels, -1))
    hidden = (parts == Part.TRAIN) | (parts == Part.VAL)
    splits["train"] = replace(train, labels=np.where(hidden, -1, train.labels))
    for name, codes in (("test", (Part.TEST,)), ("val", (Part.VAL, Part.VAL_LABELLED))):
        if name not in splits and (mask := np.isin(parts, codes)).any():
            select(name, mask, "train")
    select("train", (parts == Part.TRAIN) | (parts == Part.LABELLED), "train")
    if split.duplicates == "drop" and "val" in splits and "test" in splits:
        equal = find_equal(keys["val"], keys["test"], "validation", "test", notes)
        select("val", ~equal, "val")
    splits = {name: splits[name] for name in ("train", "val", "test") if name in splits}
    class_names, splits = _renumber_classes(source.class_names, splits, notes)
    return SplitData(
        source.columns,
        class_names,
        splits,
        tuple(notes),
        val_labels=split.val_labels and "val" in splits,
        fingerprint=fingerprint(source.columns, class_names, splits, keys),
    )


def _renumber_classes(
    names: Sequence[str], splits: Mapping[str, Rows], notes: list[str]
) -> tuple[tuple[str, ...], dict[str, Rows]]:
    """Renumber the classes that have labelled training rows; others cannot be learned."""
    known = np.unique(splits["train"].labels[splits["train"].labels >= 0])
    for name, word in (("test", "test"), ("val", "validation")):
        labels = splits[name].labels if name in splits else np.empty(0, dtype=np.int64)
        unknown = np.setdiff1d(labels[labels >= 0], known)
        if len(unknown):
            raise DataError(
                f"the {word} split has classes without a labelled training row",
                details=[
                    f"class `{names[code]}`: {(labels == code).sum():,} {word} rows" for code in unknown
                ],
                hint="label a training row of each, or remove the class from the data",
            )
    code = np.full(len(names) + 1, -1, dtype=np.int64)  # the last entry maps -1 to itself
    code[known] = np.arange(len(known))
    if lost := [names[label] for label in np.setdiff1d(np.arange(len(names)), known)]:
        notes.append(f"no labelled row shows the class {join_some(lost, len(lost), 12)}")
    renumbered = {name: replace(rows, labels=code[rows.labels]) for name, rows in splits.items()}
    return tuple(names[label] for label in known), renumbered
