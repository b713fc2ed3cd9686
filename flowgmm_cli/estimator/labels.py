"""Labels of scikit-learn's semi-supervised estimators: classes, and -1 for missing labels."""

from __future__ import annotations

import warnings
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from flowgmm_cli.data.labels import is_unlabelled

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]


class FitParams(TypedDict, total=False):
    """Further arguments of `fit`.

    They have no names in its signature, or `check_estimator` would want a row of weight 0 to count for
    nothing. Here such a row stays in the pile.
    """

    sample_weight: Any


def read_weights(params: FitParams, codes: Codes) -> npt.NDArray[np.float64] | None:
    """Return the weights of labels, with mean 1 over the labelled rows; None if all are equal.

    Raises:
        TypeError: an argument of another name.
        ValueError: there is not a weight of at least 0 for each row, or those above 0 are of one class.
    """
    if unknown := params.keys() - FitParams.__annotations__:
        raise TypeError(f"fit() got an unexpected keyword argument {min(unknown)!r}")
    if params.get("sample_weight") is None:
        return None
    weights = np.asarray(params["sample_weight"], dtype=np.float64)
    if weights.shape != codes.shape or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"sample_weight must hold {len(codes)} numbers of at least 0, one for each row")
    if len(np.unique(codes[(codes >= 0) & (weights > 0)])) < 2:
        raise ValueError("sample_weight must be above 0 for labels of at least two classes")
    return np.where(codes >= 0, weights / weights[codes >= 0].mean(), 1.0)


def mark_unlabelled(y: Any) -> Any:
    """Return labels with -1 for those that are None, NaN or NA, or '', which emits a warning.

    Labels without any of them are returned as they are.
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or not (missing := is_unlabelled(labels)).any():
        return y
    blank = sum(isinstance(label, str) for label in labels[missing])
    if blank:
        warnings.warn(f"y has '' in {blank} rows: they count as unlabelled, as rows with None", stacklevel=3)
    marked = labels.copy() if labels.dtype.kind == "f" else labels.astype(object)
    marked[missing] = -1
    return marked


def select_labelled(y: Array, classes: Array) -> tuple[npt.NDArray[np.bool_], Array]:
    """Return a mask of the labelled rows, `(N,)`, and their labels; -1 is a label if it is in `classes`.

    Raises:
        ValueError: no row has a label.
    """
    known = ~is_unlabelled(y)
    if -1 not in classes.tolist():
        known[known] = ~_find_missing(y[known])
    if not known.any():
        raise ValueError("y has no label, so there is nothing to compare predictions with")
    return known, _to_plain_array(y[known]) if y.dtype == object else y[known]


def read_labels(y: Array) -> tuple[Array, Codes]:
    """Separate classes from missing labels.

    In an array of numbers -1 is a missing label, in an array of objects -1 or None; in an array of strings no
    label is missing. Numbers of -1 and a single other value are the two classes of the usual -1, 1 coding,
    since nothing can be learned from one class; a warning is emitted.

    Returns:
        The classes in sorted order `(K,)`, of a plain dtype, and the class index of each label, -1 if it is
        missing, int64 `(N,)`.

    Raises:
        ValueError: the labels are not classes, or there are fewer than two classes.
    """
    from sklearn.utils.multiclass import check_classification_targets

    missing = _find_missing(y)
    known = y[~missing]
    if len(known) == 0:
        raise ValueError("y has no label: some rows need a class, -1 marks the others")
    if y.dtype == object:
        known = _to_plain_array(known)
    check_classification_targets(known)
    classes, index = np.unique(known, return_inverse=True)
    if len(classes) == 1 and missing.any() and y.dtype.kind in "if":
        warnings.warn(
            f"y holds only -1 and {classes[0]}, taken as two classes; if -1 marks unlabelled rows, labels of "
            "another class are needed",
            stacklevel=3,
        )
        classes, index = np.unique(y, return_inverse=True)
        missing = np.zeros(len(y), dtype=bool)
    if len(classes) < 2:
        raise ValueError(
            f"the labels in y are of only one class, {classes.tolist()[0]!r}; at least 2 are needed"
        )
    codes = np.full(len(y), -1, dtype=np.int64)
    codes[~missing] = index
    return classes, codes


def _find_missing(y: Array) -> npt.NDArray[np.bool_]:
    if y.dtype.kind in "US" and (y == np.array("-1", dtype=y.dtype.kind)).any():
        raise ValueError(
            'y is an array of strings with "-1" among them; to mark unlabelled rows, use '
            "an array with dtype=object and the number -1"
        )
    if y.dtype == object:
        return np.array([label is None or (not isinstance(label, str) and label == -1) for label in y], bool)
    return np.asarray(y == -1) if y.dtype.kind in "if" else np.zeros(len(y), dtype=bool)


def _to_plain_array(labels: Array) -> Array:
    """Convert objects to an array of strings or numbers."""
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError("y mixes strings and numbers; classes must be all of one kind")
    return np.array(labels.tolist())
