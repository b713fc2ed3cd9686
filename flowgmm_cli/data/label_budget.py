"""Select the training rows that keep their label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flowgmm_cli.api import LabelsConfig, Rows
from flowgmm_cli.data.array_types import Bools, Ints
from flowgmm_cli.data.stratified_sampling import allocate_evenly, allocate_proportionally, shuffle_by_class
from flowgmm_cli.errors import DataError, did_you_mean

_TRUE = {"1", "true", "yes", "y", "t", "x"}
_FALSE = {None, "", "0", "false", "no", "n", "f"}


def choose_labelled(
    rows: Rows, config: LabelsConfig, class_names: Sequence[str], *, sizes: Mapping[int, int] | None = None
) -> Ints:
    """Return the sorted positions of the training rows whose label may be used.

    With `balanced` every class gets the same number, otherwise numbers in proportion to the classes, at least
    one each. The sample is a function of the order of rows, the budget and the seed. If `rows` are a sample,
    `sizes` gives the labelled rows of each class.

    Raises:
        DataError: no row has a label, only one class has any (without `single_class`), or a class has too few
            rows for the budget.
    """
    labelled = np.flatnonzero(rows.labels >= 0)
    if config.column is not None:
        labelled = labelled[marker_mask(rows, config.column)[labelled]]
    _require_classes(rows.labels[labelled], class_names, least=1 if config.single_class else 2)
    if config.count is None and config.per_class is None and config.fraction is None:
        return labelled

    rng = np.random.default_rng(config.seed)
    order = shuffle_by_class(rows.labels, labelled, rng)
    sizes = sizes or {label: len(positions) for label, positions in order.items()}
    counts = _class_counts(sizes, config, len(rows), rng)
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


def _class_counts(
    sizes: Mapping[int, int], config: LabelsConfig, rows: int, rng: np.random.Generator
) -> dict[int, int]:
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


def marker_mask(rows: Rows, column: str) -> Bools:
    """Return a mask of the rows whose cell in `column` is true; `DataError` for other cells than booleans."""
    if column not in rows.extras:
        near = did_you_mean(column, rows.extras)
        raise DataError(
            f"the training rows have no column `{column}` (data.labels.column){near}",
            hint="set data.labels.column to a column that marks the labelled rows",
        )
    cells = [None if cell is None else str(cell).strip().casefold() for cell in rows.extras[column]]
    odd = sorted({cell for cell in cells if cell not in _TRUE and cell not in _FALSE and cell is not None})
    if odd:
        raise DataError(
            f"column `{column}` (data.labels.column) must hold true or false, got `{odd[0]}`",
            details=["true: 1, true, yes, y, t, x; false: 0, false, no, n, f, an empty cell"],
            hint="write 1 for labelled rows and leave the others empty",
        )
    return np.array([cell in _TRUE for cell in cells], dtype=bool)


def _require_classes(labels: Ints, class_names: Sequence[str], *, least: int) -> None:
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
