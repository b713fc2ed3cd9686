"""The forecast of a curve, against curves that are known."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.experiments.forecast import fit_forecast


def draw(rng: np.random.Generator, counts: list[int], sd: float) -> dict[int, dict[int, float]]:
    return {n: {seed: 0.95 - 0.4 * (n / 20) ** -0.7 + sd * rng.normal() for seed in range(5)} for n in counts}


def test_an_inverse_power_law_is_continued() -> None:
    result = fit_forecast(draw(np.random.default_rng(0), [20, 50, 100, 200], 1e-6))
    assert result is not None
    assert (result.labels, result.more) == (200, 50)
    assert result.forecast == pytest.approx(0.95 - 0.4 * 12.5**-0.7, abs=2e-3)
    assert result.low <= result.forecast <= result.high
    assert result.describe().startswith("50 more labels: 0.87")
    assert "hardly" not in result.describe()


def test_the_interval_holds_the_accuracy_of_the_next_training() -> None:
    rng, inside = np.random.default_rng(1), []
    for _ in range(10):
        result = fit_forecast(draw(rng, [20, 50, 100, 200], 0.01))
        assert result is not None
        inside.append(result.low <= draw(rng, [250], 0.01)[250][0] <= result.high)
    assert np.mean(inside) >= 0.8


def test_a_flat_curve_and_one_with_too_few_points() -> None:
    flat = fit_forecast({n: {0: 0.9, 1: 0.91} for n in (20, 50, 100)})
    assert flat is not None
    assert flat.describe().endswith("; more labels will hardly help")
    assert fit_forecast({n: {0: 0.9, 1: 0.91} for n in (20, 50)}) is None
    assert fit_forecast({n: {0: 0.9} for n in (20, 50, 100)}) is None
    missing = {20: {0: 0.6, 1: 0.62}, 50: {0: 0.7}, 100: {0: 0.8, 1: 0.82}}
    result = fit_forecast(missing)
    assert result is not None
    assert np.isfinite([result.forecast, result.low, result.high]).all()
