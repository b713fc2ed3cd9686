from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from flowgmm_cli.evaluation.intervals import bootstrap_interval, confusion_bootstrap, wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (1, 10), (8, 10), (87, 100), (6600, 7600)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy(successes: int, n: int, level: float) -> None:
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    found = wilson_interval(successes, n, level=level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= successes / n <= found.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(0).exponential(size=2000)
    found = bootstrap_interval(
        lambda rows: float(values[rows].mean()), len(values), rng=np.random.default_rng(1)
    )
    half = 1.96 * values.std() / len(values) ** 0.5
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.2 * half)
    assert found.to_dict() == {"low": found.low, "high": found.high, "level": 0.95}


def test_the_bootstrap_follows_its_generator() -> None:
    def interval(seed: int) -> float:
        return bootstrap_interval(
            lambda rows: float(rows.mean()), 50, rng=np.random.default_rng(seed), resamples=50
        ).low

    assert interval(0) == interval(0) != interval(1)


def test_resampled_confusions_keep_the_number_of_rows_and_the_shares() -> None:
    confusion = np.array([[50, 10], [0, 40]])
    draws = confusion_bootstrap(confusion, rng=np.random.default_rng(0), resamples=4000)
    assert draws.shape == (4000, 2, 2)
    assert (draws.sum((1, 2)) == 100).all()
    assert (draws[:, 1, 0] == 0).all()
    np.testing.assert_allclose(draws.mean(0), confusion, atol=0.4)
    np.testing.assert_allclose(draws.var(0), confusion * (1 - confusion / 100), rtol=0.1)
