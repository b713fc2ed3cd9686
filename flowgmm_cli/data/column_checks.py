"""Signs that a column is no measurement: it counts or names the rows, is a date, or gives the label away."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_CHANCE = 1e-4
_FEWEST = 12  # labelled rows below which nothing is said of a column and the label
_SHORTEST = 3.0  # labelled rows that a value has on average, to say anything
_CODE = re.compile(r"[0-9a-fA-F]{8,}|[0-9a-fA-F-]{32,}|[A-Za-z]{0,6}[-_ ]?\d+|\S*\d{3,}\S*")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([T ].*)?"
    r"|\d{1,2}:\d{2}(:\d{2})?(\.\d+)?"
    r"|\d{1,2}[- ][A-Za-z]{3,9}\.?[- ]\d{2,4}"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
)


def counts_rows(values: npt.NDArray[np.float64]) -> bool:
    """Whether numbers rise by 1 from row to row.

    >>> counts_rows(np.arange(5.0)), counts_rows(np.array([1.0, 2.0, 4.0]))
    (True, False)
    """
    return len(values) > 2 and bool(np.isfinite(values).all()) and bool((np.diff(values) == 1).all())


def names_a_row(cells: Sequence[str], missing: int, *, named_so: bool) -> bool:
    """Whether strings are ids: none twice, and they look like codes or the column is called so.

    Args:
        cells: cells that are not empty.
        missing: number of those that are.
        named_so: whether the column's name is that of an id.
    """
    if missing or len(set(cells)) < len(cells) or len(cells) < 3:
        return False
    return named_so or sum(bool(_CODE.fullmatch(cell)) for cell in cells) >= 0.9 * len(cells)


def dates(cells: Sequence[str]) -> bool:
    """Whether nearly all strings are dates or times of day.

    >>> dates(["2024-01-31", "2024-02-01 10:00"]), dates(["12/05/99", "1 Mar 2020"]), dates(["1.5", "May"])
    (True, True, False)
    """
    seen = cells[:500]
    found = sum(bool(_DATE.fullmatch(cell)) or _is_iso(cell) for cell in seen)
    return bool(seen) and found >= 0.95 * len(seen)


def predicts(cells: npt.NDArray[np.object_], labels: npt.NDArray[np.object_]) -> bool:
    """Whether every value of a column goes with one class only, and that is no accident.

    Values that are seen once say nothing, so the others must be the rule; that all of these are of one class
    each must be very unlikely if the column had nothing to do with the classes.

    Args:
        cells: the column, None where a cell is empty.
        labels: the classes, None where a row has none.
    """
    by_value: dict[str, Counter[str]] = defaultdict(Counter)
    classes: Counter[str] = Counter()
    for cell, label in zip(cells, labels, strict=True):
        if label is None:
            continue
        classes[str(label)] += 1
        if cell is not None:
            by_value[str(cell)][str(label)] += 1
    total = sum(classes.values())
    if total < _FEWEST or len(classes) < 2 or len(by_value) < 2 or total < _SHORTEST * len(by_value):
        return False
    if any(len(counts) > 1 for counts in by_value.values()):
        return False
    if len({next(iter(counts)) for counts in by_value.values()}) < len(classes):
        return False
    shares = [count / total for count in classes.values()]
    chance = sum(
        math.log(sum(share ** sum(counts.values()) for share in shares)) for counts in by_value.values()
    )
    return chance < math.log(_CHANCE)


def _is_iso(cell: str) -> bool:
    if len(cell) < 8 or not cell[:4].isdigit():
        return False
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True
