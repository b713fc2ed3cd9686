from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference.predictions import (
    OODRule,
    Totals,
    column_names,
    prediction_columns,
    select_columns,
)
from flowgmm_cli.inference.scoring import ScoredRows

CLASSES = ("cat", "dog, wild")
RULE = OODRule("nll", 1.5, 0.05)
NAMES = ["id", "prediction", "confidence", "ood_score", "is_ood", "p_cat", "p_dog, wild"]


def scored() -> ScoredRows:
    p = np.array([[0.75, 0.25], [np.nan, np.nan], [0.125, 0.875]])
    return ScoredRows(
        start=10,
        ids=np.array(["a", "b", "c"], dtype=object),
        labels=np.array([1, 0, 1]),
        scorable=np.array([True, False, True]),
        log_probabilities=np.log(p),
        log_density=np.array([-1.0, np.nan, -2.0]),
        ood={"nll": np.array([1.5, np.nan, 2.0])},
        problems={1: "line 12: bad"},
    )


def test_columns_are_those_of_the_contract() -> None:
    columns = prediction_columns(scored(), CLASSES, RULE)
    assert list(columns) == column_names(CLASSES) == NAMES
    assert columns["id"].tolist() == ["a", "b", "c"]
    assert columns["prediction"].tolist() == ["cat", None, "dog, wild"]
    assert columns["confidence"].dtype == np.float32
    assert np.array_equal(columns["confidence"], np.array([0.75, np.nan, 0.875], np.float32), equal_nan=True)
    assert columns["is_ood"].tolist() == [False, None, True]  # the threshold itself is in distribution
    assert np.array_equal(columns["p_cat"], np.array([0.75, np.nan, 0.125], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        (None, NAMES),
        ([], NAMES),
        (["prediction,id"], ["prediction", "id"]),
        (["id", "p_cat, is_ood"], ["id", "p_cat", "is_ood"]),
        (["cat", "id", "cat"], ["p_cat", "id"]),
        (["p_dog, wild"], ["p_dog, wild"]),
    ],
)
def test_columns_can_be_chosen(only: list[str] | None, chosen: list[str]) -> None:
    assert select_columns(only, NAMES) == chosen


def test_an_unknown_column_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no column `predicton`; did you mean `prediction`") as caught:
        select_columns(["id,predicton"], NAMES)
    assert "p_cat" in str(caught.value.hint)


def test_totals_add_up() -> None:
    totals = Totals(2)
    for _ in range(4):
        totals.add(scored(), RULE)
    assert (totals.n, totals.unscorable, totals.flagged) == (12, 4, 4)
    assert totals.reasons == ["line 12: bad"] * 3
    assert totals.counts.tolist() == [4, 4]
    assert (totals.labelled, totals.correct, totals.accuracy) == (8, 4, 0.5)
    assert totals.rows_per_second > 0
    assert Totals(2).accuracy is None
