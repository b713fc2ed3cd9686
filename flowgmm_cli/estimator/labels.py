"""Labels as scikit-learn's semi-supervised estimators take them: the classes, and -1 where there is none."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]


def read_labels(y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Codes]:
    """Tell classes from missing labels.

    In an array of numbers -1 is a missing label, in an array of objects -1 or None; an array of strings has
    none. Numbers that hold -1 and just one other value are the two classes of the usual -1, 1 coding, since
    from one class nothing could be learned; a warning says so.

    Args:
        y: labels `(N,)`.

    Returns:
        The classes in sorted order `(K,)`, of a plain dtype, and the index into them of each label, -1 where
        it is missing, int64 `(N,)`.

    Raises:
        ValueError: the labels are not classes, or fewer than two of them.
    """
    from sklearn.utils.multiclass import check_classification_targets

    missing = _missing(y)
    seen = y[~missing]
    if len(seen) == 0:
        raise ValueError("y has no label: a few rows need a class, -1 marks the others")
    if y.dtype == object:
        seen = _plain(seen)
    check_classification_targets(seen)
    classes, place = np.unique(seen, return_inverse=True)
    if len(classes) == 1 and missing.any() and y.dtype.kind in "if":
        warnings.warn(
            f"y holds only -1 and {classes[0]}, taken as two classes; if -1 marks unlabelled rows, labels of "
            "another class are needed",
            stacklevel=3,
        )
        classes, place = np.unique(y, return_inverse=True)
        missing = np.zeros(len(y), dtype=bool)
    if len(classes) < 2:
        raise ValueError(
            f"the labels in y are of only one class, {classes[0]!r}; at least 2 classes are needed"
        )
    codes = np.full(len(y), -1, dtype=np.int64)
    codes[~missing] = place
    return classes, codes


def _missing(y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if y.dtype.kind in "US":
        if (y == ("-1" if y.dtype.kind == "U" else b"-1")).any():
            raise ValueError(
                'y is an array of strings with "-1" among them; to mark unlabelled rows, use '
                "an array with dtype=object and the number -1"
            )
        return np.zeros(len(y), dtype=bool)
    if y.dtype == object:
        return np.array(
            [label is None or (not isinstance(label, str) and label == -1) for label in y], dtype=bool
        )
    if y.dtype.kind in "if":
        return np.asarray(y == -1)
    return np.zeros(len(y), dtype=bool)


def _plain(seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Objects that are all strings or all numbers, as an array of such."""
    strings = [isinstance(label, str) for label in seen]
    if any(strings) and not all(strings):
        raise ValueError("y mixes strings and numbers; classes must be all of one kind")
    return np.array(seen.tolist())
