"""Tests and intervals of differences between two models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flowgmm_cli.evaluation.intervals import compare_accuracies, compare_independent_accuracies, compare_means


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
