"""Intervals cover shares as often as they state; differences have the intervals of the references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from flowgmm_cli.evaluation.intervals import (
    compare_accuracies,
    compare_independent_accuracies,
    compare_means,
    percentile_interval,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (1, 10), (8, 10), (87, 100), (6600, 7600)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy(successes: int, n: int, level: float) -> None:
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    result = wilson_interval(successes, n, level=level)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= result.low <= successes / n <= result.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


def test_the_interval_of_bootstrap_values_is_their_central_share() -> None:
    interval = percentile_interval(np.arange(101.0), level=0.9)
    assert interval.to_dict() == pytest.approx({"low": 5.0, "high": 95.0, "level": 0.9})


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two models from the cells of their table."""
    left = np.repeat([True, True, False, False], [both, first, second, neither])
    right = np.repeat([True, False, True, False], [both, first, second, neither])
    return left, right


def test_mcnemars_test_is_the_exact_binomial_test() -> None:
    result = compare_accuracies(*answers(80, 4, 14, 2))
    assert result.value == pytest.approx(0.1)
    assert result.p_value == pytest.approx(2 * stats.binom.cdf(4, 18, 0.5))
    assert result.significant


def test_the_interval_is_that_of_agresti_and_min() -> None:
    # half a row more in each cell, by hand
    result = compare_accuracies(*answers(794, 86, 150, 570))
    b, c, n = 86.5, 150.5, 1602.0
    error = np.sqrt((b / n + c / n - (c / n - b / n) ** 2) / n)
    assert result.low == pytest.approx((c - b) / n - 1.959964 * error, abs=1e-6)
    assert result.high == pytest.approx((c - b) / n + 1.959964 * error, abs=1e-6)


def test_equal_predictions_have_no_difference() -> None:
    result = compare_accuracies(*answers(30, 0, 0, 10))
    assert (result.value, result.p_value) == (0.0, 1.0)
    assert not result.significant


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        left = rng.random(150) < 0.8
        right = np.where(rng.random(150) < 0.2, rng.random(150) < 0.9, left)
        result = compare_accuracies(left, right)
        hits += result.low <= 0.2 * (0.9 - 0.8) <= result.high
    assert 0.92 <= hits / 400 <= 0.98


def test_differences_of_means_are_those_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    left = rng.normal(size=50)
    right = left + rng.normal(0.2, 0.5, size=50)
    result = compare_means(left, right)
    truth = stats.ttest_rel(right, left)
    assert result.p_value == pytest.approx(truth.pvalue)
    interval = truth.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


def test_equal_quantities_have_a_difference_of_zero() -> None:
    result = compare_means(np.ones(5), np.ones(5))
    assert (result.value, result.low, result.high, result.p_value) == (0, 0, 0, 1)


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
