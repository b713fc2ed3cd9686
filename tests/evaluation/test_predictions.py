"""Stored predictions survive a file and are matched by the contents of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.evaluation.predictions import (
    StoredPredictions,
    collect_predictions,
    compare_accuracies,
    compare_independent_accuracies,
    compare_means,
    match_rows,
)

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


@pytest.mark.parametrize("content", [None, b"", b"no npz", b"PK\x03\x04broken", {"a": np.ones(3)}])
def test_a_missing_damaged_or_foreign_file_is_none(tmp_path: Path, content: bytes | dict | None) -> None:
    path = tmp_path / "x.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    assert StoredPredictions.load(path) is None


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


# --- comparisons of two models ----------------------------------------------------------------------------


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two models from the cells of their table."""
    left = np.repeat([True, True, False, False], [both, first, second, neither])
    right = np.repeat([True, False, True, False], [both, first, second, neither])
    return left, right


def test_mcnemars_test_is_the_exact_binomial_test() -> None:
    result = compare_accuracies(*answers(80, 4, 14, 2))
    assert result.difference == pytest.approx(0.1)
    assert result.p_value == pytest.approx(2 * stats.binom.cdf(4, 18, 0.5))
    assert result.significant


def test_the_interval_is_that_of_agresti_and_min() -> None:
    # half a row more in each cell, by hand
    result = compare_accuracies(*answers(794, 86, 150, 570))
    b, c, n = 86.5, 150.5, 1602.0
    error = np.sqrt((b / n + c / n - (c / n - b / n) ** 2) / n)
    assert result.low == pytest.approx((c - b) / n - 1.959964 * error, abs=1e-6)
    assert result.high == pytest.approx((c - b) / n + 1.959964 * error, abs=1e-6)


def test_differences_of_means_are_those_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    left = rng.normal(size=50)
    right = left + rng.normal(0.2, 0.5, size=50)
    result = compare_means(left, right)
    truth = stats.ttest_rel(right, left)
    assert result.p_value == pytest.approx(truth.pvalue)
    interval = truth.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


def test_models_without_a_difference_have_none_by_any_test() -> None:
    right, _ = answers(30, 0, 0, 10)
    for result in (compare_accuracies(right, right), compare_means(np.ones(5), np.ones(5))):
        assert (result.difference, result.p_value, result.significant) == (0, 1, False)


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 10), 0.6075, 1.0)],
)
def test_newcombes_interval_gives_his_published_values(
    right: tuple[int, int, int, int], low: float, high: float
) -> None:
    # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10
    result = compare_independent_accuracies(right[2], right[3], right[0], right[1])
    assert result.low == pytest.approx(low, abs=5e-5)
    assert result.high == pytest.approx(high, abs=5e-5)
    assert result.p_value is None
