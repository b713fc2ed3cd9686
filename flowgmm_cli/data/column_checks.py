"""Signs that a column is not a measurement: it counts or names rows, holds dates, or leaks the label."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_SIGNIFICANCE = 1e-4
_MIN_LABELLED = 12  # labelled rows
_MIN_ROWS_PER_VALUE = 3.0  # labelled rows of a value, on average
_CODE = re.compile(r"[0-9a-fA-F]{8,}|[0-9a-fA-F-]{32,}|[A-Za-z]{0,6}[-_ ]?\d+|\S*\d{3,}\S*")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([T ].*)?"
    r"|\d{1,2}:\d{2}(:\d{2})?(\.\d+)?"
    r"|\d{1,2}[- ][A-Za-z]{3,9}\.?[- ]\d{2,4}"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
)


def is_counter(values: npt.NDArray[np.float64]) -> bool:
    """Return True if numbers increase by 1 from row to row.

    >>> is_counter(np.arange(5.0)), is_counter(np.array([1.0, 2.0, 4.0]))
    (True, False)
    """
    return len(values) > 2 and bool(np.isfinite(values).all()) and bool((np.diff(values) == 1).all())


def is_identifier(cells: Sequence[str], missing: int, *, id_name: bool) -> bool:
    """Return True if strings are ids: distinct, and code-like or in a column with the name of an id.

    `cells` are those that are not empty, `missing` is the number of the others.
    """
    if missing or len(set(cells)) < len(cells) or len(cells) < 3:
        return False
    return id_name or sum(bool(_CODE.fullmatch(cell)) for cell in cells) >= 0.9 * len(cells)


def are_dates(cells: Sequence[str]) -> bool:
    """Return True if nearly all strings are dates or times of day.

    >>> are_dates(["2024-01-31", "2024-02-01 10:00"]), are_dates(["12/05/99", "1 Mar 2020"])
    (True, True)
    >>> are_dates(["1.5", "May"])
    False
    """
    sample = cells[:500]
    matches = sum(bool(_DATE.fullmatch(cell)) or _is_iso(cell) for cell in sample)
    return bool(sample) and matches >= 0.95 * len(sample)


def leaks_label(cells: npt.NDArray[np.object_], labels: npt.NDArray[np.object_]) -> bool:
    """Return True if every value of a column occurs with a single class, and this is significant.

    The test assumes that the column is independent of the classes. It needs enough rows of each value: a
    value that occurs once is no evidence. Empty cells and the labels of unlabelled rows are None.
    """
    classes = Counter(str(label) for label in labels if label is not None)
    pairs = Counter(
        (str(cell), str(label))
        for cell, label in zip(cells, labels, strict=True)
        if cell is not None and label is not None
    )
    total, values = classes.total(), {value for value, _ in pairs}
    if total < max(_MIN_LABELLED, _MIN_ROWS_PER_VALUE * len(values)) or min(len(classes), len(values)) < 2:
        return False
    if len(pairs) > len(values) or len({label for _, label in pairs}) < len(classes):
        return False
    log_probability = sum(
        math.log(sum((rows / total) ** count for rows in classes.values())) for count in pairs.values()
    )
    return log_probability < math.log(_SIGNIFICANCE)


def _is_iso(cell: str) -> bool:
    if len(cell) < 8 or not cell[:4].isdigit():
        return False
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True
