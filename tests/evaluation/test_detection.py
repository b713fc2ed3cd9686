from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from flowgmm_cli.evaluation.detection import (
    MAX_BINS,
    auroc,
    auroc_interval,
    count_rows,
    detection_intervals,
    detection_metrics,
    metrics_of_counts,
)

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40).map(np.array)  # many ties


@settings(max_examples=100, deadline=None)
@given(scores_in=scores, scores_out=scores)
def test_areas_agree_with_scikit_learn_also_with_ties(scores_in: np.ndarray, scores_out: np.ndarray) -> None:
    result = detection_metrics(scores_in, scores_out)
    truth = np.repeat([0, 1], [len(scores_in), len(scores_out)])
    both = np.concatenate([scores_in, scores_out])
    assert result.auroc == pytest.approx(reference.roc_auc_score(truth, both))
    assert result.aupr_out == pytest.approx(reference.average_precision_score(truth, both))
    assert result.aupr_in == pytest.approx(reference.average_precision_score(1 - truth, -both))
    fpr, tpr, _ = reference.roc_curve(truth, both, drop_intermediate=False)
    assert result.fpr95 == pytest.approx(fpr[tpr >= 0.95 - 1e-9].min())


def test_large_and_infinite_scores_keep_their_order() -> None:
    scores_in, scores_out = np.array([-5e3, -4e3, -np.inf]), np.array([-4.5e3, np.inf])
    assert auroc(scores_in, scores_out) == pytest.approx(5 / 6)
    assert detection_metrics(scores_in, scores_out).auroc == pytest.approx(5 / 6)


def test_exactly_95_percent_of_the_positives_is_enough() -> None:
    negatives = np.array([1.5, 0.0])
    assert detection_metrics(negatives, np.arange(1.0, 21.0)).fpr95 == 0  # all but the lowest: 19 of 20
    assert detection_metrics(negatives, np.arange(1.0, 20.0)).fpr95 == 0.5  # 18 of 19 are too few


@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0]]])
def test_scores_without_rows_or_order_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="without NaN"):
        detection_metrics(np.array(bad), np.array([1.0]))
    with pytest.raises(ValueError, match="without NaN"):
        detection_metrics(np.array([1.0]), np.array(bad))


# --- confidence intervals ---------------------------------------------------------------------------------


def delong_deviation(negatives: np.ndarray, positives: np.ndarray) -> float:
    """Standard error of the area by the definition, all pairs written out (DeLong et al., 1988, eq. 4-6)."""
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    return float(
        np.sqrt(wins.mean(1).var(ddof=1) / len(positives) + wins.mean(0).var(ddof=1) / len(negatives))
    )


@pytest.mark.parametrize(("n", "m", "shift"), [(40, 60, 1.0), (300, 20, 0.2), (500, 500, 2.5)])
def test_the_interval_of_the_area_has_delongs_width(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(n)
    negatives, positives = rng.normal(size=n).round(1), rng.normal(shift, 1.3, size=m).round(1)  # with ties
    area, interval = auroc(negatives, positives), auroc_interval(negatives, positives)
    low, high = (np.log(value / (1 - value)) for value in (interval.low, interval.high))
    assert (low + high) / 2 == pytest.approx(np.log(area / (1 - area)))
    error = delong_deviation(negatives, positives) / (area * (1 - area))
    assert (high - low) / 2 == pytest.approx(1.959964 * error)


@pytest.mark.parametrize(("shift", "ends"), [(100.0, (0.8, 1.0)), (-100.0, (0.0, 0.2))])
def test_a_perfect_area_is_not_certain(shift: float, ends: tuple[float, float]) -> None:
    result = auroc_interval(np.arange(20.0), np.arange(50.0) + shift)
    assert [result.low, result.high] == pytest.approx(ends, abs=0.04)
    tied = auroc_interval(np.array([0.0]), np.array([0.0]))
    assert 0 <= tied.low <= 0.5 <= tied.high <= 1


def test_intervals_of_all_metrics_agree_with_resampled_rows() -> None:
    rng = np.random.default_rng(3)
    scores_in, scores_out = rng.normal(size=400), rng.normal(1.2, 1.2, size=250)
    result = detection_intervals(scores_in, scores_out, rng=np.random.default_rng(4))
    draws = [detection_metrics(rng.choice(scores_in, 400), rng.choice(scores_out, 250)) for _ in range(1000)]
    for name, interval in result.items():
        expected = np.quantile([getattr(value, name) for value in draws], [0.025, 0.975]).tolist()
        width = 0.04 if name == "fpr95" else 0.012
        assert [interval.low, interval.high] == pytest.approx(expected, abs=width), name


def test_bins_limit_the_cost_of_many_rows_and_hardly_change_the_metrics() -> None:
    rng = np.random.default_rng(5)
    scores_in, scores_out = rng.normal(size=300_000), rng.normal(2, 1, size=200_000)
    counts = count_rows(scores_in, scores_out, max_bins=MAX_BINS)
    assert counts[0].shape[1] <= MAX_BINS
    truth, binned = detection_metrics(scores_in, scores_out), metrics_of_counts(*counts)
    assert binned["aupr_in"][0] == pytest.approx(truth.aupr_in, abs=2e-4)
    assert binned["fpr95"][0] == pytest.approx(truth.fpr95, abs=2e-3)
    result = detection_intervals(scores_in, scores_out, rng=rng, resamples=200)
    assert all(result[name].high - result[name].low < 0.01 for name in result)
    assert all(result[name].low < getattr(truth, name) < result[name].high for name in result)


def test_infinite_scores_have_intervals_too() -> None:
    rng, scores_in = np.random.default_rng(0), np.array([-np.inf, 0.0, 1.0])
    result = detection_intervals(scores_in, np.array([1.0, np.inf]), rng=rng, resamples=50)
    assert all(np.isfinite([value.low, value.high]).all() for value in result.values())
