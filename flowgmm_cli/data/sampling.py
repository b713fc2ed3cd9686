"""Reproducible samples of rows by class: labelled rows within a budget, and rows to hold out."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.array_types import Array, Bools, Ints, Positions, Strings
from flowgmm_cli.data.readers.byte_source import require_file
from flowgmm_cli.errors import DataError, did_you_mean

_TRUE = {"1", "true", "yes", "y", "t", "x"}
_FALSE = {None, "", "0", "false", "no", "n", "f"}

Sizes = Mapping[int, int]
"""Number of rows of each class."""


def choose_labelled(
    labels: Array, candidates: Positions, config: LabelsConfig, class_names: Sequence[str], *, rows: int
) -> Ints:
    """Return the sorted positions of the training rows whose label may be used.

    With `balanced` every class gets the same number, otherwise numbers in proportion to the classes, at least
    one each. The sample is a function of the order of rows, the budget and the seed.

    Args:
        labels: class of each row.
        candidates: positions of the labelled rows, ascending.
        config: the budget.
        class_names: index -> name.
        rows: number of training rows, of which `fraction` is a share; 1 takes every label.

    Raises:
        DataError: no row has a label, only one class has any (without `single_class`), or a class has too few
            rows for the budget.
    """
    _require_classes(labels[candidates], class_names, least=1 if config.single_class else 2)
    if config.count is None and config.per_class is None and config.fraction in (None, 1):
        return candidates

    rng = np.random.default_rng(config.seed)
    order = shuffle_by_class(labels, candidates, rng)
    sizes = {label: len(positions) for label, positions in order.items()}
    counts = _class_counts(sizes, config, rows, rng)
    short = [label for label in sizes if counts[label] > sizes[label]]
    if short:
        raise DataError(
            "too few labelled rows to choose from",
            details=[
                f"class `{class_names[label]}`: {counts[label]} requested, {sizes[label]} available"
                for label in short
            ],
            hint="request fewer"
            if config.per_class is not None
            else "request fewer, or set data.labels.balanced=false",
        )
    return np.sort(np.concatenate([order[label][:count] for label, count in counts.items()]))


def _class_counts(sizes: Sizes, config: LabelsConfig, rows: int, rng: np.random.Generator) -> dict[int, int]:
    """Return the number of labelled rows of each class that the budget asks for."""
    if config.per_class is not None:
        return dict.fromkeys(sizes, config.per_class)
    total = config.count if config.count is not None else round((config.fraction or 0) * rows)
    available = sum(sizes.values())
    if total > available:
        raise DataError(
            f"{total} labelled rows are requested, but only {available} rows have a label",
            hint="request fewer, or leave data.labels out to use every label",
        )
    if total < len(sizes):
        raise DataError(
            f"{total} labelled rows cannot cover all {len(sizes)} classes",
            hint=f"request {len(sizes)} or more",
        )
    if config.balanced:
        return allocate_evenly(sizes, total, rng)
    return allocate_proportionally(sizes, total, least=1)


def marker_mask(extras: Mapping[str, Strings], column: str) -> Bools:
    """Return a mask of the rows whose cell in `column` is true; `DataError` for other cells than booleans."""
    if column not in extras:
        near = did_you_mean(column, extras)
        raise DataError(
            f"the training rows have no column `{column}` (data.labels.column){near}",
            hint="set data.labels.column to a column that marks the labelled rows",
        )
    cells = [None if cell is None else str(cell).strip().casefold() for cell in extras[column]]
    odd = sorted({cell for cell in cells if cell not in _TRUE and cell not in _FALSE and cell is not None})
    if odd:
        raise DataError(
            f"column `{column}` (data.labels.column) must hold true or false, got `{odd[0]}`",
            details=["true: 1, true, yes, y, t, x; false: 0, false, no, n, f, an empty cell"],
            hint="write 1 for labelled rows and leave the others empty",
        )
    return np.array([cell in _TRUE for cell in cells], dtype=bool)


def ids_mask(ids: Array, file: str) -> Bools:
    """Return a mask of the rows whose ids a file lists; `DataError` if it lists other ids."""
    listed = [line for line in require_file(file).read_text("utf-8").splitlines() if line]
    if others := set(listed).difference(ids.tolist()):
        raise DataError(
            f"{file} (data.labels.ids) has {len(others):,} ids of no training row, such as {min(others)}",
            hint="`flowgmm suggest --save` writes ids; without data.id they are train:1, train:2, ...",
        )
    return np.isin(ids.astype(str), listed)


def _require_classes(labels: Array, class_names: Sequence[str], *, least: int) -> None:
    classes = np.unique(labels)
    if len(classes) == 0:
        raise DataError(
            "no training row has a label",
            hint="label a few rows of each class, or check data.label and data.labels",
        )
    if len(classes) < least:
        raise DataError(
            f"all labelled training rows are of the class `{class_names[classes[0]]}`; "
            "at least two classes are needed",
            hint="label a few rows of another class, or check data.label and data.labels; to learn a single "
            "class and detect others, set data.labels.single_class=true",
        )


def sample_held_out(
    labels: Array, candidates: Positions, count: int, split: SplitConfig, *, stream: int
) -> Positions:
    """Sample `count` labelled rows to hold out, by class if `stratify`; each class keeps at least one row.

    `candidates` are positions in `labels`.
    """
    rng = split_rng(split, stream=stream)
    order = shuffle_by_class(labels, candidates, rng)
    spare = {label: positions[:-1] for label, positions in order.items()}
    if split.stratify:
        sizes = {label: len(positions) for label, positions in order.items()}
        counts = allocate_proportionally(sizes, count)
        samples = [spare[label][: counts[label]] for label in order]
    else:
        pool = np.concatenate([np.empty(0, dtype=np.int64), *spare.values()])
        samples = [rng.permutation(np.sort(pool))[:count]]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *samples]))


def split_rng(split: SplitConfig, *, stream: int) -> np.random.Generator:
    """Return the random generator of test rows (stream 0), validation rows (1), or candidates (2)."""
    return np.random.default_rng([split.seed, stream])


def shuffle_by_class(labels: Array, positions: Positions, rng: np.random.Generator) -> dict[int, Positions]:
    """Return the positions of each class in random order, classes ascending.

    A longer sample from the same order contains the shorter one, so label budgets are nested.
    """
    by_class = positions[np.argsort(labels[positions], kind="stable")]
    classes, starts = np.unique(labels[by_class], return_index=True)
    parts = np.split(by_class, starts[1:]) if len(classes) else []
    return {int(label): rng.permutation(part) for label, part in zip(classes, parts, strict=True)}


def allocate_proportionally(sizes: Sizes, total: int, *, least: int = 0) -> dict[int, int]:
    """Divide `total` among classes in proportion to their sizes, by largest remainders.

    No class gets more than its size or, as far as its size and `total` allow, less than `least`.

    >>> allocate_proportionally({0: 70, 1: 30}, 10)
    {0: 7, 1: 3}
    >>> allocate_proportionally({0: 99, 1: 1}, 10, least=1)
    {0: 9, 1: 1}
    """
    rows = sum(sizes.values())
    total = min(total, rows)
    if least * len(sizes) > total:
        least = 0
    quota = {label: total * size / rows if rows else 0.0 for label, size in sizes.items()}
    counts = {label: min(sizes[label], max(least, int(share))) for label, share in quota.items()}
    gap = total - sum(counts.values())
    step = 1 if gap > 0 else -1
    ends = sizes if gap > 0 else {label: min(least, size) for label, size in sizes.items()}

    def key(label: int) -> tuple[float, int]:
        return step * (counts[label] - quota[label]), label

    # the class that is farthest from its share comes first
    queue = [key(label) for label in sizes if counts[label] != ends[label]]
    heapq.heapify(queue)
    for _ in range(abs(gap)):
        label = heapq.heappop(queue)[1]
        counts[label] += step
        if counts[label] != ends[label]:
            heapq.heappush(queue, key(label))
    return counts


def allocate_evenly(sizes: Sizes, total: int, rng: np.random.Generator) -> dict[int, int]:
    """Divide `total` evenly among classes; the classes that get an extra row are random."""
    each, remainder = divmod(total, len(sizes))
    extra = {list(sizes)[index] for index in rng.permutation(len(sizes))[:remainder]}
    return {label: each + (label in extra) for label in sizes}
