"""Stored predictions survive a file and are matched by the contents of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.evaluation.predictions import StoredPredictions, collect_predictions, match_rows

COLUMNS = (Column("x", "numeric"), Column("t", "text"))


def predict_rows(
    x: list[float], labels: list[int], *, names: tuple[str, ...] = ("a", "ü\n"), seed: int = 0
) -> StoredPredictions:
    rows = Rows(
        {"x": np.array(x), "t": np.array([f"row {value}" for value in x], dtype=object)},
        np.array(labels),
        np.array([str(place) for place in range(len(x))], dtype=object),
    )
    log_p = log_softmax(np.random.default_rng(seed).normal(size=(len(x), len(names))), axis=1)
    return collect_predictions(rows, COLUMNS, log_p, names)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    before = predict_rows([1, 2, 3], [0, 1, 1])
    before.save(tmp_path / "eval" / "test.npz")
    after = StoredPredictions.load(tmp_path / "eval" / "test.npz")
    assert after is not None
    assert after.class_names == before.class_names
    for name in ("digests", "labels", "predictions", "log_probability"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_rows_without_a_label_are_left_out() -> None:
    result = predict_rows([1, 2, 3], [0, -1, 1])
    assert len(result) == 2
    assert result.labels.tolist() == [0, 1]


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04broken"])
def test_a_damaged_or_missing_file_is_none(tmp_path: Path, content: bytes) -> None:
    assert StoredPredictions.load(tmp_path / "none.npz") is None
    (tmp_path / "bad.npz").write_bytes(content)
    assert StoredPredictions.load(tmp_path / "bad.npz") is None


def test_a_foreign_npz_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    assert StoredPredictions.load(tmp_path / "x.npz") is None


def test_rows_are_matched_by_contents_and_class_in_any_order() -> None:
    first, second = predict_rows([1, 2, 3, 4], [0, 1, 0, 1]), predict_rows([9, 4, 3, 1], [0, 1, 1, 0], seed=1)
    left, right = match_rows(first, second)
    assert left.tolist() == [0, 3]  # row 3 has another class there
    assert right.tolist() == [3, 1]


def test_classes_are_compared_by_name() -> None:
    first, second = (
        predict_rows([1, 2], [0, 1], names=("a", "b")),
        predict_rows([1, 2], [1, 2], names=("0", "a", "b")),
    )
    assert match_rows(first, second)[0].tolist() == [0, 1]


def test_equal_rows_are_matched_in_order() -> None:
    first, second = predict_rows([5, 5, 5], [0, 0, 0]), predict_rows([5, 5], [0, 0])
    left, right = match_rows(first, second)
    assert (left.tolist(), right.tolist()) == ([0, 1], [0, 1])
