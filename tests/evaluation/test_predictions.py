"""Stored predictions survive a file and are matched by the contents of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.evaluation.evaluation_file import (
    CrossFittedPredictions,
    StoredPredictions,
    collect_cross_fitted,
    collect_predictions,
    match_rows,
)

COLUMNS = (Column("x", "numeric"), Column("t", "text"))


def predict_rows(
    x: list[float], labels: list[int], *, names: tuple[str, ...] = ("a", "ü\n")
) -> StoredPredictions:
    rows = Rows(
        {"x": np.array(x), "t": np.array([f"row {value}" for value in x], dtype=object)},
        np.array(labels),
        np.array([str(place) for place in range(len(x))], dtype=object),
    )
    log_p = log_softmax(np.random.default_rng(0).normal(size=(len(x), len(names))), axis=1)
    return collect_predictions(rows, COLUMNS, log_p, names)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    before = predict_rows([1, 2, 3], [0, 1, 1])
    before.save(tmp_path / "eval" / "test.npz")
    after = StoredPredictions.load(tmp_path / "eval" / "test.npz")
    assert after is not None
    assert after.class_names == before.class_names
    for name in ("hashes", "labels", "predictions", "log_probability"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_cross_fitted_predictions_keep_probabilities_ids_and_folds(tmp_path: Path) -> None:
    x = np.arange(4.0)
    rows = Rows({"x": x}, np.array([1, 0, -1, 1]), np.array(["a\0", "b,", "c", "d"], dtype=object))
    log_p = np.log([[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    positions, folds = np.array([3, 0, 1]), np.array([0, 1, 1])
    before = collect_cross_fitted(rows, COLUMNS[:1], log_p, ("no", "yes"), positions=positions, folds=folds)
    before.save(tmp_path / "cross_fitted.npz")
    after = CrossFittedPredictions.load(tmp_path / "cross_fitted.npz")
    assert after is not None
    assert (after.ids, after.class_names) == (("a\0", "b,", "d"), ("no", "yes"))
    assert after.rows.tolist() == [0, 1, 3]
    assert after.folds.tolist() == [1, 1, 0]
    assert after.labels.tolist() == [1, 0, 1]
    assert after.correct.tolist() == [False, True, True]
    np.testing.assert_array_equal(after.log_probabilities, log_p[[1, 2, 0]])
    assert StoredPredictions.load(tmp_path / "cross_fitted.npz") is None


def test_rows_without_a_label_are_left_out() -> None:
    result = predict_rows([1, 2, 3], [0, -1, 1])
    assert len(result) == 2
    assert result.labels.tolist() == [0, 1]


@pytest.mark.parametrize("content", [None, b"", b"no npz", b"PK\x03\x04broken", {"a": np.ones(3)}])
def test_a_missing_damaged_or_foreign_file_is_none(tmp_path: Path, content: bytes | dict | None) -> None:
    path = tmp_path / "x.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    assert StoredPredictions.load(path) is None


@pytest.mark.parametrize(
    ("first", "second", "places"),
    [
        # by contents and class, in any order; row 3 has another class there
        (predict_rows([1, 3, 4], [0, 0, 1]), predict_rows([9, 4, 3, 1], [0, 1, 1, 0]), ([0, 2], [3, 1])),
        # classes by name
        (
            predict_rows([1, 2], [0, 1], names=("a", "b")),
            predict_rows([1, 2], [1, 2], names=("0", "a", "b")),
            ([0, 1], [0, 1]),
        ),
        # equal rows in order
        (predict_rows([5, 5, 5], [0, 0, 0]), predict_rows([5, 5], [0, 0]), ([0, 1], [0, 1])),
    ],
)
def test_rows_are_matched_by_contents_and_class(
    first: StoredPredictions, second: StoredPredictions, places: tuple[list[int], list[int]]
) -> None:
    left, right = match_rows(first, second)
    assert (left.tolist(), right.tolist()) == places
