from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from flowgmm_cli.evaluation.detection import auroc, detection_metrics, fpr_at_tpr

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40).map(np.array)  # many ties


@settings(max_examples=200, deadline=None)
@given(scores_in=scores, scores_out=scores)
def test_areas_agree_with_scikit_learn_also_with_ties(scores_in: np.ndarray, scores_out: np.ndarray) -> None:
    found = detection_metrics(scores_in, scores_out)
    truth = np.repeat([0, 1], [len(scores_in), len(scores_out)])
    both = np.concatenate([scores_in, scores_out])
    assert found.auroc == pytest.approx(reference.roc_auc_score(truth, both))
    assert found.aupr_out == pytest.approx(reference.average_precision_score(truth, both))
    assert found.aupr_in == pytest.approx(reference.average_precision_score(1 - truth, -both))
    fpr, tpr, _ = reference.roc_curve(truth, both, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(fpr[tpr >= 0.95 - 1e-9].min())


def test_separated_and_reversed_scores_are_the_extremes() -> None:
    low, high = np.arange(20.0), np.arange(20.0) + 100
    assert detection_metrics(low, high).to_dict() == {
        "auroc": 1.0,
        "aupr_in": 1.0,
        "aupr_out": 1.0,
        "fpr95": 0.0,
        "n_in": 20,
        "n_out": 20,
    }
    assert detection_metrics(high, low).auroc == 0
    assert detection_metrics(high, low).fpr95 == 1


def test_scores_far_outside_zero_to_one_and_infinite_ones_keep_their_order() -> None:
    scores_in, scores_out = np.array([-5e3, -4e3, -np.inf]), np.array([-4.5e3, np.inf])
    assert auroc(scores_in, scores_out) == pytest.approx(5 / 6)
    assert detection_metrics(scores_in, scores_out).auroc == pytest.approx(5 / 6)


def test_only_the_order_of_the_scores_counts() -> None:
    rng = np.random.default_rng(0)
    scores_in, scores_out = rng.normal(size=200), rng.normal(1, 1, size=300)
    assert detection_metrics(scores_in, scores_out) == detection_metrics(
        np.exp(scores_in), np.exp(scores_out)
    )


def test_exactly_95_percent_of_the_positives_is_enough() -> None:
    positives = np.arange(1.0, 21.0)  # all but the lowest: 19 of 20
    assert fpr_at_tpr(np.array([1.5, 0.0]), positives, tpr=0.95) == 0
    assert fpr_at_tpr(np.array([1.5, 0.0]), positives, tpr=0.96) == 0.5


@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0]]])
def test_scores_without_rows_or_order_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="without NaN"):
        detection_metrics(np.array(bad), np.array([1.0]))
    with pytest.raises(ValueError, match="without NaN"):
        detection_metrics(np.array([1.0]), np.array(bad))
