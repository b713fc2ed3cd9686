from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from flowgmm_cli.evaluation.intervals import percentile_interval, wilson_interval


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
