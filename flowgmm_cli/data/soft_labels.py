"""Labels as probabilities: a column for each class, named by `data.labels.probabilities`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flowgmm_cli.api import Rows, SourceData
from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.data.out_of_core import ChunkedSource
from flowgmm_cli.data.sources.columns import is_finite_number, sort_naturally
from flowgmm_cli.data.splits import SOFT_LABELS
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import suggest_column

_PREFIX = "p_"  # of these columns in saved predictions


def add_soft_labels(source: SourceData, columns: Sequence[str]) -> SourceData:
    """Give training rows without a label the likeliest class of their probabilities.

    The class of a column is its name, without the `p_` of saved predictions. Rows with a label keep it, and
    rows whose cells are all empty stay unlabelled.

    Raises:
        DataError: a column is missing, cells are no probabilities, or the rows are read in chunks.
    """
    if isinstance(source, ChunkedSource):
        message = "data.labels.probabilities needs all rows in memory, and these are read in chunks"
        raise DataError(message, hint="raise data.memory")
    known = set(source.class_names)
    classes = [name if name in known else name.removeprefix(_PREFIX) for name in columns]
    names = tuple(sort_naturally(sorted({*known, *classes})))
    code = np.array([*map(names.index, source.class_names), -1], dtype=np.int64)  # -1 stays -1
    splits = {name: replace(rows, labels=code[rows.labels]) for name, rows in source.splits.items()}
    train = splits["train"]
    p = np.zeros((len(train), len(names)))
    p[:, list(map(names.index, classes))] = _read_cells(train, columns)
    p[train.labels >= 0] = 0
    labels = np.where(p.any(axis=1), p.argmax(axis=1), train.labels)
    splits["train"] = replace(train, labels=labels, extras={**train.extras, SOFT_LABELS: p})
    return replace(source, class_names=names, splits=splits)


def _read_cells(rows: Rows, columns: Sequence[str]) -> Floats:
    """Read the probabilities of rows, each row with the sum 1, or 0 where all cells are empty."""
    for name in columns:
        if name not in rows.extras:
            near = suggest_column(name, rows.extras)
            message = f"the training rows have no column `{name}` (data.labels.probabilities){near}"
            raise DataError(message, hint="name a column of probabilities for each class")
    p = np.zeros((len(rows), len(columns)))
    for place, cells in enumerate(zip(*(rows.extras[name] for name in columns), strict=True)):
        if all(cell is None for cell in cells):
            continue
        numbers = [
            float(cell) if is_finite_number(cell) else -1.0 for cell in (cell or "0" for cell in cells)
        ]
        if min(numbers) < 0 or not (total := sum(numbers)) > 0:
            raise DataError(
                f"row {rows.ids[place]}: {', '.join(map(str, cells))} are no probabilities "
                "(data.labels.probabilities)",
                hint="write numbers of at least 0, of which one is larger, or leave all cells empty",
            )
        p[place] = np.divide(numbers, total)
    return p
