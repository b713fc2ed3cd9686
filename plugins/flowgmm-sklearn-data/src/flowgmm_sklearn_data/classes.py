"""Targets to labels and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import DataError

MAX_CLASSES = 20
"""Numbers with at most this many different values are classes, for any number of rows."""

Labels = npt.NDArray[np.int64]


def clean_cell(cell: Any) -> str | None:
    """Return a cell as a stripped string, whole numbers without `.0`; None for a missing cell."""
    if cell is None or cell != cell:  # NaN, NaT
        return None
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def code_targets(
    targets: Mapping[str, npt.NDArray[Any]],
    *,
    names: Sequence[str] = (),
    bins: int | None = None,
    unlabelled: str | None = None,
    what: str,
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Turn the targets of each split into class names and labels, -1 for a missing target.

    Args:
        targets: split -> `(N,)` of numbers, strings or bytes.
        names: names of the targets 0, 1, ...; ignored if they do not fit.
        bins: cut numbers into so many classes by the quantiles of `train`.
        unlabelled: value of a target that marks an unlabelled row.
        what: the data's name in messages.

    Raises:
        DataError: there are several targets a row, or they are quantities and `bins` is None.
    """
    for target in targets.values():
        if target.ndim != 1:
            raise DataError(
                f"{what} has {target.shape[1] if target.ndim == 2 else 'several'} targets for each row",
                hint="flowgmm learns one class for each row; choose another data set",
            )
    cells = {split: [clean_cell(cell) for cell in target.tolist()] for split, target in targets.items()}
    if unlabelled is not None:
        cells = {split: [None if c == unlabelled else c for c in column] for split, column in cells.items()}
    if bins is not None:
        return _bin_targets(cells, bins, what)
    known = {cell for column in cells.values() for cell in column if cell is not None}
    if names and known <= {str(index) for index in range(len(names))}:
        class_names = [str(name) for name in names]
        code = {str(index): index for index in range(len(names))}
    else:
        rows = sum(len(column) for column in cells.values())
        if _are_quantities(targets, known, rows):
            raise DataError(
                f"{what} has a quantity for a target, with {len(known):,} different values in {rows:,} rows",
                hint="make classes of ranges of it, for instance three: data.bins=3",
            )
        class_names = sorted(known, key=_by_value)
        code = {name: index for index, name in enumerate(class_names)}
    labels = {
        split: np.array([-1 if cell is None else code[cell] for cell in column], dtype=np.int64)
        for split, column in cells.items()
    }
    return tuple(class_names), labels


def _are_quantities(targets: Mapping[str, npt.NDArray[Any]], known: set[str], rows: int) -> bool:
    if any(target.dtype.kind not in "iuf" for target in targets.values()):
        return False
    whole = all(cell.lstrip("-").isdecimal() for cell in known)
    return not whole or len(known) > max(MAX_CLASSES, rows / 10)


def _by_value(name: str) -> tuple[bool, float, str]:
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _bin_targets(
    cells: Mapping[str, Sequence[str | None]], bins: int, what: str
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    try:
        values = {
            split: np.array([np.nan if cell is None else float(cell) for cell in column])
            for split, column in cells.items()
        }
    except ValueError as error:
        raise DataError(
            f"the target of {what} holds no numbers that could be cut into ranges",
            hint="its values are classes already: leave data.bins out",
        ) from error
    train = values["train"]
    train = train[~np.isnan(train)]
    if not len(train):
        raise DataError(f"no training row of {what} has a target", hint="data.unlabelled may be wrong")
    edges = np.unique(np.quantile(train, np.linspace(0, 1, bins + 1)[1:-1]))
    edges = edges[edges > train.min()]  # the first range would be empty
    # a range holds the rows with low <= target < high
    bounds = ["", *(f"{edge:.6g}" for edge in edges), ""]
    names = [
        f"< {high}" if not low else f">= {low}" if not high else f"{low} to {high}"
        for low, high in pairwise(bounds)
    ]
    if len(edges) == 0 or len(set(names)) < len(names):
        raise DataError(f"the target of {what} is too narrow for {bins} ranges", hint="take fewer data.bins")
    labels = {
        split: np.where(np.isnan(column), -1, np.searchsorted(edges, column, side="right")).astype(np.int64)
        for split, column in values.items()
    }
    return tuple(names), labels
