import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.api import LabelsConfig, Rows
from flowgmm_cli.data.label_budget import choose_labelled
from flowgmm_cli.errors import DataError

NAMES = ("cat", "dog", "eel")


def rows(labels, **extras):
    labels = np.array(labels, dtype=np.int64)
    ids = np.arange(len(labels)).astype(str)
    extras = {name: np.array(cells, dtype=object) for name, cells in extras.items()}
    return Rows({"x": np.zeros(len(labels))}, labels, ids, extras)


MIXED = rows([0] * 70 + [1] * 20 + [2] * 10 + [-1] * 100)


def counts(chosen):
    return np.bincount(MIXED.labels[chosen], minlength=3).tolist()


def test_all_labels_are_seen_without_a_budget():
    assert counts(choose_labelled(MIXED, LabelsConfig(), NAMES)) == [70, 20, 10]


def test_unlabelled_rows_are_never_chosen():
    chosen = choose_labelled(MIXED, LabelsConfig(count=90, balanced=False), NAMES)
    assert (MIXED.labels[chosen] >= 0).all()


def test_balanced_count_gives_every_class_the_same():
    assert counts(choose_labelled(MIXED, LabelsConfig(count=30), NAMES)) == [10, 10, 10]
    assert sorted(counts(choose_labelled(MIXED, LabelsConfig(count=20), NAMES))) == [6, 7, 7]


def test_per_class():
    assert counts(choose_labelled(MIXED, LabelsConfig(per_class=4), NAMES)) == [4, 4, 4]


def test_fraction_is_of_all_training_rows():
    assert sum(counts(choose_labelled(MIXED, LabelsConfig(fraction=0.15), NAMES))) == 30


def test_unbalanced_count_keeps_proportions_and_a_row_of_each_class():
    assert counts(choose_labelled(MIXED, LabelsConfig(count=10, balanced=False), NAMES)) == [7, 2, 1]
    assert counts(choose_labelled(MIXED, LabelsConfig(count=3, balanced=False), NAMES)) == [1, 1, 1]


@given(st.integers(1, 9), st.integers(0, 5))
def test_a_larger_budget_contains_the_smaller(per_class, seed):
    small = choose_labelled(MIXED, LabelsConfig(per_class=per_class, seed=seed), NAMES)
    large = choose_labelled(MIXED, LabelsConfig(per_class=per_class + 1, seed=seed), NAMES)
    assert set(small) < set(large)


def test_the_seed_decides_the_draw():
    draw = [choose_labelled(MIXED, LabelsConfig(count=30, seed=seed), NAMES) for seed in (0, 0, 1)]
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).any()


def test_a_column_can_mark_the_labelled_rows():
    marked = rows([0, 1, 0, 1, -1], mine=["yes", "1", None, "0", "True"])
    assert choose_labelled(marked, LabelsConfig(column="mine"), NAMES).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("data", "config", "words"),
    [
        (rows([-1, -1]), LabelsConfig(), "no training row has a label"),
        (rows([1, 1, -1]), LabelsConfig(), "`dog`"),
        (MIXED, LabelsConfig(per_class=11), "too few"),
        (MIXED, LabelsConfig(count=101), "only 100 rows"),
        (MIXED, LabelsConfig(count=2), "all 3 classes"),
        (rows([0, 1], mine=["yes", "maybe"]), LabelsConfig(column="mine"), "`maybe`"),
        (rows([0, 1], mine=["yes", "no"]), LabelsConfig(column="mime"), "did you mean `mine`"),
    ],
)
def test_impossible_budgets_say_why(data, config, words):
    with pytest.raises(DataError) as caught:
        choose_labelled(data, config, NAMES)
    assert words in caught.value.message


def test_too_few_rows_names_the_class_and_both_numbers():
    with pytest.raises(DataError) as caught:
        choose_labelled(MIXED, LabelsConfig(count=60), NAMES)
    assert caught.value.details == ("class `eel`: 20 requested, 10 available",)
    assert "balanced=false" in caught.value.hint


def test_two_ways_to_choose_are_refused():
    with pytest.raises(ValueError, match="count, per_class"):
        LabelsConfig(count=5, per_class=5)
