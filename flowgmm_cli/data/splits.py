"""Dividing a source's rows into train, validation and test, and hiding the labels that may not be seen.

The order of steps is what keeps labels honest: first the test rows, then training rows equal to a test row
go, then a validation split that uses labels (if asked for), then the labelled rows, and last a validation
split from what is left. Only the test split carries labels beyond the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import Column, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.data.label_budget import choose_labelled, marked_rows
from flowgmm_cli.data.stratified_sampling import by_class, proportional
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

_PLACE, _DIGEST = "place", "digest"  # columns of rows that are being divided


@dataclass(frozen=True)
class Division:
    """Disjoint splits; labels are visible in `train` and `val` only where they may be used.

    Attributes:
        train: never empty.
        val: None where no row is held out.
        test: None where there is none; all its rows carry their true label.
        class_names: the classes that have a labelled row; labels index them.
        notes: what the user should know.
    """

    train: Rows
    val: Rows | None
    test: Rows | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def divide(source: SourceData, *, labels: LabelsConfig, split: SplitConfig) -> Division:
    """Divide the rows of a source.

    Raises:
        DataError: no labels, one class, a class in the test split that no labelled row shows, or
            no rows left.
    """
    notes: list[str] = []
    whole = {name: source.splits.get(name, source.splits["train"]) for name in ("train", "val", "test")}
    drop = split.duplicates == "drop" and (len(source.splits) > 1 or split.test > 0 or split.val > 0)
    digested = source.columns if drop else None
    light = {name: _light(rows, digested) for name, rows in source.splits.items()}
    train, val, test = light["train"], light.get("val"), light.get("test")
    if test is not None:
        test = with_labels(test, notes)
    elif split.test > 0:
        train, test = _make_test(train, labels, split, notes)
    if split.duplicates == "drop":
        if test is not None and val is not None:
            val = without_equals(val, test, _digests, "validation", "test", notes)
        if test is not None:
            train = without_equals(train, test, _digests, "training", "test", notes)
        if val is not None:
            train = without_equals(train, val, _digests, "training", "validation", notes)

    made_val = val is None and round(split.val * len(train)) > 0
    if made_val and split.val_labels:
        train, val = _labelled_val(train, labels, split, notes)
    chosen = choose_labelled(train, labels, source.class_names)
    if made_val and not split.val_labels:
        train, val = _hidden_val(train, chosen, split, notes)
    else:
        train = hide(train, chosen)
        if val is not None and not split.val_labels:
            val = hide(val, np.empty(0, dtype=np.int64))
    return with_known_classes(
        Division(
            train=_whole(train, whole["train"]),
            val=None if val is None else _whole(val, whole["val"]),
            test=None if test is None else _whole(test, whole["test"]),
            class_names=source.class_names,
            notes=tuple(notes),
        )
    )


def _light(rows: Rows, digested: tuple[Column, ...] | None) -> Rows:
    """The rows with their places instead of their cells, and their digests if there is need of them.

    Dividing them copies no cell, and none is hashed twice.
    """
    place = {_PLACE: np.arange(len(rows))}
    return replace(
        rows, columns=place if digested is None else {**place, _DIGEST: row_digests(rows, digested)}
    )


def _whole(light: Rows, rows: Rows) -> Rows:
    """What has become of light rows, with the cells that the rows had."""
    place = light.columns[_PLACE]
    if np.array_equal(place, np.arange(len(rows))):
        return replace(light, columns=rows.columns)
    return replace(light, columns={name: cells[place] for name, cells in rows.columns.items()})


def _digests(light: Rows) -> npt.NDArray[np.object_]:
    return light.columns[_DIGEST]


def with_labels(test: Rows, notes: list[str]) -> Rows:
    """The test rows that have a label. Raises `DataError` if none has."""
    labelled = test.labels >= 0
    if not labelled.any():
        raise DataError(
            "no row of the test split has a label, so nothing can be tested",
            hint="leave the test data out, or give it labels",
        )
    if not labelled.all():
        notes.append(f"{(~labelled).sum():,} test rows have no label and are left out")
    return test.take(labelled)


def _make_test(
    train: Rows, labels: LabelsConfig, split: SplitConfig, notes: list[str]
) -> tuple[Rows, Rows | None]:
    candidates = np.flatnonzero(train.labels >= 0)
    if labels.column is not None:
        unmarked = candidates[~marked_rows(train, labels.column)[candidates]]
        candidates = unmarked if len(unmarked) else candidates
    wanted = round(split.test * len(candidates))
    chosen = draw(train, candidates, wanted, split, stream=0)
    if not len(chosen):
        return train, None
    notes.append(f"{len(chosen):,} rows are set aside for the test (data.split.test)")
    return _parted(train, chosen)


def _labelled_val(
    train: Rows, labels: LabelsConfig, split: SplitConfig, notes: list[str]
) -> tuple[Rows, Rows | None]:
    candidates = np.flatnonzero(train.labels >= 0)
    if labels.column is not None:
        candidates = candidates[~marked_rows(train, labels.column)[candidates]]
    chosen = draw(train, candidates, round(split.val * len(train)), split, stream=1)
    if not len(chosen):
        return train, None
    notes.append(
        f"{len(chosen):,} rows with labels beyond the labelled budget form the validation split "
        "(data.split.val_labels)"
    )
    rest, val = _parted(train, chosen)
    if split.duplicates == "drop":
        rest = without_equals(rest, val, _digests, "training", "validation", notes)
    return rest, val


def _hidden_val(
    train: Rows, chosen: Positions, split: SplitConfig, notes: list[str]
) -> tuple[Rows, Rows | None]:
    """Hold out rows without a visible label; where there are too few, labelled rows of the budget itself."""
    visible = hide(train, chosen)
    wanted = round(split.val * len(train))
    candidates = np.flatnonzero(visible.labels < 0)
    digests = _digests(train) if split.duplicates == "drop" and len(candidates) else None
    if digests is not None:
        shown = set(digests[chosen])
        candidates = candidates[[digest not in shown for digest in digests[candidates]]]
    if len(candidates) >= wanted:
        held = np.sort(split_generator(split, stream=1).permutation(candidates)[:wanted])
    else:
        held = draw(visible, chosen, min(wanted, len(chosen)), split, stream=1)
        notes.append(f"{len(held):,} labelled rows are held out for validation, out of the labelled budget")
    if not len(held):
        return visible, None
    rest, val = _parted(visible, held)
    if digests is not None and len(candidates) >= wanted:
        rest = without_equals(rest, val, _digests, "training", "validation", notes)
    return rest, val


def draw(
    rows: Rows,
    candidates: Positions,
    wanted: int,
    split: SplitConfig,
    *,
    stream: int,
    sizes: Mapping[int, int] | None = None,
) -> Positions:
    """Draw labelled rows, by class if `stratify`, always leaving each class at least one.

    Where the candidates are a part of all, `sizes` has the rows of each class to be in proportion to.
    """
    rng = split_generator(split, stream=stream)
    order = by_class(rows.labels, candidates, rng)
    spare = {label: positions[:-1] for label, positions in order.items()}
    if split.stratify:
        sizes = sizes or {label: len(positions) for label, positions in order.items()}
        counts = proportional(sizes, wanted)
        drawn = [spare[label][: counts[label]] for label in order]
    else:
        pool = np.concatenate([np.empty(0, dtype=np.int64), *spare.values()])
        drawn = [rng.permutation(np.sort(pool))[:wanted]]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *drawn]))


def split_generator(split: SplitConfig, *, stream: int) -> np.random.Generator:
    """Random numbers for the draw of test rows (stream 0) or validation rows (1)."""
    return np.random.default_rng([split.seed, stream])


def _parted(rows: Rows, held: Positions) -> tuple[Rows, Rows]:
    mask = np.zeros(len(rows), dtype=bool)
    mask[held] = True
    return rows.take(~mask), rows.take(mask)


def hide(rows: Rows, keep: Positions) -> Rows:
    """The rows with no labels but those at some positions."""
    labels = np.full_like(rows.labels, -1)
    labels[keep] = rows.labels[keep]
    return replace(rows, labels=labels)


def without_equals(
    rows: Rows,
    held: Rows,
    digests: Callable[[Rows], npt.NDArray[np.object_]],
    what: str,
    other: str,
    notes: list[str],
) -> Rows:
    """The rows without those whose cells are those of a held-out row.

    Args:
        rows: those to keep.
        held: those held out.
        digests: of the cells of rows.
        what, other: what the two are called.
        notes: told how many are left out.

    Raises:
        DataError: none is left.
    """
    taken = set(digests(held))
    equal = np.array([digest in taken for digest in digests(rows)], dtype=bool)
    if not equal.any():
        return rows
    if equal.all():
        raise DataError(
            f"every {what} row is equal to a {other} row",
            hint="give other test rows, or set data.split.duplicates=keep",
        )
    notes.append(f"{equal.sum():,} {what} rows are equal to a {other} row and are left out")
    return rows.take(~equal)


def with_known_classes(division: Division) -> Division:
    """Number the classes that labelled training rows show; others cannot be learned."""
    names = division.class_names
    known = np.unique(division.train.labels[division.train.labels >= 0])
    for split, rows in (("test", division.test), ("validation", division.val)):
        if rows is None:
            continue
        unseen = np.setdiff1d(rows.labels[rows.labels >= 0], known)
        if len(unseen):
            raise DataError(
                f"the {split} split has classes that no labelled training row shows",
                details=[
                    f"class `{names[label]}`: {(rows.labels == label).sum():,} {split} rows"
                    for label in unseen
                ],
                hint="label a training row of each, or take the class out of the data",
            )
    code = np.full(len(names) + 1, -1, dtype=np.int64)  # the last cell maps -1 to itself
    code[known] = np.arange(len(known))
    lost = [name for label, name in enumerate(names) if label not in set(known.tolist())]
    notes = (
        (*division.notes, f"no labelled row shows the class {', '.join(lost)}") if lost else division.notes
    )

    def renumber(rows: Rows | None) -> Rows | None:
        return None if rows is None else replace(rows, labels=code[rows.labels])

    return Division(
        train=replace(division.train, labels=code[division.train.labels]),
        val=renumber(division.val),
        test=renumber(division.test),
        class_names=tuple(names[label] for label in known),
        notes=notes,
    )
