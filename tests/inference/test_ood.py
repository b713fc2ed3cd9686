"""Two sides of rows, their scores, and what is written of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from flowgmm_cli.inference import ood as module
from flowgmm_cli.inference.ood import ScoreSet, collect_scores, compare_scores, ood_columns
from flowgmm_cli.inference.scores import OODRule, Scores
from flowgmm_cli.scores.detector import Detector, FittedScore

RULE = OODRule("near", 1.0, 0.05)


def scored(values: Mapping[str, np.ndarray], *, bad: tuple[int, ...] = (), start: int = 0) -> Scores:
    n = len(next(iter(values.values())))
    scorable = np.ones(n, dtype=bool)
    scorable[list(bad)] = False
    return Scores(
        start=start,
        ids=np.array([f"r{start + place}" for place in range(n)], dtype=object),
        labels=np.full(n, -1),
        scorable=scorable,
        log_probabilities=np.zeros((n, 2)),
        log_density=np.zeros(n),
        ood={name: np.where(scorable, one, np.nan) for name, one in values.items()},
        problems={place: f"row r{start + place}: empty" for place in bad},
        class_names=("a", "b"),
        rule=RULE,
    )


def pieces(values: Mapping[str, np.ndarray], size: int) -> Iterator[Scores]:
    n = len(next(iter(values.values())))
    for start in range(0, n, size):
        yield scored({name: one[start : start + size] for name, one in values.items()}, start=start)


def side(**values: np.ndarray) -> ScoreSet:
    return collect_scores("x", pieces(values, 64))


def test_rows_are_counted_flagged_and_kept_in_order() -> None:
    values = np.array([0.5, 1.0, 3.0, 2.0, 0.0])
    parts = [scored({"near": values[:3]}, bad=(1,)), scored({"near": values[3:]}, bad=(1,), start=3)]
    found = collect_scores("x.csv", parts)
    assert (found.name, found.n, found.totals.unscorable, found.totals.flagged) == ("x.csv", 3, 2, 2)
    assert found.flagged_share == pytest.approx(2 / 3)
    assert found.totals.reasons == ["row r1: empty", "row r4: empty"]
    assert found.scores["near"].tolist() == [0.5, 3.0, 2.0]
    assert found.places.tolist() == [0, 2, 3]


def test_a_set_without_scorable_rows_is_empty() -> None:
    found = collect_scores("x", [scored({"near": np.zeros(2)}, bad=(0, 1))])
    assert (found.n, found.totals.unscorable) == (0, 2)
    assert np.isnan(found.flagged_share)
    assert collect_scores("x", []).scores == {}


def test_a_sample_of_very_many_rows_is_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_COMPARED_ROWS", 200)
    values = np.arange(1000.0)
    found = collect_scores("x", pieces({"near": values, "far": -values}, 37))
    assert (found.n, found.totals.flagged) == (1000, 998)
    assert len(found.scores["near"]) == len(set(found.scores["near"])) == 200
    np.testing.assert_array_equal(found.scores["far"], -found.scores["near"])  # rows stay together
    np.testing.assert_array_equal(found.places, found.scores["near"])
    assert kstest(found.scores["near"] / 1000, "uniform").pvalue > 0.01


def test_every_score_is_compared_and_the_one_that_flags_comes_first() -> None:
    rng = np.random.default_rng(0)
    inside = side(near=rng.normal(size=300), best=rng.normal(size=300), worst=rng.normal(size=300))
    outside = side(near=rng.normal(1, 1, 200), best=rng.normal(3, 1, 200), worst=rng.normal(-1, 1, 200))
    found = compare_scores("r", inside, outside, default="worst", rule=RULE, rng=rng)
    assert list(found.metrics) == ["near", "best", "worst"]
    value = found.to_dict()
    for name, one in value["scores"].items():
        both = np.concatenate([inside.scores[name], outside.scores[name]])
        truth = np.repeat([0, 1], [300, 200])
        assert one["auroc"] == pytest.approx(roc_auc_score(truth, both))
        assert set(one) == {"auroc", "aupr_in", "aupr_out", "fpr95", "intervals"}
        for metric, interval in one["intervals"].items():
            assert interval["low"] <= one[metric] <= interval["high"]
    assert (value["schema"], value["n_in"], value["n_out"]) == ("flowgmm/ood/1", 300, 200)
    assert (value["default_score"], value["score"], value["threshold"]) == ("worst", "near", 1.0)
    assert value["flagged_fraction"] == (outside.scores["near"] > 1).mean()


def test_the_file_has_a_representative_sample_of_scores() -> None:
    rng = np.random.default_rng(0)
    inside, outside = side(near=rng.normal(size=5000)), side(near=np.array([2.0, 1.0]))
    found = compare_scores("r", inside, outside, default="near", rule=RULE, rng=rng)
    sample = found.to_file()["sample"]
    assert sample["out"] == [1.0, 2.0]
    assert len(sample["in"]) == 400
    for share in (0.0, 0.3, 0.9, 1.0):
        expected = np.quantile(inside.scores["near"], share)
        assert np.quantile(sample["in"], share) == pytest.approx(expected, abs=0.02)
    assert "sample" not in found.to_dict()


def test_columns_of_rows_that_cannot_be_scored_are_empty() -> None:
    detector = Detector((FittedScore("near", 0, None, np.arange(4.0)),), "near")  # type: ignore[arg-type]
    part = scored({"near": np.array([0.0, 9.0, 1.5]), "far": np.array([5.0, 6.0, 7.0])}, bad=(0,))
    columns = ood_columns(part, detector, ["far"])
    assert list(columns) == ["id", "ood_score", "percentile", "is_ood", "far"]
    assert columns["id"].tolist() == ["r0", "r1", "r2"]
    np.testing.assert_array_equal(columns["percentile"], [np.nan, 1.0, 0.5])
    np.testing.assert_array_equal(columns["ood_score"], [np.nan, 9.0, 1.5])
    assert columns["is_ood"].mask.tolist() == [True, False, False]
    assert columns["is_ood"].data[1:].tolist() == [True, True]
    np.testing.assert_array_equal(columns["far"], [np.nan, 6.0, 7.0])
