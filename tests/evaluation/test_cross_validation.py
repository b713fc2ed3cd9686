from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.evaluation import cross_validation
from flowgmm_cli.evaluation.cross_validation import BaselineData, assign_folds


def problem(labels: list[int]) -> BaselineData:
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    return BaselineData(x, np.array(labels), seed=0)


@settings(max_examples=100, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), folds=st.integers(2, 6))
def test_folds_are_equally_large_and_spread_every_class(labels: list[int], folds: int) -> None:
    array = np.array(labels)
    fold = assign_folds(array, folds, rng=np.random.default_rng(0))
    largest = np.bincount(array).max()
    if largest < 2:
        assert (fold == -1).all()
        return
    expected_folds = min(folds, largest)
    sizes = np.bincount(fold, minlength=expected_folds)
    assert len(sizes) == expected_folds
    assert sizes.max() - sizes.min() <= 1
    for k in np.unique(array):
        counts = np.bincount(fold[array == k], minlength=expected_folds)
        assert counts.max() - counts.min() <= 1


def test_splits_are_disjoint_cover_the_labelled_rows_and_nothing_else() -> None:
    p = problem([0, -1, 1, 0, 1, -1, 0, 1])
    held = np.concatenate([held_out for _, held_out in p.splits])
    assert sorted(held) == p.labelled.tolist() == [0, 2, 3, 4, 6, 7]
    for fitted, held_out in p.splits:
        assert not set(fitted) & set(held_out)
        assert sorted([*fitted, *held_out]) == p.labelled.tolist()


def test_very_many_labelled_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "MAX_TUNING_ROWS", 10)
    p = problem([0, 1] * 50)
    assert len(set(p.tuning_rows)) == 10
    assert sum(len(held_out) for _, held_out in p.splits) == 10


def test_the_most_accurate_candidate_is_chosen_and_among_equals_the_likeliest() -> None:
    p = problem([0, 1, 0, 1, 0, 1])
    truth = p.labels[np.concatenate([held_out for _, held_out in p.splits])]

    def predict(confidence: float) -> np.ndarray:
        return confidence * np.eye(2)[truth] + (1 - confidence) * np.eye(2)[1 - truth]

    assert p.search([0.1, 0.6, 0.9, 0.7], predict, 0.1) == 0.9


def test_ignored_rows_do_not_count_and_no_candidate_is_predicted_twice() -> None:
    p = problem([0, 1, 0, 1, 0, 1])
    held_out = np.concatenate([rows for _, rows in p.splits])
    truth, asked = p.labels[held_out], []

    def predict(wrong: int) -> np.ndarray:
        """Certain of the right class, except for the row at position `wrong`."""
        asked.append(wrong)
        return 0.8 * np.eye(2)[np.where(held_out == wrong, 1 - truth, truth)] + 0.1

    assert p.search([2, 5], predict, 0) == 2
    assert p.search([2, 5], predict, 0, ignore=np.array([5])) == 5
    assert p.search([2, 5], predict, 0, ignore=held_out) == 0
    assert asked == [2, 5]


def test_without_folds_the_default_is_taken() -> None:
    p = problem([0, 1, -1, -1])
    assert p.splits == []
    assert p.search([1, 2], lambda _: np.eye(2)[[0]], 2) == 2
