from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.validation import column_or_1d

from flowgmm_cli.estimator.labels import mark_unlabelled, read_labels, read_weights


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        (np.array([3, -1, 1, 3]), [1, 3], [1, -1, 0, 1]),
        (np.array([2.0, -1.0, 0.0]), [0.0, 2.0], [1, -1, 0]),
        (np.array([True, False]), [False, True], [1, 0]),
        (np.array(["b", "a", "b"]), ["a", "b"], [1, 0, 1]),
        (np.array(["b", -1, "a", None], dtype=object), ["a", "b"], [1, -1, 0, -1]),
        (np.array([5, -1, 4, None], dtype=object), [4, 5], [1, -1, 0, -1]),
        (np.array([5, np.nan, 4]), [4, 5], [1, -1, 0]),
        (pd.Series([5, None, 4], dtype="Int64"), [4, 5], [1, -1, 0]),
        (pd.Series(["b", None, "a"], dtype="category"), ["a", "b"], [1, -1, 0]),
        (pd.Series(["b", None, "a"]), ["a", "b"], [1, -1, 0]),
    ],
)
def test_classes_are_separated_from_missing_labels(y: Any, classes: list[Any], codes: list[int]) -> None:
    found, found_codes = read_labels(column_or_1d(mark_unlabelled(y)))
    assert found.tolist() == classes
    assert found.dtype != object
    assert found_codes.tolist() == codes


def test_minus_1_and_one_other_number_are_two_classes_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="only -1 and 1, taken as two classes"):
        classes, codes = read_labels(np.array([1, -1, -1]))
    assert (classes.tolist(), codes.tolist()) == ([-1, 1], [1, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_labels(np.array([1, -1, 0]))


def test_blank_labels_are_missing_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="'' in 2 rows"):
        classes, codes = read_labels(mark_unlabelled(np.array(["a", "", "b", " "])))
    assert (classes.tolist(), codes.tolist()) == (["a", "b"], [0, -1, 1, -1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([-1, -1]), "no label"),
        (np.array([None, -1], dtype=object), "no label"),
        (np.array([4.0, 4.0]), r"only one class, 4\.0;"),
        (np.array(["a", -1], dtype=object), "only one class"),
        (np.array(["a", "-1", "b"]), "dtype=object"),
        (np.array(["a", 1], dtype=object), "mixes"),
        (np.array([0.5, 1.25]), "Unknown label type"),
    ],
)
def test_unusable_labels_are_an_error(y: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(y)


def test_weights_of_labels_have_the_mean_1_and_wrong_ones_are_named() -> None:
    codes = np.array([0, -1, 1, 1])
    weights = read_weights({"sample_weight": [1, 9, 0, 2]}, codes)
    assert weights is not None
    assert weights.tolist() == [1, 1, 0, 2]
    assert read_weights({}, codes) is read_weights({"sample_weight": None}, codes) is None
    for wrong in ([1, 1], [1, 1, -1, 1], [1, 1, np.nan, 1], np.ones((4, 1))):
        with pytest.raises(ValueError, match="sample_weight must hold 4 numbers"):
            read_weights({"sample_weight": wrong}, codes)
    with pytest.raises(ValueError, match="above 0 for labels of at least two classes"):
        read_weights({"sample_weight": [1, 1, 0, 0]}, codes)
    with pytest.raises(TypeError, match="unexpected keyword argument 'weights'"):
        read_weights({"weights": 1}, codes)  # type: ignore[typeddict-unknown-key]
