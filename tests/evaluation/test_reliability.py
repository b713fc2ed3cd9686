from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from flowgmm_cli.evaluation.reliability import expected_calibration_error, reliability_table


def sample(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.25, 1, n)
    return confidence, rng.random(n) < confidence**2  # over-confident


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_bins_of_equal_width_agree_with_scikit_learn(bins: int) -> None:
    confidence, correct = sample()
    rows = [row for row in reliability_table(confidence, correct, bins=bins) if row.count]
    accuracy, mean = calibration_curve(correct, confidence, n_bins=bins, strategy="uniform")
    np.testing.assert_allclose([row.accuracy for row in rows], accuracy)
    np.testing.assert_allclose([row.confidence for row in rows], mean)
    expected = sum(row.count * abs(a - m) for row, a, m in zip(rows, accuracy, mean, strict=True)) / 1000
    assert expected_calibration_error(confidence, correct, bins=bins) == pytest.approx(expected)


def test_bins_of_equal_mass_agree_with_scikit_learn() -> None:
    confidence, correct = sample()
    rows = reliability_table(confidence, correct, bins=10, binning="mass")
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10, strategy="quantile")
    assert [row.count for row in rows] == [100] * 10
    np.testing.assert_allclose([row.accuracy for row in rows], accuracy)
    np.testing.assert_allclose([row.confidence for row in rows], mean)


def test_a_small_case_by_hand() -> None:
    confidence, correct = np.array([0.55, 0.6, 0.9, 1.0]), np.array([True, False, True, True])
    # two bins in use of five: (0.4, 0.6] with confidence .575, accuracy .5; (0.8, 1] with .95 and 1
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx(0.5 * 0.075 + 0.5 * 0.05)


def test_every_row_falls_into_one_bin_also_at_the_edges() -> None:
    confidence = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    table = reliability_table(confidence, np.ones(6, bool), bins=5)
    assert [row.count for row in table] == [2, 1, 1, 1, 1]
    assert (table[0].low, table[-1].high) == (0, 1)


def test_an_empty_bin_states_no_shares() -> None:
    table = reliability_table(np.array([0.95]), np.array([True]), bins=10)
    assert table[0].to_dict() == {
        "low": 0.0,
        "high": 0.1,
        "count": 0,
        "confidence": None,
        "accuracy": None,
    }


def test_more_bins_than_rows_are_fine() -> None:
    table = reliability_table(np.array([0.5, 0.7]), np.array([True, False]), bins=15, binning="mass")
    assert [row.count for row in table] == [1, 1]


def test_perfect_confidence_has_no_error() -> None:
    assert expected_calibration_error(np.ones(7), np.ones(7, bool)) == 0
    assert expected_calibration_error(np.ones(7), np.zeros(7, bool), binning="mass") == 1
