"""Labels: the spellings of one class, and the cells that mean no label. The rules hold for all formats.

Cells are compared as text, see `canonical`: 1, 1.0 and "1" are one class, 01 is another. An empty cell (None,
NaN, NA) is no label, and neither is -1 where the other labels are numbers. A class whose name is a word for a
missing label, such as `nan` or `unknown`, stays a class; a note says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Rows
from flowgmm_cli.data.array_types import Array, Bools, Floats, Ints, Strings
from flowgmm_cli.data.sources.columns import (
    MISSING_WORDS,
    ValueIndex,
    canonical,
    case_variants,
    is_finite_number,
    sort_naturally,
    strings,
)
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import join_some, suggest_column

UNLABELLED = "-1"
"""The label of unlabelled rows where the other labels are numbers."""

_MISSING_NAMES = frozenset(
    {*MISSING_WORDS, "unknown", "unlabelled", "unlabeled", "missing", "undefined", "nat", "<na>"}
)
_MAX_LISTED = 4
_FEW_CLASSES, _MANY_MEASURES = 20, 100  # distinct labels
TABLE_REMEDY = "empty these cells, or set data.unlabelled=[{}]"
"""How to make the rows of a class of a table unlabelled."""


def is_unlabelled(labels: Array) -> Bools:
    """Return a mask of the labels that are None, NaN, NA or '', for arrays of any dtype.

    >>> is_unlabelled(np.array([1.0, np.nan])).tolist()
    [False, True]
    >>> is_unlabelled(np.array(["a", "", None], dtype=object)).tolist()
    [False, True, True]
    """
    import pandas as pd

    blank = [isinstance(label, str | bytes) and not label.strip() for label in labels.tolist()]
    return np.asarray(pd.isna(labels) | np.array(blank, dtype=bool))


def label_cells(cells: pa.ChunkedArray, name: str, where: str) -> Strings:
    """Return the cells of a label column as strings, None where empty. `DataError` unless they are plain."""
    if pa.types.is_nested(cells.type):
        raise DataError(
            f"{where}: column `{name}` holds lists or objects, not classes",
            hint="name a column of plain values with data.label, or write one value into each cell",
        )
    return strings(cells)


def encode_labels(
    labels: Mapping[str, Strings], names: Sequence[str] | None = None, **options: Any
) -> tuple[tuple[str, ...], dict[str, Ints]]:
    """Return class names, and the int64 codes of the label strings of each split, -1 for no label.

    `names` are by default those that occur, in natural order; `options` are those of `find_classes`.
    """
    if names is None:
        counts = Counter(cell for cells in labels.values() for cell in cells.tolist())
        rows = counts.total()
        del counts[None]
        names = tuple(find_classes(counts, rows, **options))
    return tuple(names), {split: label_codes(cells, names) for split, cells in labels.items()}


def label_codes(cells: Array, names: Sequence[str]) -> Ints:
    """Return the index of each cell in `names`, -1 for None and other cells."""
    return ValueIndex(names).codes(cells, missing=-1, unknown=-1)


def label_weights(rows: Rows, column: str) -> Floats:
    """Return the weights of labels `(N,)`, with mean 1 over the labelled rows; an empty cell is 1.

    Raises:
        DataError: there is no such column, a cell is no weight, or all weights are 0.
    """
    if column not in rows.extras:
        raise DataError(
            f"the training rows have no column `{column}` (data.weight){suggest_column(column, rows.extras)}",
            hint="set data.weight to a column of weights of a table",
        )
    weights, labelled = np.ones(len(rows)), np.flatnonzero(rows.labels >= 0)
    for place in labelled.tolist():
        cell = rows.extras[column][place]
        value = 1.0 if cell is None else float(cell) if is_finite_number(cell) else -1.0
        if value < 0:
            raise DataError(
                f"row {rows.ids[place]}: the weight `{cell}` (data.weight) is no number of at least 0",
                hint="write numbers such as 0.5 and 2, or leave the cell empty for 1",
            )
        weights[place] = value
    if not (mean := weights[labelled].mean()) > 0:
        raise DataError(f"all labels have the weight 0 (data.weight: {column})", hint="give some rows more")
    weights[labelled] /= mean
    return weights


def find_classes(
    counts: Mapping[str, int],
    rows: int,
    *,
    where: str = "labels",
    note: Callable[[str], None] = lambda text: None,
    unlabelled: Collection[str] = (),
    remedy: str = "empty these cells",
    single_class: bool = False,
) -> dict[str, int]:
    """Return the number of rows of each class, by name in natural order.

    Args:
        counts: number of rows of each cell that is not empty.
        rows: number of rows, the unlabelled ones included.
        where: the labels in messages.
        note: receives notes for the user.
        unlabelled: further cells that mean no label.
        remedy: how to make the rows of a class unlabelled, for a note; `{}` stands for its name.
        single_class: a single class is allowed.

    Raises:
        DataError: the labels look like measurements or names.
    """
    none = set(map(canonical, unlabelled))
    known = {cell: count for cell, count in sorted(counts.items()) if canonical(cell) not in none}
    sizes: Counter[str] = Counter()
    for cell, count in known.items():
        sizes[canonical(cell)] += count
    if len(sizes) < len(known):
        same = [f"`{cell}` is `{canonical(cell)}`" for cell in known if canonical(cell) != cell]
        note(f"{where}: {join_some(same, len(same), _MAX_LISTED)}, one class each")
    others = sizes.keys() - {UNLABELLED}
    if UNLABELLED in sizes and all(map(is_finite_number, others)):
        if len(others) == 1 and not single_class:
            note(f"{where}: -1 and {next(iter(others))} are the two classes; an empty cell means no label")
        else:
            count = sizes.pop(UNLABELLED)
            if others:
                note(f"{where}: -1 means no label ({count:,} rows)")
    names = sort_naturally(sorted(sizes))
    _require_classes(sizes, rows, where)
    if words := [name for name in names if name.casefold() in _MISSING_NAMES]:
        listed = join_some((f"`{name}` ({sizes[name]:,} rows)" for name in words), len(words), _MAX_LISTED)
        note(f"{where}: {listed} counts as a class; if it means unlabelled, {remedy.format(words[0])}")
    if variants := [f"`{name}`" for name in case_variants(names)]:
        note(f"{where}: the classes {join_some(variants, len(variants), _MAX_LISTED)} differ in case only")
    return {name: sizes[name] for name in names}


def _require_classes(sizes: Mapping[str, int], rows: int, where: str) -> None:
    """Raise `DataError` if labels look like measurements, names or texts."""
    distinct, labelled = len(sizes), sum(sizes.values())
    measured = all(map(is_finite_number, sizes)) and not all(float(name).is_integer() for name in sizes)
    rare = distinct > 0.5 * labelled
    if (measured and (distinct > _MANY_MEASURES or (rare and distinct > 2))) or (
        rare and distinct > _FEW_CLASSES and labelled > 0.5 * rows
    ):
        kind = "measurements" if all(map(is_finite_number, sizes)) else "names or texts"
        raise DataError(
            f"{where} has {distinct:,} different values in {labelled:,} labelled rows; these look like "
            f"{kind}, not like classes",
            hint="name another column as the label, or group the values into a few classes first",
        )
