"""Differences between two models, against independent implementations and published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flowgmm_cli.evaluation.difference import paired_means, paired_shares, unpaired_shares


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two models from the cells of their table."""
    one = np.repeat([True, True, False, False], [both, first, second, neither])
    two = np.repeat([True, False, True, False], [both, first, second, neither])
    return one, two


def test_mcnemars_test_is_the_exact_binomial_one() -> None:
    found = paired_shares(*answers(80, 4, 14, 2))
    assert found.value == pytest.approx(0.1)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(4, 18, 0.5))
    assert found.clear


def test_the_interval_is_that_of_agresti_and_min() -> None:
    # half a row more in each cell, by hand
    found = paired_shares(*answers(794, 86, 150, 570))
    b, c, n = 86.5, 150.5, 1602.0
    error = np.sqrt((b / n + c / n - (c / n - b / n) ** 2) / n)
    assert found.low == pytest.approx((c - b) / n - 1.959964 * error, abs=1e-6)
    assert found.high == pytest.approx((c - b) / n + 1.959964 * error, abs=1e-6)


def test_models_that_say_the_same_do_not_differ() -> None:
    found = paired_shares(*answers(30, 0, 0, 10))
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert not found.clear


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        one = rng.random(150) < 0.8
        two = np.where(rng.random(150) < 0.2, rng.random(150) < 0.9, one)
        found = paired_shares(one, two)
        hits += found.low <= 0.2 * (0.9 - 0.8) <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_differences_of_means_are_those_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=50)
    two = one + rng.normal(0.2, 0.5, size=50)
    found = paired_means(one, two)
    truth = stats.ttest_rel(two, one)
    assert found.p_value == pytest.approx(truth.pvalue)
    interval = truth.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_equal_quantities_have_a_difference_of_nothing() -> None:
    found = paired_means(np.ones(5), np.ones(5))
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 10), 0.6075, 1.0)],
)
def test_newcombes_interval_gives_his_published_values(
    right: tuple[int, int, int, int], low: float, high: float
) -> None:
    # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10
    found = unpaired_shares(right[2], right[3], right[0], right[1])
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
    assert found.p_value is None
