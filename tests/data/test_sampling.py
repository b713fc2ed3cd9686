import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.api import LabelsConfig
from flowgmm_cli.data.sampling import (
    allocate_evenly,
    allocate_proportionally,
    choose_labelled,
    marker_mask,
    shuffle_by_class,
)
from flowgmm_cli.errors import DataError

NAMES = ("cat", "dog", "eel")


MIXED = np.array([0] * 70 + [1] * 20 + [2] * 10 + [-1] * 100)


def choose(config, labels=MIXED):
    labels = np.array(labels)
    return choose_labelled(labels, np.flatnonzero(labels >= 0), config, NAMES, rows=len(labels))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({}, [70, 20, 10]),
        ({"count": 30}, [10, 10, 10]),
        ({"count": 20}, [6, 7, 7]),
        ({"per_class": 4}, [4, 4, 4]),
        ({"fraction": 0.15}, [10, 10, 10]),  # of all 200 training rows
        ({"count": 10, "balanced": False}, [7, 2, 1]),
        ({"count": 3, "balanced": False}, [1, 1, 1]),
    ],
)
def test_a_budget_is_divided_among_the_classes(budget, expected):
    chosen = choose(LabelsConfig(**budget))
    assert (MIXED[chosen] >= 0).all()
    counts = np.bincount(MIXED[chosen]).tolist()
    assert (counts if expected != [6, 7, 7] else sorted(counts)) == expected


@given(st.integers(1, 9), st.integers(0, 5))
def test_a_larger_budget_contains_the_smaller(per_class, seed):
    small = choose(LabelsConfig(per_class=per_class, seed=seed))
    large = choose(LabelsConfig(per_class=per_class + 1, seed=seed))
    assert set(small) < set(large)


def test_the_seed_decides_the_draw():
    draw = [choose(LabelsConfig(count=30, seed=seed)) for seed in (0, 0, 1)]
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).any()


def test_a_column_can_mark_the_labelled_rows():
    cells = np.array(["yes", "1", None, "0", "True"], dtype=object)
    assert marker_mask({"mine": cells}, "mine").tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("labels", [MIXED, [0] * 10 + [1] * 9])
@pytest.mark.parametrize("balanced", [True, False])
def test_the_fraction_1_takes_every_label(labels, balanced):
    config = LabelsConfig(fraction=1.0, balanced=balanced)
    assert choose(config, labels).tolist() == np.flatnonzero(np.array(labels) >= 0).tolist()


@pytest.mark.parametrize(
    ("labels", "config", "words"),
    [
        ([-1, -1], LabelsConfig(), "no training row has a label"),
        ([1, 1, -1], LabelsConfig(), "`dog`"),
        (MIXED, LabelsConfig(per_class=11), "too few"),
        (MIXED, LabelsConfig(count=101), "only 100 rows"),
        (MIXED, LabelsConfig(count=2), "all 3 classes"),
    ],
)
def test_impossible_budgets_say_why(labels, config, words):
    with pytest.raises(DataError) as caught:
        choose(config, labels)
    assert words in caught.value.message


@pytest.mark.parametrize(("cell", "column", "words"), [("maybe", "mine", "`maybe`"), ("no", "mime", "mine`")])
def test_a_marker_that_is_no_boolean_or_missing_is_an_error(cell, column, words):
    with pytest.raises(DataError, match=words):
        marker_mask({"mine": np.array(["yes", cell], dtype=object)}, column)


def test_too_few_rows_names_the_class_and_both_numbers():
    with pytest.raises(DataError) as caught:
        choose(LabelsConfig(count=60))
    assert caught.value.details == ("class `eel`: 20 requested, 10 available",)
    assert "balanced=false" in caught.value.hint


def test_two_ways_to_choose_are_refused():
    with pytest.raises(ValueError, match="count, per_class"):
        LabelsConfig(count=5, per_class=5)


sizes = st.lists(st.integers(1, 500), min_size=1, max_size=8).map(lambda counts: dict(enumerate(counts)))


@given(sizes, st.integers(0, 1000), st.integers(0, 2))
def test_proportional_counts_are_near_the_quota(sizes, total, least):
    counts = allocate_proportionally(sizes, total, least=least)
    rows = sum(sizes.values())
    assert sum(counts.values()) == min(total, rows)
    assert all(0 <= counts[label] <= size for label, size in sizes.items())
    if least == 0:
        assert all(abs(counts[label] - min(total, rows) * size / rows) < 1 for label, size in sizes.items())
    elif least * len(sizes) <= min(total, rows):
        assert all(counts[label] >= min(least, size) for label, size in sizes.items())


def test_rows_of_many_classes_are_allocated_in_a_few_passes():
    counts = allocate_proportionally(dict.fromkeys(range(20_000), 2), 8000)  # a pass for each would take long
    assert list(counts.values()) == [1] * 8000 + [0] * 12_000


@given(sizes, st.integers(0, 100))
def test_even_counts_differ_by_at_most_1(sizes, total):
    counts = allocate_evenly(sizes, total, np.random.default_rng(0))
    assert sum(counts.values()) == total
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_class_keeps_its_positions_in_a_seeded_order():
    labels = np.array([1, 0, 1, 1, 0, 2])
    order = shuffle_by_class(labels, np.array([0, 1, 2, 4]), np.random.default_rng(3))
    again = shuffle_by_class(labels, np.array([0, 1, 2, 4]), np.random.default_rng(3))
    assert {label: sorted(positions) for label, positions in order.items()} == {0: [1, 4], 1: [0, 2]}
    assert all((order[label] == again[label]).all() for label in order)
