from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flowgmm_cli.inference.scores import PREDICTION_COLUMNS, OODRule, Scores, Totals, select_columns

CLASSES = ("cat", "dog, wild")
RULE = OODRule("nll", 1.5, 0.05)
NAMES = ["id", "prediction", "confidence", "ood_score", "is_ood", "p_cat", "p_dog, wild"]


def scored() -> Scores:
    p = np.array([[0.75, 0.25], [np.nan, np.nan], [0.125, 0.875]])
    return Scores(
        start=10,
        ids=np.array(["a", "b", "c"], dtype=object),
        labels=np.array([1, 0, 1]),
        scorable=np.array([True, False, True]),
        log_probabilities=np.log(p),
        log_density=np.array([-1.0, np.nan, -2.0]),
        ood={"nll": np.array([1.5, np.nan, 2.0])},
        problems={1: "line 12: bad"},
        class_names=CLASSES,
        rule=RULE,
    )


def test_columns_are_those_of_the_contract() -> None:
    columns = scored().table()
    assert list(columns) == [*PREDICTION_COLUMNS, "p_cat", "p_dog, wild"] == NAMES
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


def test_totals_add_up() -> None:
    totals = Totals()
    for _ in range(4):
        totals.add(scored())
    assert (totals.n, totals.unscorable, totals.scored, totals.flagged) == (12, 4, 8, 4)
    assert totals.reasons == ["line 12: bad"] * 3
    assert totals.predicted == {"cat": 4, "dog, wild": 4}
    assert (totals.labelled, totals.correct, totals.accuracy) == (8, 4, 0.5)
    assert Totals().accuracy is None


def test_rows_that_were_trained_on_do_not_count() -> None:
    rows = replace(scored(), seen=np.array([True, False, False]))
    both = Scores.concatenate([scored(), rows])
    totals = Totals()
    totals.add(both)
    assert both.testable.tolist() == [True, False, True, False, False, True]
    assert (totals.labelled, totals.seen, totals.accuracy) == (4, 1, pytest.approx(2 / 3))


def test_labels_that_are_no_class_count_as_wrong() -> None:
    rows = replace(scored(), labels=np.array([-1, -1, 1]), unknown_labels={0: "emu", 1: "emu"})
    assert rows.known.tolist() == [True, False, True]
    totals = Totals()
    totals.add(rows)
    assert (totals.labelled, totals.correct, totals.unknown) == (2, 1, {"emu": 1})


def test_parts_become_one() -> None:
    parts = [replace(scored(), unknown_labels={0: "emu"}), replace(scored(), start=13, vectors=None)]
    found = Scores.concatenate(parts)
    assert len(found) == 6
    assert (found.start, found.rule, found.class_names) == (10, RULE, CLASSES)
    assert found.problems == {1: "line 12: bad", 4: "line 12: bad"}
    assert found.unknown_labels == {0: "emu"}
    assert found.prediction.tolist() == ["cat", None, "dog, wild"] * 2
    np.testing.assert_array_equal(found.ood_score, [1.5, np.nan, 2.0] * 2)
